#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>
#include <time.h>

#include "floor_bus.h"
#include "letters.h"
#include "moment.h"

#define NAME "org.example.MailIdle.Floor"
#define ROOT "/org/example/MailIdle"

/* The quoted strings of a FETCH in their order; envelopes of the benchmark all have them. */
enum string {
	STRING_RECEIVED,
	STRING_DATE,
	STRING_SUBJECT,
	STRING_FROM, /* name, local part, domain */
	STRING_SENDER = STRING_FROM + 3,
	STRING_REPLY_TO = STRING_SENDER + 3,
	STRING_TO = STRING_REPLY_TO + 3,
	STRING_IN_REPLY_TO = STRING_TO + 3,
	STRING_MESSAGE_ID,
	N_STRINGS,
};

struct shown {
	uint32_t uid;
	uint64_t size;
	int64_t date, received;
	const char *strings[N_STRINGS]; /* borrowed */
	char addresses[4][64];          /* from, sender, reply to, to */
};

static sd_bus *bus;
static sd_bus_message *waiting; /* a call of Refresh */
static void (*on_refresh)(void);
static struct shown *prepared;
static uint32_t n_prepared;

static void check(int r, const char *what)
{
	if (r < 0) {
		errno = -r;
		fail(what);
	}
}

/* A message */

static int64_t seconds(const char *text, const char *format)
{
	struct tm tm = {0};
	if (!strptime(text, format, &tm)) {
		errno = EINVAL;
		fail(text);
	}
	long offset = tm.tm_gmtoff;
	return (int64_t)timegm(&tm) - offset;
}

static void parse(struct shown *shown, char *line)
{
	const char *uid = strstr(line, "UID "), *size = strstr(line, "RFC822.SIZE ");
	unsigned int n = 0;
	for (char *open = strchr(line, '"'); open && n < N_STRINGS; n++) {
		char *close = strchr(open + 1, '"');
		if (!close) {
			break;
		}
		*close = '\0';
		shown->strings[n] = open + 1;
		open = strchr(close + 1, '"');
	}
	if (!uid || !size || n != N_STRINGS) {
		errno = EBADMSG;
		fail("FETCH");
	}
	shown->uid = (uint32_t)strtoul(uid + 4, NULL, 10);
	shown->size = strtoul(size + 12, NULL, 10);
	shown->received = seconds(shown->strings[STRING_RECEIVED], "%d-%b-%Y %H:%M:%S %z");
	shown->date = seconds(shown->strings[STRING_DATE], "%a, %d %b %Y %H:%M:%S %z");
	for (unsigned int i = 0; i < 4; i++) {
		const char *const *parts = &shown->strings[STRING_FROM + 3 * i];
		snprintf(shown->addresses[i], sizeof(shown->addresses[i]), "%s@%s", parts[1],
			parts[2]);
	}
}

/* a{sv}, the keys of the envelope; is_whole: flags, date of arrival and size as well. */
static void put(sd_bus_message *message, const struct shown *shown, bool is_whole)
{
	const char *const *strings = shown->strings;
	check(sd_bus_message_open_container(message, 'a', "{sv}"), "a message");
	check(sd_bus_message_append(message, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "Uid", "u",
		      shown->uid, "UidValidity", "u", 1, "Subject", "s", strings[STRING_SUBJECT],
		      "From", "a(ss)", 1, strings[STRING_FROM], shown->addresses[0], "Sender",
		      "a(ss)", 1, strings[STRING_SENDER], shown->addresses[1], "ReplyTo", "a(ss)",
		      1, strings[STRING_REPLY_TO], shown->addresses[2], "To", "a(ss)", 1,
		      strings[STRING_TO], shown->addresses[3], "Date", "x", shown->date,
		      "MessageId", "s", strings[STRING_MESSAGE_ID], "InReplyTo", "s",
		      strings[STRING_IN_REPLY_TO]),
		"a message");
	if (is_whole) {
		check(sd_bus_message_append(message, "{sv}{sv}{sv}", "Flags", "as", 0, "Received",
			      "x", shown->received, "Size", "t", shown->size),
			"a message");
	}
	check(sd_bus_message_close_container(message), "a message");
}

