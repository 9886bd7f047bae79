#include <string.h>

#include "imap/fetch.h"
#include "imap/structure.h"

struct fetch {
	struct imap_lexer *lexer;
	struct imap_words *words; /* scratch */
	struct imap_message *message;
	struct imap_section **sections_tail;
	size_t n_sections;
};

static bool read_uid(struct fetch *fetch)
{
	if (!imap_lexer_number32(fetch->lexer, &fetch->message->uid)) {
		return false;
	}
	if (fetch->message->uid == 0) {
		return imap_lexer_fail(fetch->lexer, "a UID is 0");
	}
	fetch->message->items |= IMAP_ITEM_UID;
	return true;
}

/* Copies the collected words into the message. */
static bool keep_words(struct fetch *fetch, struct span **ret_words, size_t *ret_n_words)
{
	struct imap_lexer *lexer = fetch->lexer;
	size_t n = fetch->words->n_items;
	struct span *words = imap_lexer_alloc(lexer, n * sizeof(*words));

	if (!words) {
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (!imap_lexer_keep(lexer, fetch->words->items[i], &words[i])) {
			return false;
		}
	}
	*ret_words = words;
	*ret_n_words = n;
	return true;
}

static bool read_flags(struct fetch *fetch)
{
	const struct imap_limits *limits = fetch->lexer->limits;
	struct imap_words *words = fetch->words;
	size_t n = 0;

	if (!imap_lexer_list(fetch->lexer, words)) {
		return false;
	}
	for (size_t i = 0; i < words->n_items && n < limits->flags; i++) {
		struct span flag = words->items[i];

		if (flag.len > 0 && flag.len <= limits->flag_len &&
			!span_equal_nocase(flag, "\\Recent")) {
			words->items[n++] = flag;
		}
	}
	words->n_items = n;
	fetch->message->items |= IMAP_ITEM_FLAGS;
	return keep_words(fetch, &fetch->message->flags, &fetch->message->n_flags);
}

static bool read_gm_labels(struct fetch *fetch)
{
	fetch->message->items |= IMAP_ITEM_GM_LABELS;
	return imap_lexer_list(fetch->lexer, fetch->words) &&
		keep_words(fetch, &fetch->message->gm_labels, &fetch->message->n_gm_labels);
}

static bool read_digits(const char **at, size_t n_min, size_t n_max, int *ret_number)
{
	size_t n = 0;
	int number = 0;

	for (; n < n_max && imap_is_digit(**at); n++) {
		number = number * 10 + (*(*at)++ - '0');
	}
	*ret_number = number;
	return n >= n_min;
}

static bool read_month(const char **at, int *ret_month)
{
	static const char *const names[] = {
		"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"};
	struct span name = {.data = (const uint8_t *)*at, .len = strnlen(*at, 3)};

	for (int month = 0; month < 12; month++) {
		if (span_equal_nocase(name, names[month])) {
			*at += name.len;
			*ret_month = month + 1;
			return true;
		}
	}
	return false;
}

/* Days from 1970-01-01 in the Gregorian calendar; the year is counted from March, so that the leap
 * day is the last one. */
static int64_t days_since_1970(int year, int month, int day)
{
	int64_t y = month > 2 ? year : year - 1;
	int m = month > 2 ? month - 3 : month + 9;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719468;
}

/* RFC 9051 date-time without its quotes: "17-Jul-1996 02:44:25 -0700", day perhaps " 7". */
static bool parse_date(const char *at, int64_t *ret_seconds)
{
	static const int month_days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int day, month, year, hour, minute, second, zone;
	int64_t seconds;
	char sign;

	at += strspn(at, " ");
	if (!read_digits(&at, 1, 2, &day) || *at++ != '-' || !read_month(&at, &month) ||
		*at++ != '-' || !read_digits(&at, 4, 4, &year) || *at++ != ' ') {
		return false;
	}
	at += strspn(at, " ");
	if (!read_digits(&at, 1, 2, &hour) || *at++ != ':' || !read_digits(&at, 2, 2, &minute) ||
		*at++ != ':' || !read_digits(&at, 2, 2, &second) || *at++ != ' ') {
		return false;
	}
	sign = *at++;
	if ((sign != '+' && sign != '-') || !read_digits(&at, 4, 4, &zone) || *at != 0) {
		return false;
	}
	if (day < 1 || day > month_days[month - 1] || hour > 23 || minute > 59 || second > 60 ||
		zone % 100 > 59) {
		return false;
	}
	seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
	zone = zone / 100 * 3600 + zone % 100 * 60;
	*ret_seconds = sign == '+' ? seconds - zone : seconds + zone;
	return true;
}

