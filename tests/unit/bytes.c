#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "util/arena.h"
#include "util/bytes.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

static bool is_memory_gone;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
	return is_memory_gone ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return is_memory_gone ? NULL : __real_calloc(n, size);
}

static void test_put(void **state)
{
	(void)state;
	struct bytes bytes;
	bytes_init(&bytes);
	assert_int_equal(bytes_len(&bytes), 0);
	bytes_put_str(&bytes, "a");
	bytes_put_char(&bytes, '\0');
	bytes_put(&bytes, "bc", 2);
	bytes_put(&bytes, NULL, 0);
	assert_int_equal(bytes_len(&bytes), 4);
	assert_memory_equal(bytes_span(&bytes).data, "a\0bc", 4);
	bytes_done(&bytes);
	assert_int_equal(bytes_len(&bytes), 0);
	bytes_put_str(&bytes, "again");
	assert_true(span_equal(bytes_span(&bytes), "again"));
	bytes_wipe(&bytes);
	assert_null(bytes.data);
}

/* A queue that is written at one end and read at the other never mixes up its octets, whatever the
 * portions are, and needs no more memory than what waits in it. */
static void test_queue(void **state)
{
	(void)state;
	struct bytes bytes;
	bytes_init(&bytes);
	uint32_t n_in = 0;
	uint32_t n_out = 0;
	uint32_t portion = 1;
	while (n_in < 100000) {
		portion = portion * 1103515245 + 12345;
		for (uint32_t i = 0; i < portion >> 16 && i < 300; i++) {
			bytes_put_char(&bytes, (char)(n_in % 251));
			n_in++;
		}
		portion = portion * 1103515245 + 12345;
		size_t n = (portion >> 16) % 400;
		if (n > bytes_len(&bytes)) {
			n = bytes_len(&bytes);
		}
		for (size_t i = 0; i < n; i++) {
			assert_int_equal(bytes_span(&bytes).data[i], n_out % 251);
			n_out++;
		}
		bytes_consume(&bytes, n);
		assert_int_equal(bytes_len(&bytes), n_in - n_out);
	}
	assert_int_equal(bytes.error, 0);
	bytes_done(&bytes);

	for (int i = 0; i < 100000; i++) {
		bytes_put_str(&bytes, "0123456789");
		if (i > 0) {
			bytes_consume(&bytes, 10);
		}
	}
	assert_true(bytes.size <= 128);
	bytes_done(&bytes);
}

static void test_consume(void **state)
{
	(void)state;
	struct bytes bytes;
	bytes_init(&bytes);
	bytes_put_str(&bytes, "abcdef");
	bytes_consume(&bytes, 2);
	assert_true(span_equal(bytes_span(&bytes), "cdef"));
	bytes_trim(&bytes);
	assert_true(span_equal(bytes_span(&bytes), "cdef"));
	bytes_consume(&bytes, 1000);
	assert_int_equal(bytes_len(&bytes), 0);
	assert_int_equal(bytes.start, 0);
	assert_non_null(bytes.data);
	bytes_trim(&bytes);
	assert_null(bytes.data);
	bytes_put_str(&bytes, "x");
	bytes_clear(&bytes);
	assert_int_equal(bytes_len(&bytes), 0);
	bytes_done(&bytes);
}

static void test_printf(void **state)
{
	(void)state;
	struct bytes bytes;
	bytes_init(&bytes);
	bytes_printf(&bytes, "%s=%d ", "n", 7);
	/* Lengths around the room that a new buffer has. */
	for (int width = 1; width < 300; width++) {
		bytes_printf(&bytes, "%*d", width, 1);
	}
	assert_int_equal(bytes_len(&bytes), 4 + 299 * 300 / 2);
	char *str = bytes_steal(&bytes);
	assert_memory_equal(str, "n=7 1 1  1", 10);
	assert_int_equal(strlen(str), 4 + 299 * 300 / 2);
	free(str);
	bytes_done(&bytes);
}

static void test_reserve(void **state)
{
	(void)state;
	struct bytes bytes;
	bytes_init(&bytes);
	char *room = bytes_reserve(&bytes, 1000);
	assert_non_null(room);
	memset(room, 'r', 1000);
	bytes_commit(&bytes, 600);
	assert_int_equal(bytes_len(&bytes), 600);
	assert_non_null(bytes_reserve(&bytes, 0));
	assert_int_equal(bytes_len(&bytes), 600);
	bytes_done(&bytes);
}

