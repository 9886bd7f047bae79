"""NOTIFY (RFC 5465): one connection for all mailboxes of an account, and what takes its place."""

import contextlib
import itertools

import pytest

from mail import message
from mailidled import Account
from scripted import CAPABILITIES, Box, Server, Session
from servers import Dovecot
from servers.base import quote

NAMES = ("INBOX", "Lists/dev", "Lists/users", "Sent")


def modes(bus, names=NAMES):
    return [bus.mailbox("work", name)["Mode"] for name in names]


def wait_for_modes(bus, mode, names=NAMES):
    bus.wait(lambda: set(modes(bus, names)) == {mode}, 20, f"{mode} for all")


def n_sessions(dovecot, user):
    """Those that Dovecot knows of."""
    return dovecot.doveadm("-f", "tab", "who", user.name).count("\timap\t")


def make(server, user, names=NAMES):
    for name in names[1:]:
        server.append(user, message(f"old in {name}"), name)


@pytest.fixture
def notified(dovecot, watch, bus):
    """A user of Dovecot with four mailboxes, watched by NOTIFY."""
    user = dovecot.user()
    make(dovecot, user)
    user_daemon = watch(dovecot, user, NAMES)
    wait_for_modes(bus, "notify")
    bus.call("Refresh", "ss", "work", "")
    return user, user_daemon


def await_new_mail(bus, name, subject, since):
    bus.wait_for_signal(
        "NewMail",
        lambda a, m, messages: m == name and subject in [one.get("Subject") for one in messages],
        since=since,
    )


def test_one_connection_watches_all(notified, bus, dovecot):
    user, running = notified
    assert running.log.count("logged in") == 1
    assert dovecot.doveadm("-f", "tab", "who", "-1", user.name).count("\timap\t") == 1
    for name in NAMES:
        mark = bus.mark()
        dovecot.append(user, message(f"into {name}"), name)
        await_new_mail(bus, name, f"into {name}", mark)
        bus.wait(lambda: bus.mailbox("work", name)["State"] == "idle")
    assert len(bus.new_mail()) == len(NAMES)
    assert running.log.count("logged in") == 1
    bus.wait(lambda: bus.root()["Unread"] == 2 * len(NAMES) - 1)


def test_flags_and_expunges_elsewhere(notified, bus, dovecot):
    user, _ = notified
    with dovecot.client(user) as client:
        client.select(quote("Lists/dev"))
        client.store("1", "+FLAGS", r"(\Flagged)")
        bus.wait_for_signal(
            "FlagsChanged", lambda a, m, changes: (m, changes) == ("Lists/dev", [[1, ["\\Flagged"]]])
        )
        client.store("1", "+FLAGS", r"(\Deleted)")
        client.expunge()
    bus.wait_for_signal("Expunged", lambda a, m, uids: (m, uids) == ("Lists/dev", [1]))
    bus.wait(lambda: bus.mailbox("work", "Lists/dev")["Messages"] == 0)


def test_a_burst_over_all_mailboxes(notified, bus, dovecot):
    """Nothing is lost in the moments in which one mailbox is left for another."""
    user, running = notified
    wanted = set()
    clients = [dovecot.client(user) for _ in NAMES]
    try:
        for i, (name, client) in itertools.product(range(25), zip(NAMES, clients)):
            wanted.add((name, f"{name} {i}"))
            client.append(quote(name), None, None, message(f"{name} {i}"))
    finally:
        for client in clients:
            client.logout()

    def told():
        return [
            (signal.arguments[1], one["Subject"])
            for signal in bus.matching("NewMail")
            for one in signal.arguments[2]
        ]

    bus.wait(lambda: len(told()) >= len(wanted), 20, "all of them")
    assert sorted(told()) == sorted(wanted)
    assert running.log.count("logged in") == 1


