"""A server that has had enough of us is left in peace: how long, by which words, and what of it a
person's wish overrules. Every wait is read from NextTry, not waited for.
"""

import re
import tempfile
import time

import pytest

from busclient import ERROR, BusError, mailbox_path
from conversation import Stage
from mailidled import Account, program
from scripted import GREETING, Box, Server, Session
from servers.base import User
from test_login import counting_command

THROTTLED = "BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds"
LIMITS = {
    "limit": "NO [LIMIT] That is more than we allow",
    "gmail": "NO [ALERT] Too many simultaneous connections. (Failure)",
    "dovecot": "NO [LIMIT] Maximum number of connections from user+IP exceeded",
}
REFUSALS = {
    "throttled": (THROTTLED, "ServerRefused"),
    "unavailable": ("NO [UNAVAILABLE] Temporary authentication failure", "ServerRefused"),
    "exchange": ("BAD User is authenticated but not connected.", "ServerRefused"),
    **{name: (answer, "LimitExceeded") for name, answer in LIMITS.items()},
}
# The least wait after the first, second and every further refusal; what the server asks for counts
# where it is more.
SECONDS = (60, 120, 300, 300)
# Which command is answered so.
POINTS = {
    "login": "AUTHENTICATE .*",
    "after-login": "ID .*",
    "open": "EXAMINE .*",
    "list": "UID SEARCH .* ALL",
    "look": "UID FETCH .*",
    "idle": "IDLE",
}
CASES = [
    (refusal, point)
    for refusal in REFUSALS
    for point in POINTS
    # Yahoo says so of messages that it cannot read.
    if (refusal, point) != ("unavailable", "look")
]
EXPIRED = "* BYE Session invalidated - AccessTokenExpired"
N_INSIDE = 8


@pytest.fixture(scope="module")
def stage(certificates):
    """One daemon for all: an account of one test is gone in the next."""
    with tempfile.TemporaryDirectory(prefix="mailidle-test-") as folder:
        stage = Stage(folder, certificates)
        yield stage
        stage.close()


class Watched:
    """An account at a scripted server, and what is to be seen of its first mailbox."""

    def __init__(self, bus, server, place):
        self.bus = bus
        self.server = server
        self.place = place
        self.since = bus.mark()
        self.error = None

    @classmethod
    def on(cls, stage, server, mailboxes=("INBOX",), **account):
        """A new one on the stage."""
        watched = cls(stage.bus, server, (f"backoff{stage.n_plays}", mailboxes[0]))
        account = {"security": "plain", **account}
        stage.configure(Account(watched.place[0], server, server.user, mailboxes, **account))
        return watched

    def call(self, member):
        return self.bus.call(member, "ss", *self.place)

    def idle(self, wire):
        """Serves the connection until the mailbox is idle, and further on."""
        self.server.start(Session(wire, Box({5: []})).greet().answer_until)
        self.bus.wait_for_state(*self.place)

    def wait(self, end):
        """The seconds that the daemon waits after end(), with what the clocks leave open: (at
        least, at most)."""
        since = self.bus.mark()
        began = time.time()
        end()

        def is_waiting(interface, changed, gone):
            return changed.get("State") == "waiting" and changed.get("NextTry")

        def found():
            for signal in self.bus.matching("PropertiesChanged", is_waiting, since):
                if signal.path == mailbox_path(*self.place):
                    return signal.arguments[1]
            return None

        changed = self.bus.wait(found, what=f"{self.place} to wait")
        next_try = changed["NextTry"] / 1e6
        self.error = changed.get("Error", self.bus.mailbox(*self.place)["Error"])
        return next_try - time.time(), next_try - began

    def check_never_failed(self):
        """Nobody was told that the password is wrong."""
        for signal in self.bus.matching("PropertiesChanged", since=self.since):
            _, changed, _ = signal.arguments
            assert changed.get("State") != "failed"
            assert changed.get("Error", [""])[0] != ERROR + "AuthenticationFailed"


def words_of(answer):
    """Those for a person."""
    return re.fullmatch(r"\w+ (?:\[.*?\] )?(.*)", answer)[1]


def expect_leaving(wire):
    """At most what crossed the answer is said before."""
    while (line := wire.line()) is not None:
        assert re.search(r" (IDLE|UID SEARCH .* UNSEEN|EXAMINE .*|UID FETCH .*)$", line), line


def check_wait(wait, seconds):
    at_least, at_most = wait
    assert at_least <= seconds <= at_most, f"{wait} instead of {seconds} s"


