/* Names, with a resolver of ours in place of the C library's: it knows what it is asked here, and
 * hangs when it is told to.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "net/resolve.h"
#include "turning.h"

/* As many as the resolver has. */
#define N_THREADS 8

static sem_t released; /* once for each question about hang.test */
static atomic_int n_asked;
static atomic_int n_lists; /* that were given out and not freed */

static struct addrinfo *make_info(const char *text, const char *service, struct addrinfo *next)
{
	struct {
		struct addrinfo info;
		union address address;
	} *made = calloc(1, sizeof(*made));
	assert_non_null(made);
	bool is_6 = strchr(text, ':');
	if (is_6) {
		inet_pton(AF_INET6, text, &made->address.in6.sin6_addr);
		made->address.in6.sin6_port = htons((uint16_t)atoi(service));
	} else {
		inet_pton(AF_INET, text, &made->address.in.sin_addr);
		made->address.in.sin_port = htons((uint16_t)atoi(service));
	}
	made->info.ai_family = is_6 ? AF_INET6 : AF_INET;
	made->address.any.sa_family = (sa_family_t)made->info.ai_family;
	made->info.ai_addr = &made->address.any;
	made->info.ai_addrlen = address_len(&made->address);
	made->info.ai_next = next;
	return &made->info;
}

static struct addrinfo *make_many(const char *service)
{
	struct addrinfo *list = NULL;
	for (int i = 0; i < 1000; i++) {
		list = make_info("2001:db8::2", service, list);
	}
	for (int i = 0; i < 1000; i++) {
		list = make_info("192.0.2.1", service, list);
	}
	return list;
}

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
	struct addrinfo **ret_result)
{
	static const char *const literals[] = {"192.0.2.9", "2001:db8::9"};
	struct addrinfo *list = NULL;
	for (size_t i = 0; i < 2; i++) {
		if (strcmp(name, literals[i]) == 0) {
			list = make_info(name, service, NULL);
		}
	}
	if (!list && (hints->ai_flags & AI_NUMERICHOST)) {
		return EAI_NONAME;
	}
	atomic_fetch_add(&n_asked, !list);
	if (strcmp(name, "hang.test") == 0) {
		sem_wait(&released);
	}
	if (strcmp(name, "again.test") == 0) {
		return EAI_AGAIN;
	}
	if (strcmp(name, "system.test") == 0) {
		errno = ENFILE;
		return EAI_SYSTEM;
	}
	if (strcmp(name, "none.test") == 0) {
		return EAI_NONAME;
	}
	if (strcmp(name, "many.test") == 0) {
		list = make_many(service);
	}
	if (!list) {
		list = make_info("192.0.2.2", service, NULL);
		list = make_info("192.0.2.1", service, list);
		list = make_info("2001:db8::1", service, list);
	}
	atomic_fetch_add(&n_lists, 1);
	*ret_result = list;
	return 0;
}

void freeaddrinfo(struct addrinfo *list)
{
	atomic_fetch_sub(&n_lists, 1);
	while (list) {
		struct addrinfo *next = list->ai_next;
		free(list);
		list = next;
	}
}

static struct resolve *ask(struct turning *turning, const char *host)
{
	struct resolve *resolve = NULL;
	assert_int_equal(resolve_new(turning->turn, &turning->owner, host, 993, &resolve), 0);
	return resolve;
}

static void await(struct turning *turning, const struct resolve *resolve)
{
	while (!resolve_is_done(resolve)) {
		turning_await(turning);
	}
}

static void assert_addresses(struct resolve *resolve, const char *expected)
{
	char text[RESOLVE_ADDRESSES_MAX * ADDRESS_TEXT_SIZE] = "";
	union address *addresses;
	size_t n_addresses = resolve_addresses(resolve, &addresses);
	for (size_t i = 0; i < n_addresses; i++) {
		char one[ADDRESS_TEXT_SIZE];
		address_print(&addresses[i], one);
		strcat(strcat(text, i > 0 ? " " : ""), one);
	}
	assert_string_equal(text, expected);
}

