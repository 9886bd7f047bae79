#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/resolve.h"
#include "util/list.h"

#define N_THREADS_MAX 8

/* What name service modules need, not what a thread gets by default (8 MiB). */
#define THREAD_STACK_SIZE (512 * 1024)

/* What a worker knows. It may outlive the resolve that asked; whoever comes last frees it. */
struct question {
	struct list waiting; /* in the pool, until a worker takes it */
	bool is_abandoned;
	bool is_answered;
	int event_fd; /* borrowed from the resolve, which has not abandoned the question */
	int error;    /* EAI_... */
	int system_error;
	struct addrinfo *result;
	char service[sizeof("65535")];
	char host[];
};

struct resolve {
	struct ev_loop *loop; /* borrowed */
	struct task *owner;   /* borrowed */
	struct question *question;
	int event_fd;
	ev_io answered;
	bool is_done;
	struct failure failure;
	size_t n_addresses;
	union address addresses[RESOLVE_ADDRESSES_MAX];
};

/* The one thing that threads share. */
static struct {
	pthread_mutex_t mutex;
	struct list waiting; /* questions */
	unsigned int n_threads;
} pool = {
	.mutex = PTHREAD_MUTEX_INITIALIZER,
	.waiting = {.next = &pool.waiting, .prev = &pool.waiting},
};

static struct question *question_free(struct question *question)
{
	if (question->result) {
		freeaddrinfo(question->result);
	}
	free(question);
	return NULL;
}

static int ask(const struct question *question, int flags, struct addrinfo **ret_result)
{
	/* Not AI_ADDRCONFIG: it hides ::1 where only the loopback interface has IPv6, and an
	 * address without a route fails at once anyway. */
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | flags,
	};
	return getaddrinfo(question->host, question->service, &hints, ret_result);
}

static void *work(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&pool.mutex);
	while (!list_is_empty(&pool.waiting)) {
		struct question *question = list_entry(pool.waiting.next, struct question, waiting);
		list_remove(&question->waiting);
		pthread_mutex_unlock(&pool.mutex);

		struct addrinfo *result = NULL;
		int error = ask(question, 0, &result);
		int system_error = errno;

		pthread_mutex_lock(&pool.mutex);
		question->result = error == 0 ? result : NULL;
		question->error = error;
		question->system_error = system_error;
		question->is_answered = true;
		if (question->is_abandoned) {
			question_free(question);
		} else {
			/* Cannot fail nor block: it is the only one, and the other side is open. */
			eventfd_write(question->event_fd, 1);
		}
	}
	pool.n_threads--;
	pthread_mutex_unlock(&pool.mutex);
	return NULL;
}

/* Signals are for the thread that runs the loop. */
static int start_thread(void)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);
	if (error != 0) {
		return -error;
	}
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
	sigset_t all;
	sigset_t before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_t thread;
	error = pthread_create(&thread, &attributes, work, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return -error;
}

static int enqueue(struct question *question)
{
	int error = 0;
	pthread_mutex_lock(&pool.mutex);
	list_append(&pool.waiting, &question->waiting);
	if (pool.n_threads < N_THREADS_MAX) {
		error = start_thread();
		if (error == 0) {
			pool.n_threads++;
		} else if (pool.n_threads > 0) {
			/* Another one will come to it. */
			error = 0;
		} else {
			list_remove(&question->waiting);
		}
	}
	pthread_mutex_unlock(&pool.mutex);
	return error;
}

static void tell_error(struct resolve *resolve)
{
	const struct question *question = resolve->question;
	const char *reason = gai_strerror(question->error);
	switch (question->error) {
	case EAI_NONAME:
	case EAI_NODATA:
	case EAI_ADDRFAMILY:
		reason = "there is no such name";
		break;
	case EAI_AGAIN:
		reason = "no name server answers";
		break;
	case EAI_SYSTEM:
		reason = strerror(question->system_error);
		break;
	}
	failure_set(&resolve->failure, FAILURE_OFFLINE, "%.120s was not found: %s", question->host,
		reason);
}

