/* DEFLATE against zlib itself, which plays the other side with a full window.
 */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "net/deflate.h"

/* cmocka needs the headers above. */
#include <cmocka.h>

#define DATA_SIZE    (256 * 1024)
#define BOMB_SIZE    (10 * 1024 * 1024)
#define N_ROUNDS     24
#define MEMORY_MAX   (64 * 1024)
#define N_DATA_SORTS 3

/* Under a sanitizer mallinfo2(3) knows nothing. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static bool is_out_of_memory;

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);

void *__wrap_malloc(size_t size)
{
	return is_out_of_memory ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return is_out_of_memory ? NULL : __real_calloc(n, size);
}

static size_t allocated(void)
{
	if (__sanitizer_get_current_allocated_bytes) {
		return __sanitizer_get_current_allocated_bytes();
	}
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

static uint32_t chance = 1;

static uint32_t draw(uint32_t n)
{
	chance = chance * 1664525 + 1013904223;
	return (chance >> 8) % n;
}

/* Noise, something like text, and zeros. */
static uint8_t *make_data(int sort)
{
	static const char text[] = "* 23 FETCH (UID 4711 FLAGS (\\Seen))\r\n";
	uint8_t *data = calloc(1, DATA_SIZE);
	assert_non_null(data);
	for (size_t i = 0; i < DATA_SIZE && sort < 2; i++) {
		bool is_noise = sort == 0 || draw(16) == 0;
		data[i] = is_noise ? (uint8_t)draw(256) : (uint8_t)text[i % (sizeof(text) - 1)];
	}
	return data;
}

/* Raw, as the other side deflates it, owned by the caller. */
static uint8_t *squeezed(const void *data, size_t len, int flush, size_t *ret_len)
{
	z_stream z = {0};
	assert_int_equal(deflateInit2(&z, Z_BEST_COMPRESSION, Z_DEFLATED, -MAX_WBITS, MAX_MEM_LEVEL,
				 Z_DEFAULT_STRATEGY),
		Z_OK);
	size_t size = deflateBound(&z, len) + 64;
	uint8_t *result = malloc(size);
	assert_non_null(result);
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)len;
	z.next_out = result;
	z.avail_out = (uInt)size;
	assert_int_equal(deflate(&z, flush), flush == Z_FINISH ? Z_STREAM_END : Z_OK);
	assert_int_equal(z.avail_in, 0);
	*ret_len = size - z.avail_out;
	deflateEnd(&z);
	return result;
}

static struct deflate *make_deflate(struct span first_input)
{
	struct deflate *deflate = NULL;
	assert_int_equal(deflate_new(first_input, &deflate), 0);
	return deflate;
}

static void feed(struct deflate *deflate, const uint8_t *data, size_t len)
{
	void *room = deflate_input(deflate, len);
	assert_non_null(room);
	memcpy(room, data, len);
	deflate_received(deflate, len);
}

/* Reads until there is no more, with buffers of at most size octets. The last result. */
static ssize_t read_all(
	struct deflate *deflate, uint8_t *data, size_t size_max, size_t step_max, size_t *ret_len)
{
	size_t len = 0;
	ssize_t n;
	do {
		size_t step = 1 + draw((uint32_t)step_max);
		step = step < size_max - len ? step : size_max - len;
		n = deflate_read(deflate, data + len, step);
		assert_true(n <= (ssize_t)step);
		len += n > 0 ? (size_t)n : 0;
	} while (n > 0 && len < size_max);
	*ret_len = len;
	return n;
}

static void test_what_comes(void **state)
{
	(void)state;
	uint8_t *copy = malloc(DATA_SIZE + 1);
	for (int round = 0; round < N_ROUNDS; round++) {
		uint8_t *data = make_data(round % N_DATA_SORTS);
		size_t len;
		uint8_t *input = squeezed(data, DATA_SIZE, Z_SYNC_FLUSH, &len);
		size_t cut_max = round < N_ROUNDS / 2 ? 3000 : 60;
		/* What came first is copied. */
		size_t n_first = draw((uint32_t)len);
		uint8_t *first = malloc(n_first + 1);
		memcpy(first, input, n_first);
		struct deflate *deflate =
			make_deflate((struct span){.data = first, .len = n_first});
		memset(first, 0xff, n_first);
		free(first);
		size_t n_fed = n_first;
		size_t n_read = 0;
		for (;;) {
			size_t n;
			assert_int_equal(read_all(deflate, copy + n_read, DATA_SIZE + 1 - n_read,
						 cut_max, &n),
				0);
			n_read += n;
			if (n_fed == len) {
				break;
			}
			size_t cut = 1 + draw((uint32_t)cut_max);
			cut = cut < len - n_fed ? cut : len - n_fed;
			feed(deflate, input + n_fed, cut);
			n_fed += cut;
		}
		assert_int_equal(n_read, DATA_SIZE);
		assert_memory_equal(copy, data, DATA_SIZE);
		deflate_free(deflate);
		free(input);
		free(data);
	}
	free(copy);
}

