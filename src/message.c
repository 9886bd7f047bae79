#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/client.h"
#include "imap/utf7.h"
#include "message.h"
#include "mime/header.h"
#include "mime/text.h"
#include "util/text.h"

/* What a person sees of a sender or a subject; the rest is somebody's attack on a list. */
#define CHARS_OF_A_HEADER    256
#define CHARS_OF_A_PREVIEW   200
#define LEN_OF_A_TEXT        ((size_t)64 * 1024)
#define LEN_FOR_A_PREVIEW    ((size_t)8 * 1024)
#define PARAMETERS_OF_A_PART 32

enum message_item message_item_from_name(const char *name)
{
	static const struct {
		const char *name;
		enum message_item item;
	} items[] = {
		{"envelope", MESSAGE_ENVELOPE},
		{"flags", MESSAGE_FLAGS},
		{"received", MESSAGE_RECEIVED},
		{"size", MESSAGE_SIZE},
		{"preview", MESSAGE_PREVIEW},
		{"text", MESSAGE_TEXT},
		{"attachments", MESSAGE_ATTACHMENTS},
		{"identity", MESSAGE_IDENTITY},
	};
	for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
		if (strcmp(items[i].name, name) == 0) {
			return items[i].item;
		}
	}
	return 0;
}

unsigned int message_imap_items(unsigned int items)
{
	unsigned int wanted = IMAP_ITEM_UID;
	if (items & MESSAGE_ENVELOPE) {
		wanted |= IMAP_ITEM_ENVELOPE;
	}
	if (items & MESSAGE_FLAGS) {
		wanted |= IMAP_ITEM_FLAGS;
	}
	if (items & MESSAGE_RECEIVED) {
		wanted |= IMAP_ITEM_INTERNALDATE;
	}
	if (items & MESSAGE_SIZE) {
		wanted |= IMAP_ITEM_SIZE;
	}
	if (items & MESSAGE_PREVIEW) {
		wanted |= IMAP_FETCH_PREVIEW;
	}
	if (items & MESSAGE_TEXT) {
		wanted |= IMAP_FETCH_TEXT;
	}
	if (items & MESSAGE_ATTACHMENTS) {
		wanted |= IMAP_ITEM_BODYSTRUCTURE;
	}
	if (items & MESSAGE_IDENTITY) {
		wanted |= IMAP_FETCH_IDENTITY;
	}
	return wanted;
}

static char *clean(struct span span)
{
	return text_clean(span, TEXT_ONE_LINE, 0);
}

/* What is not there stays NULL. */
static int decode_header(struct span raw, char **ret_text)
{
	if (!raw.data) {
		return 0;
	}
	*ret_text = mime_header_decode(raw, CHARS_OF_A_HEADER);
	return *ret_text ? 0 : -ENOMEM;
}

static int decode_strings(
	const struct span *spans, size_t n, char *decode(struct span span), char ***ret_strings)
{
	char **strings = calloc(n + 1, sizeof(*strings));
	if (!strings) {
		return -ENOMEM;
	}
	*ret_strings = strings;
	for (size_t i = 0; i < n; i++) {
		strings[i] = decode(spans[i]);
		if (!strings[i]) {
			return -ENOMEM;
		}
	}
	return 0;
}

/* Where both are plain, so are they together. */
static char *join_plain(struct span mailbox, struct span host)
{
	char *address = malloc(mailbox.len + 1 + host.len + 1);
	if (address) {
		char *end = mempcpy(address, mailbox.data, mailbox.len);
		*end = '@';
		end = mempcpy(end + 1, host.data, host.len);
		*end = '\0';
	}
	return address;
}

static int join_address(const struct imap_address *raw, char **ret_address)
{
	if (raw->mailbox.len > 0 && raw->host.len > 0 && text_is_plain(raw->mailbox) &&
		text_is_plain(raw->host)) {
		*ret_address = join_plain(raw->mailbox, raw->host);
		return *ret_address ? 0 : -ENOMEM;
	}
	struct bytes bytes;
	bytes_init(&bytes);
	bytes_put(&bytes, raw->mailbox.data, raw->mailbox.len);
	if (raw->host.len > 0) {
		bytes_put_char(&bytes, '@');
		bytes_put(&bytes, raw->host.data, raw->host.len);
	}
	if (bytes.error == 0) {
		*ret_address = text_clean(bytes_span(&bytes), TEXT_ONE_LINE, 0);
	}
	bytes_done(&bytes);
	return *ret_address ? 0 : -ENOMEM;
}