static void finish(struct resolve *resolve)
{
	struct question *question = resolve->question;
	resolve->is_done = true;
	if (question->error != 0) {
		tell_error(resolve);
	} else {
		/* Of two families neither may crowd the other out. */
		size_t n_of_family[2] = {0, 0};
		for (struct addrinfo *info = question->result; info; info = info->ai_next) {
			union address *address = &resolve->addresses[resolve->n_addresses];
			size_t *n = &n_of_family[info->ai_family == AF_INET6];
			if (*n < RESOLVE_ADDRESSES_MAX / 2 &&
				address_set(address, info->ai_addr, info->ai_addrlen)) {
				resolve->n_addresses++;
				(*n)++;
			}
		}
		address_interleave(resolve->addresses, resolve->n_addresses);
		if (resolve->n_addresses == 0) {
			failure_set(&resolve->failure, FAILURE_OFFLINE, "%.120s has no address",
				question->host);
		}
	}
	resolve->question = question_free(question);
}

static void on_answered(struct ev_loop *loop, ev_io *watcher, int events)
{
	struct resolve *resolve = watcher->data;
	ev_io_stop(loop, watcher);
	pthread_mutex_lock(&pool.mutex);
	bool is_answered = resolve->question->is_answered;
	pthread_mutex_unlock(&pool.mutex);
	if (is_answered) {
		finish(resolve);
		task_wake(resolve->owner);
	} else if (events & EV_ERROR) {
		/* The loop had no room for it, and the answer would not be noticed. */
		failure_set(&resolve->failure, FAILURE_OFFLINE, "%.120s cannot be waited for",
			resolve->question->host);
		resolve->is_done = true;
		task_wake(resolve->owner);
	}
}

int resolve_new(struct turn *turn, struct task *owner, const char *host, uint16_t port,
	struct resolve **ret_resolve)
{
	struct resolve *resolve = calloc(1, sizeof(*resolve));
	size_t host_size = strlen(host) + 1;
	struct question *question = calloc(1, sizeof(*question) + host_size);
	if (!resolve || !question) {
		free(question);
		free(resolve);
		return -ENOMEM;
	}
	list_init(&question->waiting);
	memcpy(question->host, host, host_size);
	snprintf(question->service, sizeof(question->service), "%u", port);
	*resolve = (struct resolve){
		.loop = turn_loop(turn),
		.owner = owner,
		.question = question,
		.event_fd = -1,
	};
	ev_io_init(&resolve->answered, on_answered, -1, EV_READ);
	resolve->answered.data = resolve;

	question->error = ask(question, AI_NUMERICHOST, &question->result);
	if (question->error != EAI_NONAME) {
		question->system_error = errno;
		question->is_answered = true;
		finish(resolve);
		task_wake(owner);
		*ret_resolve = resolve;
		return 0;
	}
	question->result = NULL;

	resolve->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	question->event_fd = resolve->event_fd;
	int error = resolve->event_fd < 0 ? -errno : enqueue(question);
	if (error < 0) {
		/* No worker knows of it: it is not in the queue, and will not be answered. */
		resolve->question = question_free(question);
		resolve_free(resolve);
		return error;
	}
	ev_io_set(&resolve->answered, resolve->event_fd, EV_READ);
	ev_io_start(resolve->loop, &resolve->answered);
	*ret_resolve = resolve;
	return 0;
}

struct resolve *resolve_free(struct resolve *resolve)
{
	if (!resolve) {
		return NULL;
	}
	ev_io_stop(resolve->loop, &resolve->answered);
	struct question *question = resolve->question;
	if (question) {
		pthread_mutex_lock(&pool.mutex);
		bool is_ours = question->is_answered || !list_is_empty(&question->waiting);
		list_remove(&question->waiting);
		question->is_abandoned = true;
		pthread_mutex_unlock(&pool.mutex);
		if (is_ours) {
			question_free(question);
		}
	}
	if (resolve->event_fd >= 0) {
		close(resolve->event_fd);
	}
	free(resolve);
	return NULL;
}

bool resolve_is_done(const struct resolve *resolve)
{
	return resolve->is_done;
}

size_t resolve_addresses(struct resolve *resolve, union address **ret_addresses)
{
	*ret_addresses = resolve->addresses;
	return resolve->n_addresses;
}

const struct failure *resolve_failure(const struct resolve *resolve)
{
	return &resolve->failure;
}
