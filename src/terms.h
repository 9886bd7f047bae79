/* What a connection is made with, as the configuration says.
 */
#pragma once

#include "config.h"
#include "imap/client.h"
#include "net/stream.h"

/* Borrows from the configuration. */
struct stream_target terms_target(const struct config_account *config);

/* Whether the host is this machine by its mere name, and needs no network. */
bool terms_is_local(const struct config_account *config);

/* Without chance: the seed is the caller's. Borrows from the configuration. */
struct imap_client_options terms_options(
	const struct config_account *config, enum imap_secret_kind kind, bool without_plus);

/* secret: NULL with IMAP_SECRET_NONE. Borrows from all of them. */
struct imap_credentials terms_credentials(const struct config_account *config,
	enum imap_secret_kind kind, const char *secret, const struct stream *stream);
