#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "imap/mailbox.h"

/* The distinct sets of flags: a set's place never changes, and an open-addressing index by hash
 * finds it again, so that a million FETCH responses cost no comparison with all sets. */
struct imap_flag_sets {
	char *sets[IMAP_MAILBOX_MAX_SETS];
	bool is_read[IMAP_MAILBOX_MAX_SETS];
	size_t octets; /* of the sets */
	uint16_t end;
	uint16_t index[2 * IMAP_MAILBOX_MAX_SETS]; /* 0: empty */
};

static uint32_t hash_of(const char *str)
{
	/* FNV-1a; a server that makes sets collide only slows its own mailbox, by a bounded factor.
	 */
	uint32_t hash = 2166136261u;
	for (; *str; str++) {
		hash = (hash ^ (uint8_t)*str) * 16777619u;
	}
	return hash;
}

static bool set_has_seen(const char *flags)
{
	for (const char *p = flags; *p;) {
		size_t len = strcspn(p, " ");
		if (len == 5 && strncasecmp(p, "\\Seen", 5) == 0) {
			return true;
		}
		p += len;
		p += *p == ' ';
	}
	return false;
}

static struct imap_flag_sets *sets_free(struct imap_flag_sets *sets)
{
	if (sets) {
		for (size_t i = 0; i < sets->end; i++) {
			free(sets->sets[i]);
		}
		free(sets);
	}
	return NULL;
}

/* The slot of the index where the set is, or where it would go. */
static size_t sets_slot(const struct imap_flag_sets *sets, const char *flags)
{
	size_t n_slots = sizeof(sets->index) / sizeof(sets->index[0]);
	size_t slot = hash_of(flags) % n_slots;
	while (sets->index[slot] && strcmp(sets->sets[sets->index[slot]], flags) != 0) {
		slot = (slot + 1) % n_slots;
	}
	return slot;
}

struct imap_mailbox *imap_mailbox_new(const char *name)
{
	struct imap_mailbox *mailbox = calloc(1, sizeof(*mailbox));
	if (!mailbox) {
		return NULL;
	}
	mailbox->name = strdup(name);
	if (!mailbox->name) {
		free(mailbox);
		return NULL;
	}
	runs_init(&mailbox->messages);
	runs_init(&mailbox->bygone);
	mailbox->cursor.watermark = 1;
	return mailbox;
}

struct imap_mailbox *imap_mailbox_free(struct imap_mailbox *mailbox)
{
	if (mailbox) {
		runs_done(&mailbox->messages);
		runs_done(&mailbox->bygone);
		sets_free(mailbox->flag_sets);
		free(mailbox->told);
		free(mailbox->name);
		free(mailbox);
	}
	return NULL;
}

void imap_mailbox_reset(struct imap_mailbox *mailbox)
{
	runs_done(&mailbox->messages);
	runs_init(&mailbox->messages);
	imap_mailbox_forget_bygone(mailbox);
	mailbox->n_unread = 0;
	mailbox->flag_sets = sets_free(mailbox->flag_sets);
	imap_mailbox_forget_modseq(mailbox);
	mailbox->cursor = (struct imap_cursor){.watermark = 1};
	mailbox->uidnext = 0;
	mailbox->n_refusals = 0;
	mailbox->refused_uid = 0;
}

static void count_unread(struct imap_mailbox *mailbox)
{
	struct run run;
	mailbox->n_unread = 0;
	for (uint64_t n = 1; n <= UINT32_MAX && runs_next(&mailbox->messages, n, &run);
		n = (uint64_t)run.last + 1) {
		if (!imap_mailbox_is_read(mailbox, run.value)) {
			mailbox->n_unread += (uint64_t)run.last - run.first + 1;
		}
	}
}

