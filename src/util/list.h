/* Intrusive doubly linked lists; the head is a node of its own. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *node)
{
	node->next = node->prev = node;
}

static inline bool list_is_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Takes the node out of its list; harmless on a node that is in none. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#define list_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

#define LIST_FOR_EACH(node, head) \
	for (struct list *node = (head)->next; node != (head); node = node->next)

/* The current node may be removed. */
#define LIST_FOR_EACH_SAFE(node, head) \
	for (struct list *node = (head)->next, *node##_next = node->next; node != (head); \
		node = node##_next, node##_next = node->next)