def test_stop_and_start(notified, bus, dovecot):
    """The connection stays as long as somebody needs it, whichever mailbox is stopped."""
    user, running = notified
    for name in ("INBOX", "Sent"):
        bus.call("Stop", "ss", "work", name)
        assert bus.mailbox("work", name)["State"] == "stopped"
        assert bus.mailbox("work", name)["Mode"] == "notify"
        mark = bus.mark()
        dovecot.append(user, message("while stopped"), name)
        dovecot.append(user, message(f"while {name} is stopped"), "Lists/dev")
        await_new_mail(bus, "Lists/dev", f"while {name} is stopped", mark)
        assert not bus.matching("NewMail", lambda a, m, _: m == name, mark)
        bus.call("Start", "ss", "work", name)
        await_new_mail(bus, name, "while stopped", mark)
        bus.wait_for_state("work", name)
        dovecot.append(user, message("after Start"), name)
        await_new_mail(bus, name, "after Start", mark)
    assert "connection=5" not in running.log
    bus.wait(lambda: all(bus.mailbox("work", name)["State"] == "idle" for name in NAMES))
    bus.call("Stop", "ss", "work", "")
    bus.wait(lambda: bus.account("work")["State"] == "stopped")


def test_reload(notified, bus, dovecot):
    user, running = notified
    dovecot.append(user, message("old"), "Drafts")
    names = ("INBOX", "Lists/dev", "Drafts")
    running.configure(Account("work", dovecot, user, names))
    bus.call("Reload")
    bus.wait_for_state("work", "Drafts")
    wait_for_modes(bus, "notify", names)
    for name in names:
        mark = bus.mark()
        dovecot.append(user, message(f"into {name}"), name)
        await_new_mail(bus, name, f"into {name}", mark)
    # The watched one goes, and another one takes its place.
    running.configure(Account("work", dovecot, user, ("Drafts", "Lists/dev")))
    bus.call("Reload")
    bus.wait(lambda: not any(path.endswith("/INBOX") for path in bus.objects))
    mark = bus.mark()
    dovecot.append(user, message("later"), "Drafts")
    await_new_mail(bus, "Drafts", "later", mark)
    dovecot.append(user, message("later"), "Lists/dev")
    await_new_mail(bus, "Lists/dev", "later", mark)
    assert running.log.count("logged in") == 1


def test_mailboxes_that_come_and_go(daemon, bus, dovecot):
    user = dovecot.user()
    make(dovecot, user)
    running = daemon(
        Account("work", dovecot, user, ("INBOX", "Lists/*"), options={"idle_timeout": "1m"})
    )
    wait_for_modes(bus, "notify", NAMES[:3])
    for name in NAMES[:3]:
        bus.wait_for_state("work", name)
    with dovecot.client(user) as client:
        client.delete(quote("Lists/users"))
    dovecot.append(user, message("first"), "Lists/new")
    # The next connection lists anew.
    dovecot.doveadm("kick", user.name)
    await_new_mail(bus, "Lists/new", "first", 0)
    bus.wait(lambda: not any("users" in path for path in bus.objects))
    wait_for_modes(bus, "notify", ("INBOX", "Lists/dev", "Lists/new"))
    bus.wait_for_state("work", "Lists/new")
    mark = bus.mark()
    dovecot.append(user, message("second"), "Lists/new")
    await_new_mail(bus, "Lists/new", "second", mark)
    assert running.log.count("logged in") == 2


def test_a_server_that_restarts(watch, bus):
    with Dovecot() as server:
        user = server.user()
        make(server, user)
        watch(server, user, NAMES)
        wait_for_modes(bus, "notify")
        server.kill()
        bus.wait(lambda: bus.mailbox("work", "Sent")["State"] == "waiting")
        server.start()
        for name in NAMES:
            server.append(user, message(f"into {name}"), name)
        bus.call("Start", "ss", "work", "")
        for name in NAMES:
            await_new_mail(bus, name, f"into {name}", 0)
            bus.wait_for_state("work", name)
        mark = bus.mark()
        server.append(user, message("again"), "Sent")
        await_new_mail(bus, "Sent", "again", mark)
        assert len(bus.new_mail()) == len(NAMES) + 1


