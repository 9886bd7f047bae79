/* The main() of a fuzz target without a fuzzer: goes through the files and folders given, and fails
 * when there is nothing in them. To be included by a target that was built with FUZZ_REPLAY. */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define REPLAY_MAX (1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static bool replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *octets = malloc(REPLAY_MAX);
	size_t len;

	if (file == NULL || octets == NULL) {
		perror(path);
		if (file != NULL) {
			fclose(file);
		}
		free(octets);
		return false;
	}
	len = fread(octets, 1, REPLAY_MAX, file);
	fclose(file);
	LLVMFuzzerTestOneInput(octets, len);
	free(octets);
	return true;
}

static bool replay_folder(DIR *folder, const char *path)
{
	const struct dirent *entry;
	unsigned int n_files = 0;
	bool is_good = true;

	while ((entry = readdir(folder)) != NULL) {
		char name[4096];

		if (entry->d_name[0] == '.') {
			continue;
		}
		if (snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) >=
			(int)sizeof(name)) {
			return false;
		}
		is_good = replay_file(name) && is_good;
		n_files++;
	}
	printf("%s: %u files\n", path, n_files);
	return is_good && n_files > 0;
}

int main(int argc, char **argv)
{
	bool is_good = argc > 1;

	for (int i = 1; i < argc; i++) {
		DIR *folder = opendir(argv[i]);

		if (folder != NULL) {
			is_good = replay_folder(folder, argv[i]) && is_good;
			closedir(folder);
		} else {
			is_good = replay_file(argv[i]) && is_good;
		}
	}
	return is_good ? EXIT_SUCCESS : EXIT_FAILURE;
}
