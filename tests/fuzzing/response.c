/* Whatever a server writes and however it arrives: the parser survives, and says the same when the
 * octets come in other pieces. The first octet of an input chooses streaming and limits, the second
 * one the size of the pieces. With FUZZ_REPLAY it is a program of its own that goes through the
 * files and folders given; without, LLVMFuzzerTestOneInput() is for libFuzzer (clang
 * -fsanitize=fuzzer).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imap/response.h"
#include "tests/unit/canonical.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct imap_limits limits = imap_limits_default;
	char *whole, *cut;
	bool streaming;
	size_t step;

	if (len < 2) {
		return 0;
	}
	streaming = data[0] & 1;
	if (data[0] & 2) {
		limits = (struct imap_limits){.line = 60,
			.literal = 20,
			.skipped = 100,
			.response = 150,
			.depth = 4,
			.list = 5,
			.flags = 2,
			.flag_len = 8,
			.memory = 400};
	}
	step = (size_t)data[1] + 1;
	data += 2;
	len -= 2;
	whole = canonical_run(&limits, streaming, data, len, len, 1);
	cut = canonical_run(&limits, streaming, data, len, len % step, step);
	if (strcmp(whole, cut) != 0) {
		fprintf(stderr, "whole:\n%s\nin pieces:\n%s\n", whole, cut);
		abort();
	}
	free(whole);
	free(cut);
	return 0;
}

#ifdef FUZZ_REPLAY
#include "tests/fuzzing/replay.h"
#endif
