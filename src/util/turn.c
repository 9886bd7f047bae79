#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/turn.h"

/* How often tasks may wake each other before the watchers get their share. */
#define N_ROUNDS_HIGHEST   16

#define HEAP_SIZE_AT_FIRST 16

/* Times at which deadlines with slack meet. Each lasts until it is over, and there is a new one
 * only where nothing suits: in the long run a few for each length of time that is waited for. */
#define N_MEETINGS 8

/* begin, end and prepare */
#define N_WATCHERS_ALWAYS 3

struct turn {
	struct ev_loop *loop;      /* borrowed */
	struct ev_check begin;     /* before all watchers: the time is read again */
	struct ev_check end;       /* behind all watchers: runs the tasks */
	struct ev_prepare prepare; /* before the loop blocks: arms the timer */
	struct ev_idle idle;       /* while something is left to do: the loop does not block */
	struct ev_io timer;        /* while there are deadlines */
	uint64_t armed;            /* what the timer is set to; USEC_NEVER: it is not */
	uint64_t now;
	bool is_now_read;
	struct list ready;
	struct task **heap; /* a binary heap, the nearest deadline first; tasks are borrowed */
	size_t heap_len;
	size_t heap_size;
	uint64_t meetings[N_MEETINGS]; /* one that is over makes room */
};

static void place(struct turn *turn, size_t position, struct task *task)
{
	turn->heap[position] = task;
	task->heap_position = position;
}

static void sift_up(struct turn *turn, size_t position)
{
	struct task *task = turn->heap[position];
	while (position > 0) {
		size_t parent = (position - 1) / 2;
		if (turn->heap[parent]->deadline <= task->deadline) {
			break;
		}
		place(turn, position, turn->heap[parent]);
		position = parent;
	}
	place(turn, position, task);
}

static void sift_down(struct turn *turn, size_t position)
{
	struct task *task = turn->heap[position];
	for (;;) {
		size_t child = 2 * position + 1;
		if (child >= turn->heap_len) {
			break;
		}
		if (child + 1 < turn->heap_len &&
			turn->heap[child + 1]->deadline < turn->heap[child]->deadline) {
			child++;
		}
		if (turn->heap[child]->deadline >= task->deadline) {
			break;
		}
		place(turn, position, turn->heap[child]);
		position = child;
	}
	place(turn, position, task);
}

static int heap_add(struct turn *turn, struct task *task)
{
	if (turn->heap_len == turn->heap_size) {
		size_t size = turn->heap_size > 0 ? turn->heap_size * 2 : HEAP_SIZE_AT_FIRST;
		struct task **heap = reallocarray(turn->heap, size, sizeof(*heap));
		if (!heap) {
			return -ENOMEM;
		}
		turn->heap = heap;
		turn->heap_size = size;
	}
	place(turn, turn->heap_len, task);
	turn->heap_len++;
	return 0;
}

static void heap_remove(struct turn *turn, struct task *task)
{
	size_t position = task->heap_position;
	task->heap_position = SIZE_MAX;
	task->deadline = USEC_NEVER;
	turn->heap_len--;
	if (position == turn->heap_len) {
		return;
	}
	place(turn, position, turn->heap[turn->heap_len]);
	sift_up(turn, position);
	sift_down(turn, turn->heap[position]->heap_position);
}

static uint64_t nearest_deadline(const struct turn *turn)
{
	return turn->heap_len > 0 ? turn->heap[0]->deadline : USEC_NEVER;
}

static void wake_expired(struct turn *turn)
{
	while (nearest_deadline(turn) <= turn_now(turn)) {
		struct task *task = turn->heap[0];
		heap_remove(turn, task);
		task_wake(task);
	}
}

/* Tasks that are woken meanwhile wait for the next round. */
static void run_round(struct turn *turn)
{
	struct list round;
	list_init(&round);
	while (!list_is_empty(&turn->ready)) {
		struct list *node = turn->ready.next;
		list_remove(node);
		list_append(&round, node);
	}
	while (!list_is_empty(&round)) {
		struct list *node = round.next;
		list_remove(node);
		struct task *task = list_entry(node, struct task, ready);
		task->run(task);
	}
}

