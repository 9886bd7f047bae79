"""max-connections: never more than so many at once, whoever is still on the way out."""

import contextlib
import threading

import pytest

from mailidled import Account
from scripted import Box, Server, Session

NAMES = ("INBOX", "one", "two")


class Reluctant:
    """A server that counts its connections, and never answers LOGOUT: the client gives up."""

    def __init__(self):
        self.most = 0
        self._n = 0
        self._lock = threading.Lock()
        self.leaving = threading.Semaphore(0)
        self.held = {}
        self.refused = None  # a mailbox that is not there
        self.server = Server()
        self.server.serve(self._serve)

    def hold(self, pattern):
        """Whoever says this waits for an answer; returns what is set when it was said, and what it
        waits for."""
        self.held[pattern] = threading.Event(), threading.Event()
        return self.held[pattern]

    def _serve(self, wire):
        with self._lock:
            self._n += 1
            self.most = max(self.most, self._n)
        try:
            with contextlib.suppress(OSError, EOFError):
                self._talk(wire)
        finally:
            # In this order: the client waits for the end before it comes again.
            with self._lock:
                self._n -= 1
            wire.end()

    def _talk(self, wire):
        session = Session(wire, Box({5: []})).greet()
        while (line := wire.line()) is not None:
            for pattern, (said, answered) in self.held.items():
                if pattern in line:
                    said.set()
                    answered.wait(20)
            if line.endswith(" LOGOUT"):
                self.leaving.release()
            elif self.refused and f'"{self.refused}"' in line:
                wire.tell(f"{line.split()[0]} NO [NONEXISTENT] there is no such mailbox")
            else:
                wire.tell(*session.answers(line))

    def close(self):
        for _, answered in self.held.values():
            answered.set()
        self.server.close()


@pytest.fixture
def reluctant():
    server = Reluctant()
    yield server
    server.close()


def account(server, names=NAMES, **options):
    options = {"max_connections": 2, **options}
    return Account("work", server.server, server.server.user, names, "plain", options=options)


def test_one_that_leaves_counts(daemon, bus, reluctant):
    daemon(account(reluctant))
    for name in NAMES:
        bus.wait_for_state("work", name)
    bus.call("Refresh", "ss", "work", "")
    said, answered = reluctant.hold("UID FETCH 5 (UID ENVELOPE")
    fetching = bus.send("Fetch", "ssauas", "work", "two", [5], ["envelope"])
    assert said.wait(20)
    stopping = bus.send("Stop", "ss", "work", "INBOX")
    assert reluctant.leaving.acquire(timeout=20)
    answered.set()
    fetching.result(20)
    bus.call("Refresh", "ss", "work", "two")
    stopping.result(20)
    bus.wait(lambda: bus.mailbox("work", "two")["Mode"] == "idle")
    assert reluctant.most == 2


def test_reload_waits_for_those_that_leave(daemon, bus, reluctant):
    """What is configured anew is another account, and to the server the same one."""
    names = NAMES[:2]
    running = daemon(account(reluctant, names))
    for name in names:
        bus.wait_for_state("work", name)
    assert reluctant.most == 2
    running.configure(account(reluctant, names, idle_timeout="8m"))
    bus.call("Reload")
    for _ in names:
        assert reluctant.leaving.acquire(timeout=20)
    bus.wait(lambda: all(bus.mailbox("work", name)["State"] == "idle" for name in names))
    assert reluctant.most == 2


def test_one_without_a_connection_shows_how_far_the_login_is(daemon, bus, reluctant):
    said, answered = reluctant.hold(" AUTHENTICATE ")
    daemon(account(reluctant, max_connections=1))
    assert said.wait(20)
    for name in NAMES:
        bus.wait_for_state("work", name, "authenticating")
    answered.set()
    for name in NAMES:
        bus.wait_for_state("work", name)


def test_start_tries_at_once_what_rests(daemon, bus, reluctant):
    """Also where there is no connection of its own for it; the waits grow meanwhile."""
    reluctant.refused = "one"
    daemon(account(reluctant, max_connections=1))
    bus.wait_for_state("work", "one", "waiting")
    for _ in range(7):
        mark = bus.mark()
        bus.call("Start", "ss", "work", "one")
        bus.wait_for_signal(
            "PropertiesChanged", lambda _, changed, __: changed.get("State") == "waiting", 5, mark
        )
    reluctant.refused = None
    bus.call("Start", "ss", "work", "one")
    bus.wait_for_state("work", "one", timeout=5)