/* Sends what is there in random pieces to the other side. */
static void send_all(struct deflate *deflate, z_stream *other)
{
	struct span output;
	while ((output = deflate_output(deflate)).len > 0) {
		size_t cut = 1 + draw((uint32_t)output.len);
		other->next_in = (Bytef *)output.data;
		other->avail_in = (uInt)cut;
		assert_int_equal(inflate(other, Z_SYNC_FLUSH), Z_OK);
		assert_int_equal(other->avail_in, 0);
		deflate_sent(deflate, cut);
	}
}

/* Each time all of it can be read by the other side. */
static void test_what_goes(void **state)
{
	(void)state;
	uint8_t *copy = malloc(DATA_SIZE + 1);
	for (int round = 0; round < N_ROUNDS; round++) {
		uint8_t *data = make_data(round % N_DATA_SORTS);
		struct deflate *deflate = make_deflate((struct span){0});
		z_stream other = {0};
		assert_int_equal(inflateInit2(&other, -MAX_WBITS), Z_OK);
		other.next_out = copy;
		other.avail_out = DATA_SIZE + 1;
		size_t n_written = 0;
		while (n_written < DATA_SIZE) {
			size_t cut = 1 + draw(round % 2 == 0 ? 20000 : 200);
			cut = cut < DATA_SIZE - n_written ? cut : DATA_SIZE - n_written;
			struct span span = {.data = data + n_written, .len = cut};
			assert_int_equal(deflate_write(deflate, span), 0);
			n_written += cut;
			if (draw(4) > 0) {
				send_all(deflate, &other);
				assert_int_equal(other.total_out, n_written);
			}
		}
		send_all(deflate, &other);
		assert_int_equal(other.total_out, DATA_SIZE);
		assert_memory_equal(copy, data, DATA_SIZE);
		inflateEnd(&other);
		deflate_free(deflate);
		free(data);
	}
	free(copy);
}

static void test_what_is_not_deflated(void **state)
{
	(void)state;
	static const struct {
		const char *octets;
		size_t len;
	} cases[] = {
		/* A block of the type that there is not. */
		{"\x07", 1},
		/* The headers of gzip and of zlib. */
		{"\x1f\x8b\x08\x00", 4},
		{"\x78\x9c\x4b\x04\x00\x00\x62", 7},
		/* A stored block whose length and its complement disagree. */
		{"\x00\x05\x00\x05\x00", 5},
		/* What lies before the beginning. */
		{"\x02\x02\x00\x00", 4},
	};
	uint8_t buffer[64];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct deflate *deflate = make_deflate((struct span){0});
		assert_int_equal(deflate_read(deflate, buffer, sizeof(buffer)), 0);
		feed(deflate, (const uint8_t *)cases[i].octets, cases[i].len);
		for (int n_times = 0; n_times < 2; n_times++) {
			assert_int_equal(deflate_read(deflate, buffer, sizeof(buffer)), -EPROTO);
			feed(deflate, (const uint8_t *)"\x4b\x04\x00", 3);
		}
		deflate_free(deflate);
		/* The same before anything is read. */
		deflate = make_deflate((struct span){
			.data = (const uint8_t *)cases[i].octets, .len = cases[i].len});
		assert_int_equal(deflate_read(deflate, buffer, sizeof(buffer)), -EPROTO);
		deflate_free(deflate);
	}
}