static bool read_internaldate(struct fetch *fetch)
{
	char text[40];
	struct span date;

	if (imap_lexer_peek(fetch->lexer) == '(') {
		return imap_lexer_skip_value(fetch->lexer);
	}
	if (!imap_lexer_nstring(fetch->lexer, &date)) {
		return false;
	}
	if (date.len == 0 || date.len >= sizeof(text)) {
		return true;
	}
	memcpy(text, date.data, date.len);
	text[date.len] = 0;
	if (parse_date(text, &fetch->message->internaldate)) {
		fetch->message->items |= IMAP_ITEM_INTERNALDATE;
	}
	return true;
}

static bool read_size(struct fetch *fetch)
{
	if (!imap_is_digit(imap_lexer_peek(fetch->lexer))) {
		return imap_lexer_skip_value(fetch->lexer);
	}
	fetch->message->items |= IMAP_ITEM_SIZE;
	return imap_lexer_number63(fetch->lexer, &fetch->message->size);
}

/* RFC 7162 section 7: "(" mod-sequence-value ")". */
static bool read_modseq(struct fetch *fetch)
{
	struct imap_lexer *lexer = fetch->lexer;
	uint64_t modseq;

	if (imap_lexer_peek(lexer) != '(') {
		return imap_lexer_skip_value(lexer);
	}
	imap_lexer_open(lexer);
	if (imap_lexer_close(lexer)) {
		return true;
	}
	if (!imap_lexer_lenient_number(lexer, IMAP_NUMBER63_MAX, &modseq)) {
		return false;
	}
	if (modseq > 0) {
		fetch->message->items |= IMAP_ITEM_MODSEQ;
		fetch->message->modseq = modseq;
	}
	return imap_lexer_skip_rest(lexer);
}

/* RFC 8970; the drafts before it put an algorithm first: (FUZZY "text"). */
static bool read_preview(struct fetch *fetch)
{
	struct imap_lexer *lexer = fetch->lexer;
	struct span preview = {0};

	if (imap_lexer_peek(lexer) == '(') {
		imap_lexer_open(lexer);
		imap_lexer_word(lexer);
		imap_lexer_skip_blanks(lexer);
		if (imap_lexer_peek(lexer) == '(') {
			return imap_lexer_skip_rest(lexer);
		}
		if (imap_lexer_peek(lexer) != ')' && !imap_lexer_nstring(lexer, &preview)) {
			return false;
		}
		if (!imap_lexer_skip_rest(lexer)) {
			return false;
		}
	} else if (!imap_lexer_nstring(lexer, &preview)) {
		return false;
	}
	fetch->message->items |= IMAP_ITEM_PREVIEW;
	return imap_lexer_keep(lexer, preview, &fetch->message->preview);
}

/* RFC 8474 section 7: "(" objectid ")", or NIL. */
static bool read_object_id(struct fetch *fetch, enum imap_item item, struct span *ret_id)
{
	struct imap_lexer *lexer = fetch->lexer;
	struct span id = {0};

	if (imap_lexer_peek(lexer) == '(') {
		imap_lexer_open(lexer);
		if (!imap_lexer_close(lexer)) {
			if (!imap_lexer_nstring(lexer, &id) || !imap_lexer_skip_rest(lexer)) {
				return false;
			}
		}
	} else if (!imap_lexer_nstring(lexer, &id)) {
		return false;
	}
	fetch->message->items |= item;
	return imap_lexer_keep(lexer, id, ret_id);
}

static bool read_email_id(struct fetch *fetch)
{
	return read_object_id(fetch, IMAP_ITEM_EMAIL_ID, &fetch->message->email_id);
}

static bool read_thread_id(struct fetch *fetch)
{
	return read_object_id(fetch, IMAP_ITEM_THREAD_ID, &fetch->message->thread_id);
}

/* Gmail's identifiers are unsigned 64-bit numbers. */
static bool read_gm_id(struct fetch *fetch, enum imap_item item, uint64_t *ret_id)
{
	if (!imap_is_digit(imap_lexer_peek(fetch->lexer))) {
		return imap_lexer_skip_value(fetch->lexer);
	}
	fetch->message->items |= item;
	return imap_lexer_number(fetch->lexer, UINT64_MAX, ret_id);
}

static bool read_gm_msgid(struct fetch *fetch)
{
	return read_gm_id(fetch, IMAP_ITEM_GM_MSGID, &fetch->message->gm_msgid);
}

