#include <string.h>

#include "imap/status.h"

static const char *const status_names[] = {
	[IMAP_STATUS_OK] = "OK",
	[IMAP_STATUS_NO] = "NO",
	[IMAP_STATUS_BAD] = "BAD",
	[IMAP_STATUS_BYE] = "BYE",
	[IMAP_STATUS_PREAUTH] = "PREAUTH",
};

static const char *const code_names[] = {
	[IMAP_CODE_NONE] = "",
	[IMAP_CODE_UNKNOWN] = "UNKNOWN",
	[IMAP_CODE_ALERT] = "ALERT",
	[IMAP_CODE_ALREADYEXISTS] = "ALREADYEXISTS",
	[IMAP_CODE_AUTHENTICATIONFAILED] = "AUTHENTICATIONFAILED",
	[IMAP_CODE_AUTHORIZATIONFAILED] = "AUTHORIZATIONFAILED",
	[IMAP_CODE_BADEVENT] = "BADEVENT",
	[IMAP_CODE_CANNOT] = "CANNOT",
	[IMAP_CODE_CAPABILITY] = "CAPABILITY",
	[IMAP_CODE_CLIENTBUG] = "CLIENTBUG",
	[IMAP_CODE_CLOSED] = "CLOSED",
	[IMAP_CODE_CONTACTADMIN] = "CONTACTADMIN",
	[IMAP_CODE_COPYUID] = "COPYUID",
	[IMAP_CODE_EXPIRED] = "EXPIRED",
	[IMAP_CODE_EXPUNGEISSUED] = "EXPUNGEISSUED",
	[IMAP_CODE_HIGHESTMODSEQ] = "HIGHESTMODSEQ",
	[IMAP_CODE_INUSE] = "INUSE",
	[IMAP_CODE_LIMIT] = "LIMIT",
	[IMAP_CODE_MODIFIED] = "MODIFIED",
	[IMAP_CODE_NOMODSEQ] = "NOMODSEQ",
	[IMAP_CODE_NONEXISTENT] = "NONEXISTENT",
	[IMAP_CODE_NOPERM] = "NOPERM",
	[IMAP_CODE_NOTIFICATIONOVERFLOW] = "NOTIFICATIONOVERFLOW",
	[IMAP_CODE_OVERQUOTA] = "OVERQUOTA",
	[IMAP_CODE_PERMANENTFLAGS] = "PERMANENTFLAGS",
	[IMAP_CODE_PRIVACYREQUIRED] = "PRIVACYREQUIRED",
	[IMAP_CODE_READ_ONLY] = "READ-ONLY",
	[IMAP_CODE_READ_WRITE] = "READ-WRITE",
	[IMAP_CODE_REFERRAL] = "REFERRAL",
	[IMAP_CODE_SERVERBUG] = "SERVERBUG",
	[IMAP_CODE_TRYCREATE] = "TRYCREATE",
	[IMAP_CODE_UIDNEXT] = "UIDNEXT",
	[IMAP_CODE_UIDNOTSTICKY] = "UIDNOTSTICKY",
	[IMAP_CODE_UIDVALIDITY] = "UIDVALIDITY",
	[IMAP_CODE_UNAVAILABLE] = "UNAVAILABLE",
	[IMAP_CODE_UNSEEN] = "UNSEEN",
};

const char *imap_code_name(enum imap_code code)
{
	return code_names[code];
}

const char *imap_status_name(enum imap_status status)
{
	return status_names[status];
}

bool imap_status_read(struct span word, enum imap_status *ret_status)
{
	for (size_t i = 0; i < sizeof(status_names) / sizeof(*status_names); i++) {
		if (span_equal_nocase(word, status_names[i])) {
			*ret_status = (enum imap_status)i;
			return true;
		}
	}
	return false;
}

static enum imap_code find_code(struct span word)
{
	for (size_t i = IMAP_CODE_ALERT; i < sizeof(code_names) / sizeof(*code_names); i++) {
		if (span_equal_nocase(word, code_names[i])) {
			return (enum imap_code)i;
		}
	}
	return IMAP_CODE_UNKNOWN;
}

/* The "]" that ends a code: outside of lists and quoted strings, since keywords and words of
 * unknown codes may hold one; the first of all where that leads nowhere. */
static const uint8_t *find_end(struct span span)
{
	bool is_quoted = false;
	size_t depth = 0;

	for (size_t i = 0; i < span.len; i++) {
		switch (span.data[i]) {
		case '"':
			is_quoted = !is_quoted;
			break;
		case '\\':
			i += is_quoted ? 1 : 0;
			break;
		case '(':
			depth += is_quoted ? 0 : 1;
			break;
		case ')':
			depth -= is_quoted || depth == 0 ? 0 : 1;
			break;
		case ']':
			if (!is_quoted && depth == 0) {
				return span.data + i;
			}
			break;
		default:
			break;
		}
	}
	return span.len > 0 ? memchr(span.data, ']', span.len) : NULL;
}

