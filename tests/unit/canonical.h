/* One way of writing down what the response parser said, the same however the input was cut: pieces
 * of a set are joined, and so are chunks of a literal.
 */
#pragma once

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/response.h"

/* What has been joined so far. */
struct canonical {
	FILE *out;
	struct runs set;
	struct bytes chunks;
	uint64_t chunk_total;
};

static void canonical_span(FILE *out, const char *name, struct span span)
{
	fprintf(out, " %s", name);
	if (!span.data) {
		fputs("NIL", out);
		return;
	}
	fputc('"', out);
	for (size_t i = 0; i < span.len && i < 80; i++) {
		uint8_t c = span.data[i];

		if (c >= 0x20 && c < 0x7f) {
			fputc(c, out);
		} else {
			fprintf(out, "<%02x>", c);
		}
	}
	fputc('"', out);
	if (span.len > 80) {
		fprintf(out, "...%zu", span.len);
	}
}

static void canonical_spans(FILE *out, const char *name, const struct span *spans, size_t n)
{
	fprintf(out, " %s[%zu", name, n);
	for (size_t i = 0; i < n && i < 20; i++) {
		canonical_span(out, "", spans[i]);
	}
	fputc(']', out);
}

static void canonical_set(FILE *out, const char *name, const struct runs *set)
{
	struct run run;
	size_t n = 0;

	fprintf(out, " %s%" PRIu64 "{", name, runs_count(set));
	for (uint64_t i = 1; i <= UINT32_MAX && n < 20 && runs_next(set, (uint32_t)i, &run);
		i = (uint64_t)run.last + 1, n++) {
		fprintf(out, "%s%" PRIu32, n > 0 ? "," : "", run.first);
		if (run.last != run.first) {
			fprintf(out, ":%" PRIu32, run.last);
		}
	}
	fputc('}', out);
}

static void canonical_addresses(FILE *out, const char *name, const struct imap_address *addresses)
{
	if (!addresses) {
		return;
	}
	fprintf(out, " %s(", name);
	for (; addresses; addresses = addresses->next) {
		canonical_span(out, "", addresses->name);
		canonical_span(out, "", addresses->mailbox);
		canonical_span(out, "@", addresses->host);
	}
	fputc(')', out);
}

static void canonical_envelope(FILE *out, const struct imap_envelope *envelope)
{
	canonical_span(out, "date=", envelope->date);
	canonical_span(out, "subject=", envelope->subject);
	canonical_addresses(out, "from", envelope->from);
	canonical_addresses(out, "sender", envelope->sender);
	canonical_addresses(out, "reply-to", envelope->reply_to);
	canonical_addresses(out, "to", envelope->to);
	canonical_addresses(out, "cc", envelope->cc);
	canonical_addresses(out, "bcc", envelope->bcc);
	canonical_span(out, "in-reply-to=", envelope->in_reply_to);
	canonical_span(out, "id=", envelope->message_id);
}

static void canonical_parameters(FILE *out, const struct imap_parameter *parameters)
{
	for (; parameters; parameters = parameters->next) {
		canonical_span(out, "", parameters->name);
		canonical_span(out, "=", parameters->value);
	}
}

static void canonical_parts(FILE *out, const struct imap_part *parts)
{
	for (; parts; parts = parts->next) {
		canonical_span(out, "part(", parts->section);
		canonical_span(out, "", parts->type);
		canonical_span(out, "/", parts->subtype);
		canonical_parameters(out, parts->parameters);
		canonical_span(out, "", parts->encoding);
		fprintf(out, " %" PRIu32, parts->size);
		if (parts->disposition.data) {
			canonical_span(out, "disposition=", parts->disposition);
			canonical_parameters(out, parts->disposition_parameters);
		}
		fputs(parts->in_alternative ? " alternative)" : ")", out);
	}
}

static void canonical_message(FILE *out, const struct imap_message *message)
{
	unsigned int items = message->items;

	fprintf(out, "FETCH %" PRIu32, message->number);
	if (items & IMAP_ITEM_UID) {
		fprintf(out, " uid=%" PRIu32, message->uid);
	}
	if (items & IMAP_ITEM_MODSEQ) {
		fprintf(out, " modseq=%" PRIu64, message->modseq);
	}
	if (items & IMAP_ITEM_SIZE) {
		fprintf(out, " size=%" PRIu64, message->size);
	}
	if (items & IMAP_ITEM_INTERNALDATE) {
		fprintf(out, " received=%" PRId64, message->internaldate);
	}
	if (items & IMAP_ITEM_FLAGS) {
		canonical_spans(out, "flags", message->flags, message->n_flags);
	}
	if (items & IMAP_ITEM_ENVELOPE) {
		fputs(" envelope", out);
		canonical_envelope(out, &message->envelope);
	}
	if (items & IMAP_ITEM_BODYSTRUCTURE) {
		fputs(" structure", out);
		canonical_parts(out, message->parts);
	}
	if (items & IMAP_ITEM_PREVIEW) {
		canonical_span(out, "preview=", message->preview);
	}
	if (items & IMAP_ITEM_EMAIL_ID) {
		canonical_span(out, "email-id=", message->email_id);
	}
	if (items & IMAP_ITEM_THREAD_ID) {
		canonical_span(out, "thread-id=", message->thread_id);
	}
	if (items & IMAP_ITEM_GM_MSGID) {
		fprintf(out, " gm-msgid=%" PRIu64, message->gm_msgid);
	}
	if (items & IMAP_ITEM_GM_THRID) {
		fprintf(out, " gm-thrid=%" PRIu64, message->gm_thrid);
	}
	if (items & IMAP_ITEM_GM_LABELS) {
		canonical_spans(out, "gm-labels", message->gm_labels, message->n_gm_labels);
	}
	for (const struct imap_section *s = message->sections; s; s = s->next) {
		canonical_span(out, "section", s->section);
		canonical_span(out, s->streamed ? "streamed=" : "=", s->data);
		fprintf(out, " %" PRIu64, s->size);
	}
}