static bool read_gm_thrid(struct fetch *fetch)
{
	return read_gm_id(fetch, IMAP_ITEM_GM_THRID, &fetch->message->gm_thrid);
}

/* A string of an envelope; nothing where the list ends before it. */
static bool read_member(struct imap_lexer *lexer, struct span *ret_string)
{
	struct span string;

	imap_lexer_skip_blanks(lexer);
	switch (imap_lexer_peek(lexer)) {
	case ')':
		return true;
	case '(':
		return imap_lexer_skip_value(lexer);
	default:
		return imap_lexer_nstring(lexer, &string) &&
			imap_lexer_keep(lexer, string, ret_string);
	}
}

/* "(" name source-route mailbox host ")". RFC 9051 section 7.5.2. */
static bool read_address(struct imap_lexer *lexer, struct imap_address *address)
{
	struct span route;

	return imap_lexer_open(lexer) && read_member(lexer, &address->name) &&
		read_member(lexer, &route) && read_member(lexer, &address->mailbox) &&
		read_member(lexer, &address->host) && imap_lexer_skip_rest(lexer);
}

/* A list of addresses; NIL, an empty list, a string, or the end of the envelope: none. */
static bool read_addresses(struct imap_lexer *lexer, struct imap_address **ret_addresses)
{
	struct imap_address **tail = ret_addresses;
	size_t n = 0;

	imap_lexer_skip_blanks(lexer);
	if (imap_lexer_peek(lexer) == ')') {
		return true;
	}
	if (imap_lexer_peek(lexer) != '(') {
		return imap_lexer_skip_value(lexer);
	}
	imap_lexer_open(lexer);
	while (!imap_lexer_close(lexer)) {
		struct imap_address *address;

		if (imap_lexer_peek(lexer) != '(') {
			if (!imap_lexer_skip_value(lexer)) {
				return false;
			}
			continue;
		}
		if (++n > lexer->limits->list) {
			return imap_lexer_fail(lexer, "a list is too long");
		}
		address = imap_lexer_alloc(lexer, sizeof(*address));
		if (!address || !read_address(lexer, address)) {
			return false;
		}
		*tail = address;
		tail = &address->next;
	}
	return true;
}

static bool read_envelope_members(struct imap_lexer *lexer, struct imap_envelope *envelope)
{
	return imap_lexer_open(lexer) && read_member(lexer, &envelope->date) &&
		read_member(lexer, &envelope->subject) && read_addresses(lexer, &envelope->from) &&
		read_addresses(lexer, &envelope->sender) &&
		read_addresses(lexer, &envelope->reply_to) &&
		read_addresses(lexer, &envelope->to) && read_addresses(lexer, &envelope->cc) &&
		read_addresses(lexer, &envelope->bcc) &&
		read_member(lexer, &envelope->in_reply_to) &&
		read_member(lexer, &envelope->message_id) && imap_lexer_skip_rest(lexer);
}

static bool read_envelope(struct fetch *fetch)
{
	struct imap_lexer before = *fetch->lexer;
	struct imap_envelope envelope = {0};

	if (read_envelope_members(fetch->lexer, &envelope)) {
		fetch->message->items |= IMAP_ITEM_ENVELOPE;
		fetch->message->envelope = envelope;
		return true;
	}
	if (fetch->lexer->error < 0) {
		return false;
	}
	*fetch->lexer = before;
	return imap_lexer_skip_value(fetch->lexer);
}

static bool read_structure(struct fetch *fetch)
{
	struct imap_lexer before = *fetch->lexer;

	if (imap_structure_read(fetch->lexer, fetch->message)) {
		fetch->message->items |= IMAP_ITEM_BODYSTRUCTURE;
		return true;
	}
	if (fetch->lexer->error < 0) {
		return false;
	}
	*fetch->lexer = before;
	return imap_lexer_skip_value(fetch->lexer);
}

static const struct {
	const char *name;
	bool (*read)(struct fetch *fetch);
} readers[] = {
	{"UID", read_uid},
	{"FLAGS", read_flags},
	{"MODSEQ", read_modseq},
	{"INTERNALDATE", read_internaldate},
	{"RFC822.SIZE", read_size},
	{"ENVELOPE", read_envelope},
	{"BODYSTRUCTURE", read_structure},
	{"BODY", read_structure},
	{"PREVIEW", read_preview},
	{"EMAILID", read_email_id},
	{"THREADID", read_thread_id},
	{"X-GM-MSGID", read_gm_msgid},
	{"X-GM-THRID", read_gm_thrid},
	{"X-GM-LABELS", read_gm_labels},
};

