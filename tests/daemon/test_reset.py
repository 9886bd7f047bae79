"""Mailboxes that are made anew, renamed, not there yet, or brought back from a backup."""

import contextlib
import shutil
import subprocess
import time

import pytest

from busclient import BusError
from mail import message
from mailidled import Account
from otherclient import OtherClient, Told
from servers.base import quote


def uidvalidity(server, user, mailbox):
    with server.client(user) as client:
        client.select(quote(mailbox), readonly=True)
        return int(client.response("UIDVALIDITY")[1][0])


def make(server, user, mailbox, subjects):
    """A mailbox with these messages, whether it is there or not."""
    with server.client(user) as client:
        client.create(quote(mailbox))
    with OtherClient(server, user, mailbox) as other:
        other.add([message(subject) for subject in subjects])


def change(server, user, *commands):
    """delete, rename: by a client that has nothing selected."""
    with server.client(user) as client:
        for verb, *names in commands:
            status, data = getattr(client, verb)(*map(quote, names))
            assert status == "OK", data


def wait_until_followed(bus, mailbox, timeout=30):
    """It is watched, whatever may have to be tried again on the way."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            bus.call("Refresh", "ss", "work", mailbox)
            return
        except BusError as error:
            # A server may take a moment to believe in a mailbox, and tries have a distance.
            if error.name not in ("NoSuchMailbox", "ServerRefused", "Offline") or time.monotonic() > deadline:
                raise
            bus.wait_for_state("work", mailbox, "waiting")


@pytest.mark.parametrize(
    "server, while_watched",
    [
        ("dovecot", True),
        ("dovecot", False),
        ("cyrus", True),
        ("cyrus", False),
        # While it is watched, Courier's session takes the new one for the old one, without a word.
        ("courier", False),
    ],
)
def test_a_mailbox_made_anew(request, daemon, bus, server, while_watched):
    """The same name, but another mailbox: what is there is the new silent baseline."""
    server = request.getfixturevalue(server)
    user = server.user()
    name = server.mailbox("Lists", "dev")
    make(server, user, name, ["old 1", "old 2", "old 3"])
    first = uidvalidity(server, user, name)
    running = daemon(Account("work", server, user, ("INBOX", name)))
    bus.wait_for_state("work", name)
    if not while_watched:
        running.stop()
    # Numbers of UIDVALIDITY are seconds for some.
    time.sleep(1.1)
    change(server, user, ("delete", name))
    make(server, user, name, ["another 1", "another 2"])
    second = uidvalidity(server, user, name)
    assert second != first
    if not while_watched:
        running.start()
    # Servers need not say it in IDLE. Whoever asks, or the next renewal, finds it out.
    wait_until_followed(bus, name)
    signal = bus.wait_for_signal("MailboxReset", timeout=30)
    assert signal.arguments == ["work", name, second]
    wait_until_followed(bus, name)
    server.append(user, message("later"), name)
    bus.wait_for_signal("NewMail", timeout=20)
    bus.call("Refresh", "ss", "work", name)
    told = Told(bus, 0, name)
    assert [(m["Uid"], m["UidValidity"], m["Subject"]) for m in told.new] == [(3, second, "later")]
    assert len(told.resets) == 1 and told.changed == []
    # UIDs of old and of new are strangers: the reset says all.
    assert bus.matching("Expunged", since=bus.signals.index(signal)) == []
    box = bus.mailbox("work", name)
    assert (box["Messages"], box["Unread"], box["UidValidity"]) == (3, 3, second)
    running.restart()
    mark = bus.mark()
    bus.wait_for_state("work", name)
    bus.call("Refresh", "ss", "work", name)
    assert Told(bus, mark, name).is_nothing()


@pytest.mark.parametrize(
    "server, by",
    [
        ("dovecot", "itself"),
        ("dovecot", "Refresh"),
        ("dovecot", "Start"),
        ("cyrus", "itself"),
        ("courier", "Refresh"),
    ],
)
def test_a_mailbox_that_is_made_later(request, daemon, bus, server, by):
    """Its name stands in the configuration: what is in it when it is found first is old."""
    server = request.getfixturevalue(server)
    user = server.user()
    name = server.mailbox("Later")
    running = daemon(Account("work", server, user, ("INBOX", name)))
    bus.wait_for_state("work", name, "waiting")
    box = bus.mailbox("work", name)
    assert box["Error"][0] == "org.example.MailIdle.Error.NoSuchMailbox"
    assert box["NextTry"] > time.time() * 1e6 - 1e6
    with pytest.raises(BusError) as refused:
        bus.call("Refresh", "ss", "work", name)
    assert refused.value.name == "NoSuchMailbox"
    bus.wait_for_state("work", "INBOX")
    make(server, user, name, ["one", "two"])
    if by != "itself":
        bus.call(by, "ss", "work", name)
    bus.wait_for_state("work", name, timeout=60)
    box = bus.mailbox("work", name)
    assert (box["Messages"], box["Unread"], box["Error"]) == (2, 2, ["", ""])
    assert box["UidValidity"] == uidvalidity(server, user, name)
    assert Told(bus, 0, name).is_nothing()
    server.append(user, message("three"), name)
    bus.wait_for_signal("NewMail", timeout=20)
    running.restart()
    bus.wait_for_state("work", name)
    assert [m["Subject"] for m in Told(bus, 0, name).new] == ["three"]


@pytest.mark.parametrize("server", ["dovecot", "cyrus"])
def test_a_mailbox_that_is_deleted(request, daemon, bus, server):
    """Then it waits, and the others do not mind."""
    server = request.getfixturevalue(server)
    user = server.user()
    name = server.mailbox("Lists", "dev")
    make(server, user, name, ["one", "two"])
    running = daemon(Account("work", server, user, ("INBOX", name)))
    bus.wait_for_state("work", name)
    change(server, user, ("delete", name))
    with pytest.raises(BusError) as refused:
        wait_until_followed(bus, name, timeout=0)
    assert refused.value.name in ("NoSuchMailbox", "Offline")
    bus.wait(lambda: bus.mailbox("work", name)["Error"][0].endswith(".NoSuchMailbox"))
    bus.wait_for_state("work", "INBOX")
    server.append(user, message("elsewhere"))
    bus.wait_for_signal("NewMail", lambda account, mailbox, _: mailbox == "INBOX", timeout=20)
    running.restart()
    bus.wait(lambda: bus.mailbox("work", name)["Error"][0].endswith(".NoSuchMailbox"))
    bus.wait_for_state("work", "INBOX")
    assert Told(bus, 0, name).new == [] and len(bus.new_mail()) == 1


@contextlib.contextmanager
def without_rights(server, user, mailbox):
    """Its owner may not open it."""
    if server.software == "cyrus":
        with server.client(user) as client:
            *_, who, rights = client.getacl(quote(mailbox))[1][0].decode().split()
            # To see it, and to have its own rights back.
            assert client.setacl(quote(mailbox), who, "la")[0] == "OK"
        yield
        with server.client(user) as client:
            assert client.setacl(quote(mailbox), who, rights)[0] == "OK"
    else:
        place = maildir(server, user) / ("." + mailbox)
        mode = place.stat().st_mode & 0o777
        place.chmod(0)
        yield
        place.chmod(mode)


@pytest.mark.parametrize("server", ["dovecot", "cyrus"])
def test_a_mailbox_that_may_not_be_opened(request, daemon, bus, server):
    """It waits with the reason, the others do not mind, and one day it may again."""
    server = request.getfixturevalue(server)
    user = server.user()
    make(server, user, "box", ["one", "two"])
    running = daemon(Account("work", server, user, ("INBOX", "box")))
    bus.wait_for_state("work", "box")
    running.stop()
    server.append(user, message("three"), "box")
    with without_rights(server, user, "box"):
        running.start()
        bus.wait_for_state("work", "box", "waiting")
        assert bus.mailbox("work", "box")["Error"][0].startswith("org.example.MailIdle.Error.")
        assert bus.mailbox("work", "box")["Error"][1]
        bus.wait_for_state("work", "INBOX")
        server.append(user, message("elsewhere"))
        bus.wait_for_signal("NewMail", lambda a, mailbox, _: mailbox == "INBOX", timeout=20)
    wait_until_followed(bus, "box")
    told = Told(bus, 0, "box")
    assert [m["Subject"] for m in told.new] == ["three"]
    assert (told.changed, told.expunged, told.resets) == ([], [], [])


@pytest.mark.parametrize("server", ["dovecot", "cyrus"])
def test_a_mailbox_that_is_renamed_away_and_back(request, daemon, bus, server):
    """What came in the meantime is announced, unless the server calls it another mailbox."""
    server = request.getfixturevalue(server)
    user = server.user()
    name, other_name = server.mailbox("Lists", "dev"), server.mailbox("Elsewhere")
    make(server, user, name, ["one", "two"])
    daemon(Account("work", server, user, ("INBOX", name)))
    bus.wait_for_state("work", name)
    first = bus.mailbox("work", name)["UidValidity"]
    time.sleep(1.1)
    change(server, user, ("rename", name, other_name))
    server.append(user, message("in between"), other_name)
    try:
        # Dovecot's session goes on with the mailbox that it has open, whatever it is called.
        bus.call("Refresh", "ss", "work", name)
    except BusError as error:
        assert error.name in ("NoSuchMailbox", "Offline")
        bus.wait(lambda: bus.mailbox("work", name)["Error"][0].endswith(".NoSuchMailbox"))
    time.sleep(1.1)
    change(server, user, ("rename", other_name, name))
    wait_until_followed(bus, name)
    server.append(user, message("afterwards"), name)
    bus.wait_for_signal("NewMail", lambda a, m, new: new[-1]["Subject"] == "afterwards", timeout=20)
    bus.call("Refresh", "ss", "work", name)
    told = Told(bus, 0, name)
    box = bus.mailbox("work", name)
    assert (box["Messages"], box["Unread"]) == (4, 4)
    assert box["UidValidity"] == uidvalidity(server, user, name)
    subjects = [m["Subject"] for m in told.new]
    if box["UidValidity"] == first:
        assert subjects == ["in between", "afterwards"]
        # Cyrus says that all is gone; then the flags of what is back are told.
        assert told.resets == [] and set(told.expunged) <= {1, 2}
        assert {1: frozenset(), 2: frozenset(), 3: frozenset()}.items() >= dict(told.changed).items()
        assert set(told.expunged) <= set(dict(told.changed))
    else:
        assert told.resets[-1] == box["UidValidity"]
        assert subjects in (["afterwards"], ["in between", "afterwards"])


def maildir(server, user):
    return server.folder / "mail" / user.name / "Maildir"


@pytest.mark.parametrize("with_uids", [False, True], ids=["index", "index-and-uids"])
@pytest.mark.parametrize("while_watched", [True, False], ids=["watched", "down"])
def test_an_index_that_is_lost(daemon, bus, dovecot, while_watched, with_uids):
    """Without its index Dovecot knows UIDs and flags, but not the modseqs; without its list of UIDs
    it is another mailbox."""
    user = dovecot.user()
    with OtherClient(dovecot, user) as other:
        other.add(message(f"old {i}") for i in range(20))
        other.store(range(1, 21, 2), "+", "\\Seen")
        other.store([2, 4], "+", "$Junk")
    running = daemon(Account("work", dovecot, user))
    bus.wait_for_state("work", "INBOX")
    first = bus.mailbox("work", "INBOX")["UidValidity"]
    if not while_watched:
        running.stop()
    time.sleep(1.1)
    for path in maildir(dovecot, user).glob("dovecot*"):
        if path.is_file() and (with_uids or "index" in path.name):
            path.unlink()
    dovecot.deliver(user, message("after the loss"))
    with OtherClient(dovecot, user) as other:
        other.store([3], "+", "\\Flagged")
        truth = other.messages()
    if not while_watched:
        running.start()
    wait_until_followed(bus, "INBOX")
    bus.call("Refresh", "ss", "work", "INBOX")
    told = Told(bus)
    box = bus.mailbox("work", "INBOX")
    assert box["Messages"] == len(truth) == 21
    assert box["Unread"] == sum("\\Seen" not in flags for flags in truth.values())
    assert box["UidValidity"] == uidvalidity(dovecot, user, "INBOX")
    if with_uids:
        assert box["UidValidity"] != first
        assert told.resets == [box["UidValidity"]] and told.new == []
    else:
        assert box["UidValidity"] == first
        assert [m["Subject"] for m in told.new] == ["after the loss"]
        assert told.resets == [] and told.expunged == []
        # All of them may have other flags, as far as anybody can tell.
        assert dict(told.changed)[3] == truth[3]
        assert all(truth[uid] == flags for uid, flags in dict(told.changed).items())
    running.restart()
    mark = bus.mark()
    bus.wait_for_state("work", "INBOX")
    bus.call("Refresh", "ss", "work", "INBOX")
    assert Told(bus, mark).is_nothing()
    dovecot.deliver(user, message("the last"))
    bus.wait_for_signal("NewMail", since=mark)
    assert [m["Subject"] for m in Told(bus, mark).new] == ["the last"]


PLAIN = "IMAP4rev1 LITERAL+ SASL-IR IDLE UIDPLUS MOVE SPECIAL-USE"


def session(capability):
    """Settings of a user's sessions; None: all that the server can."""
    return {"imap_capability": capability} if capability else {}