bool imap_mailbox_is_as_said(const struct imap_mailbox *mailbox, uint32_t uidvalidity,
	uint32_t uidnext, uint32_t messages, uint64_t highestmodseq)
{
	const struct imap_cursor *cursor = &mailbox->cursor;
	return uidvalidity != 0 && uidvalidity == cursor->uidvalidity && highestmodseq != 0 &&
		highestmodseq == cursor->highestmodseq && uidnext == mailbox->uidnext &&
		messages == runs_count(&mailbox->messages);
}

void imap_mailbox_replace(struct imap_mailbox *mailbox, struct runs *messages)
{
	runs_done(&mailbox->messages);
	runs_init(&mailbox->messages);
	runs_take(&mailbox->messages, messages);
	count_unread(mailbox);
}

void imap_mailbox_restore(
	struct imap_mailbox *mailbox, const struct imap_cursor *cursor, struct runs *messages)
{
	mailbox->cursor = *cursor;
	imap_mailbox_replace(mailbox, messages);
}

static int sets_allocate(struct imap_mailbox *mailbox)
{
	if (!mailbox->flag_sets) {
		mailbox->flag_sets = calloc(1, sizeof(*mailbox->flag_sets));
		if (!mailbox->flag_sets) {
			return -ENOMEM;
		}
		mailbox->flag_sets->end = IMAP_MAILBOX_FIRST_SET;
	}
	return 0;
}

int imap_mailbox_restore_flag_set(struct imap_mailbox *mailbox, uint16_t value, const char *flags)
{
	if (value < IMAP_MAILBOX_FIRST_SET || value >= IMAP_MAILBOX_MAX_SETS) {
		return -EINVAL;
	}
	if (sets_allocate(mailbox) < 0) {
		return -ENOMEM;
	}
	struct imap_flag_sets *sets = mailbox->flag_sets;
	size_t slot = sets_slot(sets, flags);
	if (sets->sets[value] || sets->index[slot]) {
		return -EINVAL;
	}
	sets->sets[value] = strdup(flags);
	if (!sets->sets[value]) {
		return -ENOMEM;
	}
	sets->is_read[value] = set_has_seen(flags);
	sets->octets += strlen(flags);
	sets->index[slot] = value;
	if (value >= sets->end) {
		sets->end = value + 1;
	}
	return 0;
}

const char *imap_mailbox_flag_set(const struct imap_mailbox *mailbox, uint16_t value)
{
	if (!mailbox->flag_sets || value >= mailbox->flag_sets->end) {
		return NULL;
	}
	return mailbox->flag_sets->sets[value];
}

uint16_t imap_mailbox_flag_sets_end(const struct imap_mailbox *mailbox)
{
	return mailbox->flag_sets ? mailbox->flag_sets->end : IMAP_MAILBOX_FIRST_SET;
}

