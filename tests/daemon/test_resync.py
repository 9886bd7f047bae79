"""After an absence: exactly the difference is told, by the cheapest way that the server has."""

import concurrent.futures
import re
import threading
import time

import pytest

from mail import message
from otherclient import OtherClient, Told
from relay import Relay

# Dovecot as it is where an administrator switched everything off.
PLAIN = "IMAP4rev1 LITERAL+ SASL-IR IDLE UIDPLUS MOVE SPECIAL-USE"
# What a message dictionary needs, and what it costs is no matter of the way.
ENVELOPE = re.compile(rb"^\* \d+ FETCH \([^\r]*\bENVELOPE .*?\r\n", re.MULTILINE)
COMMAND = re.compile(rb"^(?:[A-Za-z0-9]+ ([A-Z]+(?: FETCH| SEARCH)?)[^\r]*|DONE)\r\n", re.MULTILINE)

N_KNOWN = 1000
N_NEW = 500
N_CHANGED = 200
N_GONE = 100
# Nobody is to hear of so many that came and went, and of changes of so many that then went.
N_PASSING = 20


# Commands from the connection to IDLE, and octets beside envelopes. The plain way lists each of 1,400
# messages with its flags. Where modseqs tell, 700 lines say what changed and came, and a look names
# the 500 once more before it asks for a hundred at a time.
BOUNDS = {
    "dovecot": (16, 65_000),
    "plain": (16, 65_000),
    "cyrus": (16, 65_000),
    "courier": (16, 65_000),
}


@pytest.fixture(params=BOUNDS)
def way(request):
    return request.param


@pytest.fixture
def relay(request, way):
    """A server behind a relay that writes down what passes."""
    relay = Relay(request.getfixturevalue(way.replace("plain", "dovecot")), with_records=True)
    yield relay
    relay.close()


@pytest.fixture
def user(relay, way):
    """Somebody with a thousand messages."""
    user = relay.user(imap_capability=PLAIN) if way == "plain" else relay.user()
    with OtherClient(relay.server, user) as other:
        fill(other)
    return user


def fill(other):
    other.add(message(f"known {i}") for i in range(N_KNOWN))
    uids = sorted(other.messages())
    other.store(uids[::3], "+", "\\Seen")
    other.store(uids[1::7], "+", "\\Flagged")


def make_difference(other):
    """What happens while nobody looks."""
    known = sorted(other.messages())
    gone = known[3::10][:N_GONE]
    left = [uid for uid in known if uid not in set(gone)]
    changed = left[5::4][:N_CHANGED] + gone[:N_PASSING]
    other.store(changed[0::4], "+", "\\Seen \\Answered")
    other.store(changed[1::4], "-", "\\Seen \\Flagged")
    other.store(changed[1::4], "+", "$Forwarded")
    other.store(changed[2::4], "", "\\Draft")
    other.store(changed[3::4], "+", "\\Deleted $Junk")
    other.store(changed[3::4], "-", "\\Deleted")
    other.add(message(f"new {i}") for i in range(N_NEW + N_PASSING))
    arrived = [uid for uid in sorted(other.messages()) if uid > known[-1]]
    other.store(arrived[::5], "+", "\\Seen")
    other.expunge([*gone, *arrived[7::20][:N_PASSING]])


def check_difference(bus, told, before, after, is_live=False):
    """is_live: somebody looked on, who may name what is gone by now, and a message twice."""
    assert told.resets == []
    arrived = [uid for uid in sorted(after) if uid > max(before)]
    # What NOTIFY brought with its data is told, though it was gone when it came.
    passed = {m["Uid"] for m in told.new if is_live and m["Uid"] not in after}
    new = [m for m in told.new if m["Uid"] not in passed]
    assert [m["Uid"] for m in new] == arrived
    assert len(arrived) == N_NEW
    assert len({m["Subject"] for m in new}) == N_NEW
    # Flags that changed after it was told are told afterwards.
    later = dict(told.changed) if is_live else {}
    assert {m["Uid"]: later.get(m["Uid"], frozenset(m["Flags"])) for m in new} == {
        uid: after[uid] for uid in arrived
    }
    changed = {uid: after[uid] for uid in before if uid in after and after[uid] != before[uid]}
    assert len(changed) == N_CHANGED
    gone = sorted(uid for uid in before if uid not in after)
    assert len(gone) == N_GONE
    if is_live:
        assert {uid: flags for uid, flags in told.changed if uid in changed} == changed
        assert {uid for uid, _ in told.changed} <= {*before, *arrived, *passed}
    else:
        assert sorted(told.changed) == sorted(changed.items())
    assert sorted(told.expunged) == sorted([*gone, *passed])
    check_state(bus, after)


