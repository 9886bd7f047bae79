/* The users of the benchmark's server and their mailboxes: INBOX, Box2, Box3, ..., as many for each
 * user. A user is there as soon as somebody asks for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "util/list.h"

struct box {
	unsigned int number; /* 1: INBOX */
	uint32_t n_messages;
};

struct user {
	struct list node;
	char name[64];
	struct box boxes[];
};

struct users {
	struct list list;
	unsigned int n_boxes; /* of each user */
	uint32_t n_messages;  /* in each mailbox at first; they are \Seen */
};

#define BOX_NAME_MAX 16

struct user *users_find(struct users *users, const char *name);

/* Into the buffer of BOX_NAME_MAX octets, which is returned. */
const char *box_name(const struct box *box, char *buffer);

/* The mailbox that the text begins with, quoted or not; behind it is its end, a space or ")". NULL:
 * there is none. */
struct box *users_box(const struct users *users, struct user *user, const char *text);

/* Whether a pattern of LIST, quoted or not, means the mailbox: a name whose end may be "*" or "%".
 */
bool box_fits(const struct box *box, const char *pattern);