static void arm(struct turn *turn)
{
	uint64_t deadline = nearest_deadline(turn);
	if (deadline == USEC_NEVER) {
		ev_io_stop(turn->loop, &turn->timer);
	} else {
		ev_io_start(turn->loop, &turn->timer);
	}
	if (deadline == turn->armed) {
		return;
	}
	struct itimerspec spec = {0};
	if (deadline != USEC_NEVER) {
		spec.it_value.tv_sec = (time_t)(deadline / USEC_PER_SEC);
		spec.it_value.tv_nsec = (long)(deadline % USEC_PER_SEC * 1000);
		if (deadline == 0) {
			/* All zero would be never. */
			spec.it_value.tv_nsec = 1;
		}
	}
	if (timerfd_settime(turn->timer.fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0) {
		turn->armed = deadline;
	}
}

static void on_begin(struct ev_loop *loop, struct ev_check *watcher, int events)
{
	(void)loop;
	(void)events;
	struct turn *turn = watcher->data;
	turn->is_now_read = false;
}

static void on_end(struct ev_loop *loop, struct ev_check *watcher, int events)
{
	(void)loop;
	(void)events;
	struct turn *turn = watcher->data;
	wake_expired(turn);
	for (int n = 0; n < N_ROUNDS_HIGHEST && !list_is_empty(&turn->ready); n++) {
		run_round(turn);
		wake_expired(turn);
	}
}

/* The timer is armed late, so that a deadline which tasks move to and fro costs one system call. */
static void on_prepare(struct ev_loop *loop, struct ev_prepare *watcher, int events)
{
	(void)events;
	struct turn *turn = watcher->data;
	arm(turn);
	if (list_is_empty(&turn->ready)) {
		ev_idle_stop(loop, &turn->idle);
	}
	turn->is_now_read = false;
}

/* Being active is all that the loop needs of it. */
static void on_idle(struct ev_loop *loop, struct ev_idle *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
}

/* Whose deadline it was is seen at the end of the turn. */
static void on_timer(struct ev_loop *loop, struct ev_io *watcher, int events)
{
	(void)loop;
	(void)events;
	struct turn *turn = watcher->data;
	uint64_t n_expirations;
	if (read(watcher->fd, &n_expirations, sizeof(n_expirations)) > 0) {
		turn->armed = USEC_NEVER;
	}
}

static void on_periodic(struct ev_loop *loop, struct ev_periodic *watcher, int events)
{
	(void)loop;
	(void)watcher;
	(void)events;
}

/* libev wakes up once a minute to see whether the clock was set, unless the kernel tells it: which
 * it asks for (a timerfd) when the first ev_periodic is started, and keeps. */
static void let_sleep(struct ev_loop *loop)
{
	struct ev_periodic periodic;
	ev_periodic_init(&periodic, on_periodic, 1e12, 0, NULL);
	ev_periodic_start(loop, &periodic);
	ev_periodic_stop(loop, &periodic);
}

int turn_new(struct ev_loop *loop, struct turn **ret_turn)
{
	struct turn *turn = calloc(1, sizeof(*turn));
	if (!turn) {
		return -ENOMEM;
	}
	int fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd < 0) {
		int error = -errno;
		free(turn);
		return error;
	}
	let_sleep(loop);
	turn->loop = loop;
	turn->armed = USEC_NEVER;
	list_init(&turn->ready);
	ev_check_init(&turn->begin, on_begin);
	ev_check_init(&turn->end, on_end);
	ev_prepare_init(&turn->prepare, on_prepare);
	ev_idle_init(&turn->idle, on_idle);
	ev_io_init(&turn->timer, on_timer, fd, EV_READ);
	turn->begin.data = turn;
	turn->end.data = turn;
	turn->prepare.data = turn;
	turn->timer.data = turn;
	ev_set_priority(&turn->begin, EV_MAXPRI);
	ev_set_priority(&turn->end, EV_MINPRI);
	ev_set_priority(&turn->prepare, EV_MAXPRI);
	ev_check_start(loop, &turn->begin);
	ev_check_start(loop, &turn->end);
	ev_prepare_start(loop, &turn->prepare);
	/* A loop in which nothing else is left may end. */
	for (int i = 0; i < N_WATCHERS_ALWAYS; i++) {
		ev_unref(loop);
	}
	*ret_turn = turn;
	return 0;
}

