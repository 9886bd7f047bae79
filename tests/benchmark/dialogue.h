/* What the server of the benchmark says on one connection: as much of IMAP (RFC 9051 and 3501) as a
 * client needs that watches INBOX: AUTHENTICATE PLAIN with SASL-IR (4959), ID (2971), NAMESPACE
 * (2342), ENABLE (5161), CONDSTORE and QRESYNC (7162), ESEARCH (4731), IDLE (2177), NOTIFY (5465),
 * COMPRESS=DEFLATE (4978).
 *
 * Commands may be pipelined as RFC 3501 section 5.5 allows, and no further: what is not allowed is
 * answered with BAD and noted as a violation, namely a command where DONE is due, and message
 * numbers behind a command that could have changed them. Any password is right.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "boxes.h"
#include "util/bytes.h"
#include "util/list.h"
#include "wire.h"

/* What dialogues have in common. */
struct house {
	struct network network;
	const char *capabilities;
	struct users users;
	struct list dialogues;
	unsigned int n_dialogues; /* so far */
	unsigned int n_handshakes, n_handshakes_max;
};

enum dialogue_state {
	DIALOGUE_GREETING,
	DIALOGUE_LOGIN,
	DIALOGUE_RESPONSE, /* of AUTHENTICATE is due */
	DIALOGUE_AUTHENTICATED,
	DIALOGUE_SELECTED,
};

struct range {
	uint32_t first, last;
};

#define RANGES_MAX 64

struct dialogue {
	struct wire wire;
	struct list node;
	struct house *house;
	unsigned int number;
	enum dialogue_state state;
	struct user *user;
	struct box *box; /* the one that is open */
	struct bytes in;
	struct bytes out;
	struct deflated *deflated; /* NULL: nothing is */
	struct bytes raw_in, raw_out;
	char tag[32];      /* of the command that is being answered */
	char idle_tag[32]; /* empty: no IDLE */
	uint32_t n_told;   /* EXISTS as the client knows it */
	bool has_qresync;
	bool numbers_off;          /* by a command answered in this turn */
	unsigned int notify_items; /* 0: no NOTIFY of the one that is open */
	bool *others;              /* NOTIFY, for each mailbox: when it is not open; NULL: no */
	unsigned int fetch_items;  /* 0: none under way */
	size_t n_ranges, i_range;  /* of the FETCH that is under way */
	struct range ranges[RANGES_MAX];
};

/* Takes over an accepted socket. */
void dialogue_new(struct house *house, int fd);
struct dialogue *dialogue_free(struct dialogue *dialogue);

/* Goes on with whatever the wire allows. The dialogue may be freed. */
void dialogue_turn(struct dialogue *dialogue);

/* n new messages in the user's mailbox of this number; told at once where the client watches. */
void deliver(struct house *house, const char *user, unsigned int number, uint32_t n);
