/* A mailbox of a million messages, opened, followed and left within the memory that its view takes,
 * and in few commands. The server is a script that makes its lines as they are wanted. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/client.h"
#include "util/clock.h"
#include "util/log.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

enum {
	N_MESSAGES = 1000000,
	HIGHEST_OCTETS = 16 << 20, /* of the heap, with the events that wait */
	PIECE_OCTETS = 16384,      /* that the network brings at a time */
};

/* Octets that are allocated, and the most of them that ever were. */
static ssize_t heap, heap_highest;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_reallocarray(void *memory, size_t n, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t n, size_t size);
void __wrap_free(void *memory);

static void *count(void *memory)
{
	heap += (ssize_t)malloc_usable_size(memory);
	heap_highest = heap > heap_highest ? heap : heap_highest;
	return memory;
}

void *__wrap_malloc(size_t size)
{
	return count(__real_malloc(size));
}

void *__wrap_calloc(size_t n, size_t size)
{
	return count(__real_calloc(n, size));
}

void *__wrap_realloc(void *memory, size_t size)
{
	heap -= (ssize_t)malloc_usable_size(memory);
	return count(__real_realloc(memory, size));
}

void *__wrap_reallocarray(void *memory, size_t n, size_t size)
{
	heap -= (ssize_t)malloc_usable_size(memory);
	return count(__real_reallocarray(memory, n, size));
}

void __wrap_free(void *memory)
{
	heap -= (ssize_t)malloc_usable_size(memory);
	__real_free(memory);
}

struct talk {
	struct imap_client *client;
	struct imap_mailbox *view;
	bool has_condstore;
	uint64_t now;
	struct bytes answer;
	char idle_tag[16];
	unsigned int n_commands;
	uint64_t n_told; /* in a baseline */
	unsigned int n_new, n_flags, n_expunged, n_synchronised;
	bool is_closed;
};

/* Every twentieth number is missing, as in mailboxes that people clean up. */
static uint32_t uid_of(uint32_t number)
{
	return number + (number - 1) / 19;
}

static uint32_t hash_of(uint32_t uid)
{
	return uid * 2654435761u >> 12;
}

/* Without order, so that runs are short. */
static const char *flags_of(uint32_t uid)
{
	static const char *const sets[] = {"\\Seen", "\\Seen", "\\Seen \\Answered", "\\Seen",
		"\\Seen \\Flagged", "$Junk \\Seen", "", "\\Seen"};
	return sets[hash_of(uid) % 8];
}

static bool is_unread(uint32_t uid)
{
	return hash_of(uid) % 8 == 6;
}

static void pop_events(struct talk *talk)
{
	const struct imap_event *event;
	while ((event = imap_client_next_event(talk->client))) {
		if (event->kind == IMAP_EVENT_READY) {
			imap_client_watch(talk->client, talk->view, talk->now);
		}
		talk->n_told +=
			event->kind == IMAP_EVENT_BASELINE ? runs_count(&event->baseline) : 0;
		talk->n_new += event->kind == IMAP_EVENT_NEW;
		talk->n_flags += event->kind == IMAP_EVENT_FLAGS;
		talk->n_expunged += event->kind == IMAP_EVENT_EXPUNGED;
		talk->n_synchronised += event->kind == IMAP_EVENT_SYNCHRONISED;
		talk->is_closed = talk->is_closed || event->kind == IMAP_EVENT_CLOSED;
	}
}

static void bring(struct talk *talk, bool all)
{
	struct span span = bytes_span(&talk->answer);
	if (span.len == 0 || (!all && span.len < PIECE_OCTETS)) {
		return;
	}
	imap_client_receive(talk->client, span.data, span.len, talk->now);
	bytes_consume(&talk->answer, span.len);
	pop_events(talk);
}

static void answer_search(struct talk *talk, const char *tag, bool is_unseen)
{
	bytes_printf(&talk->answer, "* ESEARCH (TAG \"%s\") UID ALL ", tag);
	uint32_t first = 0, last = 0;
	const char *comma = "";
	for (uint32_t number = 1; number <= N_MESSAGES + 1; number++) {
		uint32_t uid = uid_of(number);
		bool is_wanted = number <= N_MESSAGES && (!is_unseen || is_unread(uid));
		if (first && (!is_wanted || uid != last + 1)) {
			bytes_printf(&talk->answer, first == last ? "%s%u" : "%s%u:%u", comma,
				first, last);
			comma = ",";
			first = 0;
			bring(talk, false);
		}
		if (is_wanted) {
			first = first ? first : uid;
			last = uid;
		}
	}
	bytes_printf(&talk->answer, "\r\n%s OK searched\r\n", tag);
}

static void answer_block(struct talk *talk, const char *tag, uint32_t first, uint32_t last)
{
	for (uint32_t number = first; number <= last; number++) {
		bytes_printf(&talk->answer, "* %u FETCH (UID %u FLAGS (%s))\r\n", number,
			uid_of(number), flags_of(uid_of(number)));
		bring(talk, false);
	}
	bytes_printf(&talk->answer, "%s OK fetched\r\n", tag);
}

static void answer_examine(struct talk *talk, const char *tag)
{
	bytes_printf(&talk->answer,
		"* %u EXISTS\r\n* OK [UIDVALIDITY 77] .\r\n* OK [UIDNEXT %u] .\r\n%s%s OK .\r\n",
		N_MESSAGES, uid_of(N_MESSAGES) + 1,
		talk->has_condstore ? "* OK [HIGHESTMODSEQ 40] .\r\n" : "", tag);
}