struct turn *turn_free(struct turn *turn)
{
	if (!turn) {
		return NULL;
	}
	for (int i = 0; i < N_WATCHERS_ALWAYS; i++) {
		ev_ref(turn->loop);
	}
	ev_check_stop(turn->loop, &turn->begin);
	ev_check_stop(turn->loop, &turn->end);
	ev_prepare_stop(turn->loop, &turn->prepare);
	ev_idle_stop(turn->loop, &turn->idle);
	ev_io_stop(turn->loop, &turn->timer);
	close(turn->timer.fd);
	free(turn->heap);
	free(turn);
	return NULL;
}

struct ev_loop *turn_loop(struct turn *turn)
{
	return turn->loop;
}

uint64_t turn_now(struct turn *turn)
{
	if (!turn->is_now_read) {
		turn->now = clock_now_usec();
		turn->is_now_read = true;
	}
	return turn->now;
}

void task_init(struct task *task, struct turn *turn, void (*run)(struct task *task))
{
	*task = (struct task){
		.turn = turn,
		.run = run,
		.deadline = USEC_NEVER,
		.heap_position = SIZE_MAX,
	};
	list_init(&task->ready);
}

static void clear_deadline(struct task *task)
{
	if (task->heap_position != SIZE_MAX) {
		heap_remove(task->turn, task);
	}
}

void task_done(struct task *task)
{
	if (!task->turn) {
		return;
	}
	clear_deadline(task);
	list_remove(&task->ready);
	task->turn = NULL;
}

/* The idle watcher sees to it that the loop comes to the end of the turn without blocking before,
 * also when all other watchers are stopped. */
void task_wake(struct task *task)
{
	if (!task->turn || !list_is_empty(&task->ready)) {
		return;
	}
	list_append(&task->turn->ready, &task->ready);
	ev_idle_start(task->turn->loop, &task->turn->idle);
}

/* The last meeting in reach, or one of its own as late as may be: then others find it soonest. */
static uint64_t meet(struct turn *turn, uint64_t deadline, uint64_t slack)
{
	if (slack < USEC_PER_SEC || slack >= USEC_NEVER - deadline) {
		return deadline;
	}
	uint64_t latest = deadline + slack;
	uint64_t found = 0;
	uint64_t *free_place = NULL;
	for (size_t i = 0; i < N_MEETINGS; i++) {
		uint64_t meeting = turn->meetings[i];
		if (meeting <= turn_now(turn)) {
			free_place = &turn->meetings[i];
		} else if (meeting >= deadline && meeting <= latest && meeting > found) {
			found = meeting;
		}
	}
	if (found > 0) {
		return found;
	}
	if (free_place) {
		*free_place = latest;
	}
	return latest;
}

int task_set_deadline(struct task *task, uint64_t deadline, uint64_t slack)
{
	struct turn *turn = task->turn;
	if (!turn) {
		return 0;
	}
	if (deadline == USEC_NEVER) {
		clear_deadline(task);
		return 0;
	}
	if (task->heap_position == SIZE_MAX) {
		int error = heap_add(turn, task);
		if (error < 0) {
			return error;
		}
	}
	task->deadline = meet(turn, deadline, slack);
	sift_up(turn, task->heap_position);
	sift_down(turn, task->heap_position);
	if (nearest_deadline(turn) < turn->armed) {
		ev_idle_start(turn->loop, &turn->idle);
	}
	return 0;
}
