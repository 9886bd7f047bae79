"""Every system call on the way fails: by each errno that it has, or with a transfer that is cut
short. The daemon lives, holds no descriptor more than before, and tells each message once."""

import contextlib
import errno
import os
import pathlib
import time

import pytest

from busclient import Bus, BusError
from busdaemon import BusDaemon
from faults import EAI, EVER, Calls, Fault, possible
from mailidled import Account, Daemon
from scripted import Box, Server, Session
from servers.base import User

IS_SLOW = "MAILIDLE_SLOW" in os.environ
N_TRIES = 6
N_ROUNDS = 3
# Taken as EMFILE, ENOSPC and EPIPE are.
SIMILAR = (errno.ENFILE, errno.ENOMEM, errno.EDQUOT, errno.ENOBUFS)
# Where every single call fails, what waits for a deadline of the daemon's own does not hang.
ATTEMPT_SECONDS = 60 if IS_SLOW else 10
HANG_SECONDS = 80 if IS_SLOW else 20
PLACE = ("work", "INBOX")


class Mailserver:
    """Everything that a usual server does, on any number of connections to one mailbox."""

    def __init__(self, certificates, is_tls):
        # What is no address is resolved by a thread.
        host = "127.0.0.1" if is_tls else "localhost"
        self.server = Server(host, certificates, User("jo", "secret-of-faults"))
        self.is_tls = is_tls
        self.box = Box({1: ["\\Seen"]})
        self.server.serve(self._serve)

    def _serve(self, wire):
        wire.be_patient()
        # It may leave anywhere, in the middle of a line as well.
        with contextlib.suppress(OSError, EOFError, AssertionError):
            if self.is_tls:
                wire.secure()
            Session(wire, self.box).greet().answer_until()
        wire.end()

    def end(self):
        for wire in self.server.wires:
            wire.end()

    def push(self):
        """A mail comes, and whoever idles is told; in TLS it is found instead, for only one thread
        may use that."""
        uid = self.box.uidnext
        self.box.add(uid)
        for wire in [] if self.is_tls else self.server.wires:
            with contextlib.suppress(OSError):
                wire.tell(f"* {len(self.box.messages)} EXISTS")
        return uid

    def close(self):
        self.server.close()