/* What came before is read. The connection ends such a stream, nothing else does (RFC 4978). */
static void test_end_of_what_is_deflated(void **state)
{
	(void)state;
	char buffer[64];
	for (int has_more = 0; has_more < 2; has_more++) {
		size_t len;
		uint8_t *input = squeezed("* BYE\r\n", 7, Z_FINISH, &len);
		struct deflate *deflate = make_deflate((struct span){.data = input, .len = len});
		if (has_more) {
			feed(deflate, input, len);
		}
		assert_int_equal(deflate_read(deflate, buffer, sizeof(buffer)), 7);
		assert_memory_equal(buffer, "* BYE\r\n", 7);
		assert_int_equal(deflate_read(deflate, buffer, sizeof(buffer)), -EPROTO);
		assert_int_equal(deflate_read(deflate, buffer, sizeof(buffer)), -EPROTO);
		deflate_free(deflate);
		free(input);
	}
}

/* Whether memory is measured at all. */
static void assert_measures(void)
{
	size_t before = allocated();
	uint8_t *block = malloc(MEMORY_MAX);
	assert_non_null(block);
	assert_in_range(allocated() - before, MEMORY_MAX, 2 * MEMORY_MAX);
	free(block);
}

static void test_bomb(void **state)
{
	(void)state;
	assert_measures();
	uint8_t *zeros = calloc(1, BOMB_SIZE);
	size_t len;
	uint8_t *input = squeezed(zeros, BOMB_SIZE, Z_SYNC_FLUSH, &len);
	free(zeros);
	assert_in_range(len, 1, BOMB_SIZE / 900);
	size_t before = allocated();
	struct deflate *deflate = make_deflate((struct span){.data = input, .len = len});
	size_t n_read = 0;
	ssize_t n;
	uint8_t buffer[512];
	uint8_t sum = 0;
	while ((n = deflate_read(deflate, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			sum |= buffer[i];
		}
		n_read += (size_t)n;
		if (n_read % (64 * sizeof(buffer)) == 0) {
			/* What came, and what such an object holds. */
			assert_in_range(allocated() - before, 1, MEMORY_MAX + 2 * len);
		}
	}
	assert_int_equal(n, 0);
	assert_int_equal(n_read, BOMB_SIZE);
	assert_int_equal(sum, 0);
	assert_in_range(allocated() - before, 1, MEMORY_MAX);
	deflate_free(deflate);
	free(input);
}

/* What a session keeps while it idles, after much went both ways. */
static void test_memory(void **state)
{
	(void)state;
	assert_measures();
	uint8_t *data = make_data(1);
	uint8_t *copy = malloc(DATA_SIZE + 1);
	size_t len;
	uint8_t *input = squeezed(data, DATA_SIZE, Z_SYNC_FLUSH, &len);
	size_t before = allocated();
	struct deflate *deflate = make_deflate((struct span){0});
	feed(deflate, input, len);
	size_t n_read;
	assert_int_equal(read_all(deflate, copy, DATA_SIZE + 1, 16384, &n_read), 0);
	assert_int_equal(n_read, DATA_SIZE);
	assert_memory_equal(copy, data, DATA_SIZE);
	assert_int_equal(deflate_write(deflate, (struct span){.data = data, .len = DATA_SIZE}), 0);
	deflate_sent(deflate, deflate_output(deflate).len);
	/* Asked for more, the other side had nothing. */
	assert_non_null(deflate_input(deflate, 16384));
	deflate_received(deflate, 0);
	assert_in_range(allocated() - before, 1, MEMORY_MAX);
	deflate_free(deflate);
	assert_in_range(allocated(), 0, before + 2048);
	free(input);
	free(copy);
	free(data);
}

static void test_out_of_memory(void **state)
{
	(void)state;
	struct deflate *deflate = NULL;
	is_out_of_memory = true;
	int r = deflate_new((struct span){0}, &deflate);
	is_out_of_memory = false;
	assert_int_equal(r, -ENOMEM);
	assert_null(deflate);
	assert_null(deflate_free(NULL));

	deflate = make_deflate((struct span){0});
	is_out_of_memory = true;
	void *room = deflate_input(deflate, 16384);
	r = deflate_write(deflate, span_of("a NOOP\r\n"));
	is_out_of_memory = false;
	assert_null(room);
	assert_int_equal(r, -ENOMEM);
	assert_null(deflate_free(deflate));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_comes),
		cmocka_unit_test(test_what_goes),
		cmocka_unit_test(test_what_is_not_deflated),
		cmocka_unit_test(test_end_of_what_is_deflated),
		cmocka_unit_test(test_bomb),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_out_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
