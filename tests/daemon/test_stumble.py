"""One flight from login to IDLE where the server is known, and servers that do not bear it."""

import re
import tempfile

import pytest

from conversation import Stage
from mail import message
from mailidled import Account
from scripted import Box, Session

# ID, so that something follows the login besides EXAMINE.
CAPABILITIES = "IMAP4rev1 ID IDLE CONDSTORE ESEARCH"
FLIGHT = [
    r"(\S+) AUTHENTICATE PLAIN \S+",
    r"(\S+) ID .*",
    r'(\S+) EXAMINE "INBOX" \(CONDSTORE\)',
    r"(\S+) UID FETCH \d+:4294967295 .*",
    r"(\S+) IDLE",
]
OPENED = [
    "* 1 EXISTS",
    "* OK [UIDVALIDITY 77] .",
    "* OK [UIDNEXT 6] .",
    "* OK [HIGHESTMODSEQ 40] .",
]


@pytest.fixture(scope="module")
def stage(certificates):
    """One daemon for all; each server has a port of its own while it lives, and a user for ever."""
    with tempfile.TemporaryDirectory(prefix="mailidle-test-") as folder:
        stage = Stage(folder, certificates)
        yield stage
        stage.close()


class Stepwise(Session):
    """Bears no command that comes together with another one."""

    alone = ""

    def _answer(self, tag, command):
        assert self.wire.is_read or not command.startswith(self.alone), f"{command} has company"
        super()._answer(tag, command)


class LoginAlone(Stepwise):
    """Bears nothing behind a login."""

    alone = "AUTHENTICATE"


class Place:
    """An account at a scripted server; its mailbox is idle, and the server known."""

    def __init__(self, stage, server):
        self.bus = stage.bus
        self.server = server
        self.name = (f"stumble{stage.n_plays}", "INBOX")
        account = Account(self.name[0], server, server.user, ("INBOX",), "plain")
        stage.configure(account)
        self.session(server.accept())
        self.since = self.bus.mark()

    def session(self, wire, kind=Session):
        """Serves it until the mailbox is idle, and further on."""
        self.server.start(kind(wire, Box({5: []}), CAPABILITIES).greet().answer_until)
        self.bus.wait_for_state(*self.name)

    def begin_anew(self):
        """The account's next connection."""
        self.bus.call("Stop", "ss", *self.name)
        self.bus.call("Start", "ss", *self.name)
        self.since = self.bus.mark()
        return self.server.accept()

    def fly(self, wire, is_login_alone=False):
        """All of the flight comes before anything is answered; returns the tags."""
        Session(wire).greet()
        tags = []
        if is_login_alone:
            tags.append(wire.expect(FLIGHT[0])[1])
            assert wire.is_read
            wire.tell(f"{tags[0]} OK [CAPABILITY {CAPABILITIES}] in")
        return tags + [wire.expect(line)[1] for line in FLIGHT[len(tags) :]]

    def stumble_at_login(self):
        wire = self.begin_anew()
        self.fly(wire)
        wire.tell("+ go on")
        wire.expect_end()

    def check_no_error(self):
        for signal in self.bus.matching("PropertiesChanged", since=self.since):
            changed = signal.arguments[1]
            assert changed.get("State") not in ("waiting", "failed")
            assert changed.get("Error", ["", ""]) == ["", ""]


def says_bad(wire, tags):
    wire.tell(f"{tags[1]} BAD one at a time", f"{tags[2]} BAD one at a time")


def swallows(wire, tags):
    tag = wire.expect(r"(\S+) NOOP")[1]
    wire.tell(f"{tag} OK here we are")


def skips_one(wire, tags):
    wire.tell(f"{tags[1]} OK id")
    wire.tell(*OPENED, f"{tags[2]} OK opened", "+ idling")


def falls_silent(wire, tags):
    wire.tell(f"{tags[1]} OK id")
    wire.expect(r"(\S+) NOOP")


def test_one_flight(stage):
    with stage.new_server() as server:
        place = Place(stage, server)
        wire = place.begin_anew()
        tags = place.fly(wire)
        wire.tell(f"{tags[0]} OK [CAPABILITY {CAPABILITIES}] in", f"{tags[1]} OK id")
        wire.tell(*OPENED, f"{tags[2]} OK opened", f"{tags[3]} OK nothing", "+ idling")
        place.bus.wait_for_state(*place.name)
        place.check_no_error()


@pytest.mark.parametrize("stumble", [says_bad, swallows, skips_one, falls_silent])
def test_a_server_that_stumbles_at_login(stage, stumble):
    """It is nobody's error, and from then on the login travels alone."""
    with stage.new_server() as server:
        place = Place(stage, server)
        wire = place.begin_anew()
        tags = place.fly(wire)
        wire.tell(f"{tags[0]} OK [CAPABILITY {CAPABILITIES}] in")
        stumble(wire, tags)
        wire.expect_end()
        place.session(server.accept(), LoginAlone)
        place.check_no_error()
        place.session(place.begin_anew(), LoginAlone)


def test_a_server_that_wants_more_of_a_login(stage):
    with stage.new_server() as server:
        place = Place(stage, server)
        wire = place.begin_anew()
        place.fly(wire)
        wire.tell("+ go on")
        wire.expect_end()
        place.session(server.accept(), LoginAlone)
        place.check_no_error()


@pytest.mark.parametrize("stumble", [says_bad, swallows, skips_one])
def test_a_server_that_stumbles(stage, stumble):
    """Over any other flight: from then on all is asked one by one."""
    with stage.new_server() as server:
        place = Place(stage, server)
        place.stumble_at_login()
        wire = server.accept()
        stumble(wire, place.fly(wire, True))
        wire.expect_end()
        place.session(server.accept(), Stepwise)
        place.bus.call("Refresh", "ss", *place.name)
        place.check_no_error()
        place.session(place.begin_anew(), Stepwise)
        place.bus.call("Refresh", "ss", *place.name)
        place.check_no_error()