/* The begin and the end of a group have no host (RFC 9051 section 7.5.2); its members are
 * addresses like any other. */
static int decode_addresses(const struct imap_address *raw, struct message_addresses *addresses)
{
	size_t n = 0;
	for (const struct imap_address *address = raw; address; address = address->next) {
		n += address->host.data != NULL;
	}
	addresses->is_present = raw != NULL;
	if (n == 0) {
		return 0;
	}
	addresses->list = calloc(n, sizeof(*addresses->list));
	if (!addresses->list) {
		return -ENOMEM;
	}
	for (const struct imap_address *address = raw; address; address = address->next) {
		if (!address->host.data) {
			continue;
		}
		struct message_address *decoded = &addresses->list[addresses->n];
		addresses->n++;
		decoded->name = mime_header_decode(address->name, CHARS_OF_A_HEADER);
		if (!decoded->name || join_address(address, &decoded->address) < 0) {
			return -ENOMEM;
		}
	}
	return 0;
}

static int decode_envelope(const struct imap_envelope *raw, struct message *message)
{
	if (decode_header(raw->subject, &message->subject) < 0 ||
		decode_addresses(raw->from, &message->from) < 0 ||
		decode_addresses(raw->sender, &message->sender) < 0 ||
		decode_addresses(raw->reply_to, &message->reply_to) < 0 ||
		decode_addresses(raw->to, &message->to) < 0 ||
		decode_addresses(raw->cc, &message->cc) < 0 ||
		decode_addresses(raw->bcc, &message->bcc) < 0) {
		return -ENOMEM;
	}
	if (raw->date.data) {
		message->has_date = mime_date_parse(raw->date, &message->date);
	}
	if (raw->message_id.data) {
		message->message_id = mime_message_id(raw->message_id);
	}
	if (raw->in_reply_to.data) {
		message->in_reply_to = mime_message_id(raw->in_reply_to);
	}
	return 0;
}

static size_t list_parameters(
	const struct imap_parameter *raw, struct mime_parameter list[static PARAMETERS_OF_A_PART])
{
	size_t n = 0;
	for (; raw && n < PARAMETERS_OF_A_PART; raw = raw->next) {
		list[n] = (struct mime_parameter){.name = raw->name, .value = raw->value};
		n++;
	}
	return n;
}

/* The octets of the part that a person reads; NULL where they were not fetched. */
static const struct imap_section *find_text(
	const struct imap_message *raw, const struct imap_part *part)
{
	const struct imap_section *section = part ? raw->sections : NULL;
	while (section &&
		(!section->data.data || section->section.len != part->section.len ||
			memcmp(section->section.data, part->section.data, part->section.len) !=
				0)) {
		section = section->next;
	}
	return section;
}

/* NULL without an error where there is nothing to read. */
static int decode_text(const struct imap_message *raw, size_t max_len, char **ret_text)
{
	const struct imap_part *part = imap_message_text_part(raw);
	const struct imap_section *section = find_text(raw, part);
	if (!section) {
		*ret_text = NULL;
		return 0;
	}
	struct mime_parameter parameters[PARAMETERS_OF_A_PART];
	struct mime_part described = {
		.type = part->type,
		.subtype = part->subtype,
		.encoding = part->encoding,
		.parameters = parameters,
		.n_parameters = list_parameters(part->parameters, parameters),
	};
	*ret_text = mime_part_text(&described, section->data, max_len);
	return *ret_text ? 0 : -ENOMEM;
}

static int decode_preview(const struct imap_message *raw, char **ret_preview)
{
	char *text = NULL;
	if ((raw->items & IMAP_ITEM_PREVIEW) && raw->preview.len > 0) {
		text = text_clean(raw->preview, TEXT_LINES, 0);
		if (!text) {
			return -ENOMEM;
		}
	} else if (decode_text(raw, LEN_FOR_A_PREVIEW, &text) < 0) {
		return -ENOMEM;
	}
	if (!text) {
		return 0;
	}
	*ret_preview = mime_preview(text, CHARS_OF_A_PREVIEW);
	free(text);
	return *ret_preview ? 0 : -ENOMEM;
}

