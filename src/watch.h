/* Tells when a file may have changed, by inotify(7) on its folder: editors and password managers
 * replace files rather than write them. Costs nothing while nothing happens.
 */
#pragma once

#include "util/turn.h"

struct watch;

/* owner is borrowed, and woken whenever something of that name was written, moved there, or had its
 * permissions changed. 0, -ENOMEM, or a negative errno of inotify_init1(2) or inotify_add_watch(2).
 */
int watch_new(struct turn *turn, struct task *owner, const char *path, struct watch **ret_watch);

/* NULL is allowed. Returns NULL. */
struct watch *watch_free(struct watch *watch);