static void test_steal(void **state)
{
	(void)state;
	struct bytes bytes;
	bytes_init(&bytes);
	char *str = bytes_steal(&bytes);
	assert_string_equal(str, "");
	free(str);
	for (size_t len = 1; len < 300; len++) {
		for (size_t i = 0; i < len; i++) {
			bytes_put_char(&bytes, 's');
		}
		bytes_consume(&bytes, len / 3);
		str = bytes_steal(&bytes);
		assert_int_equal(strlen(str), len - len / 3);
		assert_int_equal(bytes_len(&bytes), 0);
		free(str);
	}
	bytes_done(&bytes);
}

static void test_error_is_sticky(void **state)
{
	(void)state;
	struct bytes bytes;
	bytes_init(&bytes);
	bytes_put_str(&bytes, "before");
	is_memory_gone = true;
	bytes_printf(&bytes, "%500d", 1);
	is_memory_gone = false;
	assert_int_equal(bytes.error, -ENOMEM);
	bytes_put_str(&bytes, "behind");
	assert_null(bytes_reserve(&bytes, 1));
	assert_null(bytes_steal(&bytes));
	bytes_clear(&bytes);
	assert_int_equal(bytes.error, -ENOMEM);
	bytes_done(&bytes);
	assert_int_equal(bytes.error, 0);
	bytes_put_str(&bytes, "again");
	assert_int_equal(bytes_len(&bytes), 5);
	assert_null(bytes_reserve(&bytes, SIZE_MAX));
	assert_int_equal(bytes.error, -ENOMEM);
	bytes_done(&bytes);
	assert_null(bytes_reserve(&bytes, (size_t)PTRDIFF_MAX + 1));
	assert_int_equal(bytes.error, -ENOMEM);
	bytes_done(&bytes);
}

static void test_span(void **state)
{
	(void)state;
	struct span empty = {0};
	assert_true(span_equal(empty, ""));
	assert_true(span_equal_nocase(empty, ""));
	assert_false(span_equal(empty, "a"));
	assert_true(span_equal_nocase(span_of("iNbOx"), "INBOX"));
	assert_false(span_equal(span_of("iNbOx"), "INBOX"));
	assert_false(span_equal_nocase(span_of("INBOXE"), "INBOX"));
	/* '@' and '`' differ by the bit that letters differ by. */
	assert_false(span_equal_nocase(span_of("@["), "`{"));
	struct span with_nul = {.data = (const uint8_t *)"a\0b", .len = 3};
	assert_false(span_equal(with_nul, "a"));
	char *copy = span_dup(with_nul);
	assert_memory_equal(copy, "a\0b", 4);
	free(copy);
	copy = span_dup(empty);
	assert_string_equal(copy, "");
	free(copy);
}

static void test_arena(void **state)
{
	(void)state;
	struct arena arena;
	arena_init(&arena);
	uint8_t *first = arena_alloc(&arena, 0);
	assert_non_null(first);
	uint8_t *parts[400];
	size_t sum = 0;
	for (size_t i = 0; i < 400; i++) {
		size_t size = i % 50 == 49 ? 100000 : i;
		parts[i] = arena_alloc(&arena, size);
		assert_int_equal((uintptr_t)parts[i] % _Alignof(max_align_t), 0);
		for (size_t k = 0; k < size; k++) {
			assert_int_equal(parts[i][k], 0);
		}
		memset(parts[i], (int)(i % 255) + 1, size);
		sum += size;
	}
	for (size_t i = 0; i < 400; i++) {
		size_t size = i % 50 == 49 ? 100000 : i;
		assert_true(size == 0 ||
			(parts[i][0] == i % 255 + 1 && parts[i][size - 1] == i % 255 + 1));
	}
	assert_true(arena.used >= sum);
	struct span copy = arena_dup(&arena, span_of("copy"));
	assert_string_equal((const char *)copy.data, "copy");
	assert_int_equal(copy.len, 4);
	copy = arena_dup(&arena, (struct span){0});
	assert_string_equal((const char *)copy.data, "");
	assert_int_equal(arena.error, 0);

	assert_null(arena_alloc(&arena, SIZE_MAX));
	assert_int_equal(arena.error, -ENOMEM);
	arena_done(&arena);
	assert_int_equal(arena.used, 0);
	assert_int_equal(arena.error, 0);

	is_memory_gone = true;
	copy = arena_dup(&arena, span_of("copy"));
	is_memory_gone = false;
	assert_null(copy.data);
	assert_int_equal(copy.len, 0);
	assert_int_equal(arena.error, -ENOMEM);
	arena_done(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_queue),
		cmocka_unit_test(test_consume),
		cmocka_unit_test(test_printf),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_steal),
		cmocka_unit_test(test_error_is_sticky),
		cmocka_unit_test(test_span),
		cmocka_unit_test(test_arena),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
