/* The floor on the session bus: one connection by bare sd-bus, a name, one signal and two methods.
 * No properties, no introspection, no other subscriber than the one of the benchmark in mind. What
 * it takes is what sd-bus and the bus daemon take.
 *
 *     org.example.MailIdle.Floor, at /org/example/MailIdle:
 *     signal NewMail  ssaa{sv}        as mailidled's, of one message
 *     Refresh         ss ->           as mailidled's
 *     Fetch           ssauas -> aa{sv}  the envelopes of messages 1 to n out of what was prepared
 *                                     beforehand; nothing is asked of the server: what D-Bus
 *                                     takes by itself
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Joins the session bus. refresh is called for the method, and answered by floor_bus_refreshed().
 * Messages 1 to n_prepared can be fetched. */
void floor_bus_open(void (*refresh)(void), uint32_t n_prepared);

/* To be watched for these events of poll(2). */
int floor_bus_fd(void);
int floor_bus_events(void);

/* Takes and sends what there is. */
void floor_bus_process(void);

/* The signal, out of "* n FETCH (...)" as letters.h writes it. Cuts the line to pieces. */
void floor_bus_announce(char *line);

void floor_bus_refreshed(void);
