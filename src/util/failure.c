#include <stdarg.h>
#include <stdio.h>
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