/* What came: the one message above the highest UID. */
static void answer_look(struct talk *talk, const char *tag, uint32_t from)
{
	uint32_t uid = uid_of(N_MESSAGES) + 1;
	if (talk->n_synchronised > 0 && uid >= from) {
		bytes_printf(&talk->answer,
			"* %u FETCH (UID %u FLAGS () ENVELOPE (NIL \"a\" NIL NIL NIL NIL NIL NIL "
			"NIL NIL) INTERNALDATE \"17-Jul-1996 02:44:25 -0700\" RFC822.SIZE 44)\r\n",
			N_MESSAGES + 1, uid);
	}
	bytes_printf(&talk->answer, "%s OK fetched\r\n", tag);
}

static void answer(struct talk *talk, const char *line)
{
	char tag[16], command[256];
	unsigned int first, last;
	if (strcmp(line, "DONE") == 0) {
		bytes_printf(&talk->answer, "%s OK done\r\n", talk->idle_tag);
		return;
	}
	assert_int_equal(sscanf(line, "%15s %255[^\n]", tag, command), 2);
	talk->n_commands++;
	if (strncmp(command, "EXAMINE", 7) == 0) {
		answer_examine(talk, tag);
	} else if (strncmp(command, "UID SEARCH", 10) == 0) {
		answer_search(talk, tag, strstr(command, "UNSEEN"));
	} else if (sscanf(command, "FETCH %u:%u", &first, &last) == 2) {
		answer_block(talk, tag, first, last);
	} else if (sscanf(command, "UID FETCH %u:", &first) == 1) {
		answer_look(talk, tag, first);
	} else if (strcmp(command, "IDLE") == 0) {
		memcpy(talk->idle_tag, tag, sizeof(tag));
		bytes_put_str(&talk->answer, "+ idling\r\n");
	} else if (strcmp(command, "LOGOUT") == 0) {
		bytes_printf(&talk->answer, "* BYE .\r\n%s OK .\r\n", tag);
	} else {
		bytes_printf(&talk->answer, "%s OK done\r\n", tag);
	}
}

/* Until nobody has anything to say. */
static void converse(struct talk *talk)
{
	for (;;) {
		bring(talk, true);
		struct span output = imap_client_output(talk->client);
		if (output.len == 0) {
			return;
		}
		char *said = strndup((const char *)output.data, output.len);
		assert_non_null(said);
		imap_client_sent(talk->client, output.len, talk->now);
		char *rest = NULL;
		for (char *line = strtok_r(said, "\r\n", &rest); line;
			line = strtok_r(NULL, "\r\n", &rest)) {
			answer(talk, line);
		}
		free(said);
	}
}

static void push(struct talk *talk, const char *line)
{
	bytes_put_str(&talk->answer, line);
	converse(talk);
}

static void follow(struct talk *talk)
{
	char line[128];
	assert_int_equal(imap_client_state(talk->client), IMAP_STATE_IDLING);
	snprintf(line, sizeof(line), "* 500000 FETCH (FLAGS (\\Flagged)%s)\r\n",
		talk->has_condstore ? " MODSEQ (41)" : "");
	push(talk, line);
	snprintf(line, sizeof(line), "* %u EXISTS\r\n", N_MESSAGES + 1);
	push(talk, line);
	push(talk, "* 3 EXPUNGE\r\n");
	assert_int_equal(talk->n_flags, 1);
	assert_int_equal(talk->n_new, 1);
	assert_int_equal(talk->n_expunged, 1);
	assert_int_equal(runs_count(&talk->view->messages), N_MESSAGES);
	assert_int_equal(imap_client_state(talk->client), IMAP_STATE_IDLING);
}

static void check(bool has_condstore, unsigned int n_commands_highest)
{
	struct talk talk = {.has_condstore = has_condstore, .now = 1000 * USEC_PER_SEC};
	const struct imap_client_options options = {
		.transport = IMAP_TRANSPORT_TUNNEL,
		.idle_timeout_usec = 9 * USEC_PER_MINUTE,
		.poll_interval_usec = 5 * USEC_PER_MINUTE,
	};
	heap = heap_highest = 0;
	bytes_init(&talk.answer);
	talk.client = imap_client_new(&options, talk.now);
	talk.view = imap_mailbox_new("INBOX");
	assert_non_null(talk.client);
	assert_non_null(talk.view);
	push(&talk,
		has_condstore ? "* PREAUTH [CAPABILITY IMAP4rev1 IDLE ESEARCH CONDSTORE] .\r\n"
			      : "* PREAUTH [CAPABILITY IMAP4rev1 IDLE] .\r\n");
	if (!has_condstore) {
		/* A UIDVALIDITY without CONDSTORE is looked at twice. */
		talk.now += 2 * USEC_PER_SEC;
		imap_client_tick(talk.client, talk.now);
		converse(&talk);
	}
	unsigned int n_commands = talk.n_commands;
	assert_int_equal(talk.n_told, N_MESSAGES);
	follow(&talk);
	imap_client_logout(talk.client, talk.now);
	converse(&talk);
	assert_true(talk.is_closed);
	print_message("# %u messages, %s: %u commands to open, %u in all, %zd KiB of heap\n",
		N_MESSAGES, has_condstore ? "CONDSTORE and ESEARCH" : "plain", n_commands,
		talk.n_commands, heap_highest / 1024);
	assert_true(heap_highest > 1 << 20 && heap_highest < HIGHEST_OCTETS);
	assert_true(n_commands <= n_commands_highest);
	imap_client_free(talk.client);
	imap_mailbox_free(talk.view);
	bytes_done(&talk.answer);
}

static void test_condstore_and_esearch(void **state)
{
	(void)state;
	check(true, 5);
}

/* A hundred blocks of ten thousand message numbers. */
static void test_plain(void **state)
{
	(void)state;
	check(false, 105);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_condstore_and_esearch),
		cmocka_unit_test(test_plain),
	};
	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
