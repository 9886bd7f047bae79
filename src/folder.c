#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "folder.h"

/* Relative paths in the environment are to be ignored, says the specification. */
static const char *absolute(const char *variable)
{
	const char *path = getenv(variable);
	return path && path[0] == '/' ? path : NULL;
}

int folder_default(char **ret_path)
{
	const char *path;
	char *result = NULL;
	if ((path = absolute("STATE_DIRECTORY"))) {
		result = strndup(path, strcspn(path, ":"));
	} else if ((path = absolute("XDG_STATE_HOME"))) {
		if (asprintf(&result, "%s/mailidle", path) < 0) {
			result = NULL;
		}
	} else if ((path = absolute("HOME"))) {
		if (asprintf(&result, "%s/.local/state/mailidle", path) < 0) {
			result = NULL;
		}
	} else {
		return -ENOENT;
	}
	if (!result) {
		return -ENOMEM;
	}
	*ret_path = result;
	return 0;
}

/* A parent may be there without our being allowed to make it: whether it works shows at the end. */
int folder_make(const char *path)
{
	char *partial = strdup(path);
	if (!partial) {
		return -ENOMEM;
	}
	for (char *slash = partial; (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		mkdir(partial, 0700);
		*slash = '/';
	}
	int error = mkdir(partial, 0700) < 0 ? -errno : 0;
	struct stat status;
	if (error == -EEXIST && stat(partial, &status) == 0) {
		error = S_ISDIR(status.st_mode) ? 0 : -ENOTDIR;
	}
	free(partial);
	return error;
}
