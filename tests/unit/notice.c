/* What is told becomes durable when it has been told, and never before; and what decides when
 * connections try: the gate and the waits. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "notice.h"
#include "retry.h"
#include "tests/unit/turning.h"
#include "util/log.h"

static const struct state_key inbox = {"imap.example.org", "jo", "INBOX"};
static const struct state_key sent = {"imap.example.org", "jo", "Sent"};

static struct turning turning;
static struct state *state;
static struct notice_queue queue;
static char folder[PATH_MAX];

static int set_up(void **fixture)
{
	(void)fixture;
	const char *parent = getenv("TMPDIR");
	snprintf(folder, sizeof(folder), "%s/mailidle-notice-XXXXXX", parent ? parent : P_tmpdir);
	assert_non_null(mkdtemp(folder));
	log_set_level(LOG_LEVEL_ERROR);
	turning_init(&turning);
	assert_int_equal(state_open(folder, &state), 0);
	notice_queue_init(&queue, &turning.owner, state);
	return 0;
}

static int tear_down(void **fixture)
{
	(void)fixture;
	notice_queue_done(&queue);
	state = state_close(state);
	turning_done(&turning);
	static const char *const names[] = {
		"mailidle.db", "mailidle.db-wal", "mailidle.db-shm", "mailidle.lock"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[PATH_MAX + 32];
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	return rmdir(folder);
}

static struct delta *new_delta(enum delta_kind kind, const struct state_key *key, uint32_t first,
	uint32_t last, uint16_t value)
{
	struct delta *delta = delta_new(kind, key);
	assert_non_null(delta);
	delta->cursor = (struct imap_cursor){.uidvalidity = 9, .watermark = last + 1};
	if (first > 0) {
		assert_int_equal(runs_set(&delta->messages, first, last, value), 0);
	}
	return delta;
}

static void put(enum account_event_kind kind, struct delta *delta)
{
	struct notice *notice = notice_new(kind);
	assert_non_null(notice);
	notice->delta = delta;
	notice_queue_put(&queue, notice);
}

static void put_silent(struct delta *delta)
{
	struct notice *notice = notice_new_silent(delta);
	assert_non_null(notice);
	notice_queue_put(&queue, notice);
}

/* How many messages of the mailbox are stored. */
static uint64_t n_stored(const struct state_key *key)
{
	struct imap_mailbox *view = imap_mailbox_new(key->mailbox);
	assert_non_null(view);
	assert_int_equal(delta_load(state, key, view), 0);
	uint64_t n = runs_count(&view->messages);
	imap_mailbox_free(view);
	return n;
}

static void test_told_before_it_is_stored(void **fixture)
{
	(void)fixture;
	put_silent(new_delta(DELTA_BASELINE, &inbox, 1, 10, IMAP_MAILBOX_READ));
	put(ACCOUNT_EVENT_NEW_MAIL, new_delta(DELTA_MESSAGES, &inbox, 11, 12, 0));
	assert_int_equal(notice_queue_commit(&queue), 0);
	assert_int_equal(n_stored(&inbox), 0);

	struct account_event *event = notice_queue_next(&queue);
	assert_int_equal(event->kind, ACCOUNT_EVENT_NEW_MAIL);
	assert_int_equal(notice_queue_commit(&queue), 0);
	assert_int_equal(n_stored(&inbox), 0);

	assert_null(notice_queue_next(&queue));
	put(ACCOUNT_EVENT_EXPUNGED, new_delta(DELTA_REMOVED, &inbox, 5, 5, 0));
	assert_int_equal(notice_queue_next(&queue)->kind, ACCOUNT_EVENT_EXPUNGED);
	/* What was popped since is not known to have been told. */
	assert_int_equal(notice_queue_commit(&queue), 0);
	assert_int_equal(n_stored(&inbox), 12);
	assert_null(notice_queue_next(&queue));
	assert_int_equal(notice_queue_commit(&queue), 0);
	assert_int_equal(n_stored(&inbox), 11);
	assert_int_equal(n_stored(&sent), 0);
}