@pytest.mark.parametrize("refusal, point", CASES)
def test_a_refusal(stage, refusal, point):
    """It is not the password's fault, wherever it comes; and each one makes the wait longer, though
    somebody tries at once in between."""
    answer, error = REFUSALS[refusal]
    with stage.new_server() as server:
        watched = Watched.on(stage, server)
        for seconds in SECONDS:
            wire = server.accept()
            session = Session(wire, Box({5: []}), "IMAP4rev1 IDLE ID CONDSTORE ESEARCH")
            tag = session.serve_until(POINTS[point])
            wait = watched.wait(lambda: wire.tell(f"{tag} {answer}"))
            check_wait(wait, max(seconds, 92.415 if answer == THROTTLED else 0))
            assert watched.error[0] == ERROR + error
            assert words_of(answer) in watched.error[1]
            expect_leaving(wire)
            watched.call("Start")
        watched.idle(server.accept())
        watched.check_never_failed()


def test_the_longest_wait_that_a_server_may_ask_for(stage):
    with stage.new_server() as server:
        watched = Watched.on(stage, server)
        wire = server.accept()
        tag = Session(wire).serve_until("IDLE")
        answer = THROTTLED.replace("92415", "86400000")
        check_wait(watched.wait(lambda: wire.tell(f"{tag} {answer}")), 300)


def test_idle_for_less_than_a_minute_forgives_nothing(stage):
    with stage.new_server() as server:
        watched = Watched.on(stage, server)
        for seconds in SECONDS:
            wire = server.accept()
            watched.idle(wire)
            check_wait(watched.wait(lambda: wire.tell("* BYE [UNAVAILABLE] Later")), seconds)
            wire.end()
            watched.call("Start")
        server.accept()


def test_idle_for_a_minute_forgives(daemon, bus, folder):
    shift = folder / "shift"

    def set_clock(seconds):
        new = shift.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(shift)

    environment = {
        "ASAN_OPTIONS": "detect_leaks=1:verify_asan_link_order=0",
        "LD_PRELOAD": str(program("shifted-clock.so")),
        "SHIFTED_CLOCK": str(shift),
    }
    with Server() as server:
        watched = Watched(bus, server, ("work", "INBOX"))
        daemon(Account("work", server, server.user, security="plain"), environment=environment)
        for at, seconds in ((0, 60), (0, 120), (50, 300), (111, 60), (111, 120)):
            wire = server.accept()
            watched.idle(wire)
            set_clock(at)
            check_wait(watched.wait(lambda: wire.tell("* BYE [UNAVAILABLE] Later")), seconds)
            wire.end()
            watched.call("Start")
        server.accept()


def test_full_jitter(stage):
    """Of a server that drops whoever comes: a wait from 0 to a bound that doubles."""
    with stage.new_server() as server:
        watched = Watched.on(stage, server)
        fractions = []
        for n in range(14):
            bound = min(2**n, 300)
            wire = server.accept()
            at_least, at_most = watched.wait(wire.end)
            assert at_most > 0.1
            assert at_least < bound
            if bound > 30:
                # The times that this test takes are nothing against it.
                fractions.append(at_least / bound)
            # Perhaps it was tried again already.
            watched.call("Start")
        server.accept()
        # Not always the same part of it: by chance that happens once in a million times.
        assert max(fractions) - min(fractions) > 0.1
        watched.check_never_failed()


def test_an_expired_token(stage, folder):
    """A new one is fetched and shown at once, once; then the wait is as after any other end."""
    script, notes = counting_command(folder, "ya29.a-word-of-no-text")
    with stage.new_server() as server:
        options = {"token_command": script}
        watched = Watched.on(stage, server, security="tls", secret=None, options=options)
        greeting = GREETING.replace("PLAIN", "XOAUTH2")

        def log_in():
            wire = server.accept(tls=True)
            wire.tell(greeting)
            tag = wire.expect(r"(\S+) AUTHENTICATE XOAUTH2 \S+")[1]
            return wire, tag, Session(wire)

        wire, tag, session = log_in()
        wire.tell(f"{tag} OK [CAPABILITY {session.capabilities}] in")
        server.start(session.answer_until)
        watched.bus.wait_for_state(*watched.place)
        wire.tell(EXPIRED)
        wire.end()
        wire, _, _ = log_in()
        assert notes.read_text() == "run\n" * 2
        at_least, at_most = watched.wait(lambda: wire.tell(EXPIRED))
        assert at_most > 0.1
        assert at_least < 1
        assert watched.error[0] == ERROR + "ServerRefused"
        assert "AccessTokenExpired" in watched.error[1]
        watched.call("Start")
        log_in()
        assert notes.read_text() == "run\n" * 3
        watched.check_never_failed()


