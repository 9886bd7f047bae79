"""The races of IDLE, and whatever else the engine's conversations are about, against the running
daemon; and connections that end at every point.
"""

import pathlib
import re
import tempfile

import pytest

from conversation import Conversation, Stage
from mailidled import Account
from scripted import Box, Session

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "conversations"
CONVERSATIONS = [Conversation.read(path) for path in sorted(FOLDER.glob("*.txt"))]
PLAYED = [conversation for conversation in CONVERSATIONS if conversation.is_for_daemon]
RACES = [conversation for conversation in PLAYED if conversation.name.startswith("idle-")]


def names(conversation):
    return conversation.name


@pytest.fixture(scope="module")
def stage(certificates):
    """One daemon for all conversations: they have nothing in common but that."""
    with tempfile.TemporaryDirectory(prefix="mailidle-test-") as folder:
        stage = Stage(folder, certificates)
        yield stage
        stage.close()


def test_there_are_conversations():
    """None falls out unnoticed."""
    assert len(PLAYED) >= 150
    assert len(RACES) >= 40


@pytest.mark.parametrize("conversation", PLAYED, ids=names)
def test_conversation(stage, conversation):
    stage.play(conversation)


@pytest.mark.parametrize("conversation", RACES, ids=names)
def test_race_in_one_record(stage, conversation):
    """What comes with "+ idling" is in the same TLS record: the socket says nothing of it."""
    stage.play(conversation, tls=True)


@pytest.mark.parametrize("conversation", RACES, ids=names)
def test_race_octet_by_octet(stage, conversation):
    stage.play(conversation, by_octets=True)


# Where a connection ends: before the answer to this command, or at these words.
POINTS = ["greeting", "AUTHENTICATE .*", "EXAMINE .*", "UID FETCH .*", "IDLE", "idling", "DONE"]


def by_bye(wire):
    wire.tell("* BYE Server shutting down.")
    wire.end()


def by_bye_for_ever(wire):
    wire.tell(*["* BYE Server shutting down."] * 1000)


def by_reset(wire):
    wire.end(by_reset=True)


def by_half_a_line(wire):
    wire.send("* 5 EXI")
    wire.end()


def by_half_a_message(wire):
    wire.send('* 4 FETCH (UID 12 FLAGS () ENVELOPE (NIL "Half')
    wire.end()


@pytest.mark.parametrize("point", POINTS, ids=lambda point: re.sub(r"\W", "", point))
@pytest.mark.parametrize(
    "end", [by_bye, by_bye_for_ever, by_reset, by_half_a_line, by_half_a_message]
)
def test_an_end_at_every_point(stage, end, point):
    """One message came and one went meanwhile. Both are told once, on the next connection."""
    bus = stage.bus
    with stage.new_server() as server:
        place = (f"end{stage.n_plays}", "INBOX")
        stage.configure(Account(place[0], server, server.user, security="plain"))
        box = Box({5: ["\\Seen"], 10: [], 11: ["\\Seen"]})
        server.start(Session(server.accept(), box).greet().answer_until)
        bus.wait_for_state(*place)
        bus.call("Stop", "ss", *place)
        since = bus.mark()
        bus.call("Start", "ss", *place)
        wire = server.accept()
        if point != "greeting":
            session = Session(wire, box)
            session.serve_until("IDLE" if point in ("idling", "DONE") else point)
        if point in ("idling", "DONE"):
            wire.tell("+ idling")
            bus.wait_for_state(*place)
        if point == "DONE":
            call = bus.send("Refresh", "ss", *place)
            wire.expect("DONE")
        box.messages[12] = []
        del box.messages[10]
        box.uidnext = 13
        box.highestmodseq += 1
        end(wire)
        if point != "DONE":
            call = bus.send("Refresh", "ss", *place)
        server.start(Session(server.accept(), box).greet().answer_until)
        bus.wait_for_state(*place)
        # Whether it was answered by the attempt that failed, or by the one that did not.
        call.result(20)
        bus.call("Refresh", "ss", *place)
        assert [message["Uid"] for message in bus.new_mail(*place, since=since)] == [12]
        gone = bus.matching("Expunged", since=since)
        assert [signal.arguments for signal in gone] == [[*place, [10]]]
        shown = bus.mailbox(*place)
        assert (shown["Messages"], shown["Unread"]) == (3, 1)
