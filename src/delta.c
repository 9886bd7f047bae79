#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "delta.h"

struct delta *delta_new(enum delta_kind kind, const struct state_key *key)
{
	struct delta *delta = calloc(1, sizeof(*delta));
	if (!delta) {
		return NULL;
	}
	list_init(&delta->node);
	delta->kind = kind;
	runs_init(&delta->messages);
	delta->host = strdup(key->host);
	delta->user = strdup(key->user);
	delta->mailbox = strdup(key->mailbox);
	return delta->host && delta->user && delta->mailbox ? delta : delta_free(delta);
}

struct delta *delta_free(struct delta *delta)
{
	if (!delta) {
		return NULL;
	}
	list_remove(&delta->node);
	for (size_t i = 0; i < delta->n_sets; i++) {
		free(delta->sets[i].flags);
	}
	free(delta->sets);
	free(delta->told);
	runs_done(&delta->messages);
	free(delta->host);
	free(delta->user);
	free(delta->mailbox);
	free(delta);
	return NULL;
}

int delta_add_sets(struct delta *delta, const struct imap_mailbox *view, uint16_t first)
{
	uint16_t end = imap_mailbox_flag_sets_end(view);
	if (first >= end) {
		return 0;
	}
	delta->sets = calloc((size_t)(end - first), sizeof(*delta->sets));
	if (!delta->sets) {
		return -ENOMEM;
	}
	for (uint16_t value = first; value < end; value++) {
		const char *flags = imap_mailbox_flag_set(view, value);
		if (!flags) {
			continue;
		}
		struct delta_set *set = &delta->sets[delta->n_sets];
		set->value = value;
		set->flags = strdup(flags);
		if (!set->flags) {
			return -ENOMEM;
		}
		delta->n_sets++;
	}
	return 0;
}

int delta_add_told(struct delta *delta, const struct imap_mailbox_told *told, size_t n)
{
	size_t n_above = 0;
	for (size_t i = 0; i < n && !delta->cursor.has_flags; i++) {
		n_above += told[i].modseq > delta->cursor.highestmodseq;
	}
	if (n_above == 0) {
		return 0;
	}
	delta->told = calloc(n_above, sizeof(*delta->told));
	if (!delta->told) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++) {
		if (told[i].modseq > delta->cursor.highestmodseq) {
			delta->told[delta->n_told++] = told[i];
		}
	}
	return 0;
}

bool delta_is_about(const struct delta *delta, const struct state_key *key)
{
	return strcmp(delta->host, key->host) == 0 && strcmp(delta->user, key->user) == 0 &&
		strcmp(delta->mailbox, key->mailbox) == 0;
}

size_t delta_size(const struct delta *delta)
{
	size_t size = sizeof(*delta) + strlen(delta->host) + strlen(delta->user) +
		strlen(delta->mailbox) + runs_length(&delta->messages) * sizeof(struct run) +
		delta->n_told * sizeof(*delta->told);
	for (size_t i = 0; i < delta->n_sets; i++) {
		size += sizeof(delta->sets[i]) + strlen(delta->sets[i].flags);
	}
	return size;
}

static struct state_cursor cursor_to_state(const struct imap_cursor *cursor)
{
	return (struct state_cursor){
		.uidvalidity = cursor->uidvalidity,
		.uidnext = cursor->watermark,
		.highestmodseq = cursor->highestmodseq,
		.has_flags = cursor->has_flags,
	};
}

static void write_sets(const struct delta *delta, struct state *state, const struct state_key *key)
{
	for (size_t i = 0; i < delta->n_sets; i++) {
		struct state_flags flags = {
			.value = delta->sets[i].value,
			.flags = delta->sets[i].flags,
		};
		state_put_flags(state, key, &flags);
	}
}

static void write_told(const struct delta *delta, struct state *state, const struct state_key *key)
{
	for (size_t i = 0; i < delta->n_told; i++) {
		state_put_told(state, key, delta->told[i].uid, delta->told[i].modseq);
	}
}

void delta_write(const struct delta *delta, struct state *state)
{
	struct state_key key = {
		.host = delta->host,
		.user = delta->user,
		.mailbox = delta->mailbox,
	};
	struct state_cursor cursor = cursor_to_state(&delta->cursor);
	struct run run;
	switch (delta->kind) {
	case DELTA_BASELINE:
		state_put_baseline(state, &key, &cursor, &delta->messages);
		write_sets(delta, state, &key);
		write_told(delta, state, &key);
		break;
	case DELTA_MESSAGES:
		write_sets(delta, state, &key);
		for (uint64_t n = 1;
			n <= UINT32_MAX && runs_next(&delta->messages, (uint32_t)n, &run);
			n = (uint64_t)run.last + 1) {
			state_put_messages(state, &key, run.first, run.last, run.value);
		}
		write_told(delta, state, &key);
		break;
	case DELTA_REMOVED:
		for (uint64_t n = 1;
			n <= UINT32_MAX && runs_next(&delta->messages, (uint32_t)n, &run);
			n = (uint64_t)run.last + 1) {
			state_remove_messages(state, &key, run.first, run.last);
		}
		break;
	case DELTA_CURSOR:
		if (delta->forgets_told) {
			state_forget_told(state, &key);
		}
		state_put_cursor(state, &key, &cursor);
		break;
	case DELTA_FORGOTTEN:
		state_forget(state, &key);
		break;
	case DELTA_STOPPED:
	case DELTA_STARTED:
		state_set_stopped(state, &key, delta->kind == DELTA_STOPPED);
		break;
	case DELTA_LISTED:
		state_set_listed(state, &key);
		break;
	}
}

