#include <stdlib.h>
#include <string.h>

#include "net/ticket.h"
#include "util/list.h"

struct ticket {
	struct list node;
	uint64_t source;
	struct ticket_life life;
	struct bytes octets;
	char key[];
};

/* The newest is the last. */
static struct list tickets = {.next = &tickets, .prev = &tickets};
static size_t n_tickets;

static struct ticket *ticket_free(struct ticket *ticket)
{
	list_remove(&ticket->node);
	n_tickets--;
	bytes_wipe(&ticket->octets);
	free(ticket);
	return NULL;
}

void ticket_put(
	const char *key, uint64_t source, const struct ticket_life *life, struct span octets)
{
	size_t key_size = strlen(key) + 1;
	struct ticket *ticket = calloc(1, sizeof(*ticket) + key_size);
	if (!ticket) {
		return;
	}
	ticket->source = source;
	ticket->life = *life;
	memcpy(ticket->key, key, key_size);
	bytes_init(&ticket->octets);
	bytes_put(&ticket->octets, octets.data, octets.len);
	if (ticket->octets.error != 0) {
		free(ticket);
		return;
	}
	LIST_FOR_EACH_SAFE (node, &tickets) {
		struct ticket *other = list_entry(node, struct ticket, node);
		if (other->source == source) {
			ticket_free(other);
		}
	}
	if (n_tickets == TICKETS_MAX) {
		ticket_free(list_entry(tickets.next, struct ticket, node));
	}
	list_append(&tickets, &ticket->node);
	n_tickets++;
}

void ticket_take(
	const char *key, time_t now, struct ticket_life *ret_life, struct bytes *ret_ticket)
{
	struct list *before;
	for (struct list *node = tickets.prev; node != &tickets; node = before) {
		struct ticket *ticket = list_entry(node, struct ticket, node);
		before = node->prev;
		if (strcmp(ticket->key, key) != 0) {
			continue;
		}
		bool is_alive = ticket_is_alive(&ticket->life, now);
		if (is_alive) {
			*ret_life = ticket->life;
			*ret_ticket = ticket->octets;
			bytes_init(&ticket->octets);
		}
		ticket_free(ticket);
		if (is_alive) {
			return;
		}
	}
}

void ticket_clear(void)
{
	while (!list_is_empty(&tickets)) {
		ticket_free(list_entry(tickets.next, struct ticket, node));
	}
}
