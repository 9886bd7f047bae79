"""Staying connected: cuts, restarts, servers without IDLE, patterns, the budget, reload."""

import os
import time

import pytest

from busclient import BusError
from mail import message
from mailidled import Account
from relay import Relay
from servers import Dovecot

WITHOUT_IDLE = "IMAP4rev1 LITERAL+ SASL-IR UIDPLUS ESEARCH MOVE SPECIAL-USE"
PLAIN = "IMAP4rev1 IDLE"


def test_a_cut_connection_comes_back(watch, bus, relay):
    user = relay.user()
    watch(relay, user)
    relay.refuse()
    assert relay.cut() == 1
    bus.wait_for_state("work", "INBOX", "waiting")
    box = bus.mailbox("work", "INBOX")
    assert box["Error"][0] == "org.example.MailIdle.Error.Offline" and box["Error"][1]
    assert box["NextTry"] > time.time() * 1e6 - 1e6
    bus.wait(lambda: bus.root()["Online"] is False, what="offline")
    relay.deliver(user, message("meanwhile"))
    relay.refuse(False)
    # On a mailbox that waits, Refresh tries at once.
    bus.call("Refresh", "ss", "work", "INBOX")
    assert [m["Subject"] for m in bus.new_mail()] == ["meanwhile"]
    bus.wait_for_state("work", "INBOX")
    assert bus.mailbox("work", "INBOX")["Error"] == ["", ""]


def test_a_server_that_restarts(watch, bus, folder):
    with Dovecot() as server:
        user = server.user()
        watch(server, user)
        server.stop()
        bus.wait_for_state("work", "INBOX", "waiting")
        server.start()
        server.deliver(user, message("after the restart"))
        bus.wait_for_signal("NewMail", timeout=60)
        bus.wait_for_state("work", "INBOX", timeout=60)
        assert len(bus.new_mail()) == 1


def test_waits_grow(watch, bus, relay):
    user = relay.user()
    running = watch(relay, user)
    relay.refuse()
    relay.cut()
    bus.wait(
        lambda: running.log.count("state=waiting") >= 5, 60, "five attempts that came to nothing"
    )
    assert bus.mailbox("work", "INBOX")["State"] in ("waiting", "connecting")
    relay.refuse(False)


def test_polling_where_idle_is_missing(watch, bus, dovecot):
    user = dovecot.user(imap_capability=WITHOUT_IDLE)
    watch(dovecot, user, poll_interval="10s")
    assert bus.mailbox("work", "INBOX")["Mode"] == "poll"
    dovecot.deliver(user, message("polled"))
    bus.wait_for_signal("NewMail", timeout=20)
    # A wish does not wait for the next look.
    dovecot.deliver(user, message("at once"))
    bus.call("Refresh", "ss", "work", "INBOX")
    assert [m["Subject"] for m in bus.new_mail()] == ["polled", "at once"]


def test_a_server_with_nothing_but_idle(watch, bus, dovecot):
    user = dovecot.user(imap_capability=PLAIN)
    for i in range(3):
        dovecot.append(user, message(f"old {i}"))
    running = watch(dovecot, user)
    dovecot.deliver(user, message("new"))
    bus.wait_for_signal("NewMail")
    with dovecot.client(user) as client:
        client.select("INBOX")
        client.store("2", "+FLAGS", "(\\Seen \\Deleted)")
        bus.wait_for_signal("FlagsChanged", lambda a, m, c: c[0][0] == 2)
        client.expunge()
    bus.wait_for_signal("Expunged", lambda a, m, uids: uids == [2])
    with pytest.raises(BusError) as refused:
        bus.call("Move", "ssaus", "work", "INBOX", [1], "Trash")
    assert refused.value.name == "NotSupported"
    assert "EXAMINE" in running.trace.read_text()


def test_more_mailboxes_than_connections(watch, bus, relay):
    user = relay.user_without("NOTIFY")
    names = ["INBOX", "one", "two", "three"]
    for name in names:
        relay.append(user, message("old"), name)
    running = watch(relay, user, tuple(names), max_connections=2, poll_interval="10s")
    assert relay.n_connections == 2
    modes = [bus.mailbox("work", name)["Mode"] for name in names]
    assert sorted(modes) == ["idle", "idle", "poll", "poll"], running.log
    for name in names:
        assert bus.mailbox("work", name)["Messages"] == 1
        relay.append(user, message(f"into {name}"), name)
    for name in names:
        bus.wait_for_signal("NewMail", lambda a, m, messages, name=name: m == name, timeout=30)
    polled = names[modes.index("poll")]
    [one] = bus.call("Fetch", "ssauas", "work", polled, [2], [])
    assert one["Subject"] == f"into {polled}"
    assert len(bus.new_mail()) == 4


