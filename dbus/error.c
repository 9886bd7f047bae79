#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "dbus/error.h"
#include "util/text.h"

#define PREFIX     "org.example.MailIdle.Error."
#define TEXT_CHARS 16384

void error_name(enum failure_kind kind, char ret_name[static ERROR_NAME_SIZE])
{
	if (kind == FAILURE_NONE) {
		ret_name[0] = '\0';
	} else if (kind == FAILURE_INVALID_ARGUMENT) {
		snprintf(ret_name, ERROR_NAME_SIZE, "%s", SD_BUS_ERROR_INVALID_ARGS);
	} else {
		snprintf(ret_name, ERROR_NAME_SIZE, PREFIX "%s", failure_name(kind));
	}
}

static const char *default_text(enum failure_kind kind)
{
	switch (kind) {
	case FAILURE_NONE:
		return "";
	case FAILURE_NO_SUCH_ACCOUNT:
		return "There is no such account in the configuration";
	case FAILURE_NO_SUCH_MAILBOX:
		return "There is no such mailbox among those that are watched";
	case FAILURE_NO_SUCH_MESSAGE:
		return "There is no such message in the mailbox";
	case FAILURE_STOPPED:
		return "The mailbox is stopped";
	case FAILURE_OFFLINE:
		return "The server cannot be reached";
	case FAILURE_AUTHENTICATION_FAILED:
		return "The server refused the credentials";
	case FAILURE_CERTIFICATE_INVALID:
		return "The server's certificate is not valid";
	case FAILURE_INSECURE:
		return "The credentials would have been sent in the clear";
	case FAILURE_SERVER_REFUSED:
		return "The server refused";
	case FAILURE_PROTOCOL_ERROR:
		return "The server does not keep to the protocol";
	case FAILURE_TIMEOUT:
		return "The server did not answer in time";
	case FAILURE_CANCELLED:
		return "The request was cancelled";
	case FAILURE_LIMIT_EXCEEDED:
		return "That is more than is allowed";
	case FAILURE_RESET:
		return "The mailbox has a new UIDVALIDITY";
	case FAILURE_NOT_SUPPORTED:
		return "The server cannot do that";
	case FAILURE_CONFIG_INVALID:
		return "The configuration is not valid";
	case FAILURE_INVALID_ARGUMENT:
		return "An argument makes no sense";
	}
	return "";
}

void error_put(struct body *body, const struct failure *failure)
{
	char name[ERROR_NAME_SIZE];
	error_name(failure->kind, name);
	bool is_set = failure_is_set(failure);
	const char *text = failure->text[0] != '\0' ? failure->text : default_text(failure->kind);
	body_open_struct(body, "ss");
	body_put_string(body, name);
	body_put_string(body, is_set ? text : "");
	body_close(body);
}

int error_reply(sd_bus_message *call, enum failure_kind kind, const char *text)
{
	char name[ERROR_NAME_SIZE];
	error_name(kind, name);
	if (!text || text[0] == '\0') {
		text = default_text(kind);
	}
	char *clean = text_clean(span_of(text), TEXT_LINES, TEXT_CHARS);
	if (!clean) {
		return -ENOMEM;
	}
	int result = sd_bus_reply_method_errorf(call, name, "%s", clean);
	free(clean);
	return result;
}
