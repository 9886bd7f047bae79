#include <stdint.h>

#include "account.h"
#include "dbus/body.h"
#include "dbus/error.h"
#include "dbus/property.h"

/* As sd_bus_emit_properties_changed(3), which looks for each of them by its name all over its tree.
 */
static int put_changed(struct body *body, const char *path, const struct properties *of,
	const void *subject, unsigned int changed)
{
	sd_bus *connection = sd_bus_message_get_bus(body->message);
	body_put_string(body, of->interface);
	body_open_array(body, "{sv}");
	for (const struct property *property = of->list; property->name; property++) {
		if (!(property->property & changed)) {
			continue;
		}
		body_open_entry(body, property->name, property->type);
		int error = body->error;
		if (error == 0) {
			error = property->get(connection, path, of->interface, property->name,
				body->message, (void *)(uintptr_t)subject, NULL);
		}
		if (error < 0) {
			return error;
		}
		body_close_entry(body);
	}
	body_close(body);
	/* None without its value. */
	body_open_array(body, "s");
	body_close(body);
	return body->error;
}

static bool has_any(const struct properties *of, unsigned int changed)
{
	for (const struct property *property = of->list; property->name; property++) {
		if (property->property & changed) {
			return true;
		}
	}
	return false;
}

int property_emit_changed(sd_bus *connection, const char *path, const struct properties *of,
	const void *subject, unsigned int changed)
{
	if (!has_any(of, changed)) {
		return 0;
	}
	sd_bus_message *signal;
	int error = sd_bus_message_new_signal(
		connection, &signal, path, "org.freedesktop.DBus.Properties", "PropertiesChanged");
	if (error < 0) {
		return error;
	}
	struct body body;
	body_init(&body, signal, BODY_SIZE_HIGHEST);
	error = put_changed(&body, path, of, subject, changed);
	if (error == 0) {
		error = sd_bus_message_send(signal);
	}
	sd_bus_message_unref(signal);
	return error < 0 ? error : 0;
}