def check_state(bus, truth):
    box = bus.mailbox("work", "INBOX")
    unread = sum("\\Seen" not in flags for flags in truth.values())
    assert (box["Messages"], box["Unread"]) == (len(truth), unread)
    assert bus.root()["Unread"] == unread


class Cost:
    """What a resynchronisation took, from the relay's records."""

    def __init__(self, relay, seconds):
        client = b"".join(bytes(record.client) for record in relay.records)
        server = b"".join(bytes(record.server) for record in relay.records)
        self.seconds = seconds
        self.commands = [match[1] or b"DONE" for match in COMMAND.finditer(client)]
        self.n_connections = len(relay.records)
        self.n_sent = len(client)
        self.n_received = len(server)
        self.n_plain = len(server) - sum(len(match[0]) for match in ENVELOPE.finditer(server))

    def __str__(self):
        names = ", ".join(
            f"{self.commands.count(name)} {name.decode()}" for name in dict.fromkeys(self.commands)
        )
        return (
            f"{len(self.commands)} commands ({names}), {self.n_sent} octets sent, "
            f"{self.n_received} received, {self.n_plain} without envelopes, {self.seconds:.2f} s"
        )


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_daemon_was_down(watch, bus, relay, user, way, end):
    running = watch(relay, user, security="plain")
    # What was found is stored right after it was told: a round trip later it is for certain.
    bus.call("Refresh", "ss", "work", "INBOX")
    assert Told(bus).is_nothing()
    getattr(running, end)()
    with OtherClient(relay.server, user) as other:
        before = other.messages()
        make_difference(other)
        after = other.messages()
    relay.forget()
    mark, began = bus.mark(), time.monotonic()
    running.start()
    bus.wait_for_state("work", "INBOX", timeout=60)
    cost = Cost(relay, time.monotonic() - began)
    # Whoever came late may have read that it is idle before it was told why; whoever asks has not.
    bus.call("Refresh", "ss", "work", "INBOX")
    check_difference(bus, Told(bus, mark), before, after)
    print(f"--- cost, {way}: {cost}")
    n_commands, n_octets = BOUNDS[way]
    assert cost.n_connections == 1
    assert len(cost.commands) <= n_commands and cost.n_plain <= n_octets
    # What was told is known.
    running.restart()
    mark = bus.mark()
    bus.wait_for_state("work", "INBOX")
    bus.call("Refresh", "ss", "work", "INBOX")
    assert Told(bus, mark).is_nothing()
    check_state(bus, after)


def test_the_network_was_down(watch, bus, relay, user, way):
    watch(relay, user, security="plain")
    relay.refuse()
    mark = bus.mark()
    relay.cut()
    bus.wait_for_state("work", "INBOX", "waiting")
    with OtherClient(relay.server, user) as other:
        before = other.messages()
        make_difference(other)
        after = other.messages()
    relay.forget()
    relay.refuse(False)
    began = time.monotonic()
    bus.call("Refresh", "ss", "work", "INBOX")
    # Signals come before replies.
    check_difference(bus, Told(bus, mark), before, after)
    bus.wait_for_state("work", "INBOX")
    print(f"--- cost, {way}: {Cost(relay, time.monotonic() - began)}")
    # And before the state says that all is told.
    members = [
        "idle" if signal.member == "PropertiesChanged" else signal.member
        for signal in bus.signals[mark:]
        if signal.member in ("NewMail", "FlagsChanged", "Expunged")
        or (signal.path.endswith("/INBOX") and signal.arguments[1].get("State") == "idle")
    ]
    assert members.index("idle") == len(members) - 1
    mark = bus.mark()
    bus.call("Refresh", "ss", "work", "INBOX")
    assert Told(bus, mark).is_nothing()


def test_the_network_stood_still(watch, bus, relay, user, way):
    """Then everything comes in one rush, and the connection is the same."""
    watch(relay, user, security="plain")
    relay.forget()
    mark = bus.mark()
    relay.freeze()
    with OtherClient(relay.server, user) as other:
        before = other.messages()
        make_difference(other)
        after = other.messages()
    began = time.monotonic()
    relay.thaw()
    bus.call("Refresh", "ss", "work", "INBOX")
    bus.call("Refresh", "ss", "work", "INBOX")
    check_difference(bus, Told(bus, mark), before, after, is_live=True)
    print(f"--- cost, {way}: {Cost(relay, time.monotonic() - began)}")
    assert relay.n_connections == 1


