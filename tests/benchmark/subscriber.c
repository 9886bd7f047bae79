/* A subscriber and caller on the session bus: when does it hear of what, and how long do its calls
 * take? With sd-bus, as a status bar in C would do it.
 *
 *     bench-subscriber
 *
 * Orders on standard input; NS and BEGAN on standard output are nanoseconds of CLOCK_MONOTONIC:
 *
 *     refresh NAME ACCOUNT             NS refreshed BEGAN
 *     fetch NAME ACCOUNT LAST BLOCK N  NS fetched BEGAN COUNT WEIGHT, when the envelopes of the
 *                                      messages 1 to LAST have come, BLOCK by each call, N calls at
 *                                      a time; the weight is that of the first of each call
 *     mode ACCOUNT                     NS mode MODE
 *
 * NAME: the bus name of mailidled or of the floor, which are called alike. Unasked: NS newmail
 * ACCOUNT UID COUNT WEIGHT; NS state PATH STATE. WEIGHT: octets of what the messages say, by which
 * it is seen that both say the same. A call that fails ends it; so does the end of its input.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "moment.h"

#define NAME  "org.example.MailIdle"
#define ROOT  "/org/example/MailIdle"
#define FLOOR NAME ".Floor"

static struct {
	char name[80], account[80];
	uint32_t next, last, block, count;
	unsigned int n_calls; /* under way */
	size_t weight;
	uint64_t began;
} fetching;

static sd_bus *bus;

static void check(int r, const char *what)
{
	if (r < 0) {
		errno = -r;
		fail(what);
	}
}

static void check_reply(sd_bus_message *message, const char *what)
{
	const sd_bus_error *error = sd_bus_message_get_error(message);
	if (error) {
		fprintf(stderr, "bench-subscriber: %s: %s: %s\n", what, error->name,
			error->message);
		exit(1);
	}
}

static void print_time(uint64_t now)
{
	printf("%llu ", (unsigned long long)now);
}

/* Octets of all strings and numbers from here to the end of the container. */
static size_t weigh(sd_bus_message *message)
{
	const char *contents;
	size_t weight = 0;
	char type;
	while (sd_bus_message_peek_type(message, &type, &contents) > 0) {
		union {
			const char *text;
			uint64_t number;
		} value;
		if (contents) {
			check(sd_bus_message_enter_container(message, type, contents), "message");
			weight += weigh(message);
			check(sd_bus_message_exit_container(message), "message");
		} else {
			check(sd_bus_message_read_basic(message, type, &value), "message");
			weight += type == 's' ? strlen(value.text) : type == 'u' ? 4 : 8;
		}
	}
	return weight;
}

/* Signals */

static int on_new_mail(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	uint64_t now = now_nsec();
	const char *account, *mailbox, *key;
	uint32_t uid = 0;
	unsigned int n = 0;
	(void)userdata;
	(void)error;
	check(sd_bus_message_read(message, "ss", &account, &mailbox), "NewMail");
	check(sd_bus_message_enter_container(message, 'a', "a{sv}"), "NewMail");
	while (sd_bus_message_enter_container(message, 'a', "{sv}") > 0) {
		n++;
		while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
			check(sd_bus_message_read(message, "s", &key), "NewMail");
			if (strcmp(key, "Uid") == 0) {
				check(sd_bus_message_read(message, "v", "u", &uid), "NewMail");
			} else {
				check(sd_bus_message_skip(message, "v"), "NewMail");
			}
			sd_bus_message_exit_container(message);
		}
		sd_bus_message_exit_container(message);
	}
	check(sd_bus_message_rewind(message, true), "NewMail");
	check(sd_bus_message_skip(message, "ss"), "NewMail");
	print_time(now);
	printf("newmail %s %u %u %zu\n", account, uid, n, weigh(message));
	return 0;
}

static int on_properties(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	uint64_t now = now_nsec();
	const char *key, *state;
	(void)userdata;
	(void)error;
	check(sd_bus_message_skip(message, "s"), "PropertiesChanged");
	check(sd_bus_message_enter_container(message, 'a', "{sv}"), "PropertiesChanged");
	while (sd_bus_message_enter_container(message, 'e', "sv") > 0) {
		check(sd_bus_message_read(message, "s", &key), "PropertiesChanged");
		if (strcmp(key, "State") == 0) {
			check(sd_bus_message_read(message, "v", "s", &state), "State");
			print_time(now);
			printf("state %s %s\n", sd_bus_message_get_path(message), state);
		} else {
			check(sd_bus_message_skip(message, "v"), "PropertiesChanged");
		}
		sd_bus_message_exit_container(message);
	}
	return 0;
}

/* Calls */

static int on_refreshed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	const uint64_t *began = userdata;
	uint64_t now = now_nsec();
	(void)error;
	check_reply(message, "Refresh");
	print_time(now);
	printf("refreshed %llu\n", (unsigned long long)*began);
	return 0;
}

static void refresh(const char *name, const char *account)
{
	static uint64_t began;
	began = now_nsec();
	check(sd_bus_call_method_async(bus, NULL, name, ROOT, name, "Refresh", on_refreshed, &began,
		      "ss", account, "INBOX"),
		"Refresh");
}

