#include <stdlib.h>
#include <string.h>

#include "imap/message.h"

#define COMPACT_AT_LEAST 65536

struct imap_message *imap_message_new(void)
{
	struct imap_message *message = calloc(1, sizeof(*message));

	if (message) {
		arena_init(&message->arena);
	}
	return message;
}

struct imap_message *imap_message_free(struct imap_message *message)
{
	if (message) {
		arena_done(&message->arena);
		free(message);
	}
	return NULL;
}

static struct span copy_span(struct arena *arena, struct span span)
{
	return span.data ? arena_dup(arena, span) : span;
}

static struct span *copy_spans(
	struct arena *arena, const struct span *spans, size_t n_spans, size_t *ret_n_spans)
{
	struct span *copies = arena_alloc(arena, n_spans * sizeof(*copies));

	*ret_n_spans = copies ? n_spans : 0;
	for (size_t i = 0; copies && i < n_spans; i++) {
		copies[i] = copy_span(arena, spans[i]);
	}
	return copies;
}

static struct imap_address *copy_addresses(
	struct arena *arena, const struct imap_address *addresses)
{
	struct imap_address *first = NULL, **tail = &first;

	for (; addresses; addresses = addresses->next) {
		struct imap_address *copy = arena_alloc(arena, sizeof(*copy));

		if (!copy) {
			break;
		}
		copy->name = copy_span(arena, addresses->name);
		copy->mailbox = copy_span(arena, addresses->mailbox);
		copy->host = copy_span(arena, addresses->host);
		*tail = copy;
		tail = &copy->next;
	}
	return first;
}

static struct imap_envelope copy_envelope(struct arena *arena, const struct imap_envelope *envelope)
{
	return (struct imap_envelope){
		.date = copy_span(arena, envelope->date),
		.subject = copy_span(arena, envelope->subject),
		.from = copy_addresses(arena, envelope->from),
		.sender = copy_addresses(arena, envelope->sender),
		.reply_to = copy_addresses(arena, envelope->reply_to),
		.to = copy_addresses(arena, envelope->to),
		.cc = copy_addresses(arena, envelope->cc),
		.bcc = copy_addresses(arena, envelope->bcc),
		.in_reply_to = copy_span(arena, envelope->in_reply_to),
		.message_id = copy_span(arena, envelope->message_id),
	};
}

static struct imap_parameter *copy_parameters(
	struct arena *arena, const struct imap_parameter *parameters)
{
	struct imap_parameter *first = NULL, **tail = &first;

	for (; parameters; parameters = parameters->next) {
		struct imap_parameter *copy = arena_alloc(arena, sizeof(*copy));

		if (!copy) {
			break;
		}
		copy->name = copy_span(arena, parameters->name);
		copy->value = copy_span(arena, parameters->value);
		*tail = copy;
		tail = &copy->next;
	}
	return first;
}

static struct imap_part *copy_parts(struct arena *arena, const struct imap_part *parts)
{
	struct imap_part *first = NULL, **tail = &first;

	for (; parts; parts = parts->next) {
		struct imap_part *copy = arena_alloc(arena, sizeof(*copy));

		if (!copy) {
			break;
		}
		*copy = *parts;
		copy->section = copy_span(arena, parts->section);
		copy->type = copy_span(arena, parts->type);
		copy->subtype = copy_span(arena, parts->subtype);
		copy->parameters = copy_parameters(arena, parts->parameters);
		copy->encoding = copy_span(arena, parts->encoding);
		copy->disposition = copy_span(arena, parts->disposition);
		copy->disposition_parameters =
			copy_parameters(arena, parts->disposition_parameters);
		copy->next = NULL;
		*tail = copy;
		tail = &copy->next;
	}
	return first;
}

static struct imap_section *copy_sections(struct arena *arena, const struct imap_section *sections)
{
	struct imap_section *first = NULL, **tail = &first;

	for (; sections; sections = sections->next) {
		struct imap_section *copy = arena_alloc(arena, sizeof(*copy));

		if (!copy) {
			break;
		}
		*copy = *sections;
		copy->section = copy_span(arena, sections->section);
		copy->data = copy_span(arena, sections->data);
		copy->next = NULL;
		*tail = copy;
		tail = &copy->next;
	}
	return first;
}

/* A server may repeat itself without end, and an arena gives nothing back: once what has been
 * replaced is more than what is alive, the living moves to a new arena. */
static void compact(struct imap_message *message)
{
	struct imap_message copy = *message;
	struct arena *arena = &copy.arena;

	if (message->arena.used / 2 <= message->live + COMPACT_AT_LEAST) {
		return;
	}
	arena_init(arena);
	copy.flags = copy_spans(arena, message->flags, message->n_flags, &copy.n_flags);
	copy.envelope = copy_envelope(arena, &message->envelope);
	copy.parts = copy_parts(arena, message->parts);
	copy.preview = copy_span(arena, message->preview);
	copy.email_id = copy_span(arena, message->email_id);
	copy.thread_id = copy_span(arena, message->thread_id);
	copy.gm_labels =
		copy_spans(arena, message->gm_labels, message->n_gm_labels, &copy.n_gm_labels);
	copy.sections = copy_sections(arena, message->sections);
	copy.live = arena->used;
	if (arena->error < 0) {
		arena_done(arena);
		return;
	}
	copy.arena.error = message->arena.error;
	arena_done(&message->arena);
	*message = copy;
}