/* A mailbox that is loaded anew knows what is still on its way to the bus and to the disk. */
static void test_what_is_on_its_way(void **fixture)
{
	(void)fixture;
	put_silent(new_delta(DELTA_BASELINE, &inbox, 1, 10, IMAP_MAILBOX_READ));
	assert_null(notice_queue_next(&queue)); /* told, not committed */
	put(ACCOUNT_EVENT_NEW_MAIL, new_delta(DELTA_MESSAGES, &inbox, 11, 12, 0));
	notice_queue_next(&queue); /* popped */
	put(ACCOUNT_EVENT_EXPUNGED, new_delta(DELTA_REMOVED, &inbox, 3, 4, 0));
	put(ACCOUNT_EVENT_NEW_MAIL, new_delta(DELTA_MESSAGES, &sent, 1, 1, 0));
	put_silent(new_delta(DELTA_CURSOR, &inbox, 0, 12, 0));
	struct imap_mailbox *view = imap_mailbox_new("INBOX");
	assert_non_null(view);
	assert_int_equal(delta_load(state, &inbox, view), 0);
	assert_int_equal(runs_count(&view->messages), 0);
	assert_int_equal(notice_queue_apply(&queue, &inbox, view), 0);
	assert_int_equal(runs_count(&view->messages), 10);
	assert_int_equal(view->n_unread, 2);
	assert_int_equal(view->cursor.uidvalidity, 9);
	assert_int_equal(view->cursor.watermark, 13);
	imap_mailbox_free(view);
}

static void test_changes_of_one_object_are_one(void **fixture)
{
	(void)fixture;
	struct notice_change changed;
	notice_change_init(&changed, ACCOUNT_EVENT_CHANGED, NULL, NULL);
	notice_queue_change(&queue, &changed, 0);
	assert_null(notice_queue_next(&queue));
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_STATE);
	put(ACCOUNT_EVENT_REPLY, NULL);
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_ERROR);
	struct account_event *event = notice_queue_next(&queue);
	assert_int_equal(event->kind, ACCOUNT_EVENT_CHANGED);
	assert_int_equal(event->properties, ACCOUNT_PROPERTY_STATE | ACCOUNT_PROPERTY_ERROR);
	/* While it is looked at the next change is another event. */
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_UNREAD);
	assert_int_equal(event->properties, ACCOUNT_PROPERTY_STATE | ACCOUNT_PROPERTY_ERROR);
	assert_int_equal(notice_queue_next(&queue)->kind, ACCOUNT_EVENT_REPLY);
	assert_int_equal(notice_queue_next(&queue)->properties, ACCOUNT_PROPERTY_UNREAD);
	assert_null(notice_queue_next(&queue));
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_MODE);
	notice_withdraw(&queue, &changed);
	assert_null(notice_queue_next(&queue));
}

static void test_a_state_is_not_shown_before_the_news(void **fixture)
{
	(void)fixture;
	struct notice_change changed;
	notice_change_init(&changed, ACCOUNT_EVENT_CHANGED, NULL, NULL);
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_STATE);
	put(ACCOUNT_EVENT_NEW_MAIL, NULL);
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_STATE);
	assert_int_equal(notice_queue_next(&queue)->kind, ACCOUNT_EVENT_NEW_MAIL);
	assert_int_equal(notice_queue_next(&queue)->properties, ACCOUNT_PROPERTY_STATE);
	assert_null(notice_queue_next(&queue));
}

static void put_mail(struct mailbox *mailbox)
{
	struct notice *notice = notice_new(ACCOUNT_EVENT_NEW_MAIL);
	assert_non_null(notice);
	notice->told.mailbox = mailbox;
	notice_queue_put(&queue, notice);
}

static void expect(enum account_event_kind kind, unsigned int properties)
{
	struct account_event *event = notice_queue_next(&queue);
	assert_non_null(event);
	assert_int_equal(event->kind, kind);
	assert_int_equal(event->properties, properties);
}