static void canonical_status(FILE *out, const struct imap_response *response)
{
	fputs(imap_status_name(response->status), out);
	if (response->code != IMAP_CODE_NONE) {
		fprintf(out, " [%s %" PRIu64, imap_code_name(response->code), response->number);
		if (response->n_words > 0) {
			canonical_spans(out, "", response->words, response->n_words);
		}
		if (response->code == IMAP_CODE_COPYUID) {
			canonical_set(out, "", &response->code_source);
			canonical_set(out, "", &response->code_target);
		}
		fputc(']', out);
	}
	canonical_span(out, "", response->text);
}

static void canonical_mailbox_status(FILE *out, const struct imap_mailbox_status *status)
{
	canonical_span(out, "", status->name);
	if (status->has_messages) {
		fprintf(out, " messages=%" PRIu32, status->messages);
	}
	if (status->has_unseen) {
		fprintf(out, " unseen=%" PRIu32, status->unseen);
	}
	if (status->has_uidnext) {
		fprintf(out, " uidnext=%" PRIu32, status->uidnext);
	}
	if (status->has_uidvalidity) {
		fprintf(out, " uidvalidity=%" PRIu32, status->uidvalidity);
	}
	if (status->has_highestmodseq) {
		fprintf(out, " highestmodseq=%" PRIu64, status->highestmodseq);
	}
}

static void canonical_search(struct canonical *canonical, const struct imap_response *response)
{
	const struct imap_search_result *search = &response->search;
	FILE *out = canonical->out;

	if (search->correlator.data) {
		canonical_span(out, "tag=", search->correlator);
	}
	fprintf(out, "%s%s", search->is_uid ? " uid" : "", search->has_all ? " all" : "");
	if (search->has_count) {
		fprintf(out, " count=%" PRIu32, search->count);
	}
	if (search->min > 0 || search->max > 0) {
		fprintf(out, " %" PRIu32 "-%" PRIu32, search->min, search->max);
	}
	if (response->modseq > 0) {
		fprintf(out, " modseq=%" PRIu64, response->modseq);
	}
	canonical_set(out, response->earlier ? "earlier " : "", &canonical->set);
}

/* false: there is more to be joined */
static bool canonical_join(struct canonical *canonical, const struct imap_response *response)
{
	struct run run;

	if (response->kind == IMAP_RESPONSE_CHUNK) {
		bytes_put(&canonical->chunks, response->chunk.data, response->chunk.len);
		canonical->chunk_total = response->chunk_total;
		return false;
	}
	for (uint64_t i = 1; i <= UINT32_MAX && runs_next(&response->set, (uint32_t)i, &run);
		i = (uint64_t)run.last + 1) {
		if (runs_set(&canonical->set, run.first, run.last, 0) < 0) {
			abort();
		}
	}
	if (response->partial) {
		return false;
	}
	if (bytes_len(&canonical->chunks) > 0) {
		fprintf(canonical->out, "CHUNKS %" PRIu64, canonical->chunk_total);
		canonical_span(canonical->out, "", bytes_span(&canonical->chunks));
		fputc('\n', canonical->out);
		bytes_clear(&canonical->chunks);
	}
	return true;
}

