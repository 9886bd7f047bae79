#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/clock.h"
#include "wish.h"

/* The contract's 20 s, less what the way to the caller may take. */
#define WISH_USEC          (19 * USEC_PER_SEC + 500 * USEC_PER_MSEC)

#define REPLY_SIZE_HIGHEST ((size_t)8 * 1024 * 1024)

/* -- calls -- */

struct call *call_new(struct list *calls, uint64_t id, const char *caller)
{
	struct call *call = calloc(1, sizeof(*call));
	if (!call) {
		return NULL;
	}
	call->caller = strdup(caller);
	if (!call->caller) {
		free(call);
		return NULL;
	}
	call->id = id;
	list_append(calls, &call->node);
	return call;
}

void call_free(struct call *call)
{
	list_remove(&call->node);
	free(call->caller);
	free(call);
}

static void note_failure(struct call *call, const struct failure *failure)
{
	if (!failure_is_set(&call->failure)) {
		call->failure = *failure;
	}
}

/* Out of memory the caller gets no answer, and its bus tells it so in the end. */
void call_end(struct call *call, struct notice_queue *queue, const struct failure *failure)
{
	note_failure(call, failure);
	struct notice *notice = notice_new(ACCOUNT_EVENT_REPLY);
	if (notice) {
		notice->told.id = call->id;
		notice->told.failure = call->failure;
		notice_queue_put(queue, notice);
	}
	call_free(call);
}

unsigned int call_count(const struct list *calls, const char *caller)
{
	unsigned int n = 0;
	for (const struct list *node = calls->next; node != calls; node = node->next) {
		n += strcmp(list_entry(node, const struct call, node)->caller, caller) == 0;
	}
	return n;
}

/* -- wishes -- */

static void on_late(struct task *task)
{
	struct wish *wish = list_entry(task, struct wish, task);
	task_wake(wish->owner);
	wish_end_for(wish, FAILURE_TIMEOUT, "there was no answer within 20 s");
}

struct wish *wish_new(struct list *wishes, enum wish_kind kind, struct call *call,
	struct mailbox *mailbox, struct turn *turn, struct task *owner, struct notice_queue *queue,
	uint64_t id)
{
	struct wish *wish = calloc(1, sizeof(*wish));
	if (!wish) {
		return NULL;
	}
	wish->kind = kind;
	wish->mailbox = mailbox;
	wish->queue = queue;
	wish->owner = owner;
	wish->id = id;
	wish->raw_fd = -1;
	runs_init(&wish->uids);
	task_init(&wish->task, turn, on_late);
	if (call && task_set_deadline(&wish->task, turn_now(turn) + WISH_USEC, 0) < 0) {
		task_done(&wish->task);
		free(wish);
		return NULL;
	}
	if (call) {
		wish->call = call;
		call->n_wishes++;
	}
	list_append(wishes, &wish->node);
	task_wake(owner);
	return wish;
}

static void free_strings(char **strings)
{
	for (size_t i = 0; strings && strings[i]; i++) {
		free(strings[i]);
	}
	free(strings);
}

static void forget_gathered(struct wish *wish)
{
	for (size_t i = 0; i < wish->n_messages; i++) {
		message_free(wish->messages[i]);
	}
	free(wish->messages);
	wish->messages = NULL;
	wish->n_messages = wish->n_messages_allocated = wish->size = 0;
	if (wish->raw_fd >= 0) {
		close(wish->raw_fd);
	}
	wish->raw_fd = -1;
	wish->raw_size = 0;
	for (size_t i = 0; i < wish->n_list; i++) {
		free(wish->list[i].name);
		free_strings(wish->list[i].attributes);
	}
	free(wish->list);
	wish->list = NULL;
	wish->n_list = 0;
}

static void leave_engine(struct wish *wish)
{
	if (wish->connection && connection_client(wish->connection)) {
		imap_client_cancel(
			connection_client(wish->connection), wish->id, turn_now(wish->task.turn));
		connection_wake(wish->connection);
	}
}

static void wish_free(struct wish *wish)
{
	leave_engine(wish);
	if (wish->kind == WISH_VISIT) {
		wish->mailbox->is_visited = false;
	}
	list_remove(&wish->node);
	task_done(&wish->task);
	forget_gathered(wish);
	runs_done(&wish->uids);
	free_strings(wish->add);
	free_strings(wish->remove);
	free(wish->target);
	free(wish);
}

void wish_drop(struct wish *wish)
{
	struct call *call = wish->call;
	wish_free(wish);
	if (call) {
		call->n_wishes--;
		if (call->n_wishes == 0) {
			call_free(call);
		}
	}
}