static void test_families_take_turns(void **state)
{
	(void)state;
	struct turning turning;
	turning_init(&turning);
	struct resolve *resolve = ask(&turning, "imap.test");
	assert_false(resolve_is_done(resolve));
	await(&turning, resolve);
	assert_addresses(resolve, "[2001:db8::1]:993 192.0.2.1:993 192.0.2.2:993");
	resolve_free(resolve);
	turning_done(&turning);
}

static void test_literals_need_no_thread(void **state)
{
	(void)state;
	struct turning turning;
	turning_init(&turning);
	int n_before = atomic_load(&n_asked);
	struct resolve *resolve = ask(&turning, "192.0.2.9");
	assert_true(resolve_is_done(resolve));
	turning_await(&turning);
	assert_addresses(resolve, "192.0.2.9:993");
	resolve_free(resolve);
	resolve = ask(&turning, "2001:db8::9");
	assert_true(resolve_is_done(resolve));
	assert_addresses(resolve, "[2001:db8::9]:993");
	resolve_free(resolve);
	assert_int_equal(atomic_load(&n_asked), n_before);
	turning_done(&turning);
}

static void test_failures_have_words(void **state)
{
	(void)state;
	static const struct {
		const char *host;
		const char *words;
	} cases[] = {
		{"none.test", "none.test was not found: there is no such name"},
		{"again.test", "again.test was not found: no name server answers"},
		{"system.test", "system.test was not found: Too many open files in system"},
	};
	struct turning turning;
	turning_init(&turning);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct resolve *resolve = ask(&turning, cases[i].host);
		await(&turning, resolve);
		assert_addresses(resolve, "");
		assert_int_equal(resolve_failure(resolve)->kind, FAILURE_OFFLINE);
		assert_string_equal(resolve_failure(resolve)->text, cases[i].words);
		resolve_free(resolve);
	}
	turning_done(&turning);
}

static void test_addresses_are_limited(void **state)
{
	(void)state;
	struct turning turning;
	turning_init(&turning);
	struct resolve *resolve = ask(&turning, "many.test");
	await(&turning, resolve);
	union address *addresses;
	assert_int_equal(resolve_addresses(resolve, &addresses), RESOLVE_ADDRESSES_MAX);
	for (size_t i = 0; i < RESOLVE_ADDRESSES_MAX; i++) {
		assert_int_equal(addresses[i].any.sa_family, i % 2 ? AF_INET6 : AF_INET);
	}
	resolve_free(resolve);
	turning_done(&turning);
}

/* Hanging threads are left alone, a question behind them waits for its turn, and whatever comes too
 * late is freed. */
static void test_threads_hang(void **state)
{
	(void)state;
	struct turning turning;
	turning_init(&turning);
	unsigned int n_descriptors = turning_count_descriptors();
	int n_before = atomic_load(&n_asked);
	struct resolve *hanging[N_THREADS];
	for (int i = 0; i < N_THREADS; i++) {
		hanging[i] = ask(&turning, "hang.test");
	}
	struct resolve *dropped = ask(&turning, "dropped.test");
	struct resolve *waiting = ask(&turning, "imap.test");
	while (atomic_load(&n_asked) < n_before + N_THREADS) {
		sched_yield();
	}
	/* It never comes to a thread. */
	resolve_free(dropped);
	for (int i = 1; i < N_THREADS; i++) {
		resolve_free(hanging[i]);
	}
	assert_int_equal(turning_count_descriptors(), n_descriptors + 2);
	assert_false(resolve_is_done(waiting));
	assert_int_equal(atomic_load(&n_asked), n_before + N_THREADS);
	for (int i = 0; i < N_THREADS; i++) {
		sem_post(&released);
	}
	await(&turning, waiting);
	await(&turning, hanging[0]);
	assert_addresses(waiting, "[2001:db8::1]:993 192.0.2.1:993 192.0.2.2:993");
	resolve_free(waiting);
	resolve_free(hanging[0]);
	assert_int_equal(turning_count_descriptors(), n_descriptors);
	while (atomic_load(&n_lists) > 0) {
		sched_yield();
	}
	assert_int_equal(atomic_load(&n_asked), n_before + N_THREADS + 1);
	turning_done(&turning);
}

