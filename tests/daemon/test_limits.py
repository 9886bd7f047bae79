"""Descriptors: as many sessions as the hard limit allows, and what becomes of one too many."""

import contextlib
import os
import pathlib
import resource
import threading
import time

import pytest

from busclient import MAILBOX, mailbox_path
from mailidled import Account
from scripted import Box, Server, Session
from servers.base import User

LIMIT = resource.RLIMIT_NOFILE


@contextlib.contextmanager
def inherited(soft, hard):
    """What is started meanwhile has these limits."""
    before = resource.getrlimit(LIMIT)
    if before[1] != resource.RLIM_INFINITY and hard > before[1]:
        pytest.skip(f"no more than {before[1]} descriptors")
    resource.setrlimit(LIMIT, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(LIMIT, before)


class Crowd:
    """A server of which every session idles until the end."""

    def __init__(self):
        self.n_idle = 0
        self._lock = threading.Lock()
        self.server = Server()
        self.server.serve(self._serve)

    def _serve(self, wire):
        with contextlib.suppress(OSError, EOFError, AssertionError):
            Session(wire, Box({1: ["\\Seen"]})).serve_until("IDLE")
            wire.send("+ idling\r\n")
            with self._lock:
                self.n_idle += 1

    def accounts(self, n):
        return [
            Account(f"a{i}", self.server, User(f"jo{i}", "secret"), security="plain")
            for i in range(1, n + 1)
        ]


@pytest.fixture
def crowd():
    crowd = Crowd()
    yield crowd
    crowd.server.close()


def limits_of(pid):
    return resource.prlimit(pid, LIMIT)


def states(bus, n):
    """Of the mailboxes that are there."""
    paths = [mailbox_path(f"a{i}", "INBOX") for i in range(1, n + 1)]
    return [bus.objects[path][MAILBOX]["State"] for path in paths if path in bus.objects]


def test_more_sessions_than_the_soft_limit(daemon, bus, crowd):
    n, soft = 150, 100
    with inherited(soft, 1024):
        running = daemon(*crowd.accounts(n))
    now, highest = limits_of(running.process.pid)
    assert now == highest > soft
    bus.wait(lambda: states(bus, n) == ["idle"] * n, 30, "all to be idle")
    assert len(os.listdir(f"/proc/{running.process.pid}/fd")) > n


@pytest.mark.parametrize("kind", ["password_command", "proxy_command"])
def test_commands_get_the_limit_back(daemon, bus, dovecot, folder, kind):
    soft = 200
    seen = folder / "seen"
    user = dovecot.user()
    told = f"{{ ulimit -Sn; ulimit -Hn; echo $0 $#; }} >{seen}"
    if kind == "password_command":
        options = {kind: f"{told}; echo '{user.password}'"}
        account = Account("work", dovecot, user, secret=None, options=options)
    else:
        options = {kind: f"{told}; {dovecot.preauth_command(user)}"}
        account = Account("work", dovecot, user, security="plain", secret=None, options=options)
    with inherited(soft, 1024):
        running = daemon(account)
    bus.wait_for_state("work", "INBOX")
    _, highest = limits_of(running.process.pid)
    assert seen.read_text().split() == [str(soft), str(highest), "sh", "0"]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_no_descriptor_is_left(daemon, bus, crowd):
    n = 10
    accounts = crowd.accounts(n)
    running = daemon(*accounts[:1])
    bus.wait_for_state("a1", "INBOX")
    pid = running.process.pid
    # A few more, as reading the configuration and passwords needs them, too.
    few = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 6
    _, highest = limits_of(pid)
    resource.prlimit(pid, LIMIT, (few, highest))
    running.configure(*accounts)
    running.reload()
    bus.wait(
        lambda: len(states(bus, n)) == n and set(states(bus, n)) == {"idle", "waiting"},
        20,
        "some to have none",
    )
    waiting = [bus.mailbox(f"a{i}", "INBOX") for i in range(1, n + 1)]
    errors = {tuple(box["Error"]) for box in waiting if box["State"] == "waiting"}
    assert all("Too many open files" in text for _, text in errors), errors
    before = cpu_seconds(pid)
    time.sleep(1)
    assert cpu_seconds(pid) - before < 0.5
    assert states(bus, n)[0] == "idle"
    # With more of them all go on by themselves.
    resource.prlimit(pid, LIMIT, (highest, highest))
    bus.call("Start", "ss", "", "")
    bus.wait(lambda: states(bus, n) == ["idle"] * n, 30, "all to be idle")