/* What a reply is about is told before it, and a state behind the news, wherever the reply is. */
static void test_a_state_behind_the_news_and_the_rest_before_the_reply(void **fixture)
{
	(void)fixture;
	enum {
		STATE = ACCOUNT_PROPERTY_STATE,
		UNREAD = ACCOUNT_PROPERTY_UNREAD
	};
	/* They are never looked at. */
	char boxes[2];
	struct mailbox *mailbox = (struct mailbox *)(void *)&boxes[0];
	struct mailbox *other = (struct mailbox *)(void *)&boxes[1];
	struct notice_change changed;
	notice_change_init(&changed, ACCOUNT_EVENT_MAILBOX_CHANGED, NULL, mailbox);
	notice_queue_change(&queue, &changed, STATE | UNREAD);
	put(ACCOUNT_EVENT_REPLY, NULL);
	put_mail(other);
	notice_queue_change(&queue, &changed, STATE);
	put_mail(mailbox);
	notice_queue_change(&queue, &changed, STATE | UNREAD);
	put_mail(mailbox);
	put(ACCOUNT_EVENT_REPLY, NULL);
	notice_queue_change(&queue, &changed, STATE);
	put(ACCOUNT_EVENT_REPLY, NULL);
	notice_queue_change(&queue, &changed, STATE);
	expect(ACCOUNT_EVENT_MAILBOX_CHANGED, UNREAD);
	expect(ACCOUNT_EVENT_REPLY, 0);
	expect(ACCOUNT_EVENT_NEW_MAIL, 0);
	expect(ACCOUNT_EVENT_NEW_MAIL, 0);
	notice_queue_change(&queue, &changed, UNREAD);
	expect(ACCOUNT_EVENT_NEW_MAIL, 0);
	expect(ACCOUNT_EVENT_REPLY, 0);
	expect(ACCOUNT_EVENT_MAILBOX_CHANGED, STATE);
	expect(ACCOUNT_EVENT_REPLY, 0);
	notice_queue_change(&queue, &changed, STATE);
	expect(ACCOUNT_EVENT_MAILBOX_CHANGED, STATE | UNREAD);
	assert_null(notice_queue_next(&queue));
	/* Nothing but a state: it has one place. */
	notice_queue_change(&queue, &changed, STATE);
	put(ACCOUNT_EVENT_REPLY, NULL);
	put_mail(mailbox);
	notice_queue_change(&queue, &changed, STATE);
	expect(ACCOUNT_EVENT_REPLY, 0);
	notice_withdraw(&queue, &changed);
	expect(ACCOUNT_EVENT_NEW_MAIL, 0);
	assert_null(notice_queue_next(&queue));
}

/* What must be told at once, and what may be put off. */
static void test_changes_are_no_news(void **fixture)
{
	(void)fixture;
	struct notice_change changed;
	notice_change_init(&changed, ACCOUNT_EVENT_CHANGED, NULL, NULL);
	assert_false(notice_queue_has_news(&queue));
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_STATE);
	assert_false(notice_queue_has_news(&queue));
	put(ACCOUNT_EVENT_NEW_MAIL, NULL);
	put(ACCOUNT_EVENT_REPLY, NULL);
	notice_queue_change(&queue, &changed, ACCOUNT_PROPERTY_ERROR);
	assert_true(notice_queue_has_news(&queue));
	while (notice_queue_has_news(&queue)) {
		assert_non_null(notice_queue_next(&queue));
	}
	notice_withdraw(&queue, &changed);
	assert_null(notice_queue_next(&queue));
	assert_false(notice_queue_has_news(&queue));
}

static void test_a_slow_bus(void **fixture)
{
	(void)fixture;
	for (int i = 0; i < 999; i++) {
		put(ACCOUNT_EVENT_REPLY, NULL);
	}
	assert_false(notice_queue_is_full(&queue));
	put(ACCOUNT_EVENT_REPLY, NULL);
	assert_true(notice_queue_is_full(&queue));
	for (int i = 0; i < 499; i++) {
		assert_non_null(notice_queue_next(&queue));
	}
	assert_false(notice_queue_has_room(&queue));
	assert_non_null(notice_queue_next(&queue));
	assert_true(notice_queue_has_room(&queue));
}

static void test_large_events_fill_the_queue(void **fixture)
{
	(void)fixture;
	for (int i = 0; i < 16; i++) {
		assert_false(notice_queue_is_full(&queue));
		struct notice *notice = notice_new(ACCOUNT_EVENT_EXPUNGED);
		assert_non_null(notice);
		notice->told.n_uids = 256 * 1024;
		notice->told.uids = calloc(notice->told.n_uids, sizeof(uint32_t));
		assert_non_null(notice->told.uids);
		notice_queue_put(&queue, notice);
	}
	assert_true(notice_queue_is_full(&queue));
}

