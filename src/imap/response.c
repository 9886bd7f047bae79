#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#include "imap/fetch.h"
#include "imap/framer.h"
#include "imap/lexer.h"
#include "imap/response.h"
#include "imap/search.h"
#include "imap/status.h"

const struct imap_limits imap_limits_default = {
	.line = 65536,
	.literal = 262144,
	.skipped = UINT64_C(1) << 31,
	.response = 1048576,
	.depth = 32,
	.list = 65536,
	.flags = 128,
	.flag_len = 128,
	.memory = 4194304,
	.messages = UINT32_C(1) << 24,
	.runs = 1048576,
};

struct imap_parser {
	struct imap_limits limits;
	struct imap_framer framer;
	struct imap_words words;
	struct arena arena; /* of everything but messages */
	struct imap_response response;
	bool is_handed_out; /* the record is read and can be dropped */
	bool is_endless;    /* the response is one of imap/search.h, some of it is read */
	enum imap_search_place search_place;
	const char *search_problem; /* what is left of an endless line is passed over */
	int error;
	const char *problem;
};

struct imap_parser *imap_parser_new(const struct imap_limits *limits)
{
	struct imap_parser *parser = calloc(1, sizeof(*parser));

	if (!parser) {
		return NULL;
	}
	parser->limits = *limits;
	/* room for sums */
	parser->limits.line = MIN(limits->line, SIZE_MAX / 4);
	parser->limits.response = MIN(limits->response, SIZE_MAX / 4);
	parser->limits.literal = MIN(limits->literal, SIZE_MAX / 4);
	imap_framer_init(&parser->framer, &parser->limits);
	arena_init(&parser->arena);
	runs_init(&parser->response.set);
	runs_init(&parser->response.code_source);
	runs_init(&parser->response.code_target);
	return parser;
}

/* The response is void; its memory is freed but for what is used again. */
static void clear_response(struct imap_parser *parser)
{
	struct imap_response *response = &parser->response;

	runs_done(&response->set);
	runs_done(&response->code_source);
	runs_done(&response->code_target);
	imap_message_free(response->message);
	*response = (struct imap_response){0};
	runs_init(&response->set);
	runs_init(&response->code_source);
	runs_init(&response->code_target);
	parser->words.n_items = 0;
	arena_done(&parser->arena);
}

static void begin_record(struct imap_parser *parser)
{
	clear_response(parser);
	imap_framer_clear(&parser->framer);
	parser->is_handed_out = false;
	parser->is_endless = false;
	parser->search_place = IMAP_SEARCH_HEAD;
	parser->search_problem = NULL;
}

struct imap_parser *imap_parser_free(struct imap_parser *parser)
{
	if (parser) {
		clear_response(parser);
		imap_framer_done(&parser->framer);
		imap_words_done(&parser->words);
		free(parser);
	}
	return NULL;
}

void imap_parser_set_streaming(struct imap_parser *parser, bool streaming)
{
	parser->framer.streaming = streaming;
}

const char *imap_parser_problem(const struct imap_parser *parser)
{
	return parser->problem ? parser->problem : "";
}

bool imap_parser_is_midway(const struct imap_parser *parser)
{
	return !parser->is_handed_out && imap_framer_is_midway(&parser->framer);
}

void imap_parser_trim(struct imap_parser *parser)
{
	if (imap_parser_is_midway(parser)) {
		return;
	}
	begin_record(parser);
	imap_framer_trim(&parser->framer);
	imap_words_done(&parser->words);
}

struct imap_message *imap_response_take_message(const struct imap_response *response)
{
	/* the only response there is belongs to a parser, and is not const there */
	struct imap_response *own = (struct imap_response *)response;
	struct imap_message *message = own->message;

	own->message = NULL;
	return message;
}

static bool read_done(struct imap_lexer *lexer)
{
	return imap_lexer_is_done(lexer) ||
		imap_lexer_fail(lexer, "something stands behind the end");
}

static bool read_words(struct imap_parser *parser, struct imap_lexer *lexer)
{
	return imap_lexer_words(lexer, &parser->words);
}

static bool read_flags(struct imap_parser *parser, struct imap_lexer *lexer)
{
	return imap_lexer_list(lexer, &parser->words) && read_done(lexer);
}

