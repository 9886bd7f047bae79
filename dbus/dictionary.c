#include "dbus/dictionary.h"

static void put_u32(struct body *body, const char *key, uint32_t value)
{
	body_open_entry(body, key, "u");
	body_put_u32(body, value);
	body_close_entry(body);
}

static void put_u64(struct body *body, const char *key, uint64_t value)
{
	body_open_entry(body, key, "t");
	body_put_u64(body, value);
	body_close_entry(body);
}

static void put_i64(struct body *body, const char *key, int64_t value)
{
	body_open_entry(body, key, "x");
	body_put_i64(body, value);
	body_close_entry(body);
}

static void put_string(struct body *body, const char *key, const char *value)
{
	if (!value) {
		return;
	}
	body_open_entry(body, key, "s");
	body_put_string(body, value);
	body_close_entry(body);
}

static void put_strings(struct body *body, const char *key, char *const *values)
{
	if (!values) {
		return;
	}
	body_open_entry(body, key, "as");
	body_put_strings(body, (const char *const *)values);
	body_close_entry(body);
}

static void put_addresses(
	struct body *body, const char *key, const struct message_addresses *addresses)
{
	if (!addresses->is_present) {
		return;
	}
	body_open_entry(body, key, "a(ss)");
	body_open_array(body, "(ss)");
	for (size_t i = 0; body->error == 0 && i < addresses->n; i++) {
		body_open_struct(body, "ss");
		body_put_string(body, addresses->list[i].name);
		body_put_string(body, addresses->list[i].address);
		body_close(body);
	}
	body_close(body);
	body_close_entry(body);
}

static void put_attachments(struct body *body, const struct message *message)
{
	if (!message->has_attachments) {
		return;
	}
	body_open_entry(body, "Attachments", "a(sst)");
	body_open_array(body, "(sst)");
	for (size_t i = 0; body->error == 0 && i < message->n_attachments; i++) {
		const struct message_attachment *attachment = &message->attachments[i];
		body_open_struct(body, "sst");
		body_put_string(body, attachment->file_name);
		body_put_string(body, attachment->media_type);
		body_put_u64(body, attachment->size);
		body_close(body);
	}
	body_close(body);
	body_close_entry(body);
}

static void put_envelope(struct body *body, const struct message *message)
{
	put_string(body, "Subject", message->subject);
	put_addresses(body, "From", &message->from);
	put_addresses(body, "Sender", &message->sender);
	put_addresses(body, "ReplyTo", &message->reply_to);
	put_addresses(body, "To", &message->to);
	put_addresses(body, "Cc", &message->cc);
	put_addresses(body, "Bcc", &message->bcc);
	if (message->has_date) {
		put_i64(body, "Date", message->date);
	}
	put_string(body, "MessageId", message->message_id);
	put_string(body, "InReplyTo", message->in_reply_to);
}

void dictionary_put(struct body *body, const struct message *message)
{
	body_open_array(body, "{sv}");
	put_u32(body, "Uid", message->uid);
	put_u32(body, "UidValidity", message->uidvalidity);
	put_strings(body, "Flags", message->flags);
	put_envelope(body, message);
	if (message->has_received) {
		put_i64(body, "Received", message->received);
	}
	if (message->has_size) {
		put_u64(body, "Size", message->size);
	}
	put_string(body, "Preview", message->preview);
	put_string(body, "Text", message->text);
	put_attachments(body, message);
	put_string(body, "EmailId", message->email_id);
	put_string(body, "ThreadId", message->thread_id);
	put_strings(body, "Labels", message->labels);
	body_close(body);
}
