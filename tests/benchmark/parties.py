"""The programs that take part in the benchmark: the server, the floor, a subscriber, mailidled.

Each writes what it sees into a file, a line for each event, with the time by CLOCK_MONOTONIC; the
files are read when something is waited for, so that nobody is woken while something is measured.
"""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import types

from busdaemon import BusDaemon
from mailidled import Account
from servers import ports
from servers.base import User
from servers.certificates import Certificates

SECONDS = 60
# Where GnuTLS looks for the system's.
AUTHORITIES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")


def wait(predicate, what, seconds=SECONDS, alive=()):
    """Looks every few milliseconds; alive: parties whose end is the end of the waiting."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        for party in alive:
            party.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.003)


def see_end(process):
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check_end(name, process, complaints):
    """It ended well, or because the whole benchmark was told to."""
    told = [0, *(-number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))]
    if process.returncode not in told:
        text = complaints.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{name} ended with {process.returncode}: {text}")


class Event(tuple):
    """(nanoseconds, word, word, ...)"""

    @property
    def time(self):
        return self[0]


class Party:
    """A program that takes orders and tells events."""

    def __init__(self, folder, name, command, environment=None):
        self.name = name
        self.events = []
        self._output = folder / f"{name}.events"
        self._complaints = folder / f"{name}.stderr"
        with open(self._output, "w") as output, open(self._complaints, "w") as complaints:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=complaints,
            )
        self._file = open(self._output, "rb")
        self._rest = b""

    @property
    def pid(self):
        return self.process.pid

    def order(self, text):
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def look(self):
        """All events so far."""
        data = self._rest + self._file.read()
        lines = data.split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            first, *words = line.decode().split()
            self.events.append(Event((int(first), *words)))
        return self.events

    def check(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended: {self._complaints.read_text()[-2000:]}")

    def wait(self, word, where=lambda *words: True, since=0, place=0, seconds=SECONDS):
        """The first event at or after number `since` whose word at `place` is this one."""
        position = since

        def find():
            nonlocal position
            self.look()
            while position < len(self.events):
                event = self.events[position]
                position += 1
                if len(event) > place + 1 and event[place + 1] == word and where(*event[1:]):
                    return event
            return None

        return wait(find, f"{word} from {self.name}", seconds, [self])

    def call(self, order, reply):
        """Gives an order; the event that is its reply."""
        since = len(self.look())
        self.order(order)
        return self.wait(reply, since=since)

    def close(self):
        if self._file.closed:
            return
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        see_end(self.process)
        self.look()
        self._file.close()
        check_end(self.name, self.process, self._complaints)


class Server(Party):
    """round_trip: milliseconds, 0 for none. Its events: NS CONNECTION WORD ..."""

    def __init__(self, folder, programs, certificates, round_trip=0, **options):
        self.port = ports.take()
        self.host, self.imap, self.imaps = "127.0.0.1", self.port, self.port
        self.ca = certificates.ca
        self.round_trip = round_trip
        command = [programs / "bench-server", "--port", self.port]
        command += ["--chain", certificates.chain, "--key", certificates.key]
        command += ["--round-trip", round_trip]
        for name, value in options.items():
            command += [f"--{name}"] if value is True else [f"--{name}", value] if value else []
        super().__init__(folder, f"server-{self.port}", command)
        self.wait("listening", place=1)

    def close(self):
        super().close()
        if self.port:
            ports.give_back(self.port)
        self.port = None
        for event in self.events:
            assert event[2] != "violation", f"pipelined beyond RFC 3501 section 5.5: {event}"

    def mark(self):
        """A place in the sequence of events."""
        return len(self.look())

    def connection(self, user, since=0):
        """The number of a user's latest connection."""
        for event in reversed(self.look()[since:]):
            if event[2] == "login" and event[3] == user:
                return event[1]
        return None

    def wait_for(self, connection, word, since=0):
        return self.wait(word, lambda number, *_: number == connection, since, place=1)

    def wait_idle(self, n, since=0, seconds=SECONDS):
        """Until so many different connections have reached IDLE; the event of the last."""
        seen = set()
        position = since

        def look():
            nonlocal position
            for event in self.look()[position:]:
                position += 1
                if event[2] == "idle":
                    seen.add(event[1])
                    if len(seen) == n:
                        return event
            return None

        return wait(look, f"{n} connections idle", seconds, [self])

    def deliver(self, user, mailbox=1):
        self.order(f"deliver {user} {mailbox} 1")


class Floor(Party):
    """bus: where session 1 is to be heard; prepared: how many messages its Fetch knows."""

    def __init__(
        self, folder, programs, server, sessions=1, notify=False, bus=None, prepared=0
    ):
        command = [programs / ("bench-floor-on-bus" if bus else "bench-floor")]
        command += ["--port", server.port, "--ca", server.ca, "--sessions", sessions]
        command += ["--notify"] if notify else []
        command += ["--prepared", prepared] if bus else []
        environment = {"DBUS_SESSION_BUS_ADDRESS": bus.address} if bus else {}
        super().__init__(folder, "floor", command, environment)


class Subscriber(Party):
    def __init__(self, folder, programs, bus):
        environment = {"DBUS_SESSION_BUS_ADDRESS": bus.address}
        super().__init__(folder, "subscriber", [programs / "bench-subscriber"], environment)
        self.wait("listening")


