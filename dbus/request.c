#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dbus/body.h"
#include "dbus/dictionary.h"
#include "dbus/error.h"
#include "dbus/request.h"
#include "util/log.h"

/* Above what the accounts let in (64 for each), so that it is their limits that are met in
 * practice: this one bounds the calls that they refuse, too, while the bus takes no answers. */
#define N_REQUESTS_HIGHEST 4096

struct request {
	struct list node;
	uint64_t id;
	enum request_result result;
	sd_bus_message *call;
};

void requests_init(struct requests *requests)
{
	list_init(&requests->list);
	requests->n = 0;
}

static void drop(struct requests *requests, struct request *request)
{
	list_remove(&request->node);
	requests->n--;
	sd_bus_message_unref(request->call);
	free(request);
}

void requests_done(struct requests *requests)
{
	LIST_FOR_EACH_SAFE (node, &requests->list) {
		drop(requests, list_entry(node, struct request, node));
	}
}

bool requests_is_full(const struct requests *requests)
{
	return requests->n >= N_REQUESTS_HIGHEST;
}

int requests_add(
	struct requests *requests, uint64_t id, enum request_result result, sd_bus_message *call)
{
	struct request *request = calloc(1, sizeof(*request));
	if (!request) {
		return -ENOMEM;
	}
	request->id = id;
	request->result = result;
	request->call = sd_bus_message_ref(call);
	list_append(&requests->list, &request->node);
	requests->n++;
	return 0;
}

static void put_messages(struct body *body, const struct account_event *event)
{
	body_open_array(body, "a{sv}");
	for (size_t i = 0; body->error == 0 && i < event->n_messages; i++) {
		dictionary_put(body, event->messages[i]);
	}
	body_close(body);
}

static void put_mailboxes(struct body *body, const struct account_event *event)
{
	body_open_array(body, "(sas)");
	for (size_t i = 0; body->error == 0 && i < event->n_list; i++) {
		body_open_struct(body, "sas");
		body_put_string(body, event->list[i].name);
		body_put_strings(body, (const char *const *)event->list[i].attributes);
		body_close(body);
	}
	body_close(body);
}

static void put_result(
	struct body *body, enum request_result result, const struct account_event *event)
{
	switch (result) {
	case REQUEST_NOTHING:
		break;
	case REQUEST_MESSAGES:
		put_messages(body, event);
		break;
	case REQUEST_RAW:
		/* The receiver shares the file offset and reads on from it. */
		lseek(event->raw_fd, 0, SEEK_SET);
		body_put_fd(body, event->raw_fd);
		body_put_u64(body, event->raw_size);
		break;
	case REQUEST_MAILBOXES:
		put_mailboxes(body, event);
		break;
	}
}

static int reply_result(const struct request *request, const struct account_event *event)
{
	sd_bus_message *reply = NULL;
	int error = sd_bus_message_new_method_return(request->call, &reply);
	if (error < 0) {
		return error;
	}
	struct body body;
	body_init(&body, reply, BODY_SIZE_HIGHEST);
	put_result(&body, request->result, event);
	error = body.error == 0 ? sd_bus_message_send(reply) : body.error;
	sd_bus_message_unref(reply);
	return error;
}

static void log_unanswered(const struct request *request, int error)
{
	log_warning(NULL, NULL, "%s could not be answered: %s",
		sd_bus_message_get_member(request->call), strerror(-error));
}

static int reply_error(const struct request *request, int error)
{
	if (error == -EMSGSIZE) {
		return error_reply(
			request->call, FAILURE_LIMIT_EXCEEDED, "The reply would be above 8 MiB");
	}
	if (error == -EOPNOTSUPP) {
		return error_reply(request->call, FAILURE_NOT_SUPPORTED,
			"The bus does not pass file descriptors on");
	}
	log_unanswered(request, error);
	return sd_bus_reply_method_errno(request->call, error, NULL);
}

/* Whether the request ended well or not, the caller is told; what fails here is that the bus is
 * gone or memory. */
static void answer(const struct request *request, const struct account_event *event)
{
	int error;
	if (failure_is_set(&event->failure)) {
		error = error_reply(request->call, event->failure.kind, event->failure.text);
	} else {
		error = reply_result(request, event);
		if (error < 0) {
			error = reply_error(request, error);
		}
	}
	if (error < 0) {
		log_unanswered(request, error);
	}
}

/* Nearly always it is one of the first, since requests are mostly answered in their order. */
void requests_answer(struct requests *requests, const struct account_event *event)
{
	LIST_FOR_EACH_SAFE (node, &requests->list) {
		struct request *request = list_entry(node, struct request, node);
		if (request->id == event->id) {
			answer(request, event);
			drop(requests, request);
			return;
		}
	}
}

void requests_answer_all(struct requests *requests, enum failure_kind kind, const char *text)
{
	LIST_FOR_EACH_SAFE (node, &requests->list) {
		struct request *request = list_entry(node, struct request, node);
		int error = kind == FAILURE_NONE ? sd_bus_reply_method_return(request->call, "")
						 : error_reply(request->call, kind, text);
		if (error < 0) {
			log_unanswered(request, error);
		}
		drop(requests, request);
	}
}

void requests_take(struct requests *target, struct requests *source)
{
	LIST_FOR_EACH_SAFE (node, &source->list) {
		list_remove(node);
		list_append(&target->list, node);
	}
	target->n += source->n;
	source->n = 0;
}

bool requests_drop_caller(struct requests *requests, const char *caller)
{
	bool is_found = false;
	LIST_FOR_EACH_SAFE (node, &requests->list) {
		struct request *request = list_entry(node, struct request, node);
		const char *sender = sd_bus_message_get_sender(request->call);
		if (sender && strcmp(sender, caller) == 0) {
			is_found = true;
			drop(requests, request);
		}
	}
	return is_found;
}