/* Puts together what stands between "[" and "]": field names without quotes, one blank between
 * words, so that a section reads as it was asked for. */
static bool read_section_name(struct imap_lexer *lexer, struct bytes *name)
{
	struct span string;
	size_t depth = 0;
	int next;

	for (;;) {
		next = imap_lexer_peek(lexer);
		if (next == IMAP_LEXER_END) {
			return imap_lexer_fail(lexer, "a section has no end");
		}
		if (next == '"' || next == IMAP_LEXER_LITERAL) {
			if (!imap_lexer_string(lexer, &string)) {
				return false;
			}
			bytes_put(name, string.data, string.len);
			continue;
		}
		lexer->at++;
		if (next == ']' && depth == 0) {
			return true;
		}
		if (next == '(') {
			depth++;
		} else if (next == ')' && depth > 0) {
			depth--;
		}
		if (!imap_is_blank(next)) {
			bytes_put_char(name, (char)next);
		} else if (!imap_is_blank(imap_lexer_peek(lexer))) {
			bytes_put_char(name, ' ');
		}
	}
}

/* "[" section "]", and "<" origin ">" perhaps. */
static bool read_section(struct imap_lexer *lexer, struct span *ret_section)
{
	struct bytes name __attribute__((cleanup(bytes_done)));
	int next;

	bytes_init(&name);
	if (!imap_lexer_take(lexer, '[') || !read_section_name(lexer, &name)) {
		return imap_lexer_fail(lexer, "a section was expected");
	}
	if (name.error < 0) {
		lexer->error = name.error;
		return imap_lexer_fail(lexer, "out of memory");
	}
	if (imap_lexer_take(lexer, '<')) {
		do {
			next = imap_lexer_peek(lexer);
			if (next < 0) {
				return imap_lexer_fail(lexer, "an origin has no end");
			}
			lexer->at++;
		} while (next != '>');
	}
	return imap_lexer_keep(
		lexer, bytes_len(&name) > 0 ? bytes_span(&name) : span_of(""), ret_section);
}

static bool read_body_section(struct fetch *fetch)
{
	struct imap_lexer *lexer = fetch->lexer;
	const struct imap_literal *literal;
	struct imap_section *section = imap_lexer_alloc(lexer, sizeof(*section));
	struct span data;

	if (!section || !read_section(lexer, &section->section)) {
		return false;
	}
	imap_lexer_skip_blanks(lexer);
	literal = imap_lexer_next_literal(lexer);
	if (!imap_lexer_nstring(lexer, &data) || !imap_lexer_keep(lexer, data, &section->data)) {
		return false;
	}
	if (++fetch->n_sections > IMAP_MESSAGE_SECTIONS_MAX) {
		return true;
	}
	section->streamed = literal && literal->fate == IMAP_LITERAL_STREAMED;
	section->size = literal ? literal->size : data.len;
	*fetch->sections_tail = section;
	fetch->sections_tail = &section->next;
	return true;
}

/* An item that nobody here knows, with a section perhaps: BINARY[1], RFC822.HEADER. */
static bool skip_item(struct imap_lexer *lexer)
{
	struct span section;

	if (imap_lexer_peek(lexer) == '[' && !read_section(lexer, &section)) {
		return false;
	}
	return imap_lexer_skip_value(lexer);
}

static bool read_item(struct fetch *fetch)
{
	struct imap_lexer *lexer = fetch->lexer;
	struct span name = imap_lexer_word(lexer);
	const uint8_t *bracket;

	if (name.len == 0) {
		return imap_lexer_fail(lexer, "a fetch item was expected");
	}
	bracket = memchr(name.data, '[', name.len);
	if (bracket) {
		lexer->at = bracket;
		name.len = bracket - name.data;
		return span_equal_nocase(name, "BODY") ? read_body_section(fetch)
						       : skip_item(lexer);
	}
	imap_lexer_skip_blanks(lexer);
	for (size_t i = 0; i < sizeof(readers) / sizeof(*readers); i++) {
		if (span_equal_nocase(name, readers[i].name)) {
			return readers[i].read(fetch);
		}
	}
	return skip_item(lexer);
}

bool imap_fetch_read(
	struct imap_lexer *lexer, struct imap_words *words, struct imap_message *message)
{
	struct fetch fetch = {
		.lexer = lexer,
		.words = words,
		.message = message,
		.sections_tail = &message->sections,
	};

	if (!imap_lexer_open(lexer)) {
		return false;
	}
	while (!imap_lexer_close(lexer)) {
		if (!read_item(&fetch)) {
			return false;
		}
	}
	return true;
}
