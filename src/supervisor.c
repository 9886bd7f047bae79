#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "supervisor.h"
#include "util/clock.h"
#include "util/list.h"

/* States come and go by the millisecond while mail arrives. */
#define STATUS_DELAY (1 * USEC_PER_SEC)

static bool is_idle(enum account_state state)
{
	switch (state) {
	case ACCOUNT_STATE_IDLE:
	case ACCOUNT_STATE_INTERRUPTING:
	case ACCOUNT_STATE_FETCHING:
		return true;
	case ACCOUNT_STATE_STOPPED:
	case ACCOUNT_STATE_OFFLINE:
	case ACCOUNT_STATE_WAITING:
	case ACCOUNT_STATE_CONNECTING:
	case ACCOUNT_STATE_AUTHENTICATING:
	case ACCOUNT_STATE_SYNCHRONIZING:
	case ACCOUNT_STATE_FAILED:
		break;
	}
	return false;
}

/* "2 of 3 mailboxes idle, 4 unread" */
static void describe(const struct supervisor *supervisor, char *text, size_t size)
{
	size_t n_accounts = accounts_count(supervisor->accounts);
	if (n_accounts == 0) {
		snprintf(text, size, "no account is configured");
		return;
	}
	size_t n_mailboxes = 0;
	size_t n_idle = 0;
	for (size_t i = 0; i < n_accounts; i++) {
		const struct account *account = accounts_get(supervisor->accounts, i);
		size_t n = account_n_mailboxes(account);
		n_mailboxes += n;
		for (size_t j = 0; j < n; j++) {
			n_idle += is_idle(mailbox_state(account_mailbox(account, j)));
		}
	}
	snprintf(text, size, "%zu of %zu mailboxes idle, %llu unread", n_idle, n_mailboxes,
		(unsigned long long)accounts_unread(supervisor->accounts));
}

static void on_status(struct task *task)
{
	struct supervisor *supervisor = list_entry(task, struct supervisor, status);
	char text[sizeof(supervisor->text)];
	describe(supervisor, text, sizeof(text));
	if (strcmp(text, supervisor->text) != 0) {
		memcpy(supervisor->text, text, sizeof(text));
		sd_notifyf(0, "STATUS=%s", text);
	}
}

/* At half of the time, and with slack so that it falls together with other deadlines. */
static void on_watchdog(struct task *task)
{
	struct supervisor *supervisor = list_entry(task, struct supervisor, watchdog);
	sd_notify(0, "WATCHDOG=1");
	uint64_t usec = supervisor->watchdog_usec;
	if (task_set_deadline(task, turn_now(task->turn) + usec / 2, usec / 4) < 0) {
		/* Better killed for being out of memory than alive without a watchdog. */
		sd_notify(0, "STATUS=out of memory");
	}
}

void supervisor_init(struct supervisor *supervisor, struct turn *turn, struct accounts *accounts)
{
	*supervisor = (struct supervisor){
		.accounts = accounts,
		.is_there = getenv("NOTIFY_SOCKET") != NULL,
	};
	task_init(&supervisor->status, turn, on_status);
	task_init(&supervisor->watchdog, turn, on_watchdog);
	if (sd_watchdog_enabled(0, &supervisor->watchdog_usec) > 0) {
		task_wake(&supervisor->watchdog);
	} else {
		supervisor->watchdog_usec = 0;
	}
}

void supervisor_done(struct supervisor *supervisor)
{
	task_done(&supervisor->status);
	task_done(&supervisor->watchdog);
}

void supervisor_ready(struct supervisor *supervisor)
{
	if (supervisor->is_ready) {
		return;
	}
	supervisor->is_ready = true;
	sd_notify(0, "READY=1");
	if (supervisor->is_there) {
		task_wake(&supervisor->status);
	}
}

void supervisor_changed(struct supervisor *supervisor)
{
	struct task *task = &supervisor->status;
	if (!supervisor->is_there || !supervisor->is_ready || task->deadline != USEC_NEVER) {
		return;
	}
	if (task_set_deadline(task, turn_now(task->turn) + STATUS_DELAY, STATUS_DELAY) < 0) {
		task_wake(task);
	}
}

void supervisor_stopping(struct supervisor *supervisor)
{
	sd_notify(0, "STOPPING=1");
	supervisor->is_there = false;
	task_done(&supervisor->status);
}