uint32_t property_count(uint64_t count)
{
	return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

/* A getter of sd-bus: puts the value that an expression gives of the account or mailbox. */
#define GETTER(function, type, subject, put, value) \
	static int function(sd_bus *connection, const char *path, const char *interface, \
		const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *error) \
	{ \
		(void)connection; \
		(void)path; \
		(void)interface; \
		(void)property; \
		(void)error; \
		const struct type *subject = userdata; \
		struct body body; \
		body_init(&body, reply, BODY_SIZE_HIGHEST); \
		put(&body, value); \
		return body.error < 0 ? body.error : 1; \
	}

#define ACCOUNT_GETTER(name, put, value) GETTER(account_get_##name, account, account, put, value)
#define MAILBOX_GETTER(name, put, value) GETTER(mailbox_get_##name, mailbox, mailbox, put, value)

ACCOUNT_GETTER(name, body_put_string, account_name(account))
ACCOUNT_GETTER(host, body_put_string, account_host(account))
ACCOUNT_GETTER(port, body_put_u16, account_port(account))
ACCOUNT_GETTER(user, body_put_string, account_user(account))
ACCOUNT_GETTER(state, body_put_string, account_state_name(account_state(account)))
ACCOUNT_GETTER(error, error_put, account_failure(account))
ACCOUNT_GETTER(next_try, body_put_u64, account_next_try_usec(account))
ACCOUNT_GETTER(unread, body_put_u32, property_count(account_unread(account)))
ACCOUNT_GETTER(capabilities, body_put_strings, account_capabilities(account))
ACCOUNT_GETTER(secure, body_put_bool, account_is_secure(account))
ACCOUNT_GETTER(tls_version, body_put_string, account_tls_version(account))

MAILBOX_GETTER(account, body_put_string, account_name(mailbox_account(mailbox)))
MAILBOX_GETTER(name, body_put_string, mailbox_name(mailbox))
MAILBOX_GETTER(state, body_put_string, account_state_name(mailbox_state(mailbox)))
MAILBOX_GETTER(mode, body_put_string, mailbox_mode(mailbox))
MAILBOX_GETTER(messages, body_put_u32, mailbox_messages(mailbox))
MAILBOX_GETTER(unread, body_put_u32, mailbox_unread(mailbox))
MAILBOX_GETTER(uidvalidity, body_put_u32, mailbox_uidvalidity(mailbox))
MAILBOX_GETTER(uidnext, body_put_u32, mailbox_uidnext(mailbox))
MAILBOX_GETTER(highestmodseq, body_put_u64, mailbox_highestmodseq(mailbox))
MAILBOX_GETTER(last_sync, body_put_u64, mailbox_last_sync_usec(mailbox))
MAILBOX_GETTER(error, error_put, mailbox_failure(mailbox))
MAILBOX_GETTER(next_try, body_put_u64, mailbox_next_try_usec(mailbox))

/* What of the tables below emits PropertiesChanged. */

static const struct property account_list[] = {
	{ACCOUNT_PROPERTY_STATE, "State", "s", account_get_state},
	{ACCOUNT_PROPERTY_ERROR, "Error", "(ss)", account_get_error},
	{ACCOUNT_PROPERTY_NEXT_TRY, "NextTry", "t", account_get_next_try},
	{ACCOUNT_PROPERTY_UNREAD, "Unread", "u", account_get_unread},
	{ACCOUNT_PROPERTY_CAPABILITIES, "Capabilities", "as", account_get_capabilities},
	{ACCOUNT_PROPERTY_SECURE, "Secure", "b", account_get_secure},
	{ACCOUNT_PROPERTY_SECURE, "TlsVersion", "s", account_get_tls_version},
	{0},
};

static const struct property mailbox_list[] = {
	{ACCOUNT_PROPERTY_STATE, "State", "s", mailbox_get_state},
	{ACCOUNT_PROPERTY_ERROR, "Error", "(ss)", mailbox_get_error},
	{ACCOUNT_PROPERTY_NEXT_TRY, "NextTry", "t", mailbox_get_next_try},
	{ACCOUNT_PROPERTY_UNREAD, "Unread", "u", mailbox_get_unread},
	{ACCOUNT_PROPERTY_MODE, "Mode", "s", mailbox_get_mode},
	{ACCOUNT_PROPERTY_MESSAGES, "Messages", "u", mailbox_get_messages},
	{ACCOUNT_PROPERTY_UIDVALIDITY, "UidValidity", "u", mailbox_get_uidvalidity},
	{ACCOUNT_PROPERTY_UIDNEXT, "UidNext", "u", mailbox_get_uidnext},
	{ACCOUNT_PROPERTY_HIGHESTMODSEQ, "HighestModSeq", "t", mailbox_get_highestmodseq},
	{0},
};

const struct properties property_account = {PROPERTY_ACCOUNT_INTERFACE, account_list};
const struct properties property_mailbox = {PROPERTY_MAILBOX_INTERFACE, mailbox_list};

const sd_bus_vtable property_account_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Name", "s", account_get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Host", "s", account_get_host, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Port", "q", account_get_port, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("User", "s", account_get_user, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("State", "s", account_get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Error", "(ss)", account_get_error, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY(
		"NextTry", "t", account_get_next_try, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Unread", "u", account_get_unread, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Capabilities", "as", account_get_capabilities, 0,
		SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Secure", "b", account_get_secure, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY(
		"TlsVersion", "s", account_get_tls_version, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};

const sd_bus_vtable property_mailbox_vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Account", "s", mailbox_get_account, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Name", "s", mailbox_get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("State", "s", mailbox_get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Mode", "s", mailbox_get_mode, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY(
		"Messages", "u", mailbox_get_messages, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("Unread", "u", mailbox_get_unread, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("UidValidity", "u", mailbox_get_uidvalidity, 0,
		SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY(
		"UidNext", "u", mailbox_get_uidnext, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("HighestModSeq", "t", mailbox_get_highestmodseq, 0,
		SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY("LastSync", "t", mailbox_get_last_sync, 0, 0),
	SD_BUS_PROPERTY("Error", "(ss)", mailbox_get_error, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_PROPERTY(
		"NextTry", "t", mailbox_get_next_try, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
	SD_BUS_VTABLE_END,
};