def test_patterns_and_a_mailbox_that_is_made_later(daemon, bus, dovecot):
    user = dovecot.user()
    dovecot.append(user, message("old"), "Lists/one")
    running = daemon(
        Account("work", dovecot, user, ("INBOX", "Lists/*"), options={"idle_timeout": "1m"})
    )
    bus.wait_for_state("work", "Lists/one")
    bus.wait_for_state("work", "INBOX")
    assert bus.mailbox("work", "Lists/one")["Messages"] == 1
    running.stop()
    # Made while nobody looked: announced from its first message.
    dovecot.append(user, message("first of two"), "Lists/two")
    running.start()
    signal = bus.wait_for_signal("NewMail", timeout=20)
    assert signal.arguments[1] == "Lists/two"
    bus.wait_for_state("work", "Lists/two")
    assert [m["Subject"] for m in bus.new_mail()] == ["first of two"]


def test_a_mailbox_that_is_not_there(daemon, bus, dovecot):
    user = dovecot.user()
    daemon(Account("work", dovecot, user, ("INBOX", "Nowhere")))
    bus.wait_for_state("work", "INBOX")
    bus.wait_for_state("work", "Nowhere", "waiting")
    assert bus.mailbox("work", "Nowhere")["Error"][0].endswith(".NoSuchMailbox")
    dovecot.append(user, message("there now"), "Nowhere")
    bus.call("Start", "ss", "work", "Nowhere")
    bus.wait_for_state("work", "Nowhere")


def test_the_mode_of_a_stopped_mailbox(watch, bus, dovecot, either, mode):
    dovecot.append(either, message("there"), "Lists/dev")
    watch(dovecot, either, ("INBOX", "Lists/dev"))
    bus.wait(lambda: bus.mailbox("work", "Lists/dev")["Mode"] == mode)
    bus.call("Stop", "ss", "work", "Lists/dev")
    bus.call("Refresh", "ss", "work", "INBOX")
    box = bus.mailbox("work", "Lists/dev")
    assert (box["State"], box["Mode"]) == ("stopped", mode)


def test_reload_leaves_untouched_mailboxes_alone(daemon, bus, relay, either, mode):
    user, other = relay.user(), either
    running = daemon(Account("work", relay, user), Account("home", relay, other))
    bus.wait_for_state("work", "INBOX")
    bus.wait_for_state("home", "INBOX")
    assert relay.n_connections == 2
    mark = bus.mark()
    running.configure(
        Account("work", relay, user),
        Account("home", relay, other, ("INBOX", "Sent")),
        Account("third", relay, relay.user()),
    )
    bus.call("Reload")
    bus.wait_for_state("third", "INBOX")
    bus.wait_for_state("home", "Sent")
    assert relay.n_connections == (3 if mode == "notify" else 4)
    paths = {s.path for s in bus.matching("PropertiesChanged", since=mark)}
    assert "/org/example/MailIdle/work/INBOX" not in paths
    if mode == "idle":  # else they share a connection
        assert "/org/example/MailIdle/home/INBOX" not in paths
    running.configure(Account("work", relay, user))
    running.reload()
    bus.wait(lambda: len(bus.objects) == 3, what="the others gone")
    # A bad file changes nothing, and says where it is bad.
    running.configure(text="account work {\n\tnonsense = 1\n}\n")
    with pytest.raises(BusError) as refused:
        bus.call("Reload")
    assert refused.value.name == "ConfigInvalid" and ":2:" in refused.value.text
    assert bus.mailbox("work", "INBOX")["State"] == "idle"