class Mailidled:
    """accounts: how many, of the users jo1, jo2, ...; all in one configuration file.

    authorities: a bundle of certificates that takes the place of the system's, and of the accounts'
    ca-file. Options by name: those of every account.
    """

    def __init__(
        self, folder, programs, bus, server, accounts=1, authorities=None, **options
    ):
        folder.mkdir(exist_ok=True)
        (folder / "runtime").mkdir(mode=0o700, exist_ok=True)
        self.folder = folder
        self.server = server
        self.accounts = accounts
        texts = []
        for number in range(1, accounts + 1):
            account = Account(f"a{number}", server, User(f"jo{number}", "secret"))
            account.options = options
            texts.append(account.text(folder))
        text = "\n".join(texts)
        prefix = []
        if authorities:
            text = re.sub(r"\tca-file = .*\n", "", text)
            prefix = ["unshare", "--mount"]
            prefix += [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
            prefix += ["/bin/sh", "-c", f'mount --bind "$0" {AUTHORITIES} && exec "$@"']
            prefix += [str(authorities)]
        configuration = folder / "mailidle.conf"
        configuration.write_text(text)
        configuration.chmod(0o600)
        self._log = folder / "log"
        self.since = server.mark()
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    str(programs / "mailidled"),
                    *("--config", str(configuration)),
                    *("--state-dir", str(folder / "state")),
                ],
                cwd=folder,
                env={
                    **{
                        name: os.environ[name]
                        for name in ("PATH", "LD_LIBRARY_PATH")
                        if name in os.environ
                    },
                    "LANG": "C.UTF-8",
                    "HOME": str(folder),
                    "XDG_RUNTIME_DIR": str(folder / "runtime"),
                    "DBUS_SESSION_BUS_ADDRESS": bus.address,
                    "DBUS_SYSTEM_BUS_ADDRESS": bus.system_address,
                },
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def pid(self):
        return self.process.pid

    def wait_idle(self, seconds=SECONDS):
        """Until all of them idle; the event of the last."""
        try:
            return self.server.wait_idle(self.accounts, self.since, seconds)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log()}") from None

    def log(self):
        return self._log.read_text(errors="replace")[-2000:]

    def close(self):
        if self.process.returncode is None:
            self.process.terminate()
            see_end(self.process)
            check_end("mailidled", self.process, self._log)


class Company:
    """Makes parties, and sees them out."""

    def __init__(self, place, programs):
        self.folder = place.folder
        self.programs = programs
        self.certificates = Certificates.shared()
        self.buses = []
        self._system_bus = None
        self._stack = contextlib.ExitStack()
        # A thousand connections at both ends.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        return self._stack.__exit__(*exception)

    def _fresh(self):
        return pathlib.Path(tempfile.mkdtemp(dir=self.folder))

    def _see_out(self, party):
        self._stack.callback(party.close)
        return party

    def copy_libraries(self):
        """Who starts from now on has libraries that nobody else on this machine has mapped: what
        is shared is shared with the others of this company.
        """
        folder = self._fresh()
        programs = [self.programs / name for name in ("mailidled", "bench-subscriber")]
        for program in [*programs, shutil.which("dbus-daemon")]:
            told = subprocess.run(["ldd", program], check=True, stdout=subprocess.PIPE, text=True)
            for name, path in re.findall(r"^\s*(\S+) => (/\S+)", told.stdout, re.MULTILINE):
                if not (folder / name).exists():
                    shutil.copyfile(path, folder / name)
        before = os.environ.get("LD_LIBRARY_PATH")
        os.environ["LD_LIBRARY_PATH"] = str(folder)
        if before is None:
            self._stack.callback(os.environ.pop, "LD_LIBRARY_PATH")
        else:
            self._stack.callback(os.environ.__setitem__, "LD_LIBRARY_PATH", before)

    def server(self, **options):
        return self._see_out(
            Server(self._fresh(), self.programs, self.certificates, **options)
        )

    def floor(self, server, **options):
        return self._see_out(Floor(self._fresh(), self.programs, server, **options))

    def bus(self):
        """A session bus, with its system_address: that of an empty system bus."""
        if not self._system_bus:
            self._system_bus = BusDaemon(self._fresh(), "system")
            self._stack.callback(self._system_bus.stop)
        bus = BusDaemon(self._fresh())
        self._stack.callback(bus.stop)
        bus.system_address = self._system_bus.address
        self.buses.append(bus)
        return bus

    def subscriber(self, bus):
        return self._see_out(Subscriber(self._fresh(), self.programs, bus))

    def mailidled(self, bus, server, folder=None, **options):
        """folder: that of an earlier one, whose state it finds."""
        daemon = Mailidled(folder or self._fresh(), self.programs, bus, server, **options)
        return self._see_out(daemon)


def cpu_nsec(party):
    """What a process and all its threads have used, those that ended included."""
    # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of the kernel: clock_getcpuclockid(3).
    return time.clock_gettime_ns((~party.pid << 3) | 2)


def switches(party):
    total = 0
    for status in pathlib.Path(f"/proc/{party.pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def memory(party):
    """PSS, all that is resident, what is its own alone, and of PSS what is of no file; octets."""
    values = {}
    for line in pathlib.Path(f"/proc/{party.pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, _ = line.split()
        values[name.rstrip(":")] = int(value) * 1024
    return types.SimpleNamespace(
        pss=values["Pss"],
        resident=values["Rss"],
        own=values["Private_Clean"] + values["Private_Dirty"],
        anonymous=values["Pss_Anon"],
    )
