"""Programs that ask in between: every method that makes the daemon leave IDLE."""

import collections
import concurrent.futures
import random
import threading
import time
import typing

from busclient import NAME, SECONDS, BusError, check
from writer import KEYWORDS

# Fewer than a caller may have waiting.
N_PENDING = 6
# What the interface lets a method answer when server, path, daemon or message have gone.
HARMLESS = {
    "Offline",
    "Timeout",
    "Cancelled",
    "Stopped",
    "NoSuchMessage",
    "ServerRefused",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
}
ANSWER_SECONDS = 20
# A daemon that is asked to end takes no longer.
STOP_SECONDS = 2
# The bus, this program and a busy machine.
MARGIN_SECONDS = 4


class _Call(typing.NamedTuple):
    future: concurrent.futures.Future
    began: float
    owner: str
    member: str
    where: tuple  # account and mailbox


class Callers:
    """Call until stop(), by their own sequence of chance. may_pause: now and then a mailbox is
    stopped for a while.
    """

    def __init__(self, bus, writers, seed, pace, may_pause=True):
        """writers: {account: Writer}, for names and UIDs."""
        self.bus = bus
        self.counts = collections.Counter()
        self.errors = collections.Counter()
        self.problems = []
        self._writers = writers
        self._random = random.Random(f"{seed} callers")
        self._pace = pace
        self._pending = []
        self._stops = []  # (time, account, mailbox)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._calls = {
            self._refresh: 8,
            self._refresh_all: 4,
            self._fetch: 4,
            self._set_flags: 4,
            self._move: 2,
            self._list: 2,
        }
        if may_pause:
            self._calls[self._stop_and_start] = 1

    def start(self):
        self._thread.start()

    def stop(self):
        """Returns when every call is answered."""
        self._is_over.set()
        self._thread.join()

    def note_stop(self, account="", mailbox=""):
        """What waits there may end as cancelled. Without names: the daemon is asked to end."""
        self._stops.append((time.monotonic(), account, mailbox))

    def _run(self):
        while not self._is_over.wait(self._random.expovariate(self._pace)):
            [call] = self._random.choices(list(self._calls), list(self._calls.values()))
            account = self._random.choice(list(self._writers))
            mailbox = self._random.choice(self._writers[account].mailboxes)
            if len(self._pending) < N_PENDING and self.bus.owner:
                call(account, mailbox)
            self._collect(0)
        deadline = time.monotonic() + ANSWER_SECONDS + MARGIN_SECONDS
        while self._pending and time.monotonic() < deadline:
            self._collect(deadline - time.monotonic())
        for call in self._pending:
            self.problems.append(f"{call.member} was never answered")

    def _send(self, member, signature, *arguments):
        self.counts["calls"] += 1
        owner = self.bus.owner
        future = self.bus.send(member, signature, *arguments, destination=NAME)
        self._pending.append(_Call(future, time.monotonic(), owner, member, arguments[:2]))

    def _collect(self, seconds):
        if not self._pending:
            return
        done, _ = concurrent.futures.wait(
            [call.future for call in self._pending],
            seconds,
            concurrent.futures.FIRST_COMPLETED,
        )
        now = time.monotonic()
        for call in list(self._pending):
            seconds = now - call.began
            if call.future in done:
                self._pending.remove(call)
                self._judge(call)
            elif seconds > ANSWER_SECONDS + MARGIN_SECONDS and call.owner == self.bus.owner:
                self._pending.remove(call)
                self.problems.append(f"{call.member} not answered in {seconds:.0f} s")

    def _judge(self, call):
        try:
            check(call.future.result(SECONDS))
        except BusError as error:
            self.errors[error.name.rpartition(".")[2]] += 1
            if error.name not in HARMLESS or (
                error.name == "Cancelled" and not self._was_cancelled(call)
            ):
                self.problems.append(f"{call.member} {call.where}: {error}")

    def _was_cancelled(self, call):
        """By a Stop of the mailbox, or with the daemon."""
        return self.bus.owner != call.owner or any(
            when >= call.began - STOP_SECONDS
            and all("" in pair or pair[0] == pair[1] for pair in zip(call.where, stopped))
            for when, *stopped in self._stops
        )

    def _some_uids(self, account, mailbox):
        uids = self._writers[account].uids[mailbox]
        return sorted(self._random.sample(uids, min(len(uids), self._random.randint(1, 5))))

    def _refresh(self, account, mailbox):
        self._send("Refresh", "ss", account, mailbox)

    def _refresh_all(self, *_):
        self._send("Refresh", "ss", "", "")

    def _fetch(self, account, mailbox):
        items = self._random.choice(([], ["text"], ["flags", "preview", "attachments"]))
        self._send("Fetch", "ssauas", account, mailbox, self._some_uids(account, mailbox), items)

    def _set_flags(self, account, mailbox):
        flags = self._random.sample(("\\Seen", "\\Flagged", *KEYWORDS), 3)
        n_added = self._random.randint(0, 3)
        self._send(
            "SetFlags",
            "ssauasas",
            account,
            mailbox,
            self._some_uids(account, mailbox),
            flags[:n_added],
            flags[n_added:],
        )

    def _move(self, account, mailbox):
        target = self._random.choice(self._writers[account].mailboxes + ("\\Trash",))
        uids = self._some_uids(account, mailbox)[:2]
        if target != mailbox:
            self._send("Move", "ssaus", account, mailbox, uids, target)

    def _list(self, account, mailbox):
        if self._random.random() < 0.5:
            self._send("ListUnread", "ssu", account, mailbox, 20)
        else:
            self._send("ListMailboxes", "s", account)

    def _stop_and_start(self, account, mailbox):
        self._send("Stop", "ss", account, mailbox)
        self.note_stop(account, mailbox)
        self._is_over.wait(self._random.uniform(0, 1))
        self._send("Start", "ss", account, mailbox)