static int on_mode(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	const char *mode;
	(void)userdata;
	(void)error;
	check_reply(message, "mode");
	check(sd_bus_message_read(message, "v", "s", &mode), "Mode");
	print_time(now_nsec());
	printf("mode %s\n", mode);
	return 0;
}

static void ask_mode(const char *account)
{
	char *path = NULL;
	check(sd_bus_path_encode_many(&path, ROOT "/%/%", account, "INBOX"), "path");
	check(sd_bus_call_method_async(bus, NULL, NAME, path, "org.freedesktop.DBus.Properties",
		      "Get", on_mode, NULL, "ss", NAME ".Mailbox", "Mode"),
		"Get");
	free(path);
}

static void fetch_more(void);

static int on_fetched(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
	(void)userdata;
	(void)error;
	check_reply(message, "Fetch");
	check(sd_bus_message_enter_container(message, 'a', "a{sv}"), "Fetch");
	if (sd_bus_message_enter_container(message, 'a', "{sv}") > 0) {
		fetching.weight += weigh(message);
		fetching.count++;
		sd_bus_message_exit_container(message);
	}
	while (sd_bus_message_at_end(message, false) == 0) {
		check(sd_bus_message_skip(message, "a{sv}"), "Fetch");
		fetching.count++;
	}
	fetching.n_calls--;
	fetch_more();
	if (fetching.n_calls == 0) {
		print_time(now_nsec());
		printf("fetched %llu %u %zu\n", (unsigned long long)fetching.began, fetching.count,
			fetching.weight);
	}
	return 0;
}

/* One call more, if something is left. */
static void fetch_more(void)
{
	static uint32_t uids[1000];
	uint32_t n = 0;
	sd_bus_message *message = NULL;
	while (fetching.next <= fetching.last && n < fetching.block && n < 1000) {
		uids[n++] = fetching.next++;
	}
	if (n == 0) {
		return;
	}
	const char *name = fetching.name;
	check(sd_bus_message_new_method_call(bus, &message, name, ROOT, name, "Fetch"), "Fetch");
	check(sd_bus_message_append(message, "ss", fetching.account, "INBOX"), "Fetch");
	check(sd_bus_message_append_array(message, 'u', uids, n * sizeof(*uids)), "Fetch");
	check(sd_bus_message_append(message, "as", 1, "envelope"), "Fetch");
	check(sd_bus_call_async(bus, NULL, message, on_fetched, NULL, 0), "Fetch");
	sd_bus_message_unref(message);
	fetching.n_calls++;
}

/* Orders */

static void obey(const char *order)
{
	char name[80], account[80];
	unsigned int n;
	if (sscanf(order, "refresh %79s %79s", name, account) == 2) {
		refresh(name, account);
	} else if (sscanf(order, "mode %79s", account) == 1) {
		ask_mode(account);
	} else if (sscanf(order, "fetch %79s %79s %u %u %u", fetching.name, fetching.account,
			   &fetching.last, &fetching.block, &n) == 5) {
		fetching.next = 1;
		fetching.count = 0;
		fetching.weight = 0;
		fetching.began = now_nsec();
		for (unsigned int i = 0; i < n; i++) {
			fetch_more();
		}
	} else {
		fprintf(stderr, "bench-subscriber: no such order: %s\n", order);
		exit(2);
	}
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	static char buffer[4096];
	static size_t len;
	(void)events;
	(void)userdata;
	ssize_t n = read(fd, buffer + len, sizeof(buffer) - len);
	if (n <= 0) {
		return sd_event_exit(sd_event_source_get_event(source), 0);
	}
	len += (size_t)n;
	char *end;
	while ((end = memchr(buffer, '\n', len))) {
		*end = '\0';
		obey(buffer);
		len -= (size_t)(end + 1 - buffer);
		memmove(buffer, end + 1, len);
	}
	return 0;
}

/* Whatever was printed in a turn leaves at its end. */
static int on_post(sd_event_source *source, void *userdata)
{
	(void)source;
	(void)userdata;
	fflush(stdout);
	return 0;
}

int main(void)
{
	sd_event *event = NULL;
	check(sd_event_default(&event), "event loop");
	check(sd_bus_open_user(&bus), "session bus");
	check(sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL), "session bus");
	check(sd_bus_match_signal(bus, NULL, NAME, NULL, NAME, "NewMail", on_new_mail, NULL),
		"match");
	check(sd_bus_match_signal(bus, NULL, NAME, NULL, "org.freedesktop.DBus.Properties",
		      "PropertiesChanged", on_properties, NULL),
		"match");
	check(sd_bus_match_signal(bus, NULL, NULL, NULL, FLOOR, "NewMail", on_new_mail, NULL),
		"match");
	check(sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_input, NULL), "input");
	check(sd_event_add_post(event, NULL, on_post, NULL), "loop");
	print_time(now_nsec());
	printf("listening\n");
	fflush(stdout);
	int r = sd_event_loop(event);
	sd_bus_flush_close_unref(bus);
	sd_event_unref(event);
	return r < 0;
}
