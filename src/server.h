/* What is known of the servers that were talked to, as long as the daemon lives and never on disk:
 * what a login led to, so that the next one can do without asking; and how several commands at a
 * time are borne there. Bounded: what was used least recently is forgotten first.
 *
 * A login is known by host, port, security, user and `auth`; a server by host and port. What was
 * learnt in TLS is used in TLS only, since security is a part of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "imap/client.h"

struct servers;

/* NULL when out of memory. */
struct servers *servers_new(void);

/* NULL is allowed. Returns NULL. */
struct servers *servers_free(struct servers *servers);

/* -- logins -- */

/* NULL: nothing is known. Valid until the next call. */
const struct imap_memory *servers_recall(
	struct servers *servers, const struct config_account *config);

/* Takes the memory, also when there is no room for it. */
void servers_remember(
	struct servers *servers, const struct config_account *config, struct imap_memory *memory);

/* It led to a refusal: the next login asks before it speaks. */
void servers_forget(struct servers *servers, const struct config_account *config);

/* -- manners -- */

/* How the next connection is to speak: is_login_alone, is_stepwise and bad_alone of
 * the options. */
void servers_advise(struct servers *servers, const struct config_account *config,
	struct imap_client_options *options);

/* How a connection has ended. A server that stumbled over what was sent with a login gets no more
 * than the login at a time from then on, which costs a round trip. One that stumbled for certain is
 * asked command by command from then on, and so is one that it is likely of the second time; the
 * first time, and after a flight that was not answered at all, just the next connection does so: a
 * path that dies looks the same.
 */
void servers_note_end(struct servers *servers, const struct config_account *config,
	const struct imap_client *client);
