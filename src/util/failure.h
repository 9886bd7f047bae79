/* A failure that is told to a person: what kind it is, and a sentence. The kinds are the error
 * names of the D-Bus interface, so that a reason found anywhere below needs no translation on its
 * way up. (Negative errno is the other kind of failure: this object is finished.)
 */
#pragma once

#include <stdbool.h>

enum failure_kind {
	FAILURE_NONE,
	FAILURE_NO_SUCH_ACCOUNT,
	FAILURE_NO_SUCH_MAILBOX,
	FAILURE_NO_SUCH_MESSAGE,
	FAILURE_STOPPED,
	FAILURE_OFFLINE,
	FAILURE_AUTHENTICATION_FAILED,
	FAILURE_CERTIFICATE_INVALID,
	FAILURE_INSECURE,
	FAILURE_SERVER_REFUSED,
	FAILURE_PROTOCOL_ERROR,
	FAILURE_TIMEOUT,
	FAILURE_CANCELLED,
	FAILURE_LIMIT_EXCEEDED,
	FAILURE_RESET,
	FAILURE_NOT_SUPPORTED,
	FAILURE_CONFIG_INVALID,
	FAILURE_INVALID_ARGUMENT,
};

/* The text is cut to what fits, and holds neither control characters nor invalid UTF-8. */
struct failure {
	enum failure_kind kind;
	char text[256];
};

/* The CamelCase name ("AuthenticationFailed"); "" for FAILURE_NONE. */
const char *failure_name(enum failure_kind kind);

/* Sets kind and text; octets that are no clean UTF-8 become U+FFFD, a control character a blank.
 * Server text may be passed as an argument of %s or %.*s. */
void failure_set(struct failure *failure, enum failure_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* For objects that live long and seldom have one: the failure, copied, takes memory only while it
 * is set. *kept is NULL at first, and after kind NONE. It always succeeds: without memory for its
 * text the kind is kept. */
void failure_keep(struct failure **kept, const struct failure *failure);

/* As failure_keep() of none, which is what the owner does in the end. */
void failure_forget(struct failure **kept);

/* Kind NONE for NULL. */
const struct failure *failure_kept(const struct failure *kept);

static inline bool failure_is_set(const struct failure *failure)
{
	return failure->kind != FAILURE_NONE;
}
