"""Two accounts while everything goes wrong, and whether a subscriber knows the truth afterwards.

A Dovecot behind a relay, a daemon, writers, callers, and by the same seed the same sequence of
faults: connections that are cut at an octet, delayed or silent, servers and daemons that are
restarted and killed. When all of it is over, the daemon gets time but no more help than the wish to
try again, and then what its signals alone have told must be what the server has.
"""

import collections
import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import threading
import time

from busclient import Bus
from busdaemon import BusDaemon
from callers import Callers
from ledger import Kill, Ledger, committed
from mail import message
from mailidled import Account, Daemon, program
from relay import PIECE, Fate, Relay
from servers import Dovecot
from servers.base import quote
from writer import SYSTEM, Writer, checked, read_truth

# Where the server has NOTIFY one connection is told of all but the last, whose name Dovecot does not
# take there: that has a connection of its own.
MAILBOXES = ("INBOX", "Lists/dev", "Lists/users", "Entwürfe")
HIDDEN = {"CONDSTORE", "QRESYNC", "ESEARCH"}
N_BASELINE = 12
# Pushes are the daemon's to follow. Where a machine has no more inotify instances for it, Dovecot
# looks every 30 s instead.
CALM_SECONDS = 45
DISK_USEC = 10_000
GROWTH_KIB = 2048
GROWTH_SANITIZED_KIB = 8192
EXPECTED = re.compile(r"warning: .*\b(connection=\d+ ended,|stopping takes too long)")


@dataclasses.dataclass
class Result:
    seed: int
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    problems: list = dataclasses.field(default_factory=list)
    longest_batch: float = 0
    growth: int = None  # KiB, in the last life of the daemon; None: it may not be looked at
    n_files: int = None
    seconds: float = 0


class Faults:
    """The sequence of what happens to servers and daemons: [(seconds from the start, name, how
    long)], and the fate of each connection.
    """

    KINDS = {
        "cut": 5,
        "freeze": 3,
        "refuse": 2,
        "kill a session": 4,
        "kick": 2,
        "kill a login": 1,
        "restart the server": 1,
        "kill the server": 2,
        "pause the daemon": 1,
        "restart the daemon": 2,
        "kill the daemon": 3,
    }

    def __init__(self, seed, seconds, longest):
        self.seed = seed
        self.longest = longest
        self.sequence = []
        chance = random.Random(f"{seed} faults")
        at = chance.uniform(0.5, 1.5)
        while at < seconds:
            [kind] = chance.choices(list(self.KINDS), list(self.KINDS.values()))
            self.sequence.append((at, kind, self._log_uniform(chance, 0.05, longest)))
            at += chance.expovariate(0.8)

    @staticmethod
    def _log_uniform(chance, least, most):
        return least * (most / least) ** chance.random()

    def fate(self, number):
        chance = random.Random(f"{self.seed} connection {number}")
        delay = chance.choice((0, 0, 0, 0.002, 0.02, 0.08))
        piece = chance.choice((PIECE, PIECE, 1400, 200, 17))
        octets = int(self._log_uniform(chance, 1, 60_000))
        deed = chance.choice(("close", "reset", "reset", "freeze", "freeze", None, None, None))
        if deed is None:
            return Fate(1 << 60, delay=delay, piece=max(piece, 200))
        return Fate(
            octets,
            deed,
            to_server=chance.random() < 0.4,
            seconds=self._log_uniform(chance, 0.2, self.longest),
            goes_on=chance.random() < 0.5,
            delay=delay,
            piece=piece,
        )


def environment():
    """What a sanitizer keeps of freed memory is not ours to answer for. A kill falls into a commit
    only where the disk takes as long as disks do.
    """
    return {
        "ASAN_OPTIONS": "detect_leaks=1:verify_asan_link_order=0:quarantine_size_mb=1:"
        "thread_local_quarantine_size_kb=64",
        "LD_PRELOAD": str(program("slow-disk.so")),
        "SLOW_DISK_USEC": str(DISK_USEC),
    }