static void test_large_replies_fill_the_queue(void **fixture)
{
	(void)fixture;
	const size_t len = 512 * 1024;
	for (int i = 0; i < 16; i++) {
		assert_false(notice_queue_is_full(&queue));
		struct notice *notice = notice_new(ACCOUNT_EVENT_REPLY);
		assert_non_null(notice);
		struct account_list_item *item = calloc(1, sizeof(*item));
		assert_non_null(item);
		item->name = calloc(1, len + 1);
		item->attributes = calloc(2, sizeof(*item->attributes));
		assert_non_null(item->name);
		assert_non_null(item->attributes);
		item->attributes[0] = strdup(memset(item->name, 'x', len));
		assert_non_null(item->attributes[0]);
		notice->told.list = item;
		notice->told.n_list = 1;
		notice_queue_put(&queue, notice);
	}
	assert_true(notice_queue_is_full(&queue));
}

static void test_the_gate(void **fixture)
{
	(void)fixture;
	struct gate gate;
	struct gate_pass passes[10];
	gate_init(&gate);
	for (int i = 0; i < 10; i++) {
		gate_pass_init(&passes[i], &turning.owner);
		assert_int_equal(gate_enter(&gate, &passes[i]), i < 8);
	}
	assert_true(gate_enter(&gate, &passes[0]));
	assert_false(gate_enter(&gate, &passes[9]));
	/* First come, first served; who gives up waiting is passed over. */
	gate_leave(&gate, &passes[8]);
	gate_leave(&gate, &passes[3]);
	turning_await(&turning);
	assert_true(gate_enter(&gate, &passes[9]));
	assert_false(gate_enter(&gate, &passes[8]));
	gate_leave(&gate, &passes[3]);
	assert_false(gate_enter(&gate, &passes[8]));
	gate_leave(&gate, &passes[9]);
	assert_true(gate_enter(&gate, &passes[8]));
}

static void test_waits(void **fixture)
{
	(void)fixture;
	struct retry retry;
	for (uint64_t seed = 0; seed < 100; seed++) {
		retry_init(&retry, seed);
		uint64_t wait = retry_wait_usec(&retry, IMAP_END_ORDINARY, 0, KEY_LATER);
		assert_true(wait > 0 && wait <= USEC_PER_SEC);
		wait = retry_wait_usec(&retry, IMAP_END_LIMIT, 0, KEY_LATER);
		assert_true(wait >= 60 * USEC_PER_SEC);
		wait = retry_wait_usec(&retry, IMAP_END_THROTTLED, 92 * USEC_PER_SEC, KEY_LATER);
		assert_true(wait >= 92 * USEC_PER_SEC && wait <= 5 * USEC_PER_MINUTE);
		wait = retry_wait_usec(&retry, IMAP_END_THROTTLED, UINT64_MAX, KEY_LATER);
		assert_true(wait == 5 * USEC_PER_MINUTE);
		wait = retry_wait_usec(&retry, IMAP_END_CREDENTIALS, 0, KEY_LATER);
		assert_true(wait >= 60 * USEC_PER_SEC && wait <= 5 * USEC_PER_MINUTE);
	}
	assert_true(retry_wait_usec(&retry, IMAP_END_CREDENTIALS, 0, KEY_AGAIN) == 0);
	assert_true(retry_wait_usec(&retry, IMAP_END_CREDENTIALS, 0, KEY_NEVER) == USEC_NEVER);
}

/* An expired token is a reason to come back at once, but not again and again. */
static void test_an_expired_token(void **fixture)
{
	(void)fixture;
	struct retry retry;
	retry_init(&retry, 1);
	assert_true(retry_wait_usec(&retry, IMAP_END_TOKEN, 0, KEY_LATER) == 0);
	assert_true(retry_wait_usec(&retry, IMAP_END_TOKEN, 0, KEY_LATER) > 0);
	retry_forgive(&retry);
	assert_true(retry_wait_usec(&retry, IMAP_END_TOKEN, 0, KEY_LATER) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_told_before_it_is_stored, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_on_its_way, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_changes_of_one_object_are_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_state_is_not_shown_before_the_news, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_a_state_behind_the_news_and_the_rest_before_the_reply, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(test_changes_are_no_news, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_slow_bus, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_large_events_fill_the_queue, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_large_replies_fill_the_queue, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_gate, set_up, tear_down),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_an_expired_token),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