def test_without_notify(watch, bus, dovecot):
    """IDLE for the first ones as the configuration has them; also after Stop, Start and Reload."""
    user = dovecot.user_without("NOTIFY")
    make(dovecot, user)
    running = watch(dovecot, user, NAMES, max_connections=2)
    bus.wait(lambda: modes(bus) == ["idle", "idle", "poll", "poll"])
    assert "NOTIFY SET" not in running.trace.read_text()
    bus.call("Stop", "ss", "work", "Lists/dev")
    bus.wait(lambda: modes(bus)[2:] == ["idle", "poll"])
    bus.call("Start", "ss", "work", "Lists/dev")
    bus.wait(lambda: modes(bus) == ["idle", "idle", "poll", "poll"])
    running.configure(
        Account("work", dovecot, user, ("Sent", *NAMES[:3]), options={"max_connections": 2})
    )
    bus.call("Reload")
    bus.wait(lambda: modes(bus) == ["idle", "poll", "poll", "idle"])
    bus.call("Refresh", "ss", "work", "")
    for name in NAMES:
        dovecot.append(user, message(f"into {name}"), name)
    bus.call("Refresh", "ss", "work", "")
    assert sorted(m["Subject"] for m in bus.new_mail()) == sorted(f"into {n}" for n in NAMES)


def test_all_status_in_one_flight(watch, bus, dovecot):
    user = dovecot.user_without("NOTIFY")
    names = ("INBOX", *(f"Lists/{i}" for i in range(20)))
    make(dovecot, user, names)
    running = watch(dovecot, user, names, max_connections=1, poll_interval="10s")
    n = running.trace.read_text().count(" STATUS ")

    def polled():
        """The client's lines of the last poll."""
        lines = running.trace.read_text().splitlines()
        said = [line.partition(" ")[2] for line in lines]
        at = [i for i, line in enumerate(said) if line.startswith("C: ") and " STATUS " in line]
        return said[at[-1] - 19 : at[-1] + 2] if len(at) >= 20 else None

    bus.wait(
        lambda: running.trace.read_text().count(" IDLE") > 2 and polled(), 25, "a poll of all"
    )
    flight = polled()
    assert all(line.startswith("C: ") for line in flight), flight
    assert all(" STATUS " in line for line in flight[:-1])
    assert flight[-1].endswith(" IDLE")
    assert n == 0 or n >= 20
    # Nothing has happened: nothing is opened.
    assert running.trace.read_text().count('EXAMINE "Lists') == len(names) - 1


# -- a server that a test plays: what no real one does on demand --


class Scripted:
    """A server with NOTIFY, in which the first connection is played step by step."""

    NAMES = ("INBOX", "one", "two")

    def __init__(self, daemon, bus, **options):
        self.bus = bus
        self.server = Server()
        account = Account("work", self.server, self.server.user, self.NAMES, "plain",
                          options=options)
        self.running = daemon(account)
        self.wire = self.server.accept()
        self.boxes = {name: Box({5: []}) for name in self.NAMES}
        self.session = Session(self.wire, None, CAPABILITIES + " NOTIFY", self.boxes)

    def serve_others(self, notify=None):
        """notify: the answer to NOTIFY."""

        def serve(wire):
            session = Session(wire, None, CAPABILITIES + " NOTIFY", self.boxes).greet()
            while notify:
                try:
                    tag = session.answer_until("NOTIFY SET .*")
                except AssertionError:
                    return
                wire.tell(f"{tag} {notify}")
            session.answer_until()

        self.server.serve(serve)

    def answer_notify(self, answer="OK notifying", with_status=True):
        tag = self.session.greet().answer_until("NOTIFY SET .*")
        if with_status:
            for name in self.NAMES[1:]:
                self.tell_status(name)
        self.wire.tell(f"{tag} {answer}")

    def tell_status(self, name):
        self.wire.tell(self.session.status_line(name))

    def serve_on(self):
        """The rest of the conversation, in a thread."""
        self.server.start(self.session.answer_until)