/* Not tolower(3), which asks the locale. */
static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static bool is_same(struct span a, struct span b)
{
	if (a.len != b.len) {
		return false;
	}
	for (size_t i = 0; i < a.len; i++) {
		if (lower(a.data[i]) != lower(b.data[i])) {
			return false;
		}
	}
	return true;
}

static void merge_section(struct imap_message *message, const struct imap_section *from)
{
	struct imap_section **place = &message->sections, *copy;
	size_t n = 0;

	while (*place && !is_same((*place)->section, from->section)) {
		place = &(*place)->next;
		n++;
	}
	copy = *place;
	if (!copy) {
		if (n >= IMAP_MESSAGE_SECTIONS_MAX) {
			return;
		}
		copy = arena_alloc(&message->arena, sizeof(*copy));
		if (!copy) {
			return;
		}
		copy->section = copy_span(&message->arena, from->section);
		*place = copy;
	}
	copy->data = copy_span(&message->arena, from->data);
	copy->streamed = from->streamed;
	copy->size = from->size;
}

/* What is of a fixed size, or small. */
static void merge_numbers(
	struct imap_message *message, const struct imap_message *from, unsigned int lacking)
{
	if (lacking & IMAP_ITEM_UID) {
		message->uid = from->uid;
	}
	if (lacking & IMAP_ITEM_INTERNALDATE) {
		message->internaldate = from->internaldate;
	}
	if (lacking & IMAP_ITEM_SIZE) {
		message->size = from->size;
	}
	if (lacking & IMAP_ITEM_GM_MSGID) {
		message->gm_msgid = from->gm_msgid;
	}
	if (lacking & IMAP_ITEM_GM_THRID) {
		message->gm_thrid = from->gm_thrid;
	}
	if (from->items & IMAP_ITEM_MODSEQ) {
		message->modseq = from->modseq;
	}
	if (message->number == 0) {
		message->number = from->number;
	}
}

void imap_message_merge(struct imap_message *message, struct imap_message *from)
{
	struct arena *arena = &message->arena;
	unsigned int lacking = from->items & ~message->items;

	merge_numbers(message, from, lacking);
	if (from->items & IMAP_ITEM_FLAGS) {
		message->flags = copy_spans(arena, from->flags, from->n_flags, &message->n_flags);
	}
	if (lacking & IMAP_ITEM_GM_LABELS) {
		message->gm_labels = copy_spans(
			arena, from->gm_labels, from->n_gm_labels, &message->n_gm_labels);
	}
	if (lacking & IMAP_ITEM_ENVELOPE) {
		message->envelope = copy_envelope(arena, &from->envelope);
	}
	if (lacking & IMAP_ITEM_BODYSTRUCTURE) {
		message->parts = copy_parts(arena, from->parts);
	}
	if (lacking & IMAP_ITEM_PREVIEW) {
		message->preview = copy_span(arena, from->preview);
	}
	if (lacking & IMAP_ITEM_EMAIL_ID) {
		message->email_id = copy_span(arena, from->email_id);
	}
	if (lacking & IMAP_ITEM_THREAD_ID) {
		message->thread_id = copy_span(arena, from->thread_id);
	}
	for (const struct imap_section *section = from->sections; section;
		section = section->next) {
		merge_section(message, section);
	}
	message->items |= from->items;
	imap_message_free(from);
	compact(message);
}

bool imap_message_has_flag(const struct imap_message *message, const char *flag)
{
	for (size_t i = 0; i < message->n_flags; i++) {
		if (span_equal_nocase(message->flags[i], flag)) {
			return true;
		}
	}
	return false;
}

/* "HEADER.FIELDS" of "HEADER.FIELDS (SUBJECT)". */
static struct span without_fields(struct span section)
{
	const uint8_t *list = section.len > 0 ? memchr(section.data, '(', section.len) : NULL;

	if (list) {
		section.len = list - section.data;
	}
	while (section.len > 0 && section.data[section.len - 1] == ' ') {
		section.len--;
	}
	return section;
}

const struct imap_section *imap_message_section(
	const struct imap_message *message, const char *section)
{
	struct span wanted = without_fields(span_of(section));

	for (const struct imap_section *s = message->sections; s; s = s->next) {
		if (span_equal_nocase(s->section, section)) {
			return s;
		}
	}
	/* some servers sort the fields */
	for (const struct imap_section *s = message->sections; s && strchr(section, '(');
		s = s->next) {
		if (s->section.len > wanted.len && is_same(without_fields(s->section), wanted)) {
			return s;
		}
	}
	return NULL;
}

static bool is_readable(const struct imap_part *part, const char *subtype)
{
	return span_equal_nocase(part->type, "text") && span_equal_nocase(part->subtype, subtype) &&
		!span_equal_nocase(part->disposition, "attachment");
}

const struct imap_part *imap_message_text_part(const struct imap_message *message)
{
	const struct imap_part *html = NULL;
	for (const struct imap_part *part = message->parts; part; part = part->next) {
		if (is_readable(part, "plain")) {
			return part;
		}
		if (!html && is_readable(part, "html")) {
			html = part;
		}
	}
	return html;
}