static void test_answered_and_dropped(void **state)
{
	(void)state;
	struct turning turning;
	turning_init(&turning);
	for (int i = 0; i < 100; i++) {
		int n_before = atomic_load(&n_asked);
		struct resolve *resolve = ask(&turning, "imap.test");
		while (i % 2 && atomic_load(&n_asked) == n_before) {
			sched_yield();
		}
		resolve_free(resolve);
	}
	while (atomic_load(&n_lists) > 0) {
		sched_yield();
	}
	turning_done(&turning);
}

static void test_order_of_addresses(void **state)
{
	(void)state;
	/* 4 and 6 stand for the families, the letters for what is to keep its order. */
	static const struct {
		const char *before;
		const char *after;
	} cases[] = {
		{"", ""},
		{"4a", "4a"},
		{"6a 6b 4c 4d", "6a 4c 6b 4d"},
		{"4a 4b 4c 6d", "4a 6d 4b 4c"},
		{"6a 4b 4c 4d 6e 6f", "6a 4b 6e 4c 6f 4d"},
		{"6a 6b 6c", "6a 6b 6c"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		union address addresses[8] = {0};
		size_t n = 0;
		for (const char *c = cases[i].before; *c != '\0'; c += c[2] == ' ' ? 3 : 2) {
			addresses[n].any.sa_family = c[0] == '4' ? AF_INET : AF_INET6;
			addresses[n++].in.sin_port = (in_port_t)c[1];
		}
		address_interleave(addresses, n);
		char after[32] = "";
		for (size_t j = 0; j < n; j++) {
			sprintf(after + strlen(after), "%s%c%c", j > 0 ? " " : "",
				addresses[j].any.sa_family == AF_INET ? '4' : '6',
				addresses[j].in.sin_port);
		}
		assert_string_equal(after, cases[i].after);
	}
}

static void test_loopback(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool is_loopback;
	} cases[] = {
		{"127.0.0.1", true},
		{"127.255.255.254", true},
		{"128.0.0.1", false},
		{"0.0.0.0", false},
		{"10.127.0.1", false},
		{"::1", true},
		{"::", false},
		{"::2", false},
		{"::ffff:127.0.0.1", true},
		{"::ffff:192.0.2.1", false},
		{"::127.0.0.1", false},
		{"fe80::1", false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct addrinfo *info = make_info(cases[i].text, "1", NULL);
		union address addresses[2];
		assert_true(address_set(&addresses[0], info->ai_addr, info->ai_addrlen));
		assert_false(address_set(&addresses[1], info->ai_addr, 4));
		assert_int_equal(address_is_loopback(&addresses[0]), cases[i].is_loopback);
		assert_int_equal(address_keep_loopback(addresses, 1), cases[i].is_loopback);
		assert_true(address_is_literal(cases[i].text, NULL, NULL));
		free(info);
	}
	assert_true(address_is_literal("fe80::1%eth0", NULL, NULL));
	assert_false(address_is_literal("127.1", NULL, NULL));
	assert_false(address_is_literal("localhost", NULL, NULL));
	assert_false(address_is_literal("", NULL, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_families_take_turns),
		cmocka_unit_test(test_literals_need_no_thread),
		cmocka_unit_test(test_failures_have_words),
		cmocka_unit_test(test_addresses_are_limited),
		cmocka_unit_test(test_threads_hang),
		cmocka_unit_test(test_answered_and_dropped),
		cmocka_unit_test(test_order_of_addresses),
		cmocka_unit_test(test_loopback),
	};
	if (sem_init(&released, 0, 0) < 0) {
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