def test_reload_keeps_what_waits(watch, bus, relay):
    user = relay.user()
    relay.append(user, message("one"))
    relay.append(user, message("two"))
    running = watch(relay, user)
    relay.freeze()
    refresh = bus.send("Refresh", "ss", "work", "INBOX")
    fetch = bus.send("Fetch", "ssauas", "work", "INBOX", [1], [])
    raw = bus.send("FetchRaw", "ssu", "work", "INBOX", 2)
    bus.wait_for_state("work", "INBOX", "interrupting")
    running.configure(Account("work", relay, user, options={"preview": True}))
    bus.call("Reload")
    relay.thaw()
    assert refresh.result(20).error_name is None
    [[one]] = fetch.result(20).body
    assert one["Subject"].value == "one"
    assert raw.result(20).error_name is None
    os.close(raw.result().unix_fds[0])
    # What is wanted of an account that is no longer there is wanted in vain.
    bus.wait_for_state("work", "INBOX")
    relay.freeze()
    refresh = bus.send("Refresh", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "interrupting")
    running.configure()
    bus.call("Reload")
    assert refresh.result(5).error_name == "org.example.MailIdle.Error.NoSuchAccount"
    relay.thaw()


class Crashing(Relay):
    """The server breaks over its first message."""

    def _pass_on(self, connection, end, octets):
        if b"UID FETCH 1 (" in octets:
            self._end(connection, by_reset=True)
        else:
            super()._pass_on(connection, end, octets)


def test_a_request_that_breaks_connections(watch, bus, dovecot):
    """It is given up, instead of logging in for it again and again."""
    user = dovecot.user()
    relay = Crashing(dovecot)
    try:
        running = watch(relay, user, security="plain")
        with pytest.raises(BusError) as refused:
            bus.call("Fetch", "ssauas", "work", "INBOX", [1], [], timeout=10)
        assert refused.value.name == "Offline"
        bus.wait_for_state("work", "INBOX")
        assert relay.n_connections <= 4
        running.stop()
    finally:
        relay.close()


def test_compression(watch, bus, dovecot):
    user = dovecot.user()
    dovecot.append(user, message("old"))
    running = watch(dovecot, user, compress=True)
    dovecot.deliver(user, message("deflated"))
    bus.wait_for_signal("NewMail")
    assert "COMPRESS DEFLATE" in running.trace.read_text()
    assert bus.fetch_raw("work", "INBOX", 1).endswith(b"text\r\n")


def test_preview(watch, bus, server):
    user = server.user()
    watch(server, user, preview=True)
    server.append(user, message("with a preview", body="These are the first words.\r\n"))
    signal = bus.wait_for_signal("NewMail")
    assert signal.arguments[2][0]["Preview"] == "These are the first words."


def grown(running):
    """Descriptors and resident KiB of the daemon."""
    pid = running.process.pid
    with open(f"/proc/{pid}/smaps_rollup") as file:
        rss = [int(line.split()[1]) for line in file if line.startswith("Rss:")][0]
    return len(os.listdir(f"/proc/{pid}/fd")), rss


def test_nothing_grows_over_many_reconnects(watch, bus, relay):
    user = relay.user()
    relay.append(user, message("old"))
    running = watch(relay, user)
    n = int(os.environ.get("MAILIDLE_RECONNECTS", "250"))

    def reconnect(times):
        for _ in range(times):
            relay.cut()
            bus.wait(
                lambda: bus.mailbox("work", "INBOX")["State"] != "idle", what="the cut noticed"
            )
            # Refresh would try once a second at most.
            bus.call("Start", "ss", "work", "INBOX")
            bus.wait_for_state("work", "INBOX")

    reconnect(n // 4)
    before = grown(running)
    reconnect(n)
    after = grown(running)
    print(f"{n} reconnects: {before[0]} to {after[0]} descriptors, {before[1]} to {after[1]} KiB")
    assert after[0] == before[0]
    if not running.is_sanitized:  # which keeps freed memory for a while
        assert after[1] - before[1] < 512
    assert bus.new_mail() == []


def test_nobody_else_reads_a_trace(new_daemon, bus):
    """But a terminal, or /dev/null, keeps its mode."""
    master, slave = os.openpty()
    try:
        terminal = os.ttyname(slave)
        os.chmod(terminal, 0o622)
        running = new_daemon().configure()
        running.trace.touch(0o644)
        for path, mode in ((running.trace, 0o600), (terminal, 0o622)):
            running.is_traced = False
            running.start("--trace-imap", str(path))
            assert os.stat(path).st_mode & 0o777 == mode
            running.stop()
            bus.wait(lambda: not bus.owner, what="the name to be free")
    finally:
        os.close(slave)
        os.close(master)
