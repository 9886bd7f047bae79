#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "dbus/body.h"
#include "dbus/error.h"
#include "dbus/property.h"
#include "dbus/root.h"

/* The contract's limit for UIDs, and plenty for items and flags. */
#define N_STRINGS_HIGHEST 1000

/* Strings of an argument "as", borrowed from the message. */
struct strings {
	const char **list;
	size_t n;
};

static void strings_done(struct strings *strings)
{
	free(strings->list);
}

/* The handlers of sd-bus return 1 when the call is answered or kept for later, and a negative errno
 * that sd-bus answers with. So do the functions here; 0 says: go on. */

static const char *caller(sd_bus_message *call)
{
	const char *sender = sd_bus_message_get_sender(call);
	return sender ? sender : "";
}

/* The types were checked by sd-bus against the vtable. */
static int begin(struct root *root, sd_bus_message *call, const char *types, ...)
{
	if (requests_is_full(&root->requests)) {
		int error = error_reply(call, FAILURE_LIMIT_EXCEEDED, "Too many calls are pending");
		return error < 0 ? error : 1;
	}
	va_list arguments;
	va_start(arguments, types);
	int error = sd_bus_message_readv(call, types, arguments);
	va_end(arguments);
	return error < 0 ? error : 0;
}

static int read_uids(sd_bus_message *call, const uint32_t **ret_uids, size_t *ret_n)
{
	const void *uids;
	size_t len;
	int error = sd_bus_message_read_array(call, 'u', &uids, &len);
	if (error < 0) {
		return error;
	}
	*ret_uids = uids;
	*ret_n = len / sizeof(uint32_t);
	return 0;
}

/* An array may hold millions of them: no memory is taken for more than makes sense. */
static int read_strings(sd_bus_message *call, struct strings *strings)
{
	int error = sd_bus_message_enter_container(call, 'a', "s");
	if (error < 0) {
		return error;
	}
	strings->list = calloc(N_STRINGS_HIGHEST, sizeof(*strings->list));
	if (!strings->list) {
		return -ENOMEM;
	}
	const char *string;
	int result;
	while ((result = sd_bus_message_read_basic(call, 's', &string)) > 0) {
		if (strings->n == N_STRINGS_HIGHEST) {
			error = error_reply(
				call, FAILURE_LIMIT_EXCEEDED, "More than 1,000 strings");
			return error < 0 ? error : 1;
		}
		strings->list[strings->n++] = string;
	}
	if (result < 0) {
		return result;
	}
	error = sd_bus_message_exit_container(call);
	return error < 0 ? error : 0;
}

/* id: what the accounts gave. */
static int keep(struct root *root, uint64_t id, enum request_result result, sd_bus_message *call)
{
	if (id == 0) {
		return -ENOMEM;
	}
	int error = requests_add(&root->requests, id, result, call);
	return error < 0 ? error : 1;
}

typedef uint64_t mailbox_wish(
	struct accounts *accounts, const char *caller, const char *account, const char *mailbox);

static int wish(struct root *root, sd_bus_message *call, mailbox_wish *tell)
{
	const char *account;
	const char *mailbox;
	int result = begin(root, call, "ss", &account, &mailbox);
	if (result != 0) {
		return result;
	}
	uint64_t id = tell(root->accounts, caller(call), account, mailbox);
	return keep(root, id, REQUEST_NOTHING, call);
}

static int method_refresh(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	return wish(userdata, call, accounts_refresh);
}

static int method_stop(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	return wish(userdata, call, accounts_stop);
}

static int method_start(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	return wish(userdata, call, accounts_start);
}

static int method_fetch(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	const char *account;
	const char *mailbox;
	const uint32_t *uids;
	size_t n_uids;
	int result = begin(root, call, "ss", &account, &mailbox);
	if (result != 0) {
		return result;
	}
	result = read_uids(call, &uids, &n_uids);
	if (result != 0) {
		return result;
	}
	__attribute__((cleanup(strings_done))) struct strings items = {0};
	result = read_strings(call, &items);
	if (result != 0) {
		return result;
	}
	uint64_t id = accounts_fetch(
		root->accounts, caller(call), account, mailbox, uids, n_uids, items.list, items.n);
	return keep(root, id, REQUEST_MESSAGES, call);
}

static int method_fetch_raw(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	const char *account;
	const char *mailbox;
	uint32_t uid;
	int result = begin(root, call, "ssu", &account, &mailbox, &uid);
	if (result != 0) {
		return result;
	}
	uint64_t id = accounts_fetch_raw(root->accounts, caller(call), account, mailbox, uid);
	return keep(root, id, REQUEST_RAW, call);
}

static int method_list_since(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	const char *account;
	const char *mailbox;
	uint32_t uidvalidity;
	uint32_t uid;
	uint32_t limit;
	int result = begin(root, call, "ssuuu", &account, &mailbox, &uidvalidity, &uid, &limit);
	if (result != 0) {
		return result;
	}
	uint64_t id = accounts_list_since(
		root->accounts, caller(call), account, mailbox, uidvalidity, uid, limit);
	return keep(root, id, REQUEST_MESSAGES, call);
}

static int method_list_unread(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	const char *account;
	const char *mailbox;
	uint32_t limit;
	int result = begin(root, call, "ssu", &account, &mailbox, &limit);
	if (result != 0) {
		return result;
	}
	uint64_t id = accounts_list_unread(root->accounts, caller(call), account, mailbox, limit);
	return keep(root, id, REQUEST_MESSAGES, call);
}

