"""Many mailboxes, few connections: patterns, limits of the server, and one password for all."""

import time

import pytest

from busclient import ERROR, BusError
from mail import message
from mailidled import Account
from relay import Relay
from servers import Dovecot
from test_login import counting_command


@pytest.fixture
def relay(dovecot):
    relay = Relay(dovecot)
    yield relay
    relay.close()


def test_a_new_pattern_finds_nothing_new(daemon, bus, dovecot):
    user = dovecot.user()
    dovecot.append(user, message("old one"), "Lists/one")
    dovecot.append(user, message("old two"), "Other/two")
    running = daemon(Account("work", dovecot, user, ("INBOX", "Lists/*")))
    bus.wait_for_state("work", "Lists/one")
    running.stop()
    # It existed before, only the pattern did not.
    running.configure(Account("work", dovecot, user, ("INBOX", "Lists/*", "Other/*")))
    running.start()
    bus.wait_for_state("work", "Other/two")
    bus.call("Refresh", "ss", "work", "")
    assert bus.new_mail() == []
    dovecot.append(user, message("new two"), "Other/two")
    bus.call("Refresh", "ss", "work", "Other/two")
    assert [m["Subject"] for m in bus.new_mail()] == ["new two"]


def test_a_mailbox_that_goes(daemon, bus, relay):
    user = relay.user()
    relay.append(user, message("here"), "Lists/one")
    daemon(Account("work", relay, user, ("INBOX", "Lists/*")))
    bus.wait_for_state("work", "INBOX")
    bus.wait_for_state("work", "Lists/one")
    with relay.client(user) as client:
        client.delete("Lists/one")
    # The next connection lists again.
    relay.cut()
    bus.wait(
        lambda: not [path for path in bus.objects if "Lists" in path], 30, "the mailbox is gone"
    )
    bus.wait_for_state("work", "INBOX")


def test_many_mailboxes_on_one_connection(daemon, bus, dovecot, either, mode):
    user = either
    names = ["INBOX", *(f"Lists/{i}" for i in range(12))]
    for name in names[1:]:
        dovecot.append(user, message(f"old in {name}"), name)
    options = {"max_connections": 1, "poll_interval": "10s"}
    daemon(Account("work", dovecot, user, tuple(names), options=options))
    for name in names:
        bus.wait_for_state("work", name)
        bus.wait(lambda: bus.mailbox("work", name)["Mode"], 10, "a mode")
    assert bus.mailbox("work", "INBOX")["Mode"] == mode
    others = "notify" if mode == "notify" else "poll"
    assert {bus.mailbox("work", name)["Mode"] for name in names[1:]} == {others}
    for name in names:
        dovecot.append(user, message(f"new in {name}"), name)
    bus.call("Refresh", "ss", "work", "")
    assert sorted(m["Subject"] for m in bus.new_mail()) == sorted(f"new in {n}" for n in names)
    # Reading and writing go through the same connection.
    [one] = bus.call("Fetch", "ssauas", "work", "Lists/7", [2], [])
    assert one["Subject"] == "new in Lists/7"
    bus.call("SetFlags", "ssauasas", "work", "Lists/7", [2], ["\\Seen"], [])
    assert [m["Uid"] for m in bus.call("ListUnread", "ssu", "work", "Lists/7", 0)] == [1]
    bus.call("Stop", "ss", "work", "Lists/7")
    assert bus.mailbox("work", "Lists/7")["State"] == "stopped"
    assert bus.mailbox("work", "INBOX")["Error"] == ["", ""]


def test_a_password_is_asked_for_once(daemon, bus, dovecot, folder):
    user = dovecot.user()
    script, notes = counting_command(folder, user.password)
    names = ("INBOX", "Sent", "Lists/*")
    for name in ("Sent", "Lists/one", "Lists/two"):
        dovecot.append(user, message("old"), name)
    daemon(Account("work", dovecot, user, names, secret=None, options={"password_command": script}))
    for name in ("INBOX", "Sent", "Lists/one", "Lists/two"):
        bus.wait_for_state("work", name)
    assert notes.read_text() == "run\n"


def test_a_wrong_password_is_shown_to_the_server_once(daemon, bus, dovecot, folder):
    user = dovecot.user()
    script, notes = counting_command(folder, "wrong")
    names = ("INBOX", "Sent", "Drafts", "Trash")
    running = daemon(
        Account("work", dovecot, user, names, secret=None, options={"password_command": script})
    )
    for name in names:
        bus.wait_for_state("work", name, "waiting")
        assert bus.mailbox("work", name)["Error"][0].endswith(".AuthenticationFailed")
    assert notes.read_text() == "run\n"
    trace = running.trace.read_text()
    assert trace.count(" AUTHENTICATE ") + trace.count(" LOGIN ") == 1


def await_nobody(server, bus, user):
    """Dovecot forgets a connection a little after its end."""
    bus.wait(
        lambda: user.name not in server.doveadm("who", "-1", user.name),
        what=f"the server to forget the connections of {user.name}",
    )


def test_a_server_that_allows_one_connection(daemon, bus):
    # One, because Dovecot counts who is logged in already: of logins at the same moment it lets in
    # all. Our first login is alone.
    with Dovecot(settings="protocol imap {\nmail_max_userip_connections = 1\n}") as server:
        user = server.user_without("NOTIFY")
        names = ("INBOX", "Sent", "Drafts", "Trash")
        for name in names:
            await_nobody(server, bus, user)
            server.append(user, message(f"old in {name}"), name)
        await_nobody(server, bus, user)
        running = daemon(Account("work", server, user, names))
        for name in names:
            bus.wait_for_state("work", name, timeout=30)
        bus.wait(
            lambda: sorted(bus.mailbox("work", name)["Mode"] for name in names)
            == ["idle", "poll", "poll", "poll"],
            30,
            "one mailbox watched, the others polled",
        )
        running.wait_for_log("LimitExceeded")
        bus.call("Refresh", "ss", "work", "")
        assert "AuthenticationFailed" not in running.log


def test_a_limit_that_others_use_up(daemon, bus):
    """The first connection is refused: that is no wrong password, and lasts for a minute."""
    with Dovecot(settings="protocol imap {\nmail_max_userip_connections = 1\n}") as server:
        user = server.user()
        with server.client(user) as client:
            client.noop()
            running = daemon(Account("work", server, user))
            bus.wait_for_state("work", "INBOX", "waiting")
            box = bus.mailbox("work", "INBOX")
            assert box["Error"][0] == ERROR + "LimitExceeded"
            assert "mail_max_userip_connections" in box["Error"][1]
            assert 50e6 < box["NextTry"] - time.time() * 1e6 < 61e6
            with pytest.raises(BusError) as refused:
                bus.call("Refresh", "ss", "work", "INBOX")
            assert refused.value.name == "LimitExceeded"
            bus.wait_for_state("work", "INBOX", "waiting")
        # The server forgets a connection a little after its end.
        for _ in range(100):
            bus.call("Start", "ss", "work", "INBOX")
            bus.wait(lambda: bus.mailbox("work", "INBOX")["State"] in ("idle", "waiting"))
            if bus.mailbox("work", "INBOX")["State"] == "idle":
                break
        bus.wait_for_state("work", "INBOX")
        assert "AuthenticationFailed" not in running.log