/* RFC 2971; NIL, or nothing at all, is a server without a name. */
static bool read_id(struct imap_parser *parser, struct imap_lexer *lexer)
{
	struct imap_words *words = &parser->words;
	struct span word;

	if (imap_lexer_is_done(lexer)) {
		return true;
	}
	if (imap_lexer_peek(lexer) != '(') {
		return read_flags(parser, lexer);
	}
	imap_lexer_open(lexer);
	while (!imap_lexer_close(lexer)) {
		if (!imap_lexer_nstring(lexer, &word) || !imap_lexer_add_word(lexer, words, word)) {
			return false;
		}
	}
	words->n_items -= words->n_items % 2;
	return read_done(lexer);
}

/* A quoted character, or NIL. */
static bool read_delimiter(struct imap_lexer *lexer, char *ret_delimiter)
{
	struct span delimiter;

	imap_lexer_skip_blanks(lexer);
	if (!imap_lexer_nstring(lexer, &delimiter)) {
		return false;
	}
	if (delimiter.len > 1) {
		return imap_lexer_fail(lexer, "a delimiter is longer than one octet");
	}
	*ret_delimiter = delimiter.len == 1 ? (char)delimiter.data[0] : 0;
	return true;
}

static struct span trim(struct span span)
{
	while (span.len > 0 && imap_is_blank(span.data[span.len - 1])) {
		span.len--;
	}
	return span;
}

/* RFC 9051 section 7.3.1. Extended data (RFC 5258) may follow the name in a list. A name that
 * should have been quoted goes on to the end of the line. */
static bool read_list(struct imap_parser *parser, struct imap_lexer *lexer)
{
	struct imap_list_entry *list = &parser->response.list;
	const uint8_t *start;
	int next;

	if (!imap_lexer_list(lexer, &parser->words) || !read_delimiter(lexer, &list->delimiter)) {
		return false;
	}
	imap_lexer_skip_blanks(lexer);
	start = lexer->at;
	next = imap_lexer_peek(lexer);
	if (!imap_lexer_astring(lexer, &list->name)) {
		return false;
	}
	if (!list->name.data) {
		return imap_lexer_fail(lexer, "a mailbox name is too long");
	}
	if (!imap_lexer_is_done(lexer) && imap_lexer_peek(lexer) != '(' && next != '"' &&
		next != IMAP_LEXER_LITERAL && lexer->stop == lexer->end) {
		list->name =
			trim((struct span){.data = start, .len = (size_t)(lexer->end - start)});
		lexer->at = lexer->end;
	}
	while (!imap_lexer_is_done(lexer)) {
		if (!imap_lexer_skip_value(lexer)) {
			return false;
		}
	}
	for (size_t i = 0; i < parser->words.n_items; i++) {
		if (span_equal_nocase(parser->words.items[i], "\\Noselect") ||
			span_equal_nocase(parser->words.items[i], "\\NonExistent")) {
			list->attributes |= IMAP_MAILBOX_NOSELECT;
		}
	}
	list->words = parser->words.items;
	list->n_words = parser->words.n_items;
	return true;
}

static bool read_status_item(struct imap_lexer *lexer, struct imap_mailbox_status *status)
{
	struct span item = imap_lexer_word(lexer);
	uint64_t number;

	if (item.len == 0) {
		return imap_lexer_fail(lexer, "a status item was expected");
	}
	imap_lexer_skip_blanks(lexer);
	if (span_equal_nocase(item, "MESSAGES")) {
		status->has_messages = true;
		return imap_lexer_number32(lexer, &status->messages);
	}
	if (span_equal_nocase(item, "UNSEEN")) {
		status->has_unseen = true;
		return imap_lexer_number32(lexer, &status->unseen);
	}
	/* 0 or worse says that the server has none, RFC 7162 section 3.1.2.2 */
	if (span_equal_nocase(item, "UIDNEXT")) {
		if (!imap_lexer_lenient_number(lexer, UINT32_MAX, &number)) {
			return false;
		}
		status->has_uidnext = number > 0;
		status->uidnext = (uint32_t)number;
		return true;
	}
	if (span_equal_nocase(item, "UIDVALIDITY")) {
		if (!imap_lexer_lenient_number(lexer, UINT32_MAX, &number)) {
			return false;
		}
		status->has_uidvalidity = number > 0;
		status->uidvalidity = (uint32_t)number;
		return true;
	}
	if (span_equal_nocase(item, "HIGHESTMODSEQ")) {
		if (!imap_lexer_lenient_number(lexer, IMAP_NUMBER63_MAX, &status->highestmodseq)) {
			return false;
		}
		status->has_highestmodseq = status->highestmodseq > 0;
		return true;
	}
	return imap_lexer_skip_value(lexer);
}