def test_a_server_that_falls_silent(stage):
    """So does a path that dies: once it is doubted in the next connection alone."""
    with stage.new_server() as server:
        place = Place(stage, server)
        place.stumble_at_login()
        wire = server.accept()
        falls_silent(wire, place.fly(wire, True))
        wire.expect_end()
        place.session(server.accept(), Stepwise)
        place.check_no_error()
        wire = place.begin_anew()
        falls_silent(wire, place.fly(wire, True))
        wire.expect_end()
        place.session(server.accept(), Stepwise)
        place.session(place.begin_anew(), Stepwise)
        place.check_no_error()


def test_a_call_moves_on(stage):
    """What somebody waits for when the server stumbles is done by the next connection."""
    with stage.new_server() as server:
        place = Place(stage, server)
        wire = place.begin_anew()
        tags = place.fly(wire)
        wire.tell(f"{tags[0]} OK [CAPABILITY {CAPABILITIES}] in", f"{tags[1]} OK id")
        wire.tell(*OPENED, f"{tags[2]} OK opened", f"{tags[3]} OK nothing", "+ idling")
        place.bus.wait_for_state(*place.name)
        call = place.bus.send("Fetch", "ssauas", *place.name, [5], [])
        wire.expect("DONE")
        wire.expect(r"\S+ NOOP")
        wire.expect(r"\S+ UID FETCH 6:.*")
        tag = wire.expect(r"(\S+) UID FETCH 5 .*")[1]
        wire.expect(r"\S+ IDLE")
        wire.tell(f"{tags[4]} OK idle done", f"{tag} BAD what")
        wire.expect_end()
        place.session(server.accept(), Stepwise)
        assert call.result(20).message_type.name == "METHOD_RETURN"
        place.check_no_error()


def test_bad_by_itself_is_no_stumbling(stage):
    """A command that the server does not bear alone either: it is asked several at a time again."""

    def without_idle(wire):
        session = Session(wire, Box({5: []}), CAPABILITIES)
        while True:
            tag = session.answer_until("IDLE|LOGOUT")
            if wire.said[-1].endswith("LOGOUT"):
                wire.tell("* BYE until next time", f"{tag} OK left")
                wire.end()
                return
            wire.tell(f"{tag} BAD what is IDLE?")

    with stage.new_server() as server:
        place = Place(stage, server)
        place.stumble_at_login()
        wire = server.accept()
        tags = place.fly(wire, True)
        wire.tell(f"{tags[1]} OK id")
        wire.tell(*OPENED, f"{tags[2]} OK opened", f"{tags[3]} OK nothing", f"{tags[4]} BAD what")
        wire.expect_end()
        for _ in range(2):
            wire = server.accept()
            Session(wire).greet()
            server.start(without_idle, wire)
            place.bus.wait_for_state(*place.name)
            place.bus.wait(
                lambda: place.bus.mailbox(*place.name)["Mode"] == "poll", what="polling"
            )
            place.check_no_error()
            place.bus.call("Stop", "ss", *place.name)
            place.bus.call("Start", "ss", *place.name)
        place.fly(server.accept(), True)


def test_a_refused_login_is_heard_alone(stage):
    """Before a password counts as wrong for good it has been refused without any company."""
    with stage.new_server() as server:
        place = Place(stage, server)
        wire = place.begin_anew()
        tags = place.fly(wire)
        wire.tell(f"{tags[0]} NO [AUTHENTICATIONFAILED] no")
        wire.expect_end()
        place.bus.wait_for_state(*place.name, "waiting")
        place.bus.call("Start", "ss", *place.name)
        wire = server.accept()
        Session(wire).greet()
        wire.expect(r"\S+ AUTHENTICATE PLAIN \S+")
        assert wire.is_read


def last_flights(running):
    """What the last connection said without waiting, without tags."""
    flights = {}
    for line in running.trace.read_text().splitlines():
        connection, side, words = line.split(" ", 2)
        mine = flights.setdefault(connection, [[]])
        if side == "S:":
            mine.append([])
        else:
            mine[-1].append(words.split(" ", 1)[-1])
    return list(flights.values())[-1]


# Courier has no SASL-IR.
BEARING = [("Dovecot", "PLAIN"), ("Dovecot", "login"), ("Cyrus", "login")]


@pytest.mark.parametrize("auth", ["PLAIN", "login"])
@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_real_servers(watch, bus, server, security, auth):
    """Whether they bear what is behind a login or not, nothing is lost, and nothing told twice."""
    user = server.user()
    server.deliver(user, message("before"))
    running = watch(server, user, security=security, auth=auth)
    for i in range(3):
        bus.call("Stop", "ss", "work", "INBOX")
        server.deliver(user, message(f"number {i}"))
        bus.call("Start", "ss", "work", "INBOX")
        bus.wait_for_state("work", "INBOX")
        server.deliver(user, message(f"pushed {i}"))
        bus.call("Refresh", "ss", "work", "INBOX")
    assert [m["Uid"] for m in bus.new_mail()] == [2, 3, 4, 5, 6, 7]
    flights = map("\n".join, last_flights(running))
    first = next(flight for flight in flights if re.match("AUTH|LOGIN", flight))
    bears = "EXAMINE" in first
    assert bears == ((type(server).__name__, auth) in BEARING)
    assert "one by one" not in running.log
    assert "fell silent" not in running.log