static int method_set_flags(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	const char *account;
	const char *mailbox;
	const uint32_t *uids;
	size_t n_uids;
	int result = begin(root, call, "ss", &account, &mailbox);
	if (result != 0) {
		return result;
	}
	result = read_uids(call, &uids, &n_uids);
	if (result != 0) {
		return result;
	}
	__attribute__((cleanup(strings_done))) struct strings add = {0};
	result = read_strings(call, &add);
	if (result != 0) {
		return result;
	}
	__attribute__((cleanup(strings_done))) struct strings remove = {0};
	result = read_strings(call, &remove);
	if (result != 0) {
		return result;
	}
	uint64_t id = accounts_set_flags(root->accounts, caller(call), account, mailbox, uids,
		n_uids, add.list, add.n, remove.list, remove.n);
	return keep(root, id, REQUEST_NOTHING, call);
}

static int method_move(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	const char *account;
	const char *mailbox;
	const uint32_t *uids;
	size_t n_uids;
	const char *target;
	int result = begin(root, call, "ss", &account, &mailbox);
	if (result != 0) {
		return result;
	}
	result = read_uids(call, &uids, &n_uids);
	if (result != 0) {
		return result;
	}
	result = sd_bus_message_read_basic(call, 's', &target);
	if (result < 0) {
		return result;
	}
	uint64_t id =
		accounts_move(root->accounts, caller(call), account, mailbox, uids, n_uids, target);
	return keep(root, id, REQUEST_NOTHING, call);
}

static int method_list_mailboxes(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	const char *account;
	int result = begin(root, call, "s", &account);
	if (result != 0) {
		return result;
	}
	uint64_t id = accounts_list_mailboxes(root->accounts, caller(call), account);
	return keep(root, id, REQUEST_MAILBOXES, call);
}

static int method_reload(sd_bus_message *call, void *userdata, sd_bus_error *error)
{
	(void)error;
	struct root *root = userdata;
	if (requests_is_full(&root->reloads)) {
		int result =
			error_reply(call, FAILURE_LIMIT_EXCEEDED, "Too many calls are pending");
		return result < 0 ? result : 1;
	}
	int result = requests_add(&root->reloads, 0, REQUEST_NOTHING, call);
	if (result < 0) {
		return result;
	}
	task_wake(root->owner);
	return 1;
}

static int property_version(sd_bus *connection, const char *path, const char *interface,
	const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)connection;
	(void)path;
	(void)interface;
	(void)property;
	(void)userdata;
	(void)error;
	return sd_bus_message_append_basic(reply, 's', MAILIDLE_VERSION);
}

static int property_unread(sd_bus *connection, const char *path, const char *interface,
	const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)connection;
	(void)path;
	(void)interface;
	(void)property;
	(void)error;
	const struct root *root = userdata;
	uint32_t unread = property_count(accounts_unread(root->accounts));
	return sd_bus_message_append_basic(reply, 'u', &unread);
}

static int property_online(sd_bus *connection, const char *path, const char *interface,
	const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)connection;
	(void)path;
	(void)interface;
	(void)property;
	(void)error;
	const struct root *root = userdata;
	int is_online = accounts_is_online(root->accounts);
	return sd_bus_message_append_basic(reply, 'b', &is_online);
}

static const struct property list[] = {
	{ACCOUNT_PROPERTY_UNREAD, "Unread", "u", property_unread},
	{ACCOUNT_PROPERTY_ONLINE, "Online", "b", property_online},
	{0},
};

const struct properties root_properties = {PROPERTY_ROOT_INTERFACE, list};

const sd_bus_vtable root_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_ARGS("Refresh", SD_BUS_ARGS("s", account, "s", mailbox),
		SD_BUS_NO_RESULT, method_refresh, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Fetch",
		SD_BUS_ARGS("s", account, "s", mailbox, "au", uids, "as", items),
		SD_BUS_RESULT("aa{sv}", messages), method_fetch, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("FetchRaw", SD_BUS_ARGS("s", account, "s", mailbox, "u", uid),
		SD_BUS_RESULT("h", message, "t", size), method_fetch_raw,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListSince",
		SD_BUS_ARGS("s", account, "s", mailbox, "u", uidvalidity, "u", uid, "u", limit),
		SD_BUS_RESULT("aa{sv}", messages), method_list_since, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListUnread", SD_BUS_ARGS("s", account, "s", mailbox, "u", limit),
		SD_BUS_RESULT("aa{sv}", messages), method_list_unread, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Stop", SD_BUS_ARGS("s", account, "s", mailbox), SD_BUS_NO_RESULT,
		method_stop, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Start", SD_BUS_ARGS("s", account, "s", mailbox), SD_BUS_NO_RESULT,
		method_start, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("SetFlags",
		SD_BUS_ARGS("s", account, "s", mailbox, "au", uids, "as", add, "as", remove),
		SD_BUS_NO_RESULT, method_set_flags, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Move",
		SD_BUS_ARGS("s", account, "s", mailbox, "au", uids, "s", target), SD_BUS_NO_RESULT,
		method_move, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("ListMailboxes", SD_BUS_ARGS("s", account),
		SD_BUS_RESULT("a(sas)", mailboxes), method_list_mailboxes,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload,
		SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL_WITH_ARGS(
		"NewMail", SD_BUS_ARGS("s", account, "s", mailbox, "aa{sv}", messages), 0),
	SD_BUS_SIGNAL_WITH_ARGS(
		"FlagsChanged", SD_BUS_ARGS("s", account, "s", mailbox, "a(uas)", messages), 0),
	SD_BUS_SIGNAL_WITH_ARGS("Expunged", SD_BUS_ARGS("s", account, "s", mailbox, "au", uids), 0),
	SD_BUS_SIGNAL_WITH_ARGS(
		"MailboxReset", SD_BUS_ARGS("s", account, "s", mailbox, "u", uidvalidity), 0),
	SD_BUS_PROPERTY("Version", "s", property_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Unread", "u", property_unread, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Online", "b", property_online, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};