/* RFC 9051 section 7.3.3. A name that should have been quoted goes on to the last "(". */
static bool read_mailbox_status(struct imap_parser *parser, struct imap_lexer *lexer)
{
	struct imap_mailbox_status *status = &parser->response.mailbox_status;
	const uint8_t *start = lexer->at, *list;
	int next = imap_lexer_peek(lexer);

	if (!imap_lexer_astring(lexer, &status->name)) {
		return false;
	}
	if (!status->name.data) {
		return imap_lexer_fail(lexer, "a mailbox name is too long");
	}
	imap_lexer_skip_blanks(lexer);
	if (imap_lexer_peek(lexer) != '(' && next != '"' && next != IMAP_LEXER_LITERAL) {
		list = memrchr(start, '(', lexer->stop - start);
		if (list) {
			status->name =
				trim((struct span){.data = start, .len = (size_t)(list - start)});
			lexer->at = list;
		}
	}
	if (!imap_lexer_open(lexer)) {
		return false;
	}
	while (!imap_lexer_close(lexer)) {
		if (!read_status_item(lexer, status)) {
			return false;
		}
	}
	return read_done(lexer);
}

/* RFC 2342: ((prefix delimiter ...) ...) or NIL, for personal, others' and shared ones. */
static bool read_namespace(struct imap_parser *parser, struct imap_lexer *lexer)
{
	struct imap_response *response = &parser->response;

	if (imap_lexer_peek(lexer) == '(') {
		imap_lexer_open(lexer);
		if (imap_lexer_peek(lexer) == '(') {
			imap_lexer_open(lexer);
			if (!imap_lexer_nstring(lexer, &response->namespace_prefix) ||
				!read_delimiter(lexer, &response->namespace_delimiter) ||
				!imap_lexer_skip_rest(lexer)) {
				return false;
			}
		}
		if (!imap_lexer_skip_rest(lexer)) {
			return false;
		}
	} else if (!imap_lexer_skip_value(lexer)) {
		return false;
	}
	while (!imap_lexer_is_done(lexer)) {
		if (!imap_lexer_skip_value(lexer)) {
			return false;
		}
	}
	return true;
}

static const struct {
	const char *name;
	enum imap_response_kind kind;
	bool (*read)(struct imap_parser *parser, struct imap_lexer *lexer);
} readers[] = {
	{"CAPABILITY", IMAP_RESPONSE_CAPABILITY, read_words},
	{"ENABLED", IMAP_RESPONSE_ENABLED, read_words},
	{"FLAGS", IMAP_RESPONSE_FLAGS, read_flags},
	{"LIST", IMAP_RESPONSE_LIST, read_list},
	{"STATUS", IMAP_RESPONSE_STATUS, read_mailbox_status},
	{"NAMESPACE", IMAP_RESPONSE_NAMESPACE, read_namespace},
	{"ID", IMAP_RESPONSE_ID, read_id},
};

static const struct {
	const char *name;
	enum imap_response_kind kind;
} endless[] = {
	{"SEARCH", IMAP_RESPONSE_SEARCH},
	{"ESEARCH", IMAP_RESPONSE_ESEARCH},
	{"VANISHED", IMAP_RESPONSE_VANISHED},
};

static bool read_message(struct imap_parser *parser, struct imap_lexer *lexer, bool is_uid)
{
	struct imap_response *response = &parser->response;
	struct imap_message *message = imap_message_new();
	bool ok;

	if (!message) {
		lexer->error = -ENOMEM;
		return imap_lexer_fail(lexer, "out of memory");
	}
	response->kind = IMAP_RESPONSE_FETCH;
	response->message = message;
	message->number = is_uid ? 0 : (uint32_t)response->number;
	if (is_uid) {
		message->uid = (uint32_t)response->number;
		message->items |= IMAP_ITEM_UID;
	}
	lexer->arena = &message->arena;
	ok = imap_fetch_read(lexer, &parser->words, message);
	lexer->arena = &parser->arena;
	message->live = message->arena.used;
	parser->words.n_items = 0;
	return ok && read_done(lexer);
}