@pytest.mark.parametrize("answer", LIMITS.values(), ids=LIMITS)
def test_fewer_connections(stage, answer):
    """Two connections are let in, two mailboxes are watched; the others are polled at once."""
    names = ("INBOX", "one", "two", "three", "four")
    bus = stage.bus
    with stage.new_server() as server:

        def serve(wire, is_welcome):
            session = Session(wire, Box({5: []})).greet()
            if is_welcome:
                session.answer_until()
            else:
                wire.tell(f"{session.answer_until('AUTHENTICATE .*')} {answer}")

        watched = Watched.on(stage, server, names, options={"max_connections": 5})
        account = watched.place[0]
        for i in range(len(names)):
            server.start(serve, server.accept(), i < 2)
        modes = ["idle"] * 2 + ["poll"] * 3
        bus.wait(lambda: sorted(bus.mailbox(account, name)["Mode"] for name in names) == modes)
        for name in names:
            bus.wait_for_state(account, name)
            assert bus.mailbox(account, name)["Error"] == ["", ""]
        bus.call("Refresh", "ss", account, "")
        assert len(server.wires) == 5
        watched.check_never_failed()


def test_a_limit_for_the_first_connection(stage):
    """Others use up what the server allows: nobody is in who could poll."""
    names = ("INBOX", "one", "two")
    bus = stage.bus
    with stage.new_server() as server:
        watched = Watched.on(stage, server, names)
        wire = server.accept()
        tag = Session(wire).serve_until("AUTHENTICATE .*")
        check_wait(watched.wait(lambda: wire.tell(f"{tag} {LIMITS['dovecot']}")), 60)
        for name in names:
            bus.wait_for_state(watched.place[0], name, "waiting")
            shown = bus.mailbox(watched.place[0], name)
            assert shown["Error"][0] == ERROR + "LimitExceeded"
            assert shown["NextTry"] == bus.mailbox(*watched.place)["NextTry"]
        assert len(server.wires) == 1


def test_a_wish(stage):
    """Refresh and Start try at once, whatever the wait; Refresh not more than once a second."""
    with stage.new_server() as server:
        watched = Watched.on(stage, server)

        def refuse():
            """Returns when the attempt was seen."""
            wire = server.accept()
            seen = time.monotonic()
            tag = Session(wire).serve_until("AUTHENTICATE .*")
            watched.wait(lambda: wire.tell(f"{tag} {THROTTLED}"))
            return seen

        def refresh():
            return watched.bus.send("Refresh", "ss", *watched.place)

        refuse()
        for _ in range(3):
            started = time.monotonic()
            watched.call("Start")
            refuse()
        # Several wishes are one attempt.
        calls = [refresh() for _ in range(4)]
        assert refuse() - started >= 1
        for call in calls:
            assert call.result(10).error_name == ERROR + "ServerRefused"
        call = refresh()
        assert refuse() - started >= 2
        call.result(10)
        # The second is over.
        time.sleep(1)
        since = watched.bus.mark()
        call = refresh()
        refuse()
        call.result(10)
        [first, *_] = watched.bus.matching("PropertiesChanged", since=since)
        assert first.arguments[1]["State"] == "connecting"
        assert len(server.wires) == 7
        watched.check_never_failed()


def test_eight_handshakes_at_a_time(stage):
    """Of 20 accounts whose server holds back its greeting. Who comes to nothing leaves its place to
    another."""
    names = [f"gate{i}" for i in range(20)]
    bus = stage.bus
    with stage.new_server() as server:
        stage.configure(
            *(Account(name, server, User(name, "secret"), security="plain") for name in names)
        )
        held = [server.accept() for _ in range(N_INSIDE)]
        with pytest.raises(TimeoutError):
            server.accept(0.5)
        held.pop(0).end(by_reset=True)
        held.append(server.accept())
        for i in range(len(names)):
            wire = held.pop(0)
            session = Session(wire)
            session.greet()
            tag = wire.expect(r"(\S+) AUTHENTICATE PLAIN \S+")[1]
            stage.ping()
            with pytest.raises(BlockingIOError):
                server.accept(0)
            wire.tell(f"{tag} OK [CAPABILITY {session.capabilities}] in")
            server.start(session.answer_until)
            if i + 1 + len(held) < len(names):
                held.append(server.accept())
        for name in names:
            bus.wait_for_state(name, "INBOX")
        assert len(server.wires) == len(names) + 1
