#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/failure.h"
#include "util/text.h"

const char *failure_name(enum failure_kind kind)
{
	switch (kind) {
	case FAILURE_NONE:
		return "";
	case FAILURE_NO_SUCH_ACCOUNT:
		return "NoSuchAccount";
	case FAILURE_NO_SUCH_MAILBOX:
		return "NoSuchMailbox";
	case FAILURE_NO_SUCH_MESSAGE:
		return "NoSuchMessage";
	case FAILURE_STOPPED:
		return "Stopped";
	case FAILURE_OFFLINE:
		return "Offline";
	case FAILURE_AUTHENTICATION_FAILED:
		return "AuthenticationFailed";
	case FAILURE_CERTIFICATE_INVALID:
		return "CertificateInvalid";
	case FAILURE_INSECURE:
		return "Insecure";
	case FAILURE_SERVER_REFUSED:
		return "ServerRefused";
	case FAILURE_PROTOCOL_ERROR:
		return "ProtocolError";
	case FAILURE_TIMEOUT:
		return "Timeout";
	case FAILURE_CANCELLED:
		return "Cancelled";
	case FAILURE_LIMIT_EXCEEDED:
		return "LimitExceeded";
	case FAILURE_RESET:
		return "Reset";
	case FAILURE_NOT_SUPPORTED:
		return "NotSupported";
	case FAILURE_CONFIG_INVALID:
		return "ConfigInvalid";
	case FAILURE_INVALID_ARGUMENT:
		return "InvalidArgument";
	}
	return "";
}

void failure_set(struct failure *failure, enum failure_kind kind, const char *format, ...)
{
	/* An argument may be the text that is overwritten here, hence a copy; and vsnprintf(3) may
	 * cut in the middle of a character, hence a long one. */
	char raw[4 * sizeof(failure->text)] = "";
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(raw, sizeof(raw), format, arguments);
	va_end(arguments);

	failure->kind = kind;
	struct span rest = span_of(raw);
	size_t len = 0;
	while (rest.len > 0) {
		uint32_t c = text_next(&rest);
		if (text_is_deceptive(c)) {
			continue;
		}
		char encoded[4];
		size_t encoded_len = text_encode(text_is_control(c) ? ' ' : c, encoded);
		if (encoded_len >= sizeof(failure->text) - len) {
			break;
		}
		memcpy(failure->text + len, encoded, encoded_len);
		len += encoded_len;
	}
	failure->text[len] = '\0';
}

/* Kept where there is no memory. */
static struct failure without_text[FAILURE_INVALID_ARGUMENT + 1];

static bool is_ours(const struct failure *kept)
{
	return kept && kept != &without_text[kept->kind];
}

void failure_keep(struct failure **kept, const struct failure *failure)
{
	if (!failure_is_set(failure)) {
		failure_forget(kept);
		return;
	}
	struct failure *copy = is_ours(*kept) ? *kept : malloc(sizeof(*copy));
	if (copy) {
		*copy = *failure;
	} else {
		copy = &without_text[failure->kind];
		failure_set(copy, failure->kind, "there is no memory for the reason");
	}
	*kept = copy;
}

void failure_forget(struct failure **kept)
{
	if (is_ours(*kept)) {
		free(*kept);
	}
	*kept = NULL;
}

const struct failure *failure_kept(const struct failure *kept)
{
	static const struct failure none;
	return kept ? kept : &none;
}