/* "* 5 ..." */
static bool read_numbered(struct imap_parser *parser, struct imap_lexer *lexer)
{
	struct imap_response *response = &parser->response;
	struct span word;
	uint32_t number;

	if (!imap_lexer_number32(lexer, &number)) {
		return false;
	}
	response->number = number;
	imap_lexer_skip_blanks(lexer);
	word = imap_lexer_word(lexer);
	imap_lexer_skip_blanks(lexer);
	if (span_equal_nocase(word, "EXISTS")) {
		response->kind = IMAP_RESPONSE_EXISTS;
		return read_done(lexer);
	}
	if (span_equal_nocase(word, "RECENT")) {
		response->kind = IMAP_RESPONSE_RECENT;
		return read_done(lexer);
	}
	if (word.len == 0) {
		return imap_lexer_fail(lexer, "a number stands alone");
	}
	if (number == 0) {
		return imap_lexer_fail(lexer, "a message number is 0");
	}
	if (span_equal_nocase(word, "EXPUNGE")) {
		response->kind = IMAP_RESPONSE_EXPUNGE;
		return read_done(lexer);
	}
	if (span_equal_nocase(word, "FETCH")) {
		return read_message(parser, lexer, false);
	}
	if (span_equal_nocase(word, "UIDFETCH")) {
		return read_message(parser, lexer, true);
	}
	response->kind = IMAP_RESPONSE_UNKNOWN;
	return true;
}

/* The name of a response or a status: "OK[ALERT]" has no blank between. */
static struct span read_name(struct imap_lexer *lexer)
{
	struct span word = imap_lexer_word(lexer);
	const uint8_t *bracket = word.len > 0 ? memchr(word.data, '[', word.len) : NULL;

	if (bracket) {
		lexer->at = bracket;
		word.len = bracket - word.data;
	}
	return word;
}

/* Behind the "*". Leaves the lexer of an endless response behind its name. */
static bool read_untagged(struct imap_parser *parser, struct imap_lexer *lexer, bool is_last)
{
	struct imap_response *response = &parser->response;
	struct span name;

	imap_lexer_skip_blanks(lexer);
	if (imap_is_digit(imap_lexer_peek(lexer))) {
		return read_numbered(parser, lexer);
	}
	name = read_name(lexer);
	if (imap_status_read(name, &response->status)) {
		if (imap_lexer_peek(lexer) == IMAP_LEXER_LITERAL) {
			return imap_lexer_fail(lexer, "a literal stands behind a status");
		}
		response->kind = IMAP_RESPONSE_STATUS_LINE;
		return imap_status_read_text(lexer, &parser->words, response);
	}
	imap_lexer_skip_blanks(lexer);
	for (size_t i = 0; i < sizeof(endless) / sizeof(*endless); i++) {
		if (span_equal_nocase(name, endless[i].name)) {
			response->kind = endless[i].kind;
			parser->is_endless = true;
			return imap_search_read(&parser->search_place, lexer, is_last, response);
		}
	}
	for (size_t i = 0; i < sizeof(readers) / sizeof(*readers); i++) {
		if (span_equal_nocase(name, readers[i].name)) {
			response->kind = readers[i].kind;
			return readers[i].read(parser, lexer);
		}
	}
	if (name.len == 0 || !((name.data[0] | 0x20) >= 'a' && (name.data[0] | 0x20) <= 'z')) {
		return imap_lexer_fail(lexer, "a response without a name");
	}
	response->kind = IMAP_RESPONSE_UNKNOWN;
	return true;
}

/* RFC 9051 section 9: tag = 1*<any ASTRING-CHAR except "+">. */
static bool is_tag(struct span tag)
{
	for (size_t i = 0; i < tag.len; i++) {
		if (tag.data[i] <= ' ' || tag.data[i] >= 0x7f ||
			strchr("(){%*\"\\+", tag.data[i])) {
			return false;
		}
	}
	return tag.len > 0;
}

static bool read_tagged(struct imap_parser *parser, struct imap_lexer *lexer)
{
	struct imap_response *response = &parser->response;
	struct span tag = imap_lexer_word(lexer);

	if (!is_tag(tag)) {
		return imap_lexer_fail(lexer, "neither tagged nor untagged");
	}
	imap_lexer_skip_blanks(lexer);
	if (!imap_status_read(read_name(lexer), &response->status)) {
		return imap_lexer_fail(lexer, "neither tagged nor untagged");
	}
	switch (response->status) {
	case IMAP_STATUS_OK:
	case IMAP_STATUS_NO:
	case IMAP_STATUS_BAD:
		break;
	case IMAP_STATUS_BYE:
	case IMAP_STATUS_PREAUTH:
		return imap_lexer_fail(lexer, "a status that cannot be tagged");
	}
	response->kind = IMAP_RESPONSE_TAGGED;
	response->tag = tag;
	return imap_status_read_text(lexer, &parser->words, response);
}

