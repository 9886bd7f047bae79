"""No more is said on the bus than has happened: one signal and one change for a burst, and no state
that was over before anybody could see it.
"""

import collections

import pytest

from busclient import ROOT, account_path, mailbox_path
from mailidled import Account
from scripted import CAPABILITIES, Box, Server, Session

PLACE = ("work", "INBOX")
OBJECTS = {ROOT, account_path("work"), mailbox_path(*PLACE)}
N = 100


@pytest.fixture
def idling(daemon, bus):
    """A session in IDLE, which the test plays on; its mailbox has 150 messages."""
    with Server() as server:
        daemon(Account(PLACE[0], server, server.user, security="plain"))
        box = Box({uid: [] for uid in range(1, 151)})
        session = Session(server.accept(), box, f"{CAPABILITIES} ENABLE QRESYNC")
        session.serve_until_idling()
        bus.wait_for_state(*PLACE)
        yield session


def changes(bus, since):
    """By object: the names in each PropertiesChanged, but for State."""
    found = collections.defaultdict(list)
    for signal in bus.matching("PropertiesChanged", since=since):
        names = set(signal.arguments[1]) - {"State"}
        if names:
            found[signal.path].append(names)
    return found


def test_a_burst_of_mail(idling, bus):
    since = bus.mark()
    box = idling.box
    box.messages |= {uid: [] for uid in range(151, 151 + N)}
    box.uidnext += N
    box.highestmodseq += 1
    idling.wire.tell(f"* {150 + N} EXISTS")
    idling.answer_flight()
    bus.wait(lambda: bus.mailbox(*PLACE)["Messages"] == 150 + N)
    [signal] = bus.matching("NewMail", since=since)
    assert [message["Uid"] for message in signal.arguments[2]] == list(range(151, 151 + N))
    assert changes(bus, since) == {
        ROOT: [{"Unread"}],
        account_path("work"): [{"Unread"}],
        mailbox_path(*PLACE): [{"Messages", "Unread", "UidNext", "HighestModSeq"}],
    }
    # Mail first, then what is known of it.
    assert bus.signals[since:].index(signal) < min(
        bus.signals.index(other) - since
        for other in bus.matching("PropertiesChanged", since=since)
        if "Unread" in other.arguments[1]
    )


def test_a_burst_of_flags(idling, bus):
    since = bus.mark()
    idling.wire.tell(
        *[f"* {n} FETCH (UID {n} MODSEQ (41) FLAGS (\\Seen))" for n in range(1, 1 + N)]
    )
    bus.wait(lambda: bus.mailbox(*PLACE)["Unread"] == 150 - N)
    [signal] = bus.matching("FlagsChanged", since=since)
    assert signal.arguments[2] == [[uid, ["\\Seen"]] for uid in range(1, 1 + N)]
    assert {path: len(names) for path, names in changes(bus, since).items()} == dict.fromkeys(
        OBJECTS, 1
    )


def test_a_burst_of_expunges(idling, bus):
    since = bus.mark()
    idling.wire.tell(*[f"* VANISHED {uid}" for uid in range(1, 1 + N)])
    bus.wait(lambda: bus.mailbox(*PLACE)["Messages"] == 150 - N)
    [signal] = bus.matching("Expunged", since=since)
    assert signal.arguments[2] == list(range(1, 1 + N))
    assert {path: len(names) for path, names in changes(bus, since).items()} == dict.fromkeys(
        OBJECTS, 1
    )


def test_the_state_is_shown_where_the_answer_takes_time(idling, bus):
    """Also when nobody but the server has asked for it; and the news comes before it is over."""
    since = bus.mark()
    idling.box.messages[151] = []
    idling.box.uidnext += 1
    idling.box.highestmodseq += 1
    idling.wire.tell("* 151 EXISTS")
    bus.wait_for_state(*PLACE, "interrupting")
    assert bus.account("work")["State"] == "interrupting"
    idling.answer_flight()
    bus.wait_for_state(*PLACE)
    bus.wait(lambda: bus.account("work")["State"] == "idle")
    [mail] = bus.matching("NewMail", since=since)
    shown = [
        signal
        for signal in bus.matching("PropertiesChanged", since=since)
        if signal.path == mailbox_path(*PLACE) and "State" in signal.arguments[1]
    ]
    assert shown[-1].arguments[1]["State"] == "idle"
    assert bus.signals.index(mail) < bus.signals.index(shown[-1])


def test_idle_is_not_shown_before_the_news(idling, bus):
    """Also when news comes before and behind a reply, all in one segment."""
    since = bus.mark()
    fetched = bus.send("Fetch", "ssauas", *PLACE, [5], ["flags"])
    answers = []
    while not answers or answers[-1] != "+ idling":
        line = idling.wire.line()
        if answers and line.endswith(" IDLE"):
            answers.append("* 2 FETCH (UID 2 MODSEQ (42) FLAGS (\\Seen))")
        answers += idling.answers(line)
        if line == "DONE":
            answers.append("* 1 FETCH (UID 1 MODSEQ (41) FLAGS (\\Seen))")
    idling.wire.tell(*answers)
    fetched.result(20)
    bus.wait(lambda: bus.mailbox(*PLACE)["Unread"] == 148)
    bus.wait_for_state(*PLACE)
    told = [
        "flags" if signal.member == "FlagsChanged" else signal.arguments[1]["State"]
        for signal in bus.signals[since:]
        if signal.member == "FlagsChanged"
        or (signal.path == mailbox_path(*PLACE) and "State" in signal.arguments[1])
    ]
    assert told[: told.index("idle") + 1].count("flags") == 2, told
