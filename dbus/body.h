/* The body of a message to the bus, while it is written: counts what it will take on the wire,
 * makes every string fit for the bus, and keeps the first error, so that ten lines of putting need
 * one check at the end.
 *
 * sd-bus goes on after a string that is no valid UTF-8, or an array above 64 MiB, as if nothing had
 * been, and the bus then throws the whole process off. So: a body with an error is never sent.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <systemd/sd-bus.h>

/* The contract allows replies up to here. */
#define BODY_SIZE_HIGHEST ((size_t)8 << 20)

struct body {
	sd_bus_message *message; /* borrowed */
	size_t size;             /* octets, as the D-Bus specification marshals them */
	size_t size_highest;
	int error; /* 0; -EMSGSIZE: more than size_highest; another negative errno of sd-bus */
};

void body_init(struct body *body, sd_bus_message *message, size_t size_highest);

/* Types of sd_bus_message_append_basic(3). */
void body_put_bool(struct body *body, bool value);
void body_put_u16(struct body *body, uint16_t value);
void body_put_u32(struct body *body, uint32_t value);
void body_put_u64(struct body *body, uint64_t value);
void body_put_i64(struct body *body, int64_t value);
void body_put_fd(struct body *body, int fd); /* which is duplicated */

/* Whatever the bus would refuse is made fit by text_clean(); NULL is "". */
void body_put_string(struct body *body, const char *text);

/* "as"; NULL-terminated, NULL is empty. */
void body_put_strings(struct body *body, const char *const *texts);

/* Containers, each closed by body_close(). contents of an array: the type of its elements. */
void body_open_array(struct body *body, const char *contents);
void body_open_struct(struct body *body, const char *contents);

/* An entry of an array "{sv}" up to its value, which has the type contents; closed by
 * body_close_entry(). */
void body_open_entry(struct body *body, const char *key, const char *contents);
void body_close_entry(struct body *body);

void body_close(struct body *body);