def restore(copy, place):
    shutil.rmtree(place)
    subprocess.run(["cp", "-a", copy, place], check=True)


@pytest.mark.parametrize("capability", [None, PLAIN], ids=["all", "plain"])
@pytest.mark.parametrize("n_before", [0, 2], ids=["found-first", "used-first"])
def test_a_mailbox_brought_back_from_a_backup(daemon, bus, dovecot, folder, capability, n_before):
    """The server promises that no UID is ever used twice (RFC 9051 section 2.3.1.1), and breaks it
    without a new UIDVALIDITY. What is gone with the backup is told as gone, what is back again is
    no news but its flags are told, and a UID that is used a second time, after somebody looked, is
    new mail. Only what takes such a UID before anybody looks cannot be told from what had it
    before: it is taken for the same message, and its flags are told.
    """
    user = dovecot.user(**session(capability))
    with OtherClient(dovecot, user) as other:
        other.add(message(f"old {i}") for i in range(1, 11))
        other.store([2, 3], "+", "\\Flagged")
    running = daemon(Account("work", dovecot, user))
    bus.wait_for_state("work", "INBOX")
    place, copy = maildir(dovecot, user), folder / "backup"
    subprocess.run(["cp", "-a", place, copy], check=True)
    with OtherClient(dovecot, user) as other:
        backed_up = other.messages()
        other.add(message(f"young {i}") for i in range(11, 16))
        other.store([2, 4], "+", "\\Seen \\Answered")
        other.store([2], "-", "\\Flagged")
        other.expunge([7, 10])
        truth = other.messages()
    bus.call("Refresh", "ss", "work", "INBOX")
    assert [m["Uid"] for m in Told(bus).new] == [11, 12, 13, 14, 15]
    assert dict(Told(bus).changed) | {7: None, 10: None} == {
        2: truth[2], 4: truth[4], 7: None, 10: None
    }
    assert Told(bus).expunged == [7, 10]
    first = bus.mailbox("work", "INBOX")["UidValidity"]
    running.stop()
    restore(copy, place)
    with OtherClient(dovecot, user) as other:
        other.add(message(f"second {i}") for i in range(11, 11 + n_before))
        truth = other.messages()
        assert sorted(truth) == list(range(1, 11 + n_before))
    mark = bus.mark()
    running.start()
    bus.wait_for_state("work", "INBOX")
    told = Told(bus, mark)
    assert (told.new, told.resets) == ([], [])
    assert told.expunged == list(range(11 + n_before, 16))
    flags = dict(told.changed)
    assert {2, 4, 7, 10} <= set(flags)
    assert all(truth[uid] == flags[uid] for uid in flags)
    assert bus.mailbox("work", "INBOX")["UidValidity"] == first
    for i in range(2):
        # Also after a restart: what is known is stored.
        mark = bus.mark()
        uid = 11 + n_before + i
        dovecot.deliver(user, message(f"later {i}"))
        bus.wait_for_signal("NewMail", since=mark)
        running.restart()
        bus.wait_for_state("work", "INBOX")
        bus.call("Refresh", "ss", "work", "INBOX")
        told = Told(bus, mark)
        assert [(m["Uid"], m["Subject"]) for m in told.new] == [(uid, f"later {i}")]
        assert (told.changed, told.expunged, told.resets) == ([], [], [])
    with OtherClient(dovecot, user) as other:
        truth = other.messages()
    box = bus.mailbox("work", "INBOX")
    assert box["Messages"] == len(truth) == 12 + n_before
    assert box["Unread"] == sum("\\Seen" not in flags for flags in truth.values())


