#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "notice.h"

#define N_HIGHEST    1000
#define SIZE_HIGHEST ((size_t)16 * 1024 * 1024)

void notice_queue_init(struct notice_queue *queue, struct task *owner, struct state *state)
{
	*queue = (struct notice_queue){.owner = owner, .state = state};
	list_init(&queue->notices);
	list_init(&queue->popped);
	list_init(&queue->told);
}

static struct notice_place *place_of(struct list *node)
{
	return list_entry(node, struct notice_place, node);
}

static struct notice_place *first(struct notice_queue *queue)
{
	return place_of(queue->notices.next);
}

static struct notice *notice_of(struct notice_place *place)
{
	return list_entry(place, struct notice, place);
}

static void free_deltas(struct list *deltas)
{
	while (!list_is_empty(deltas)) {
		delta_free(list_entry(deltas->next, struct delta, node));
	}
}

void notice_queue_done(struct notice_queue *queue)
{
	notice_free(queue->current);
	queue->current = NULL;
	while (!list_is_empty(&queue->notices)) {
		struct notice_place *place = first(queue);
		list_remove(&place->node);
		if (!place->is_change) {
			notice_free(notice_of(place));
		}
	}
	free_deltas(&queue->popped);
	free_deltas(&queue->told);
}

struct notice *notice_new(enum account_event_kind kind)
{
	struct notice *notice = calloc(1, sizeof(*notice));
	if (!notice) {
		return NULL;
	}
	list_init(&notice->place.node);
	notice->told.kind = kind;
	notice->told.raw_fd = -1;
	return notice;
}

struct notice *notice_new_silent(struct delta *delta)
{
	struct notice *notice = delta ? notice_new(ACCOUNT_EVENT_CHANGED) : NULL;
	if (!notice) {
		delta_free(delta);
		return NULL;
	}
	notice->is_silent = true;
	notice->delta = delta;
	return notice;
}

static void free_list(struct account_event *told)
{
	for (size_t i = 0; i < told->n_list; i++) {
		free(told->list[i].name);
		for (char **word = told->list[i].attributes; word && *word; word++) {
			free(*word);
		}
		free(told->list[i].attributes);
	}
	free(told->list);
}

struct notice *notice_free(struct notice *notice)
{
	if (!notice) {
		return NULL;
	}
	for (size_t i = 0; i < notice->told.n_messages; i++) {
		message_free(notice->told.messages[i]);
	}
	free(notice->told.messages);
	free(notice->told.uids);
	free_list(&notice->told);
	if (notice->told.raw_fd >= 0) {
		close(notice->told.raw_fd);
	}
	delta_free(notice->delta);
	free(notice);
	return NULL;
}

static size_t measure_item(const struct account_list_item *item)
{
	size_t size = sizeof(*item) + strlen(item->name);
	for (char **word = item->attributes; word && *word; word++) {
		size += sizeof(*word) + strlen(*word);
	}
	return size;
}

static size_t measure(const struct notice *notice)
{
	size_t size = sizeof(*notice) + notice->told.n_uids * sizeof(*notice->told.uids);
	for (size_t i = 0; i < notice->told.n_messages; i++) {
		size += message_size(notice->told.messages[i]);
	}
	/* A memfd is memory of ours as long as nobody else has it. */
	size += (size_t)notice->told.raw_size;
	for (size_t i = 0; i < notice->told.n_list; i++) {
		size += measure_item(&notice->told.list[i]);
	}
	return size + (notice->delta ? delta_size(notice->delta) : 0);
}

static bool is_news(struct notice_place *place)
{
	return !place->is_change && !notice_of(place)->is_silent;
}

static void put(struct notice_queue *queue, struct notice_place *place, size_t size)
{
	place->size = size;
	queue->size += size;
	queue->n++;
	queue->n_news += is_news(place);
	list_append(&queue->notices, &place->node);
	task_wake(queue->owner);
}

void notice_queue_put(struct notice_queue *queue, struct notice *notice)
{
	put(queue, &notice->place, measure(notice));
}