static int apply_sets(const struct delta *delta, struct imap_mailbox *view)
{
	for (size_t i = 0; i < delta->n_sets; i++) {
		int error = imap_mailbox_restore_flag_set(
			view, delta->sets[i].value, delta->sets[i].flags);
		if (error == -ENOMEM) {
			return error;
		}
	}
	return 0;
}

static int apply_told(const struct delta *delta, struct imap_mailbox *view)
{
	int error = 0;
	for (size_t i = 0; error == 0 && i < delta->n_told; i++) {
		error = imap_mailbox_note_told(view, delta->told[i].uid, delta->told[i].modseq);
	}
	return error;
}

static int apply_baseline(const struct delta *delta, struct imap_mailbox *view)
{
	struct runs messages;
	runs_init(&messages);
	if (runs_copy(&messages, &delta->messages) < 0) {
		return -ENOMEM;
	}
	imap_mailbox_reset(view);
	int error = apply_sets(delta, view);
	if (error < 0) {
		runs_done(&messages);
		return error;
	}
	imap_mailbox_restore(view, &delta->cursor, &messages);
	runs_done(&messages);
	return apply_told(delta, view);
}

static int apply_messages(const struct delta *delta, struct imap_mailbox *view)
{
	struct run run;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&delta->messages, (uint32_t)n, &run);
		n = (uint64_t)run.last + 1) {
		int error = delta->kind == DELTA_REMOVED
			? imap_mailbox_remove(view, run.first, run.last)
			: imap_mailbox_put(view, run.first, run.last, run.value);
		if (error < 0) {
			return error;
		}
	}
	return apply_told(delta, view);
}

int delta_apply(const struct delta *delta, struct imap_mailbox *view)
{
	switch (delta->kind) {
	case DELTA_BASELINE:
		return apply_baseline(delta, view);
	case DELTA_MESSAGES: {
		int error = apply_sets(delta, view);
		return error < 0 ? error : apply_messages(delta, view);
	}
	case DELTA_REMOVED:
		return apply_messages(delta, view);
	case DELTA_CURSOR:
		if (delta->forgets_told) {
			imap_mailbox_forget_modseq(view);
		}
		imap_mailbox_raise_modseq(view, delta->cursor.highestmodseq);
		view->cursor = delta->cursor;
		return 0;
	case DELTA_FORGOTTEN:
		imap_mailbox_reset(view);
		return 0;
	case DELTA_STOPPED:
	case DELTA_STARTED:
	case DELTA_LISTED:
		return 0;
	}
	return 0;
}

struct loading {
	struct imap_mailbox *view;
	int error;
};

/* A set that has no place in the table is a damaged one; its messages count as unread. */
static void on_flags(void *userdata, const struct state_flags *flags)
{
	struct loading *loading = userdata;
	if (imap_mailbox_restore_flag_set(loading->view, flags->value, flags->flags) == -ENOMEM) {
		loading->error = -ENOMEM;
	}
}

static void on_told(void *userdata, uint32_t uid, uint64_t modseq)
{
	struct loading *loading = userdata;
	if (imap_mailbox_note_told(loading->view, uid, modseq) < 0) {
		loading->error = -ENOMEM;
	}
}

int delta_load(struct state *state, const struct state_key *key, struct imap_mailbox *view)
{
	struct loading loading = {.view = view};
	struct state_cursor stored;
	struct runs messages;
	runs_init(&messages);
	int error = state_load(state, key, &stored, &messages, on_flags, &loading);
	if (error == 0) {
		error = loading.error;
	}
	if (error < 0) {
		imap_mailbox_reset(view);
	} else if (stored.uidvalidity != 0) {
		struct imap_cursor cursor = {
			.uidvalidity = stored.uidvalidity,
			.watermark = stored.uidnext,
			.highestmodseq = stored.highestmodseq,
			.has_flags = stored.has_flags,
		};
		imap_mailbox_restore(view, &cursor, &messages);
		error = state_load_told(state, key, on_told, &loading);
		error = error < 0 ? error : loading.error;
		if (error < 0) {
			imap_mailbox_reset(view);
		}
	}
	runs_done(&messages);
	return error;
}