/* RFC 4315 section 3: COPYUID SP uidvalidity SP source SP target. */
static bool read_copyuid(struct imap_lexer *lexer, struct imap_response *response)
{
	uint32_t validity;

	if (!imap_lexer_number32(lexer, &validity)) {
		return false;
	}
	imap_lexer_skip_blanks(lexer);
	if (!imap_lexer_set(lexer, &response->code_source)) {
		return false;
	}
	imap_lexer_skip_blanks(lexer);
	if (!imap_lexer_set(lexer, &response->code_target)) {
		return false;
	}
	response->number = validity;
	return true;
}

static bool read_arguments(
	struct imap_lexer *lexer, struct imap_words *words, struct imap_response *response)
{
	switch (response->code) {
	case IMAP_CODE_CAPABILITY:
		return imap_lexer_words(lexer, words);
	case IMAP_CODE_PERMANENTFLAGS:
		return imap_lexer_list(lexer, words);
	case IMAP_CODE_COPYUID:
		return read_copyuid(lexer, response);
	case IMAP_CODE_HIGHESTMODSEQ:
		return imap_lexer_is_done(lexer) ||
			imap_lexer_lenient_number(lexer, IMAP_NUMBER63_MAX, &response->number);
	case IMAP_CODE_UIDNEXT:
	case IMAP_CODE_UIDVALIDITY:
		return imap_lexer_is_done(lexer) ||
			imap_lexer_lenient_number(lexer, UINT32_MAX, &response->number);
	case IMAP_CODE_NONE:
	case IMAP_CODE_UNKNOWN:
	case IMAP_CODE_ALERT:
	case IMAP_CODE_ALREADYEXISTS:
	case IMAP_CODE_AUTHENTICATIONFAILED:
	case IMAP_CODE_AUTHORIZATIONFAILED:
	case IMAP_CODE_BADEVENT:
	case IMAP_CODE_CANNOT:
	case IMAP_CODE_CLIENTBUG:
	case IMAP_CODE_CLOSED:
	case IMAP_CODE_CONTACTADMIN:
	case IMAP_CODE_EXPIRED:
	case IMAP_CODE_EXPUNGEISSUED:
	case IMAP_CODE_INUSE:
	case IMAP_CODE_LIMIT:
	case IMAP_CODE_MODIFIED:
	case IMAP_CODE_NOMODSEQ:
	case IMAP_CODE_NONEXISTENT:
	case IMAP_CODE_NOPERM:
	case IMAP_CODE_NOTIFICATIONOVERFLOW:
	case IMAP_CODE_OVERQUOTA:
	case IMAP_CODE_PRIVACYREQUIRED:
	case IMAP_CODE_READ_ONLY:
	case IMAP_CODE_READ_WRITE:
	case IMAP_CODE_REFERRAL:
	case IMAP_CODE_SERVERBUG:
	case IMAP_CODE_TRYCREATE:
	case IMAP_CODE_UIDNOTSTICKY:
	case IMAP_CODE_UNAVAILABLE:
	case IMAP_CODE_UNSEEN:
		return true;
	}
	return true;
}

static bool read_code(struct imap_lexer *line, struct span code, struct imap_words *words,
	struct imap_response *response)
{
	struct imap_lexer lexer;

	imap_lexer_init(&lexer, code, NULL, 0, line->limits, line->arena);
	imap_lexer_skip_blanks(&lexer);
	response->code = find_code(imap_lexer_word(&lexer));
	imap_lexer_skip_blanks(&lexer);
	if (!read_arguments(&lexer, words, response)) {
		if (lexer.error < 0) {
			line->error = lexer.error;
			return imap_lexer_fail(line, lexer.problem);
		}
		response->code = IMAP_CODE_UNKNOWN;
		words->n_items = 0;
		runs_done(&response->code_source);
		runs_done(&response->code_target);
	}
	return true;
}

bool imap_status_read_text(
	struct imap_lexer *lexer, struct imap_words *words, struct imap_response *response)
{
	struct span text;
	const uint8_t *end;

	imap_lexer_skip_blanks(lexer);
	text = (struct span){.data = lexer->at, .len = lexer->end - lexer->at};
	if (text.len > 0 && text.data[0] == '[') {
		struct span code = {.data = text.data + 1, .len = text.len - 1};

		end = find_end(code);
		if (end) {
			code.len = end - code.data;
			if (!read_code(lexer, code, words, response)) {
				return false;
			}
			lexer->at = end + 1;
			imap_lexer_skip_blanks(lexer);
			text = (struct span){.data = lexer->at, .len = lexer->end - lexer->at};
		}
	}
	while (text.len > 0 && imap_is_blank(text.data[text.len - 1])) {
		text.len--;
	}
	response->text = text;
	return true;
}