static int compare_flags(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The flags in ASCII order, each once, separated by blanks; owned by the caller. */
static char *canonical_set(const struct imap_message *message)
{
	struct bytes joined;
	bytes_init(&joined);
	const char **sorted = calloc(message->n_flags + 1, sizeof(*sorted));
	if (!sorted) {
		return NULL;
	}
	for (size_t i = 0; i < message->n_flags; i++) {
		sorted[i] = (const char *)message->flags[i].data;
	}
	qsort(sorted, message->n_flags, sizeof(*sorted), compare_flags);
	bytes_put_str(&joined, "");
	for (size_t i = 0; i < message->n_flags; i++) {
		if (i > 0 && strcmp(sorted[i], sorted[i - 1]) == 0) {
			continue;
		}
		if (i > 0) {
			bytes_put_char(&joined, ' ');
		}
		bytes_put_str(&joined, sorted[i]);
	}
	free(sorted);
	char *set = bytes_steal(&joined);
	bytes_done(&joined);
	return set;
}

int imap_mailbox_value(struct imap_mailbox *mailbox, const struct imap_message *message)
{
	int simple =
		imap_message_has_flag(message, "\\Seen") ? IMAP_MAILBOX_READ : IMAP_MAILBOX_UNREAD;
	if (!mailbox->cursor.has_flags) {
		return simple;
	}
	char *set = canonical_set(message);
	if (!set || sets_allocate(mailbox) < 0) {
		free(set);
		return -ENOMEM;
	}
	struct imap_flag_sets *sets = mailbox->flag_sets;
	size_t slot = sets_slot(sets, set);
	if (sets->index[slot] == 0) {
		if (sets->end == IMAP_MAILBOX_MAX_SETS ||
			sets->octets + strlen(set) > IMAP_MAILBOX_SETS_OCTETS) {
			free(set);
			return simple;
		}
		sets->octets += strlen(set);
		sets->sets[sets->end] = set;
		sets->is_read[sets->end] = simple == IMAP_MAILBOX_READ;
		sets->index[slot] = sets->end++;
	} else {
		free(set);
	}
	return sets->index[slot];
}

bool imap_mailbox_is_read(const struct imap_mailbox *mailbox, uint16_t value)
{
	if (value < IMAP_MAILBOX_FIRST_SET) {
		return value == IMAP_MAILBOX_READ;
	}
	return mailbox->flag_sets && value < mailbox->flag_sets->end &&
		mailbox->flag_sets->is_read[value];
}

/* How many unread messages there are from first to last. */
static uint64_t unread_between(const struct imap_mailbox *mailbox, uint32_t first, uint32_t last)
{
	struct run run;
	uint64_t n_unread = 0;
	for (uint64_t n = first;
		n <= last && runs_next(&mailbox->messages, n, &run) && run.first <= last;
		n = (uint64_t)run.last + 1) {
		if (!imap_mailbox_is_read(mailbox, run.value)) {
			uint32_t from = run.first > first ? run.first : first;
			uint32_t to = run.last < last ? run.last : last;
			n_unread += (uint64_t)to - from + 1;
		}
	}
	return n_unread;
}

int imap_mailbox_put(struct imap_mailbox *mailbox, uint32_t first, uint32_t last, uint16_t value)
{
	uint64_t before = unread_between(mailbox, first, last);
	int r = runs_set(&mailbox->messages, first, last, value);
	if (r < 0) {
		return r;
	}
	mailbox->n_unread -= before;
	if (!imap_mailbox_is_read(mailbox, value)) {
		mailbox->n_unread += (uint64_t)last - first + 1;
	}
	return 0;
}

int imap_mailbox_remove(struct imap_mailbox *mailbox, uint32_t first, uint32_t last)
{
	uint64_t before = unread_between(mailbox, first, last);
	int r = runs_unset(&mailbox->messages, first, last);
	if (r < 0) {
		return r;
	}
	mailbox->n_unread -= before;
	return 0;
}

int imap_mailbox_note_bygone(struct imap_mailbox *mailbox, uint32_t first, uint32_t last)
{
	uint32_t watermark = mailbox->cursor.watermark;
	if (watermark == 0 || last < watermark) {
		return 0;
	}
	int r = runs_set(&mailbox->bygone, first > watermark ? first : watermark, last, 0);
	if (r == 0 && runs_length(&mailbox->bygone) > IMAP_MAILBOX_MAX_BYGONE) {
		imap_mailbox_forget_bygone(mailbox);
	}
	return r;
}

void imap_mailbox_forget_bygone(struct imap_mailbox *mailbox)
{
	runs_done(&mailbox->bygone);
	runs_init(&mailbox->bygone);
}

bool imap_mailbox_is_new(const struct imap_mailbox *mailbox, uint32_t uid)
{
	return mailbox->cursor.watermark != 0 && uid >= mailbox->cursor.watermark &&
		!runs_get(&mailbox->messages, uid, NULL) && !runs_get(&mailbox->bygone, uid, NULL);
}

/* Of those told only the ones from lowest to highest stay. */
static void keep_told(struct imap_mailbox *mailbox, uint64_t lowest, uint64_t highest)
{
	size_t n = 0;
	for (size_t i = 0; i < mailbox->n_told; i++) {
		if (mailbox->told[i].modseq >= lowest && mailbox->told[i].modseq <= highest) {
			mailbox->told[n++] = mailbox->told[i];
		}
	}
	mailbox->n_told = n;
	if (n == 0) {
		free(mailbox->told);
		mailbox->told = NULL;
		mailbox->n_told_allocated = 0;
	}
}

void imap_mailbox_raise_modseq(struct imap_mailbox *mailbox, uint64_t modseq)
{
	if (modseq > mailbox->cursor.highestmodseq) {
		mailbox->cursor.highestmodseq = modseq;
		keep_told(mailbox, modseq + 1, UINT64_MAX);
	}
}

void imap_mailbox_forget_told_above(struct imap_mailbox *mailbox, uint64_t modseq)
{
	size_t n_told = mailbox->n_told;
	keep_told(mailbox, 0, modseq);
	mailbox->has_forgotten = mailbox->has_forgotten || mailbox->n_told < n_told;
}

void imap_mailbox_forget_modseq(struct imap_mailbox *mailbox)
{
	mailbox->cursor.highestmodseq = 0;
	imap_mailbox_forget_told_above(mailbox, 0);
}

/* Where the message is among those told, or would be. */
static size_t told_place(const struct imap_mailbox *mailbox, uint32_t uid)
{
	size_t low = 0, high = mailbox->n_told;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (mailbox->told[middle].uid < uid) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

int imap_mailbox_note_told(struct imap_mailbox *mailbox, uint32_t uid, uint64_t modseq)
{
	if (mailbox->cursor.has_flags || modseq <= mailbox->cursor.highestmodseq) {
		return 0;
	}
	size_t place = told_place(mailbox, uid);
	if (place < mailbox->n_told && mailbox->told[place].uid == uid) {
		mailbox->told[place].modseq = modseq;
		return 0;
	}
	if (mailbox->n_told == IMAP_MAILBOX_MAX_TOLD) {
		return 0;
	}
	if (mailbox->n_told == mailbox->n_told_allocated) {
		size_t wanted = mailbox->n_told_allocated ? 2 * mailbox->n_told_allocated : 16;
		struct imap_mailbox_told *grown =
			reallocarray(mailbox->told, wanted, sizeof(*grown));
		if (!grown) {
			return -ENOMEM;
		}
		mailbox->told = grown;
		mailbox->n_told_allocated = wanted;
	}
	memmove(mailbox->told + place + 1, mailbox->told + place,
		(mailbox->n_told - place) * sizeof(*mailbox->told));
	mailbox->told[place] = (struct imap_mailbox_told){.uid = uid, .modseq = modseq};
	mailbox->n_told++;
	return 0;
}

bool imap_mailbox_was_told(const struct imap_mailbox *mailbox, uint32_t uid, uint64_t modseq)
{
	return modseq <= mailbox->cursor.highestmodseq ||
		imap_mailbox_has_told(mailbox, uid, modseq);
}

bool imap_mailbox_has_told(const struct imap_mailbox *mailbox, uint32_t uid, uint64_t modseq)
{
	size_t place = told_place(mailbox, uid);
	return place < mailbox->n_told && mailbox->told[place].uid == uid &&
		mailbox->told[place].modseq == modseq;
}

void imap_mailbox_raise_watermark(struct imap_mailbox *mailbox)
{
	uint32_t known = runs_highest(&mailbox->messages);
	uint32_t bygone = runs_highest(&mailbox->bygone);
	uint32_t highest = known > bygone ? known : bygone;
	if (mailbox->cursor.watermark != 0 && highest >= mailbox->cursor.watermark) {
		mailbox->cursor.watermark = highest + 1; /* 0 after UINT32_MAX: none is left */
	}
	imap_mailbox_forget_bygone(mailbox);
}