static bool read_response(struct imap_parser *parser, struct imap_lexer *lexer, bool is_last)
{
	struct imap_response *response = &parser->response;

	imap_lexer_skip_blanks(lexer);
	if (imap_lexer_take(lexer, '*')) {
		return read_untagged(parser, lexer, is_last);
	}
	if (imap_lexer_take(lexer, '+')) {
		imap_lexer_skip_blanks(lexer);
		response->kind = IMAP_RESPONSE_CONTINUATION;
		response->text = trim(
			(struct span){.data = lexer->at, .len = (size_t)(lexer->end - lexer->at)});
		return true;
	}
	return read_tagged(parser, lexer);
}

static int fail(struct imap_parser *parser, int error, const char *problem)
{
	parser->error = error;
	parser->problem = problem ? problem : "out of memory";
	return error;
}

static void make_invalid(struct imap_parser *parser, const char *problem)
{
	clear_response(parser);
	parser->response.kind = IMAP_RESPONSE_INVALID;
	parser->response.text = span_of(problem ? problem : "it breaks the grammar");
}

/* Reads what the record holds. 1: there is a response; 0: there is none yet; or -ENOMEM. */
static int read_record(struct imap_parser *parser, bool is_last)
{
	struct imap_framer *framer = &parser->framer;
	struct span record = imap_framer_record(framer);
	struct imap_response *response = &parser->response;
	struct imap_lexer lexer;
	bool ok = true;

	imap_lexer_init(&lexer, record, framer->literals, framer->n_literals, &parser->limits,
		&parser->arena);
	if (parser->search_problem) {
		lexer.at = lexer.end;
	} else if (parser->is_endless) {
		ok = imap_search_read(&parser->search_place, &lexer, is_last, response);
	} else {
		ok = read_response(parser, &lexer, is_last);
	}
	if (lexer.error < 0) {
		return fail(parser, lexer.error, lexer.problem);
	}
	if (!ok) {
		parser->search_problem = lexer.problem;
		lexer.at = lexer.end;
	}
	if (is_last) {
		parser->is_handed_out = true;
		if (parser->search_problem) {
			make_invalid(parser, parser->search_problem);
		} else {
			response->words = parser->words.items;
			response->n_words = parser->words.n_items;
		}
		return 1;
	}
	if (lexer.at == lexer.base) {
		parser->search_problem = lexer.problem ? lexer.problem : "an element is too long";
		lexer.at = lexer.end;
	}
	imap_framer_consume(framer, lexer.at - lexer.base);
	if (parser->search_problem || runs_count(&response->set) == 0) {
		return 0;
	}
	response->partial = true;
	return 1;
}

static int hand_out_chunk(struct imap_parser *parser, struct span chunk)
{
	struct imap_response *response = &parser->response;
	const struct imap_framer *framer = &parser->framer;

	response->kind = IMAP_RESPONSE_CHUNK;
	response->chunk = chunk;
	response->chunk_total = framer->literals[framer->n_literals - 1].size;
	return 1;
}

/* What the last call handed out is void now. */
static void forget(struct imap_parser *parser)
{
	if (parser->is_handed_out) {
		begin_record(parser);
	} else if (parser->response.partial) {
		runs_done(&parser->response.set);
		parser->response.partial = false;
	} else if (parser->response.kind == IMAP_RESPONSE_CHUNK) {
		clear_response(parser);
	}
}

int imap_parser_receive(struct imap_parser *parser, const void *data, size_t len,
	size_t *ret_consumed, const struct imap_response **ret_response)
{
	size_t consumed = 0, taken;
	struct span chunk;
	int r = 0;

	if (parser->error < 0) {
		return parser->error;
	}
	forget(parser);
	while (r == 0 && consumed < len) {
		enum imap_frame frame;

		r = imap_framer_receive(&parser->framer, (const uint8_t *)data + consumed,
			len - consumed, &taken, &frame, &chunk);
		if (r < 0) {
			return fail(parser, r, parser->framer.problem);
		}
		consumed += taken;
		switch (frame) {
		case IMAP_FRAME_NONE:
			break;
		case IMAP_FRAME_COMPLETE:
			r = read_record(parser, true);
			break;
		case IMAP_FRAME_PIECE:
			r = read_record(parser, false);
			break;
		case IMAP_FRAME_CHUNK:
			r = hand_out_chunk(parser, chunk);
			break;
		}
		if (r < 0) {
			return r;
		}
	}
	*ret_consumed = consumed;
	if (r == 1) {
		*ret_response = &parser->response;
	}
	return r;
}