/* Whatever a person would save: what calls itself an attachment, what has a name, and what is no
 * text and not merely another form of one or an ornament of it. */
static bool is_attachment(const struct imap_part *part, const char *file_name)
{
	if (span_equal_nocase(part->disposition, "attachment") || file_name[0] != '\0') {
		return true;
	}
	return !span_equal_nocase(part->type, "text") && !part->in_alternative &&
		!span_equal_nocase(part->disposition, "inline");
}

static char *media_type(const struct imap_part *part)
{
	struct bytes bytes;
	bytes_init(&bytes);
	bytes_put(&bytes, part->type.data, part->type.len);
	bytes_put_char(&bytes, '/');
	bytes_put(&bytes, part->subtype.data, part->subtype.len);
	char *text = NULL;
	if (bytes.error == 0) {
		text = text_clean(bytes_span(&bytes), TEXT_ONE_LINE, CHARS_OF_A_HEADER);
	}
	bytes_done(&bytes);
	for (char *c = text; c && *c != '\0'; c++) {
		if (*c >= 'A' && *c <= 'Z') {
			*c = (char)(*c - 'A' + 'a');
		}
	}
	return text;
}

static int decode_attachment(const struct imap_part *part, struct message *message)
{
	struct mime_parameter disposition[PARAMETERS_OF_A_PART];
	struct mime_parameter type[PARAMETERS_OF_A_PART];
	size_t n_disposition = list_parameters(part->disposition_parameters, disposition);
	size_t n_type = list_parameters(part->parameters, type);
	char *file_name = mime_file_name(disposition, n_disposition, type, n_type);
	if (!file_name) {
		return -ENOMEM;
	}
	if (!is_attachment(part, file_name)) {
		free(file_name);
		return 0;
	}
	struct message_attachment *attachment = &message->attachments[message->n_attachments];
	message->n_attachments++;
	attachment->file_name = file_name;
	attachment->size = part->size;
	attachment->media_type = media_type(part);
	return attachment->media_type ? 0 : -ENOMEM;
}

static int decode_attachments(const struct imap_message *raw, struct message *message)
{
	size_t n = 0;
	for (const struct imap_part *part = raw->parts; part; part = part->next) {
		n++;
	}
	message->has_attachments = true;
	if (n == 0) {
		return 0;
	}
	message->attachments = calloc(n, sizeof(*message->attachments));
	if (!message->attachments) {
		return -ENOMEM;
	}
	for (const struct imap_part *part = raw->parts; part; part = part->next) {
		if (decode_attachment(part, message) < 0) {
			return -ENOMEM;
		}
	}
	return 0;
}

static int decode_id(const struct imap_message *raw, enum imap_item item, struct span span,
	enum imap_item gmail_item, uint64_t gmail, char **ret_id)
{
	if ((raw->items & item) && span.data) {
		*ret_id = clean(span);
		return *ret_id ? 0 : -ENOMEM;
	}
	if (raw->items & gmail_item) {
		return asprintf(ret_id, "%" PRIu64, gmail) < 0 ? -ENOMEM : 0;
	}
	return 0;
}

/* Gmail writes labels as it writes mailbox names. */
static char *decode_label(struct span raw)
{
	char *name;
	if (imap_utf7_decode(raw, &name) < 0) {
		return NULL;
	}
	char *label = clean(span_of(name));
	free(name);
	return label;
}

static int decode_identity(const struct imap_message *raw, struct message *message)
{
	if (decode_id(raw, IMAP_ITEM_EMAIL_ID, raw->email_id, IMAP_ITEM_GM_MSGID, raw->gm_msgid,
		    &message->email_id) < 0 ||
		decode_id(raw, IMAP_ITEM_THREAD_ID, raw->thread_id, IMAP_ITEM_GM_THRID,
			raw->gm_thrid, &message->thread_id) < 0) {
		return -ENOMEM;
	}
	if (!(raw->items & IMAP_ITEM_GM_LABELS)) {
		return 0;
	}
	return decode_strings(raw->gm_labels, raw->n_gm_labels, decode_label, &message->labels);
}