# What a server may have lost or gained by an update or a proxy before it.
WAYS = {
    "all": None,
    "condstore": PLAIN + " ENABLE CONDSTORE ESEARCH",
    "condstore-alone": PLAIN + " CONDSTORE",
    "esearch": PLAIN + " ESEARCH",
    "plain": PLAIN,
}


@pytest.mark.parametrize(
    "first, second",
    [
        ("all", "condstore"),
        ("all", "condstore-alone"),
        ("all", "plain"),
        ("plain", "all"),
        ("condstore", "esearch"),
        ("condstore-alone", "plain"),
        ("esearch", "condstore-alone"),
        ("plain", "esearch"),
    ],
)
def test_a_server_that_can_more_or_less_than_before(watch, bus, dovecot, first, second):
    """No flood of new mail, no loss, and flags converge. Where flags were told by modseqs, and are
    no longer, all of them may be others."""
    user = dovecot.user(**session(WAYS[first]))
    with OtherClient(dovecot, user) as other:
        other.add(message(f"old {i}") for i in range(40))
        other.store(range(1, 41, 3), "+", "\\Seen")
        other.store(range(2, 41, 5), "+", "\\Flagged $Junk")
    running = watch(dovecot, user)
    for way_before, way in ((first, second), (second, first)):
        running.stop()
        dovecot.set_session(user, **session(WAYS[way]))
        with OtherClient(dovecot, user) as other:
            before = other.messages()
            known = sorted(before)
            other.store(known[4:8], "+", "$Label")
            other.store(known[6:9], "+", "\\Seen")
            other.store(known[0:1], "-", "\\Seen")
            other.add([message(f"new for {way} {i}") for i in range(3)])
            other.expunge(known[10:12])
            after = other.messages()
        mark = bus.mark()
        running.start()
        bus.wait_for_state("work", "INBOX")
        bus.call("Refresh", "ss", "work", "INBOX")
        told = Told(bus, mark)
        assert [m["Subject"] for m in told.new] == [f"new for {way} {i}" for i in range(3)]
        assert told.expunged == known[10:12] and told.resets == []
        changed = {uid: after[uid] for uid in before if uid in after and after[uid] != before[uid]}
        flags = dict(told.changed)
        assert len(flags) == len(told.changed)
        assert changed.items() <= flags.items()
        assert all(after[uid] == flags[uid] for uid in flags)
        ways = (WAYS[way_before], WAYS[way])
        modseqs = [each is None or "CONDSTORE" in each for each in ways]
        if modseqs != [True, False]:
            assert flags == changed
        box = bus.mailbox("work", "INBOX")
        unread = sum("\\Seen" not in flags for flags in after.values())
        assert (box["Messages"], box["Unread"]) == (len(after), unread)
    # Every flag of every message is known now, whatever the way was.
    mark = bus.mark()
    with OtherClient(dovecot, user) as other:
        some = sorted(after)[::4]
        other.store(some, "", "\\Draft $Junk")
    bus.call("Refresh", "ss", "work", "INBOX")
    assert dict(Told(bus, mark).changed) == {uid: {"\\Draft", "$Junk"} for uid in some}
