#include <stdlib.h>
#include <string.h>

#include "boxes.h"
#include "moment.h"

struct user *users_find(struct users *users, const char *name)
{
	LIST_FOR_EACH (node, &users->list) {
		struct user *user = list_entry(node, struct user, node);
		if (strcmp(user->name, name) == 0) {
			return user;
		}
	}
	struct user *user = calloc(1, sizeof(*user) + users->n_boxes * sizeof(user->boxes[0]));
	if (!user) {
		fail("memory");
	}
	snprintf(user->name, sizeof(user->name), "%s", name);
	for (unsigned int i = 0; i < users->n_boxes; i++) {
		user->boxes[i] = (struct box){.number = i + 1, .n_messages = users->n_messages};
	}
	list_append(&users->list, &user->node);
	return user;
}

const char *box_name(const struct box *box, char *buffer)
{
	if (box->number == 1) {
		return "INBOX";
	}
	snprintf(buffer, BOX_NAME_MAX, "Box%u", box->number);
	return buffer;
}

static bool is_end(char c)
{
	return c == '\0' || c == ' ' || c == ')' || c == '"';
}

struct box *users_box(const struct users *users, struct user *user, const char *text)
{
	char *end;
	text += *text == '"';
	if (strncasecmp(text, "INBOX", 5) == 0 && is_end(text[5])) {
		return &user->boxes[0];
	}
	if (strncmp(text, "Box", 3) != 0) {
		return NULL;
	}
	unsigned long number = strtoul(text + 3, &end, 10);
	if (!is_end(*end) || number < 2 || number > users->n_boxes) {
		return NULL;
	}
	return &user->boxes[number - 1];
}

bool box_fits(const struct box *box, const char *pattern)
{
	char buffer[BOX_NAME_MAX];
	const char *name = box_name(box, buffer);
	pattern += *pattern == '"';
	size_t len = strcspn(pattern, "*%\" )");
	if (strncasecmp(name, pattern, len) != 0) {
		return false;
	}
	return pattern[len] == '*' || pattern[len] == '%' || name[len] == '\0';
}