static int decode(struct message *message, const struct imap_message *raw, unsigned int items)
{
	if ((items & MESSAGE_FLAGS) && (raw->items & IMAP_ITEM_FLAGS) &&
		decode_strings(raw->flags, raw->n_flags, clean, &message->flags) < 0) {
		return -ENOMEM;
	}
	if ((items & MESSAGE_ENVELOPE) && (raw->items & IMAP_ITEM_ENVELOPE) &&
		decode_envelope(&raw->envelope, message) < 0) {
		return -ENOMEM;
	}
	if ((items & MESSAGE_RECEIVED) && (raw->items & IMAP_ITEM_INTERNALDATE)) {
		message->has_received = true;
		message->received = raw->internaldate;
	}
	if ((items & MESSAGE_SIZE) && (raw->items & IMAP_ITEM_SIZE)) {
		message->has_size = true;
		message->size = raw->size;
	}
	if ((items & MESSAGE_PREVIEW) && decode_preview(raw, &message->preview) < 0) {
		return -ENOMEM;
	}
	if ((items & MESSAGE_TEXT) && decode_text(raw, LEN_OF_A_TEXT, &message->text) < 0) {
		return -ENOMEM;
	}
	if ((items & MESSAGE_ATTACHMENTS) && (raw->items & IMAP_ITEM_BODYSTRUCTURE) &&
		decode_attachments(raw, message) < 0) {
		return -ENOMEM;
	}
	if (items & MESSAGE_IDENTITY) {
		return decode_identity(raw, message);
	}
	return 0;
}

struct message *message_new(
	const struct imap_message *raw, uint32_t uidvalidity, unsigned int items)
{
	struct message *message = calloc(1, sizeof(*message));
	if (!message) {
		return NULL;
	}
	message->uid = raw->uid;
	message->uidvalidity = uidvalidity;
	if (decode(message, raw, items) < 0) {
		return message_free(message);
	}
	return message;
}

static void free_strings(char **strings)
{
	for (size_t i = 0; strings && strings[i]; i++) {
		free(strings[i]);
	}
	free(strings);
}

static void free_addresses(struct message_addresses *addresses)
{
	for (size_t i = 0; i < addresses->n; i++) {
		free(addresses->list[i].name);
		free(addresses->list[i].address);
	}
	free(addresses->list);
}

struct message *message_free(struct message *message)
{
	if (!message) {
		return NULL;
	}
	free_strings(message->flags);
	free(message->subject);
	free_addresses(&message->from);
	free_addresses(&message->sender);
	free_addresses(&message->reply_to);
	free_addresses(&message->to);
	free_addresses(&message->cc);
	free_addresses(&message->bcc);
	free(message->message_id);
	free(message->in_reply_to);
	free(message->preview);
	free(message->text);
	for (size_t i = 0; i < message->n_attachments; i++) {
		free(message->attachments[i].file_name);
		free(message->attachments[i].media_type);
	}
	free(message->attachments);
	free(message->email_id);
	free(message->thread_id);
	free_strings(message->labels);
	free(message);
	return NULL;
}

static size_t str_size(const char *str)
{
	return str ? strlen(str) + 1 : 0;
}

static size_t strings_size(char *const *strings)
{
	size_t size = 0;
	for (size_t i = 0; strings && strings[i]; i++) {
		size += sizeof(*strings) + str_size(strings[i]);
	}
	return size;
}

static size_t addresses_size(const struct message_addresses *addresses)
{
	size_t size = 0;
	for (size_t i = 0; i < addresses->n; i++) {
		size += sizeof(addresses->list[i]) + str_size(addresses->list[i].name) +
			str_size(addresses->list[i].address);
	}
	return size;
}

size_t message_size(const struct message *message)
{
	size_t size = sizeof(*message);
	size += strings_size(message->flags) + strings_size(message->labels);
	size += addresses_size(&message->from) + addresses_size(&message->sender);
	size += addresses_size(&message->reply_to) + addresses_size(&message->to);
	size += addresses_size(&message->cc) + addresses_size(&message->bcc);
	size += str_size(message->subject) + str_size(message->message_id);
	size += str_size(message->in_reply_to) + str_size(message->preview);
	size += str_size(message->text) + str_size(message->email_id);
	size += str_size(message->thread_id);
	for (size_t i = 0; i < message->n_attachments; i++) {
		size += sizeof(message->attachments[i]) +
			str_size(message->attachments[i].file_name) +
			str_size(message->attachments[i].media_type);
	}
	return size;
}