void notice_change_init(struct notice_change *change, enum account_event_kind kind,
	struct account *account, struct mailbox *mailbox)
{
	*change = (struct notice_change){
		.place.is_change = true,
		.late = {.is_change = true, .is_late = true},
		.kind = kind,
		.account = account,
		.mailbox = mailbox,
	};
	list_init(&change->place.node);
	list_init(&change->late.node);
}

static bool is_queued(const struct notice_place *place)
{
	return !list_is_empty(&place->node);
}

static void take(struct notice_queue *queue, struct notice_place *place)
{
	list_remove(&place->node);
	queue->n--;
	queue->n_news -= is_news(place);
	queue->size -= place->size;
}

/* Behind a reply nobody looks for what it is about. */
static bool is_before_reply(const struct notice_queue *queue, const struct notice_place *place)
{
	for (struct list *node = place->node.next; node != &queue->notices; node = node->next) {
		struct notice_place *other = place_of(node);
		if (!other->is_change && notice_of(other)->told.kind == ACCOUNT_EVENT_REPLY) {
			return true;
		}
	}
	return false;
}

/* Of the object that the change is of. */
static bool is_before_news(const struct notice_queue *queue, const struct notice_change *change,
	const struct notice_place *place)
{
	for (struct list *node = place->node.next; node != &queue->notices; node = node->next) {
		if (!is_news(place_of(node))) {
			continue;
		}
		const struct account_event *told = &notice_of(place_of(node))->told;
		if (told->kind != ACCOUNT_EVENT_REPLY && told->account == change->account &&
			(!change->mailbox || told->mailbox == change->mailbox)) {
			return true;
		}
	}
	return false;
}

static void put_behind(struct notice_queue *queue, struct notice_place *place)
{
	take(queue, place);
	put(queue, place, place->size);
}

/* Behind what has been queued since: idle must not be shown before the news. */
static void change_late(struct notice_queue *queue, struct notice_change *change)
{
	if (!is_before_reply(queue, &change->late) ||
		is_before_news(queue, change, &change->late)) {
		put_behind(queue, &change->late);
	}
}

void notice_queue_change(
	struct notice_queue *queue, struct notice_change *change, unsigned int properties)
{
	if ((properties & ACCOUNT_PROPERTY_STATE) && is_queued(&change->late)) {
		change_late(queue, change);
		properties &= ~(unsigned int)ACCOUNT_PROPERTY_STATE;
	}
	if (properties == 0) {
		return;
	}
	change->properties |= properties;
	if (!is_queued(&change->place)) {
		put(queue, &change->place, sizeof(*change));
	} else if (!is_before_reply(queue, &change->place)) {
		put_behind(queue, &change->place);
	} else if ((properties & ACCOUNT_PROPERTY_STATE) &&
		is_before_news(queue, change, &change->place)) {
		change->properties &= ~(unsigned int)ACCOUNT_PROPERTY_STATE;
		put(queue, &change->late, 0);
		if (change->properties == 0) {
			take(queue, &change->place);
		}
	}
}

void notice_withdraw(struct notice_queue *queue, struct notice_change *change)
{
	if (is_queued(&change->place)) {
		take(queue, &change->place);
		change->properties = 0;
	}
	if (is_queued(&change->late)) {
		take(queue, &change->late);
	}
}

static struct account_event *show(
	struct notice_queue *queue, const struct notice_change *change, unsigned int properties)
{
	queue->shown = (struct account_event){
		.kind = change->kind,
		.account = change->account,
		.mailbox = change->mailbox,
		.properties = properties,
		.raw_fd = -1,
	};
	return &queue->shown;
}

/* The event is shown as long as it is the one popped last. */
static struct account_event *show_place(struct notice_queue *queue, struct notice_place *place)
{
	if (place->is_late) {
		return show(queue, list_entry(place, struct notice_change, late),
			ACCOUNT_PROPERTY_STATE);
	}
	struct notice_change *change = list_entry(place, struct notice_change, place);
	unsigned int properties = change->properties;
	change->properties = 0;
	return show(queue, change, properties);
}

static void append_all(struct list *target, struct list *source)
{
	while (!list_is_empty(source)) {
		struct list *node = source->next;
		list_remove(node);
		list_append(target, node);
	}
}