@pytest.fixture
def scripted(daemon, bus):
    made = []

    def start(**options):
        made.append(Scripted(daemon, bus, **options))
        return made[-1]

    yield start
    for one in made:
        with contextlib.suppress(Exception):
            one.running.stop()
        one.server.close()


def test_a_refusal(scripted, bus):
    """Names or number may be what the server does not bear; then all of it."""
    one = scripted()
    one.serve_others("BAD what?")
    one.answer_notify("NO not today", with_status=False)
    tag = one.session.answer_until("NOTIFY SET .*")
    assert "MAILBOXES" not in one.wire.said[-1]
    one.wire.tell(f"{tag} BAD what?")
    one.serve_on()
    for name in one.NAMES:
        bus.wait_for_state("work", name)
    bus.wait(lambda: modes(bus, one.NAMES) == ["idle"] * 3)
    assert all(bus.mailbox("work", name)["Error"] == ["", ""] for name in one.NAMES)
    assert len(one.server.wires) == 3


def test_an_overflow(scripted, bus):
    one = scripted(max_connections=2)
    one.answer_notify()
    one.serve_on()
    wait_for_modes(bus, "notify", one.NAMES)
    for name in one.NAMES:
        bus.wait_for_state("work", name)
    bus.call("Refresh", "ss", "work", "")
    assert len(one.server.wires) == 1
    one.serve_others()
    # What came meanwhile is found, though nobody says so.
    one.boxes["two"].add(6)
    mark = bus.mark()
    one.wire.tell("* OK [NOTIFICATIONOVERFLOW] too much")
    bus.wait(lambda: modes(bus, one.NAMES) == ["idle", "notify", "poll"])
    bus.wait_for_signal("NewMail", lambda a, m, _: m == "two", since=mark)
    for name in one.NAMES:
        bus.wait_for_state("work", name)
    assert len(one.server.wires) == 2


def test_a_push_of_what_is_known(scripted, bus):
    """The ledger: what STATUS says is what the view has, and nobody needs to look."""
    one = scripted()
    one.answer_notify()
    one.serve_on()
    wait_for_modes(bus, "notify", one.NAMES)
    for name in one.NAMES:
        bus.wait_for_state("work", name)
    bus.call("Refresh", "ss", "work", "")
    n = len(one.wire.said)
    one.tell_status("one")
    one.boxes["two"].add(6)
    mark = bus.mark()
    one.tell_status("two")
    bus.wait_for_signal("NewMail", lambda a, m, _: m == "two", since=mark)
    bus.call("Refresh", "ss", "work", "INBOX")
    said = one.wire.said[n:]
    assert not any(line.endswith('EXAMINE "one" (CONDSTORE)') for line in said)
    assert sum(line.endswith('EXAMINE "two" (CONDSTORE)') for line in said) == 1
    # It was known to have changed: it was opened without another question.
    asked = [line for line in said if ' STATUS "two"' in line]
    assert len(asked) == 1 and said.index(asked[0]) > [
        line.endswith('EXAMINE "two" (CONDSTORE)') for line in said
    ].index(True)


def test_a_mailbox_of_which_nothing_is_said(scripted, bus):
    """It has a connection of its own; the others have none."""
    one = scripted()
    one.NAMES = ("INBOX", "one")
    one.serve_others()
    one.answer_notify()
    one.NAMES = Scripted.NAMES
    one.serve_on()
    bus.wait(lambda: modes(bus, one.NAMES) == ["notify"] * 3)
    assert len(one.server.wires) == 2