void floor_bus_announce(char *line)
{
	struct shown shown = {0};
	sd_bus_message *signal = NULL;
	parse(&shown, line);
	check(sd_bus_message_new_signal(bus, &signal, ROOT, NAME, "NewMail"), "NewMail");
	check(sd_bus_message_append(signal, "ss", "1", "INBOX"), "NewMail");
	check(sd_bus_message_open_container(signal, 'a', "a{sv}"), "NewMail");
	put(signal, &shown, true);
	check(sd_bus_message_close_container(signal), "NewMail");
	check(sd_bus_send(bus, signal, NULL), "NewMail");
	sd_bus_message_unref(signal);
}

/* Methods */

void floor_bus_refreshed(void)
{
	if (waiting) {
		check(sd_bus_reply_method_return(waiting, NULL), "Refresh");
		waiting = sd_bus_message_unref(waiting);
	}
}

static int method_refresh(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	(void)userdata;
	(void)error;
	if (waiting) {
		return -EBUSY;
	}
	waiting = sd_bus_message_ref(message);
	on_refresh();
	return 1;
}

static int method_fetch(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	sd_bus_message *reply = NULL;
	const uint32_t *uids;
	size_t size;
	(void)userdata;
	(void)error;
	check(sd_bus_message_skip(message, "ss"), "Fetch");
	check(sd_bus_message_read_array(message, 'u', (const void **)&uids, &size), "Fetch");
	check(sd_bus_message_new_method_return(message, &reply), "Fetch");
	check(sd_bus_message_open_container(reply, 'a', "a{sv}"), "Fetch");
	for (size_t i = 0; i < size / sizeof(*uids); i++) {
		if (uids[i] >= 1 && uids[i] <= n_prepared) {
			put(reply, &prepared[uids[i] - 1], false);
		}
	}
	check(sd_bus_message_close_container(reply), "Fetch");
	check(sd_bus_send(bus, reply, NULL), "Fetch");
	sd_bus_message_unref(reply);
	return 1;
}

static void prepare(uint32_t n)
{
	const unsigned int items = LETTER_UID | LETTER_DATE | LETTER_SIZE | LETTER_ENVELOPE;
	prepared = calloc(n, sizeof(*prepared));
	for (uint32_t i = 0; i < n; i++) {
		struct bytes line = {0};
		letter_put(&line, i + 1, items, false);
		char *text = bytes_steal(&line);
		if (!prepared || !text) {
			fail("memory");
		}
		parse(&prepared[i], text);
	}
	n_prepared = n;
}

/* The connection */

void floor_bus_process(void)
{
	int r;
	while ((r = sd_bus_process(bus, NULL)) > 0) {
	}
	check(r, "session bus");
}

void floor_bus_open(void (*refresh)(void), uint32_t n)
{
	static const sd_bus_vtable vtable[] = {
		SD_BUS_VTABLE_START(0),
		SD_BUS_METHOD("Refresh", "ss", "", method_refresh, SD_BUS_VTABLE_UNPRIVILEGED),
		SD_BUS_METHOD(
			"Fetch", "ssauas", "aa{sv}", method_fetch, SD_BUS_VTABLE_UNPRIVILEGED),
		SD_BUS_VTABLE_END,
	};
	on_refresh = refresh;
	prepare(n);
	check(sd_bus_open_user(&bus), "session bus");
	check(sd_bus_add_object_vtable(bus, NULL, ROOT, NAME, vtable, NULL), "session bus");
	check(sd_bus_request_name(bus, NAME, 0), NAME);
	/* What has been read meanwhile, sd-bus has no event for. */
	floor_bus_process();
}

int floor_bus_fd(void)
{
	return sd_bus_get_fd(bus);
}

int floor_bus_events(void)
{
	int events = sd_bus_get_events(bus);
	check(events, "session bus");
	return events;
}
