/* The folder that the state lives in. XDG Base Directory Specification; STATE_DIRECTORY in
 * systemd.exec(5).
 */
#pragma once

/* $STATE_DIRECTORY (the first, where it lists several), else $XDG_STATE_HOME/mailidle, else
 * ~/.local/state/mailidle; owned by the caller. 0; -ENOENT: not even HOME is set; -ENOMEM. */
int folder_default(char **ret_path);

/* Makes it, and what is missing above it, with mode 0700. What is there stays as it is. 0 or a
 * negative errno of mkdir(2). */
int folder_make(const char *path);