static void reverse(struct message **messages, size_t n)
{
	for (size_t i = 0; i < n / 2; i++) {
		struct message *message = messages[i];
		messages[i] = messages[n - 1 - i];
		messages[n - 1 - i] = message;
	}
}

static int seal(struct wish *wish)
{
	if (wish->raw_fd < 0) {
		wish->raw_fd = memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	}
	if (wish->raw_fd < 0 || lseek(wish->raw_fd, 0, SEEK_SET) < 0 ||
		fcntl(wish->raw_fd, F_ADD_SEALS,
			F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0) {
		return -errno;
	}
	return 0;
}

/* What was gathered moves into the reply. */
static void fill(struct wish *wish, struct account_event *reply)
{
	if (wish->kind == WISH_LIST_UNREAD) {
		reverse(wish->messages, wish->n_messages);
	}
	reply->messages = wish->messages;
	reply->n_messages = wish->n_messages;
	reply->raw_fd = wish->raw_fd;
	reply->raw_size = wish->raw_size;
	reply->list = wish->list;
	reply->n_list = wish->n_list;
	wish->messages = NULL;
	wish->n_messages = 0;
	wish->raw_fd = -1;
	wish->list = NULL;
	wish->n_list = 0;
}

void wish_end(struct wish *wish, const struct failure *failure)
{
	struct call *call = wish->call;
	struct notice_queue *queue = wish->queue;
	struct failure copy = *failure;
	if (!call) {
		wish_free(wish);
		return;
	}
	if (wish->kind == WISH_FETCH_RAW && !failure_is_set(&copy) && seal(wish) < 0) {
		failure_set(&copy, FAILURE_LIMIT_EXCEEDED, "there is no memory for the message");
	}
	note_failure(call, &copy);
	call->n_wishes--;
	struct notice *notice = NULL;
	if (call->n_wishes == 0) {
		notice = notice_new(ACCOUNT_EVENT_REPLY);
	}
	if (notice) {
		notice->told.id = call->id;
		notice->told.failure = call->failure;
		if (!failure_is_set(&call->failure)) {
			fill(wish, &notice->told);
		}
	}
	wish_free(wish);
	if (notice) {
		notice_queue_put(queue, notice);
	}
	if (call->n_wishes == 0) {
		call_free(call);
	}
}

void wish_end_for(struct wish *wish, enum failure_kind kind, const char *text)
{
	struct failure failure;
	failure_set(&failure, kind, "%s", text);
	wish_end(wish, &failure);
}

bool wish_needs_view(const struct wish *wish)
{
	switch (wish->kind) {
	case WISH_LIST_SINCE:
	case WISH_LIST_UNREAD:
	case WISH_SET_FLAGS:
	case WISH_MOVE:
		return true;
	case WISH_REFRESH:
	case WISH_FETCH:
	case WISH_FETCH_RAW:
	case WISH_LIST_MAILBOXES:
	case WISH_STOP:
	case WISH_VISIT:
	case WISH_LISTING:
		break;
	}
	return false;
}

bool wish_can_move_on(const struct wish *wish)
{
	switch (wish->kind) {
	case WISH_REFRESH:
	case WISH_FETCH:
	case WISH_LIST_SINCE:
	case WISH_LIST_UNREAD:
	case WISH_LIST_MAILBOXES:
	case WISH_STOP:
		return true;
	case WISH_FETCH_RAW:
		return wish->raw_size == 0;
	case WISH_SET_FLAGS:
	case WISH_MOVE:
	case WISH_VISIT:
	case WISH_LISTING:
		break;
	}
	return false;
}

void wish_requeue(struct wish *wish)
{
	forget_gathered(wish);
	wish->connection = NULL;
}

void wish_hand_over(
	struct wish *wish, struct list *wishes, struct mailbox *mailbox, struct task *owner)
{
	leave_engine(wish);
	wish_requeue(wish);
	list_remove(&wish->node);
	list_append(wishes, &wish->node);
	wish->mailbox = mailbox;
	wish->owner = owner;
	wish->n_broken = 0;
	task_wake(owner);
}

/* -- to the engine -- */

static int choose_since(struct wish *wish, const struct runs *messages)
{
	struct run run;
	uint32_t n = 0;
	for (uint64_t uid = (uint64_t)wish->uid + 1;
		uid <= UINT32_MAX && n < wish->limit && runs_next(messages, (uint32_t)uid, &run);
		uid = (uint64_t)run.last + 1) {
		uint32_t first = uid > run.first ? (uint32_t)uid : run.first;
		uint32_t last = run.last;
		if (last - first >= wish->limit - n) {
			last = first + (wish->limit - n - 1);
		}
		if (runs_set(&wish->uids, first, last, 0) < 0) {
			return -ENOMEM;
		}
		n += last - first + 1;
	}
	return 0;
}

static int choose_unread(struct wish *wish, const struct imap_mailbox *view)
{
	struct run run;
	uint32_t n = 0;
	uint32_t uid = UINT32_MAX;
	while (uid > 0 && n < wish->limit && runs_previous(&view->messages, uid, &run)) {
		uint32_t last = uid < run.last ? uid : run.last;
		if (!imap_mailbox_is_read(view, run.value)) {
			uint32_t first = run.first;
			if (last - first >= wish->limit - n) {
				first = last - (wish->limit - n - 1);
			}
			if (runs_set(&wish->uids, first, last, 0) < 0) {
				return -ENOMEM;
			}
			n += last - first + 1;
		}
		uid = run.first - 1;
	}
	return 0;
}

/* Of the UIDs that the caller named, only those that are there. */
static int choose_known(struct wish *wish, const struct runs *messages)
{
	struct runs known;
	runs_init(&known);
	struct run run;
	for (uint64_t uid = 1; uid <= UINT32_MAX && runs_next(&wish->uids, (uint32_t)uid, &run);
		uid = (uint64_t)run.last + 1) {
		for (uint64_t n = run.first; n <= run.last; n++) {
			if (runs_get(messages, (uint32_t)n, NULL) &&
				runs_set(&known, (uint32_t)n, (uint32_t)n, 0) < 0) {
				runs_done(&known);
				return -ENOMEM;
			}
		}
	}
	runs_done(&wish->uids);
	runs_take(&wish->uids, &known);
	return 0;
}

/* As wish_send(). */
static int choose_uids(struct wish *wish, struct failure *ret_failure)
{
	/* A list of mailboxes is about none of them. */
	const struct imap_mailbox *view = wish->mailbox ? wish->mailbox->view : NULL;
	int error = 0;
	*ret_failure = (struct failure){0};
	switch (wish->kind) {
	case WISH_LIST_SINCE:
		if (view->cursor.uidvalidity != wish->uidvalidity) {
			failure_set(ret_failure, FAILURE_RESET, "UIDVALIDITY is %u now",
				view->cursor.uidvalidity);
			return 0;
		}
		runs_done(&wish->uids);
		error = choose_since(wish, &view->messages);
		break;
	case WISH_LIST_UNREAD:
		runs_done(&wish->uids);
		error = choose_unread(wish, view);
		break;
	case WISH_SET_FLAGS:
	case WISH_MOVE:
		error = choose_known(wish, &view->messages);
		if (error == 0 && runs_count(&wish->uids) == 0) {
			failure_set(ret_failure, FAILURE_NO_SUCH_MESSAGE,
				"the mailbox has none of these messages");
		}
		break;
	case WISH_FETCH:
	case WISH_REFRESH:
	case WISH_FETCH_RAW:
	case WISH_LIST_MAILBOXES:
	case WISH_STOP:
	case WISH_VISIT:
	case WISH_LISTING:
		return 1;
	}
	if (error < 0) {
		return error;
	}
	return runs_count(&wish->uids) > 0 ? 1 : 0;
}

static int intend(struct wish *wish, struct imap_client *client, uint64_t now)
{
	struct imap_mailbox *view = wish->mailbox ? wish->mailbox->view : NULL;
	switch (wish->kind) {
	case WISH_VISIT:
		if (wish->mailbox->has_news) {
			return imap_client_visit(client, wish->id, view, now);
		}
		return imap_client_refresh(client, wish->id, view, now);
	case WISH_REFRESH:
		return imap_client_refresh(client, wish->id, view, now);
	case WISH_FETCH:
	case WISH_LIST_SINCE:
	case WISH_LIST_UNREAD:
		return imap_client_fetch(
			client, wish->id, view, &wish->uids, message_imap_items(wish->items), now);
	case WISH_FETCH_RAW:
		return imap_client_fetch_raw(client, wish->id, view, wish->uid, now);
	case WISH_SET_FLAGS:
		return imap_client_store(client, wish->id, view, &wish->uids,
			(const char *const *)wish->add, wish->n_add,
			(const char *const *)wish->remove, wish->n_remove, now);
	case WISH_MOVE:
		return imap_client_move(client, wish->id, view, &wish->uids, wish->target, now);
	case WISH_LIST_MAILBOXES:
		return imap_client_list(client, wish->id, "*", now);
	case WISH_LISTING:
		return imap_client_list(client, wish->id, wish->target, now);
	case WISH_STOP:
		break;
	}
	return 0;
}

int wish_send(
	struct wish *wish, struct connection *connection, uint64_t now, struct failure *ret_failure)
{
	int result = choose_uids(wish, ret_failure);
	if (result <= 0) {
		return result;
	}
	int error = intend(wish, connection_client(connection), now);
	if (error < 0) {
		return error;
	}
	wish->connection = connection;
	connection_wake(connection);
	return 1;
}

/* -- from the engine -- */

static int add_message(struct wish *wish, struct message *message)
{
	if (wish->n_messages == wish->n_messages_allocated) {
		size_t n = wish->n_messages_allocated > 0 ? 2 * wish->n_messages_allocated : 16;
		struct message **messages = reallocarray(wish->messages, n, sizeof(*messages));
		if (!messages) {
			return -ENOMEM;
		}
		wish->messages = messages;
		wish->n_messages_allocated = n;
	}
	wish->messages[wish->n_messages] = message;
	wish->n_messages++;
	wish->size += message_size(message);
	return 0;
}

int wish_gather_message(struct wish *wish, struct imap_event *event, struct failure *ret_failure)
{
	uint32_t uidvalidity = wish->mailbox->view->cursor.uidvalidity;
	for (size_t i = 0; i < event->n_messages; i++) {
		if (!event->messages[i]) {
			continue;
		}
		struct message *message = message_new(event->messages[i], uidvalidity, wish->items);
		if (!message || add_message(wish, message) < 0) {
			message_free(message);
			failure_set(ret_failure, FAILURE_LIMIT_EXCEEDED, "out of memory");
			return -ENOMEM;
		}
	}
	if (wish->size > REPLY_SIZE_HIGHEST) {
		failure_set(ret_failure, FAILURE_LIMIT_EXCEEDED,
			"the reply would be larger than 8 MiB: ask for less at once");
		return -EMSGSIZE;
	}
	return 0;
}

int wish_gather_chunk(struct wish *wish, const struct imap_event *event, uint64_t now,
	struct failure *ret_failure)
{
	if (wish->raw_fd < 0) {
		wish->raw_fd = memfd_create("message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	}
	struct span rest = event->chunk;
	while (wish->raw_fd >= 0 && rest.len > 0) {
		ssize_t len = write(wish->raw_fd, rest.data, rest.len);
		if (len < 0 && errno == EINTR) {
			continue;
		}
		if (len <= 0) {
			break;
		}
		rest.data += len;
		rest.len -= (size_t)len;
		wish->raw_size += (uint64_t)len;
	}
	if (wish->raw_fd < 0 || rest.len > 0 ||
		task_set_deadline(&wish->task, now + WISH_USEC, 0) < 0) {
		failure_set(
			ret_failure, FAILURE_LIMIT_EXCEEDED, "there is no memory for the message");
		return -ENOMEM;
	}
	return 0;
}

static int copy_list_item(const struct imap_list_item *item, struct account_list_item *copy)
{
	copy->name = strdup(item->name);
	copy->attributes = calloc(item->n_attributes + 1, sizeof(*copy->attributes));
	if (!copy->name || !copy->attributes) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < item->n_attributes; i++) {
		copy->attributes[i] = strdup(item->attributes[i]);
		if (!copy->attributes[i]) {
			return -ENOMEM;
		}
	}
	return 0;
}

/* As it will be in the reply, or a little less. */
static size_t list_size(const struct imap_list_item *list, size_t n)
{
	size_t size = 0;
	for (size_t i = 0; i < n; i++) {
		size += strlen(list[i].name);
		for (size_t k = 0; k < list[i].n_attributes; k++) {
			size += strlen(list[i].attributes[k]);
		}
	}
	return size;
}

int wish_gather_list(struct wish *wish, struct imap_event *event, struct failure *ret_failure)
{
	forget_gathered(wish);
	if (list_size(event->list, event->n_list) > REPLY_SIZE_HIGHEST) {
		failure_set(ret_failure, FAILURE_LIMIT_EXCEEDED,
			"the reply would be larger than 8 MiB");
		return -EMSGSIZE;
	}
	wish->list = calloc(event->n_list + 1, sizeof(*wish->list));
	int error = wish->list ? 0 : -ENOMEM;
	for (size_t i = 0; error == 0 && i < event->n_list; i++) {
		wish->n_list++;
		error = copy_list_item(&event->list[i], &wish->list[i]);
	}
	if (error < 0) {
		failure_set(ret_failure, FAILURE_LIMIT_EXCEEDED, "out of memory");
	}
	return error;
}