class Follower:
    """Somebody who knows the mailbox from the signals alone."""

    def __init__(self, known, mailbox="INBOX"):
        self.messages = dict(known)
        self.mailbox = mailbox
        self.announced = []

    def hear(self, signals):
        for signal in signals:
            if signal.arguments[1:2] != [self.mailbox]:
                continue
            assert signal.member != "MailboxReset"
            if signal.member == "NewMail":
                for one in signal.arguments[2]:
                    self.announced.append(one["Uid"])
                    self.messages[one["Uid"]] = frozenset(one["Flags"])
            elif signal.member == "FlagsChanged":
                # Of known messages, as the contract says.
                for uid, flags in signal.arguments[2]:
                    assert uid in self.messages
                    self.messages[uid] = frozenset(flags)
            elif signal.member == "Expunged":
                for uid in signal.arguments[2]:
                    del self.messages[uid]


def meddle(server, user, is_over, n_added):
    """Does this and that until it is over, as fast as it can."""
    with OtherClient(server, user) as other:
        for i in range(2, 10_000):
            uids = sorted(other.messages())
            other.store(uids[i % 5 :: 7], "+-"[i % 2], "\\Seen")
            other.store(uids[i % 3 :: 11], "-+"[i % 2], "\\Flagged $Junk")
            other.add([message(f"meddled {i} {j}") for j in range(i % 3)])
            n_added.append(i % 3)
            if i % 4 == 0:
                other.expunge(uids[i % 13 :: 29][:3])
            if is_over.is_set():
                return


@pytest.mark.parametrize("end", ["restart", "cut"])
def test_much_happens_while_it_opens(watch, bus, relay, way, end):
    """Between EXAMINE, the listing, the look and IDLE, again and again."""
    user = relay.user(imap_capability=PLAIN) if way == "plain" else relay.user()
    with OtherClient(relay.server, user) as other:
        other.add(message(f"known {i}") for i in range(100))
        follower = Follower(other.messages())
    running = watch(relay, user, security="plain")
    bus.call("Refresh", "ss", "work", "INBOX")
    is_over, n_added = threading.Event(), []
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        meddler = pool.submit(meddle, relay.server, user, is_over, n_added)
        try:
            for _ in range(4):
                if end == "cut":
                    relay.cut()
                    bus.wait(lambda: bus.mailbox("work", "INBOX")["State"] != "idle")
                else:
                    running.restart()
                bus.call("Refresh", "ss", "work", "INBOX")
        finally:
            is_over.set()
        meddler.result()
    bus.call("Refresh", "ss", "work", "INBOX")
    with OtherClient(relay.server, user) as other:
        truth = other.messages()
    bus.call("Refresh", "ss", "work", "INBOX")
    follower.hear(bus.signals)
    print(f"--- {way}, {end}: {sum(n_added)} added, {len(follower.announced)} announced")
    assert follower.announced == sorted(set(follower.announced))
    assert follower.messages == truth
    check_state(bus, truth)


def test_a_mailbox_that_is_visited(watch, bus, relay, way):
    """One connection for two mailboxes: a look from outside says whether there is anything to do."""
    user = relay.user(imap_capability=PLAIN) if way == "plain" else relay.user()
    name = relay.server.mailbox("Lists", "dev")
    relay.server.append(user, message("known"), name)
    with OtherClient(relay.server, user, name) as other:
        other.add(message(f"known {i}") for i in range(2, 21))
    watch(relay, user, ("INBOX", name), security="plain", max_connections=1)
    mode = "notify" if way == "dovecot" else "poll"
    bus.wait(lambda: bus.mailbox("work", name)["Mode"] == mode)
    bus.call("Refresh", "ss", "work", name)
    with OtherClient(relay.server, user, name) as other:
        follower = Follower(other.messages(), name)
    for step in (
        lambda other, uids: other.store(uids[:3], "+", "\\Flagged"),
        lambda other, uids: other.store(uids[5:6], "+", "\\Seen"),
        # As many as before.
        lambda other, uids: (other.expunge(uids[3:4]), other.add([message("instead")])),
        lambda other, uids: other.expunge(uids[-1:]),
        lambda other, uids: (other.add([message("gone at once")]), other.expunge([uids[-1] + 1])),
        lambda other, uids: other.expunge(uids),
        lambda other, uids: other.add([message("the first again")]),
        lambda other, uids: None,
    ):
        mark = bus.mark()
        with OtherClient(relay.server, user, name) as other:
            step(other, sorted(other.messages()))
            truth = other.messages()
        bus.call("Refresh", "ss", "work", name)
        follower.hear(bus.signals[mark:])
        assert follower.messages == truth
        box = bus.mailbox("work", name)
        assert box["Messages"] == len(truth)
        assert box["Unread"] == sum("\\Seen" not in flags for flags in truth.values())
    assert follower.announced == sorted(set(follower.announced))
    assert not Told(bus, mark, name).new
