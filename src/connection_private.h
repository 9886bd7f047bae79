/* What the files of a connection share, and nobody else. See connection.h for what it is.
 *
 *   connection.c          from the secret to the conversation, and questions
 *   connection_attempt.c  when an attempt begins, what its end means, and when the next one comes
 */
#pragma once

#include "connection.h"
#include "net/stream.h"
#include "retry.h"

struct connection {
	struct connection_setup setup;
	void *owner; /* borrowed */
	struct task task;
	enum connection_state state;
	struct failure *failure; /* kept */
	enum imap_end end;       /* WAITING: what kind it was */
	struct retry retry;
	uint64_t retry_at;      /* WAITING: when */
	uint64_t next_try_usec; /* the same, since 1970 */
	bool is_following;      /* WAITING: as another connection does */
	uint64_t tried;         /* when the last attempt began */
	bool is_hurried;        /* WAITING: the next attempt is made for news of the network */
	unsigned int n_hurried; /* such attempts in a row, up to the last */
	bool may_dial;
	bool is_held;
	bool is_key_kept;
	bool is_logged_in;
	bool was_logged_in; /* what ended last */
	bool is_securing;   /* the handshake of STARTTLS is under way */
	bool is_stopping;
	struct key_user key_user;
	struct gate_pass gate_pass;
	struct stream *stream;
	struct imap_client *client;
	struct imap_mailbox *watched; /* borrowed */
	char **others;                /* names of other mailboxes to be told of */
	size_t n_others;
	struct span leftover;      /* octets that the engine did not take; in the shared buffer */
	struct imap_event *closed; /* the last event, which outlives the engine; NULL: none */
	bool has_closed;           /* it is still to be popped */
	struct bytes trace;
};

static inline uint64_t connection_now(const struct connection *connection)
{
	return turn_now(connection->setup.turn);
}

/* The only writer of its state. */
void connection_enter(struct connection *connection, enum connection_state state);

/* Lets go of everything that an attempt or a conversation holds. */
void connection_tear_down(struct connection *connection);

/* The attempt or the conversation has ended. retry_after: µs that the server asked for, or 0. */
void connection_over(struct connection *connection, const struct failure *failure,
	enum imap_end end, uint64_t retry_after);
void connection_over_for(struct connection *connection, enum failure_kind kind, const char *text);

/* The same, but it is nobody's fault: the next attempt begins at once. */
void connection_begin_anew(struct connection *connection, const struct failure *failure);

/* It is stopped, and owes nothing. */
void connection_rest(struct connection *connection);