struct account_event *notice_queue_next(struct notice_queue *queue)
{
	queue->current = notice_free(queue->current);
	while (!list_is_empty(&queue->notices)) {
		struct notice_place *place = first(queue);
		take(queue, place);
		if (place->is_change) {
			return show_place(queue, place);
		}
		struct notice *notice = notice_of(place);
		if (notice->delta) {
			list_append(&queue->popped, &notice->delta->node);
			notice->delta = NULL;
		}
		if (notice->is_silent) {
			notice_free(notice);
			continue;
		}
		queue->current = notice;
		return &notice->told;
	}
	queue->has_told = queue->has_told || !list_is_empty(&queue->popped);
	append_all(&queue->told, &queue->popped);
	return NULL;
}

int notice_queue_commit(struct notice_queue *queue)
{
	queue->has_told = false;
	if (list_is_empty(&queue->told)) {
		return 0;
	}
	state_begin(queue->state);
	LIST_FOR_EACH (node, &queue->told) {
		delta_write(list_entry(node, struct delta, node), queue->state);
	}
	int error = state_commit(queue->state);
	if (error == 0) {
		free_deltas(&queue->told);
	}
	return error;
}

bool notice_queue_is_behind(const struct notice_queue *queue)
{
	return !list_is_empty(&queue->told);
}

bool notice_queue_gives_up(struct notice_queue *queue)
{
	size_t size = 0;
	LIST_FOR_EACH (node, &queue->told) {
		size += delta_size(list_entry(node, struct delta, node));
	}
	if (size < SIZE_HIGHEST) {
		return false;
	}
	free_deltas(&queue->told);
	return true;
}

bool notice_queue_has_news(const struct notice_queue *queue)
{
	return queue->n_news > 0;
}

bool notice_queue_is_full(const struct notice_queue *queue)
{
	return queue->n >= N_HIGHEST || queue->size >= SIZE_HIGHEST;
}

bool notice_queue_has_room(const struct notice_queue *queue)
{
	return queue->n <= N_HIGHEST / 2 && queue->size <= SIZE_HIGHEST / 2;
}

static int apply_all(
	const struct list *deltas, const struct state_key *key, struct imap_mailbox *view)
{
	for (const struct list *node = deltas->next; node != deltas; node = node->next) {
		const struct delta *delta = list_entry(node, const struct delta, node);
		if (delta_is_about(delta, key)) {
			int error = delta_apply(delta, view);
			if (error < 0) {
				return error;
			}
		}
	}
	return 0;
}

int notice_queue_apply(
	const struct notice_queue *queue, const struct state_key *key, struct imap_mailbox *view)
{
	int error = apply_all(&queue->told, key, view);
	if (error == 0) {
		error = apply_all(&queue->popped, key, view);
	}
	for (struct list *node = queue->notices.next; error == 0 && node != &queue->notices;
		node = node->next) {
		struct notice_place *place = place_of(node);
		const struct delta *delta = place->is_change ? NULL : notice_of(place)->delta;
		if (delta && delta_is_about(delta, key)) {
			error = delta_apply(delta, view);
		}
	}
	return error;
}

static void look_for_stop(
	const struct delta *delta, const struct state_key *key, bool *ret_is_stopped)
{
	bool is_stop = delta && (delta->kind == DELTA_STOPPED || delta->kind == DELTA_STARTED);
	if (is_stop && delta_is_about(delta, key)) {
		*ret_is_stopped = delta->kind == DELTA_STOPPED;
	}
}

bool notice_queue_is_stopped(
	const struct notice_queue *queue, const struct state_key *key, bool is_stopped)
{
	const struct list *lists[] = {&queue->told, &queue->popped};
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (struct list *node = lists[i]->next; node != lists[i]; node = node->next) {
			look_for_stop(list_entry(node, struct delta, node), key, &is_stopped);
		}
	}
	for (struct list *node = queue->notices.next; node != &queue->notices; node = node->next) {
		struct notice_place *place = place_of(node);
		look_for_stop(place->is_change ? NULL : notice_of(place)->delta, key, &is_stopped);
	}
	return is_stopped;
}