static void canonical_response(struct canonical *canonical, const struct imap_response *response)
{
	FILE *out = canonical->out;

	switch (response->kind) {
	case IMAP_RESPONSE_INVALID:
		fputs("INVALID", out);
		canonical_span(out, "", response->text);
		if (runs_count(&canonical->set) > 0) {
			canonical_set(out, "after ", &canonical->set);
		}
		break;
	case IMAP_RESPONSE_UNKNOWN:
		fputs("UNKNOWN", out);
		break;
	case IMAP_RESPONSE_CONTINUATION:
		fputs("CONTINUATION", out);
		canonical_span(out, "", response->text);
		break;
	case IMAP_RESPONSE_TAGGED:
		fputs("TAGGED", out);
		canonical_span(out, "", response->tag);
		fputc(' ', out);
		canonical_status(out, response);
		break;
	case IMAP_RESPONSE_STATUS_LINE:
		canonical_status(out, response);
		break;
	case IMAP_RESPONSE_CAPABILITY:
		canonical_spans(out, "CAPABILITY", response->words, response->n_words);
		break;
	case IMAP_RESPONSE_ENABLED:
		canonical_spans(out, "ENABLED", response->words, response->n_words);
		break;
	case IMAP_RESPONSE_FLAGS:
		canonical_spans(out, "FLAGS", response->words, response->n_words);
		break;
	case IMAP_RESPONSE_ID:
		canonical_spans(out, "ID", response->words, response->n_words);
		break;
	case IMAP_RESPONSE_LIST:
		fputs("LIST", out);
		canonical_span(out, "", response->list.name);
		fprintf(out, " '%c'%s", response->list.delimiter ? response->list.delimiter : '0',
			response->list.attributes & IMAP_MAILBOX_NOSELECT ? " noselect" : "");
		canonical_spans(out, "", response->list.words, response->list.n_words);
		break;
	case IMAP_RESPONSE_STATUS:
		fputs("STATUS", out);
		canonical_mailbox_status(out, &response->mailbox_status);
		break;
	case IMAP_RESPONSE_NAMESPACE:
		fputs("NAMESPACE", out);
		canonical_span(out, "", response->namespace_prefix);
		fprintf(out, " '%c'",
			response->namespace_delimiter ? response->namespace_delimiter : '0');
		break;
	case IMAP_RESPONSE_SEARCH:
		fputs("SEARCH", out);
		canonical_search(canonical, response);
		break;
	case IMAP_RESPONSE_ESEARCH:
		fputs("ESEARCH", out);
		canonical_search(canonical, response);
		break;
	case IMAP_RESPONSE_VANISHED:
		fputs("VANISHED", out);
		canonical_search(canonical, response);
		break;
	case IMAP_RESPONSE_EXISTS:
		fprintf(out, "EXISTS %" PRIu64, response->number);
		break;
	case IMAP_RESPONSE_RECENT:
		fprintf(out, "RECENT %" PRIu64, response->number);
		break;
	case IMAP_RESPONSE_EXPUNGE:
		fprintf(out, "EXPUNGE %" PRIu64, response->number);
		break;
	case IMAP_RESPONSE_FETCH:
		canonical_message(out, response->message);
		break;
	case IMAP_RESPONSE_CHUNK:
		abort();
	}
	fputc('\n', out);
	runs_done(&canonical->set);
	runs_init(&canonical->set);
}

/* Feeds one piece of the input, of which nobody keeps a copy. false after an error. */
static bool canonical_feed(
	struct canonical *canonical, struct imap_parser *parser, const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	size_t done = 0;
	int r = 0;

	if (!copy) {
		abort();
	}
	memcpy(copy, data, len);
	while (done < len) {
		const struct imap_response *response;
		size_t consumed;

		r = imap_parser_receive(parser, copy + done, len - done, &consumed, &response);
		if (r < 0) {
			break;
		}
		if ((r == 0 && consumed != len - done) || consumed > len - done) {
			abort();
		}
		done += consumed;
		if (r == 1 && canonical_join(canonical, response)) {
			canonical_response(canonical, response);
		}
	}
	free(copy);
	if (r < 0) {
		fprintf(canonical->out, "error %s: %s\n",
			r == -EPROTO             ? "EPROTO"
				: r == -EMSGSIZE ? "EMSGSIZE"
						 : "other",
			imap_parser_problem(parser));
	}
	return r == 0 || r == 1;
}

/* The input's first `split` octets at once, then the rest in pieces of `step` octets. The text is
 * to be freed. */
static inline char *canonical_run(const struct imap_limits *limits, bool streaming,
	const void *data, size_t len, size_t split, size_t step)
{
	struct imap_parser *parser = imap_parser_new(limits);
	struct canonical canonical = {0};
	char *text = NULL;
	size_t text_len;
	bool ok;

	canonical.out = open_memstream(&text, &text_len);
	if (!parser || !canonical.out) {
		abort();
	}
	runs_init(&canonical.set);
	bytes_init(&canonical.chunks);
	imap_parser_set_streaming(parser, streaming);
	ok = canonical_feed(&canonical, parser, data, split);
	for (size_t at = split; ok && at < len; at += step) {
		ok = canonical_feed(&canonical, parser, (const uint8_t *)data + at,
			len - at < step ? len - at : step);
	}
	if (ok && imap_parser_is_midway(parser)) {
		fputs("midway\n", canonical.out);
	}
	fclose(canonical.out);
	runs_done(&canonical.set);
	bytes_done(&canonical.chunks);
	imap_parser_free(parser);
	return text;
}
