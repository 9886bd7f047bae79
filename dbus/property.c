#include <stdint.h>

#include "account.h"
#include "dbus/body.h"
#include "dbus/error.h"
#include "dbus/property.h"

static const struct {
	unsigned int property; /* one of enum account_property */
	const char *name;
} names[] = {
	{ACCOUNT_PROPERTY_STATE, "State"},
	{ACCOUNT_PROPERTY_ERROR, "Error"},
	{ACCOUNT_PROPERTY_NEXT_TRY, "NextTry"},
	{ACCOUNT_PROPERTY_UNREAD, "Unread"},
	{ACCOUNT_PROPERTY_CAPABILITIES, "Capabilities"},
	{ACCOUNT_PROPERTY_SECURE, "Secure"},
	{ACCOUNT_PROPERTY_SECURE, "TlsVersion"},
	{ACCOUNT_PROPERTY_MODE, "Mode"},
	{ACCOUNT_PROPERTY_MESSAGES, "Messages"},
	{ACCOUNT_PROPERTY_UIDVALIDITY, "UidValidity"},
	{ACCOUNT_PROPERTY_UIDNEXT, "UidNext"},
	{ACCOUNT_PROPERTY_HIGHESTMODSEQ, "HighestModSeq"},
	{ACCOUNT_PROPERTY_ONLINE, "Online"},
};

#define N_NAMES (sizeof(names) / sizeof(names[0]))

static const unsigned int both = ACCOUNT_PROPERTY_STATE | ACCOUNT_PROPERTY_ERROR |
	ACCOUNT_PROPERTY_NEXT_TRY | ACCOUNT_PROPERTY_UNREAD;

static const struct {
	const char *interface;
	unsigned int properties;
} owners[] = {
	[PROPERTY_OF_ROOT] = {PROPERTY_ROOT_INTERFACE,
		ACCOUNT_PROPERTY_UNREAD | ACCOUNT_PROPERTY_ONLINE},
	[PROPERTY_OF_ACCOUNT] = {PROPERTY_ACCOUNT_INTERFACE,
		both | ACCOUNT_PROPERTY_CAPABILITIES | ACCOUNT_PROPERTY_SECURE},
	[PROPERTY_OF_MAILBOX] = {PROPERTY_MAILBOX_INTERFACE,
		both | ACCOUNT_PROPERTY_MODE | ACCOUNT_PROPERTY_MESSAGES |
			ACCOUNT_PROPERTY_UIDVALIDITY | ACCOUNT_PROPERTY_UIDNEXT |
			ACCOUNT_PROPERTY_HIGHESTMODSEQ},
};

int property_emit_changed(
	sd_bus *connection, const char *path, enum property_owner owner, unsigned int properties)
{
	char *changed[N_NAMES + 1];
	size_t n = 0;
	properties &= owners[owner].properties;
	for (size_t i = 0; i < N_NAMES; i++) {
		if (names[i].property & properties) {
			changed[n++] = (char *)(uintptr_t)names[i].name;
		}
	}
	changed[n] = NULL;
	if (n == 0) {
		return 0;
	}
	int result = sd_bus_emit_properties_changed_strv(
		connection, path, owners[owner].interface, changed);
	return result < 0 ? result : 0;
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