class Turmoil:
    """One seed. Everything it starts is gone after `with`."""

    def __init__(self, folder, seed):
        self.folder = pathlib.Path(folder)
        self.seed = seed
        self.result = Result(seed)
        self._began = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._is_calm = True
        self._faults = None
        self._delivered = threading.Event()
        self.ledger = None
        self._load = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._make(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _make(self, stack):
        self.server = stack.enter_context(Dovecot())
        self.users = {"full": self._user("full"), "plain": self._user("plain")}
        known = self._capabilities()
        # With every other seed, NOTIFY is left out: then each mailbox has its own connection.
        known = [word for word in known if word != "NOTIFY" or self.seed % 2]
        for name, hidden in (("full", set()), ("plain", HIDDEN)):
            left = " ".join(word for word in known if word not in hidden)
            self.server.set_session(self.users[name], imap_capability=left)
        for user in self.users.values():
            self._fill(user)
        self.relay = Relay(self.server, fate=self._fate)
        stack.callback(self.relay.close)
        bus_daemon = BusDaemon(self.folder)
        stack.callback(bus_daemon.stop)
        self.bus = stack.enter_context(contextlib.closing(Bus(bus_daemon.address)))
        self.daemon = Daemon(self.folder, self.bus, environment()).configure(
            Account("full", self.relay, self.users["full"], MAILBOXES),
            Account("plain", self.relay, self.users["plain"], MAILBOXES, "starttls"),
        )
        stack.callback(self._end_daemon)

    def _end_daemon(self):
        for worker in self._load:
            worker.stop()
        if self.daemon.process is not None:
            os.kill(self.daemon.process.pid, signal.SIGCONT)
            self.daemon.process.kill()
            self.daemon.wait()

    def _user(self, name):
        return self.server.user(name, f"never-tell-{name}-{self.seed}")

    def _capabilities(self):
        with self.server.client(self.users["full"]) as client:
            known = client.capability()[1][0].decode().split()
        assert {*HIDDEN, "NOTIFY"} <= set(known)
        return known

    def _fill(self, user):
        with self.server.client(user) as client:
            for mailbox in MAILBOXES:
                if mailbox != "INBOX":
                    checked(client.create(quote(mailbox)))
                for i in range(N_BASELINE):
                    flags = " ".join(SYSTEM[: i % 4])
                    checked(client.append(quote(mailbox), flags, None, message(f"old {i}")))

    def _fate(self, number):
        return None if self._is_calm else self._faults.fate(number)

    # What is common to both ways of running.

    def _places(self):
        return [(account, mailbox) for account in self.users for mailbox in MAILBOXES]

    def _truths(self):
        truths = {}
        for account, user in self.users.items():
            truths |= read_truth(self.server, account, user, MAILBOXES)
        return truths

    def _begin(self):
        self.daemon.start()
        for place in self._places():
            self.bus.wait_for_state(*place)
        self.ledger = Ledger(self.users, self._truths())

    def _start_load(self, pace, may_pause):
        self.result.counts["rounds"] += 1
        name = f"{self.seed} round {self.result.counts['rounds']}"
        self.writers = {
            account: Writer(self.server, user, MAILBOXES, name, pace, self._delivered.set)
            for account, user in self.users.items()
        }
        self.callers = Callers(self.bus, self.writers, name, 2, may_pause)
        self._load = [*self.writers.values(), self.callers]
        for worker in self._load:
            worker.start()

    def _stop_load(self):
        load, self._load = self._load, []
        for worker in load:
            worker.stop()
            self.result.counts += worker.counts
        self.result.problems += self.callers.problems
        for name, n in self.callers.errors.items():
            self.result.counts[f"error {name}"] += n

    def _kill_daemon(self):
        now = time.monotonic()
        self.daemon.kill()
        self.ledger.note_kill(Kill(self.bus.mark(), now, committed(self.daemon.state)))
        self.result.counts["kills"] += 1

    # The end of the faults, and what must be true then.

    def _calm_down(self):
        self._is_calm = True
        self.relay.thaw()
        self.relay.refuse(False)
        self.relay.pardon()
        self._stop_load()
        deadline = time.monotonic() + CALM_SECONDS
        while True:
            # What waits tries now, what was stopped runs again.
            self.bus.call("Start", "ss", "", "")
            try:
                self.bus.wait(self._all_idle, 2, "all mailboxes idle")
                break
            except TimeoutError:
                if time.monotonic() > deadline:
                    raise
        self._compare()
        self.ledger.check_doubles()

    def _all_idle(self):
        return all(self.bus.mailbox(*place)["State"] == "idle" for place in self._places())

    def _compare(self):
        truths = self._truths()
        try:
            self.bus.wait(lambda: not self._differences(truths), CALM_SECONDS, "the truth")
            return
        except TimeoutError:
            pass
        truths = self._truths()
        found = self._differences(truths)
        if not found:
            return
        self.result.problems += found
        self.bus.call("Refresh", "ss", "", "")
        left = self._differences(truths)
        self.result.problems.append(
            f"(a Refresh finds {len(found) - len(left)} of these {len(found)})"
        )

    def _differences(self, truths):
        self.ledger.read(self.bus.signals)
        found = self.ledger.differences(truths)
        for place, truth in truths.items():
            shown = self.bus.mailbox(*place)
            wanted = {
                "State": "idle",
                "Error": ["", ""],
                "Messages": len(truth.flags),
                "Unread": truth.n_unread,
                "UidValidity": truth.uidvalidity,
            }
            found += [
                f"{place}: {name} is {shown[name]} instead of {value}"
                for name, value in wanted.items()
                if shown[name] != value
            ]
            # A message that came and went unseen leaves no trace but in the server's UIDNEXT.
            if not max(truth.flags, default=0) < shown["UidNext"] <= truth.uidnext:
                found.append(f"{place}: UidNext is {shown['UidNext']}, not {truth.uidnext}")
        unread = {
            account: sum(truth.n_unread for place, truth in truths.items() if place[0] == account)
            for account in self.users
        }
        for account, n_unread in unread.items():
            if self.bus.account(account)["Unread"] != n_unread:
                found.append(f"{account}: Unread of the account is not {n_unread}")
        if self.bus.root()["Unread"] != sum(unread.values()):
            found.append(f"Unread of all is not {sum(unread.values())}")
        return found

    def _measure(self):
        """Open files, and memory in KiB. None: the program lets nobody look, except root, as it
        does where it was not built for tests.
        """
        process = pathlib.Path(f"/proc/{self.daemon.process.pid}")
        try:
            rollup = (process / "smaps_rollup").read_text()
            n_files = len(list((process / "fd").iterdir()))
        except PermissionError:
            return None
        [rss] = re.findall(r"^Rss: +(\d+) kB", rollup, re.M)
        return n_files, int(rss)

    def _finish(self):
        self.daemon.stop()
        result, ledger = self.result, self.ledger
        ledger.read(self.bus.signals)
        result.problems += ledger.problems
        result.counts += ledger.counts
        result.longest_batch = ledger.longest_batch
        for line in self.daemon.log.splitlines():
            if line.startswith(("error: ", "warning: ")) and not EXPECTED.match(line):
                result.problems.append(f"mailidled says {line}")
        self._look_for_secrets()
        for deed, n in self.relay.deeds.items():
            result.counts[f"path {deed}"] = n
        result.seconds = time.monotonic() - self._began

    def keep(self, folder):
        """What was said, for a person who looks at a problem."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "mailidled.log").write_text(self.daemon.log)
        shutil.copy(self.server.log, folder / "server.log")
        if self.daemon.trace.exists():
            shutil.copy(self.daemon.trace, folder / "trace")
        kills = self.ledger.kills if self.ledger else []
        with open(folder / "signals", "w") as file:
            for thing in sorted([*self.bus.signals, *kills], key=lambda thing: thing.time):
                print(thing, file=file)

    def _look_for_secrets(self):
        said = {
            "log": self.daemon.log.encode(),
            "trace": self.daemon.trace.read_bytes(),
            "state": b"".join(path.read_bytes() for path in self.daemon.state.iterdir()),
        }
        for user in self.users.values():
            for name, octets in said.items():
                if user.password.encode() in octets:
                    self.result.problems.append(f"the password of {user} is in the {name}")

    # The two ways.

    def run(self, seconds):
        """Two thirds of the time everything may happen, the last third the daemon lives."""
        self._begin()
        # Longer than the deadlines of the engine only where there is time for it.
        longest = max(1, min(seconds / 8, 45))
        measured = []
        for part, is_mortal in ((2 / 3, True), (1 / 3, False)):
            seed = f"{self.seed} {'mortal' if is_mortal else 'living'}"
            self._faults = Faults(seed, seconds * part, longest)
            self._is_calm = False
            self._start_load(4, True)
            self._let_happen(seconds * part, is_mortal)
            self._calm_down()
            measured.append(self._measure())
        self._judge_growth(*measured)
        self._finish()
        return self.result

    def _judge_growth(self, before, after):
        if before is None or after is None:
            return
        self.result.n_files = after[0]
        self.result.growth = after[1] - before[1]
        if after[0] != before[0]:
            self.result.problems.append(f"open files: {before[0]} before, {after[0]} after")
        most = GROWTH_SANITIZED_KIB if self.daemon.is_sanitized else GROWTH_KIB
        if self.result.growth > most:
            self.result.problems.append(f"memory: {before[1]} KiB before, {after[1]} KiB after")

    def _let_happen(self, seconds, is_mortal):
        began = time.monotonic()
        pause = threading.Event()
        for at, kind, length in self._faults.sequence:
            if not is_mortal and kind.endswith("the daemon") and kind != "pause the daemon":
                continue
            pause.wait(max(0, began + at - time.monotonic()))
            if time.monotonic() > began + seconds:
                break
            self.result.counts[kind] += 1
            getattr(self, "_" + kind.replace(" ", "_"))(length, pause)
        pause.wait(max(0, began + seconds - time.monotonic()))

    def _cut(self, *_):
        self.relay.cut()

    def _freeze(self, length, pause):
        self.relay.freeze()
        pause.wait(length)
        self.relay.thaw()

    def _refuse(self, length, pause):
        self.relay.refuse()
        self.relay.cut()
        pause.wait(min(length, 2))
        self.relay.refuse(False)

    def _kill_one(self, name, length):
        processes = self.server.processes(name)
        if processes:
            self.server.kill_process(processes[int(length * 1000) % len(processes)])

    def _kill_a_session(self, length, _):
        self._kill_one("imap", length)

    def _kill_a_login(self, length, _):
        self._kill_one("imap-login", length)

    def _kick(self, length, _):
        users = list(self.users.values())
        # It fails where nobody is logged in.
        with contextlib.suppress(subprocess.CalledProcessError):
            self.server.doveadm("kick", users[int(length * 1000) % len(users)])

    def _restart_the_server(self, length, pause):
        self.server.stop()
        pause.wait(min(length, 2))
        self.server.start()

    def _kill_the_server(self, length, pause):
        self.server.kill()
        pause.wait(min(length, 2))
        self.server.start()

    def _pause_the_daemon(self, length, pause):
        self.daemon.process.send_signal(signal.SIGSTOP)
        pause.wait(min(length, 2))
        self.daemon.process.send_signal(signal.SIGCONT)

    def _restart_the_daemon(self, length, pause):
        self.callers.note_stop()
        self.daemon.stop()
        pause.wait(min(length, 2))
        self.daemon.start()

    def _kill_the_daemon(self, length, pause):
        self._kill_daemon()
        pause.wait(min(length, 2))
        self.daemon.start()

    def run_kills(self, n):
        """A loop of so many kill -9 under load, at instants that hurt."""
        self._begin()
        self._start_load(5, False)
        chance = random.Random(f"{self.seed} kills")
        instants = ("at the start", "after a delivery", "after a signal", "after a signal")
        pause = threading.Event()
        for _ in range(n):
            instant = chance.choice(instants)
            if instant == "at the start":
                pause.wait(chance.uniform(0, 0.4))
            elif instant == "after a delivery":
                self._await_life()
                self._delivered.clear()
                self._delivered.wait(3)
                # Dovecot tells 500 ms later.
                pause.wait(chance.uniform(0, 0.7))
            else:
                self._await_life()
                since = self.bus.mark()
                with contextlib.suppress(TimeoutError):
                    self.bus.wait_for_signal("NewMail", timeout=3, since=since)
                pause.wait(chance.uniform(0, 0.012))
            self.result.counts[instant] += 1
            self._kill_daemon()
            self.daemon.start()
        self._calm_down()
        self._finish()
        return self.result

    def _await_life(self):
        """Not what is to be shown here, only what makes an instant worth it."""
        with contextlib.suppress(TimeoutError):
            self.bus.wait(self._all_idle, 2)


def run(folder, seed, seconds):
    with Turmoil(folder, seed) as turmoil:
        return turmoil.run(seconds)


def run_kills(folder, seed, n):
    with Turmoil(folder, seed) as turmoil:
        return turmoil.run_kills(n)