class Life:
    """A daemon with one account, whose calls fail by plan."""

    def __init__(self, folder, certificates, is_tls):
        self.folder = folder
        self.bus_daemon = BusDaemon(folder)
        self.bus = Bus(self.bus_daemon.address)
        self.mail = Mailserver(certificates, is_tls)
        self.calls = Calls(folder)
        self.daemon = Daemon(folder, self.bus, self.calls.environment())
        self.daemon.configure(
            Account(
                "work",
                self.mail.server,
                self.mail.server.user,
                security="tls" if is_tls else "plain",
                secret="password-command" if is_tls else "password-file",
            )
        )

    def close(self):
        try:
            self.calls.clear()
            self.daemon.close()
        finally:
            self.bus.close()
            self.bus_daemon.stop()
            self.mail.close()
            self.calls.close()

    def call(self, member, *arguments, signature="ss"):
        """It is answered; with what is another matter while calls fail."""
        with contextlib.suppress(BusError):
            self.bus.call(member, signature, *arguments)
            return True
        return False

    def state(self):
        return self.bus.mailbox(*PLACE)["State"]

    def wait_for_end(self):
        """Of an attempt to connect."""
        self.bus.wait(
            lambda: self.state() in ("idle", "waiting", "failed"),
            ATTEMPT_SECONDS,
            "an end of the attempt",
        )

    def recover(self):
        """A person's wish brings it back, at the latest."""
        for _ in range(N_TRIES):
            self.wait_for_end()
            if self.state() == "idle" and self.call("Refresh", *PLACE):
                return
            self.call("Start", *PLACE)
        raise AssertionError(f"it does not recover: {self.bus.mailbox(*PLACE)}")

    def round(self):
        """A connection from its beginning, with a mail that was missed and one that is pushed."""
        self.mail.end()
        self.bus.wait(lambda: self.state() != "idle", what="the end to be noticed")
        self.mail.box.add(self.mail.box.uidnext)
        self.call("Start", *PLACE)
        self.wait_for_end()
        uid = self.mail.push()
        self.call("Refresh", *PLACE)
        self.call("Fetch", *PLACE, [uid], ["text"], signature="ssauas")
        with contextlib.suppress(BusError):
            self.bus.fetch_raw(*PLACE, uid)
        self.call("Reload", signature="")

    def told(self, since=0):
        return sorted(message["Uid"] for message in self.bus.new_mail(since=since))

    def descriptors(self):
        links = {}
        for link in pathlib.Path(f"/proc/{self.daemon.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links[link.name] = os.readlink(link)
        return links


@pytest.fixture(params=["plain", "tls"])
def life(request, folder, certificates):
    life = Life(folder, certificates, request.param == "tls")
    yield life
    life.close()


def faults_of(counts):
    """Each kind that is possible: once at the first call, or with MAILIDLE_SLOW=1 each errno at each
    of them."""
    return [
        Fault(name, kind, first)
        for name, n in sorted(counts.items())
        for kind in possible(name)
        if IS_SLOW or kind not in SIMILAR
        for first in (range(1, n + 1) if IS_SLOW else (1,))
    ]


def test_while_it_runs(life):
    """Connections, commands, mails, calls and the disk."""
    daemon, calls = life.daemon.start(), life.calls
    life.recover()
    life.round()
    life.recover()
    before = calls.counted()
    life.round()
    life.recover()
    faults = faults_of(calls.since(before))
    pid, n_descriptors = daemon.process.pid, len(life.descriptors())
    for fault in faults:
        began = time.monotonic()
        calls.plan(fault)
        life.round()
        n_failed = calls.clear()
        life.recover()
        seconds = time.monotonic() - began
        print(f"{seconds:.2f} s: {fault}")
        assert seconds < HANG_SECONDS, f"{fault}: it hangs"
        # A later one may not be reached where the round takes another way.
        assert n_failed > 0 or fault.first > 1, f"{fault}: it was not called"
        assert daemon.process.pid == pid and daemon.process.poll() is None
        assert life.told() == life.mail.box.uids()[1:], f"{fault}: what was told is not what came"
        life.bus.wait(
            lambda: len(life.descriptors()) <= n_descriptors,
            what=f"{n_descriptors} descriptors after {fault}: {life.descriptors()}",
        )


LASTING = [
    Fault("pwrite64 log", errno.ENOSPC, last=EVER),
    Fault("fdatasync log", errno.EIO, last=EVER),
    Fault("socket tcp", errno.EMFILE, last=EVER),
    Fault("memfd_create new", errno.EMFILE, last=EVER),
    Fault("open64 conf", errno.EMFILE, last=EVER),
    Fault("getaddrinfo new", EAI, last=EVER),
]


@pytest.mark.parametrize("fault", LASTING, ids=str)
def test_for_a_long_time(folder, certificates, fault):
    """It goes on with what it can do, says once that the state is not kept, and is whole as soon as
    the calls succeed again."""
    with contextlib.closing(Life(folder, certificates, is_tls=False)) as life:
        daemon = life.daemon.start()
        life.recover()
        life.calls.plan(fault)
        for _ in range(N_ROUNDS):
            life.round()
        assert life.calls.clear() >= N_ROUNDS
        is_state = fault.name.endswith(" log")
        assert daemon.log.count("cannot be kept") == (1 if is_state else 0)
        life.mail.push()
        life.recover()
        assert life.told() == life.mail.box.uids()[1:]
        if is_state:
            daemon.wait_for_log("is kept again")
        daemon.kill()
        life.mail.box.add(life.mail.box.uidnext)
        daemon.start()
        life.recover()
        assert life.told() == life.mail.box.uids()[1:]


def begin(life, fault):
    """One life. Where nothing else is possible the daemon says why, and ends; then another one is
    whole."""
    life.mail.box.add(life.mail.box.uidnext)
    life.calls.plan(fault)
    daemon, bus = life.daemon.start(ready=False), life.bus
    bus.wait(
        lambda: daemon.process.poll() is not None
        or (bus.is_loaded and life.state() in ("idle", "waiting", "failed")),
        ATTEMPT_SECONDS,
        f"a beginning in spite of {fault}",
    )
    if daemon.process.poll() is not None:
        n_failed = life.calls.clear()
        n_errors = daemon.log.count("error: ")
        code = daemon.wait()
        assert code > 0 and n_errors > 0, f"{fault}: exit code {code}\n{daemon.log}"
        bus.wait(lambda: not bus.owner, what="the name to be free")
        daemon.start()
        life.recover()
    else:
        life.recover()
        n_failed = life.calls.clear()
    assert n_failed > 0 or fault.first > 1, f"{fault}: it was not called"


def end(life):
    """By a kill where nothing is lost by it; what could not be stored is stored by an end."""
    log = life.daemon.log
    if log.rfind("cannot be kept") > log.rfind("is kept again"):
        life.daemon.stop()
        life.bus.wait(lambda: not life.bus.owner, what="the name to be free")
    else:
        life.daemon.kill()


def test_from_the_beginning(life):
    """The state, the loop, the bus and the configuration, up to the first synchronisation; each
    life begins with what the one before has left."""
    life.daemon.start()
    life.recover()
    life.daemon.kill()
    before = life.calls.counted()
    life.mail.box.add(life.mail.box.uidnext)
    life.daemon.start()
    life.recover()
    counts = life.calls.since(before)
    life.daemon.kill()
    for fault in faults_of(counts):
        began = time.monotonic()
        begin(life, fault)
        seconds = time.monotonic() - began
        print(f"{seconds:.2f} s: {fault}")
        assert seconds < HANG_SECONDS, f"{fault}: it hangs"
        assert life.told() == life.mail.box.uids()[1:], f"{fault}: what was told is not what came"
        end(life)


def test_to_the_end(life):
    """It ends in time, as always, and nothing that was kept is lost by it."""

    def live(fault=None):
        life.mail.box.add(life.mail.box.uidnext)
        life.daemon.start()
        life.recover()
        before = life.calls.counted()
        if fault:
            life.calls.plan(fault)
        life.daemon.stop()
        life.calls.clear()
        life.bus.wait(lambda: not life.bus.owner, what="the name to be free")
        print(fault)
        assert life.told() == life.mail.box.uids()[1:], f"{fault}: what was told is not what came"
        return life.calls.since(before)

    life.daemon.start()
    life.recover()
    life.daemon.stop()
    life.bus.wait(lambda: not life.bus.owner, what="the name to be free")
    for fault in faults_of(live()):
        live(fault)
    live()
