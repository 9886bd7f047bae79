/* Whatever a server says of a message: what the bus shows of it is clean, bounded and valid for the
 * bus. An input is what the server says; every FETCH response in it is shown with all its items.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dbus/dictionary.h"
#include "imap/response.h"
#include "message.h"
#include "mime/header.h"
#include "tests/fuzzing/check.h"

#define ALL_ITEMS 0xff

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_line(const char *text, size_t n_highest)
{
	if (text) {
		require_clean(text, false);
		require(count_characters(text) <= n_highest, "%zu characters",
			count_characters(text));
	}
}

static void check_addresses(const struct message_addresses *addresses)
{
	for (size_t i = 0; i < addresses->n; i++) {
		check_line(addresses->list[i].name, 256);
		require_clean(addresses->list[i].address, false);
	}
}

static void check_message(const struct message *message)
{
	check_line(message->subject, 256);
	check_addresses(&message->from);
	check_addresses(&message->sender);
	check_addresses(&message->reply_to);
	check_addresses(&message->to);
	check_addresses(&message->cc);
	check_addresses(&message->bcc);
	check_line(message->message_id, 998);
	check_line(message->in_reply_to, 998);
	check_line(message->preview, 200);
	if (message->text) {
		require_clean(message->text, true);
		require(strlen(message->text) <= 256 * 1024, "a text that is too long");
	}
	for (size_t i = 0; i < message->n_attachments; i++) {
		check_line(message->attachments[i].file_name, 255);
		require_clean(message->attachments[i].media_type, false);
		require(!strchr(message->attachments[i].file_name, '/'), "a name with a folder");
	}
}

/* A connection that nobody answers: messages can be made and sealed for it. */
static sd_bus *connection(void)
{
	static sd_bus *bus;
	static int fds[2];

	if (!bus) {
		require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0 &&
				sd_bus_new(&bus) >= 0 && sd_bus_set_fd(bus, fds[0], fds[0]) >= 0 &&
				sd_bus_start(bus) >= 0,
			"no bus");
	}
	return bus;
}

static void put(const struct message *message)
{
	sd_bus_message *signal = NULL;
	struct body body;

	require(sd_bus_message_new_signal(connection(), &signal, "/org/example/MailIdle",
			"org.example.MailIdle", "NewMail") >= 0,
		"no signal");
	body_init(&body, signal, BODY_SIZE_HIGHEST);
	dictionary_put(&body, message);
	require(body.error == 0, "the bus refuses it: %d", body.error);
	require(sd_bus_message_seal(signal, 1, 0) >= 0, "the bus refuses it");
	require(body.size <= message_size(message) * 4 + 4096, "%zu octets, not %zu", body.size,
		message_size(message));
	sd_bus_message_unref(signal);
}

static void show(const struct imap_response *response)
{
	struct imap_message *raw = imap_response_take_message(response);
	struct message *message = message_new(raw, 1, ALL_ITEMS);

	require(message != NULL, "no message");
	check_message(message);
	put(message);
	message_free(message);
	imap_message_free(raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct imap_parser *parser = imap_parser_new(&imap_limits_default);
	const struct imap_response *response;
	size_t used = 0;

	require(parser != NULL, "no parser");
	mime_init();
	while (imap_parser_receive(parser, data, len, &used, &response) > 0) {
		if (response->kind == IMAP_RESPONSE_FETCH) {
			show(response);
		}
		data += used;
		len -= used;
	}
	imap_parser_free(parser);
	return 0;
}

#ifdef FUZZ_REPLAY
#include "tests/fuzzing/replay.h"
#endif
