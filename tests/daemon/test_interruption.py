"""Leaving IDLE: at once, from anywhere, and never as an error."""

import os
import time

import pytest

from busclient import BusError
from mail import message
from relay import Relay


def n_done(running):
    return running.trace.read_text().splitlines().count("work#1 C: DONE")


def states(bus, since):
    return [
        signal.arguments[1]["State"]
        for signal in bus.matching("PropertiesChanged", since=since)
        if "State" in signal.arguments[1] and signal.path.endswith("/INBOX")
    ]


def test_fifty_refreshes_share_two_interruptions(watch, bus, server):
    user = server.user()
    relay = Relay(server)
    try:
        running = watch(relay, user)
        before = n_done(running)
        callers = [bus.another() for _ in range(10)]
        # While nothing comes through, all of them meet.
        relay.freeze()
        calls = [callers[i % 10].send("Refresh", "ss", "work", "INBOX") for i in range(50)]
        for caller in callers:
            caller.get("/org/example/MailIdle", "org.example.MailIdle", "Online")
        relay.thaw()
        for call in calls:
            assert call.result(20).message_type.name == "METHOD_RETURN"
        # The first ones, and those that came when it was on its way, if there were any.
        assert 1 <= n_done(running) - before <= 2
    finally:
        running.stop()
        relay.close()


def test_refresh_finds_what_idle_has_not_told_yet(watch, bus, server):
    user = server.user()
    watch(server, user)
    for i in range(10):
        server.append(user, message(f"number {i}"))
        bus.call("Refresh", "ss", "work", "INBOX")
        # The signal came before the reply.
        assert f"number {i}" in [m["Subject"] for m in bus.new_mail()]
    assert len(bus.new_mail()) == 10


def test_the_state_shows_each_step(watch, bus, relay):
    user = relay.user()
    watch(relay, user)
    relay.freeze()
    mark = bus.mark()
    call = bus.send("Refresh", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "interrupting")
    relay.thaw()
    call.result(20)
    bus.wait_for_state("work", "INBOX")
    seen = states(bus, mark)
    assert seen[0] == "interrupting" and seen[-1] == "idle"
    assert "failed" not in seen and "waiting" not in seen
    assert bus.mailbox("work", "INBOX")["Error"] == ["", ""]


def test_stop_cancels_what_waits(watch, bus, relay):
    user = relay.user()
    relay.append(user, message("one"))
    watch(relay, user)
    relay.freeze()
    fetch = bus.send("Fetch", "ssauas", "work", "INBOX", [1], [])
    refresh = bus.send("Refresh", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "interrupting")
    began = time.monotonic()
    bus.call("Stop", "ss", "work", "INBOX")
    assert time.monotonic() - began < 3
    for call in (fetch, refresh):
        assert call.result(5).error_name == "org.example.MailIdle.Error.Cancelled"
    assert bus.mailbox("work", "INBOX")["State"] == "stopped"
    relay.thaw()


def test_a_caller_that_leaves_takes_its_requests_along(watch, bus, relay):
    user = relay.user()
    relay.append(user, message("one"))
    running = watch(relay, user)
    relay.freeze()
    call = bus.send("Refresh", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "interrupting")
    leaver = bus.another()
    leaver.send("SetFlags", "ssauasas", "work", "INBOX", [1], ["\\Flagged"], [])
    # Its call is there when a later one of its own is answered.
    leaver.get_all("/org/example/MailIdle", "org.example.MailIdle")
    name = leaver.unique_name
    bus._others.remove(leaver)
    leaver.close()
    running.wait_for_log(f"{name} left")
    relay.thaw()
    call.result(20)
    bus.call("Refresh", "ss", "work", "INBOX")
    [one] = bus.call("Fetch", "ssauas", "work", "INBOX", [1], ["flags"])
    assert one["Flags"] == []


def test_too_many_requests(watch, bus, relay):
    user = relay.user()
    relay.append(user, message("one"))
    watch(relay, user)
    relay.freeze()
    calls = [bus.send("Fetch", "ssauas", "work", "INBOX", [1], []) for _ in range(9)]
    assert calls[8].result(5).error_name == "org.example.MailIdle.Error.LimitExceeded"
    other = bus.another().send("Fetch", "ssauas", "work", "INBOX", [1], [])
    relay.thaw()
    for call in [*calls[:8], other]:
        assert call.result(20).message_type.name == "METHOD_RETURN"
    for uids, limit in (([1] * 1001, None), (None, 1001)):
        with pytest.raises(BusError) as refused:
            if uids:
                bus.call("Fetch", "ssauas", "work", "INBOX", uids, [])
            else:
                bus.call("ListUnread", "ssu", "work", "INBOX", limit)
        assert refused.value.name == "LimitExceeded"


def test_every_method_answers_within_its_time(watch, bus, relay):
    user = relay.user()
    relay.append(user, message("one"))
    watch(relay, user)
    relay.freeze()
    began = time.monotonic()
    call = bus.send("Fetch", "ssauas", "work", "INBOX", [1], [])
    error = call.result(25).error_name
    # DONE has 15 s to be answered; then the connection is gone and the request with it, or waits on.
    assert error in (
        "org.example.MailIdle.Error.Timeout",
        "org.example.MailIdle.Error.Offline",
    )
    assert time.monotonic() - began < 21
    relay.thaw()


def test_names_that_are_not_watched(watch, bus, dovecot):
    user = dovecot.user()
    watch(dovecot, user)
    for account, mailbox, error in (
        ("other", "INBOX", "NoSuchAccount"),
        ("work", "Sent", "NoSuchMailbox"),
        ("work", "IN\nBOX", "org.freedesktop.DBus.Error.InvalidArgs"),
        ("work", "x" * 1001, "org.freedesktop.DBus.Error.InvalidArgs"),
    ):
        with pytest.raises(BusError) as refused:
            bus.call("Refresh", "ss", account, mailbox)
        assert refused.value.name == error
    for arguments in ((["nonsense"],), (["flags", ""],)):
        with pytest.raises(BusError) as refused:
            bus.call("Fetch", "ssauas", "work", "INBOX", [1], *arguments)
        assert refused.value.name == "org.freedesktop.DBus.Error.InvalidArgs"


def test_requests_keep_idle_away_until_all_are_served(watch, bus, dovecot):
    user = dovecot.user()
    for i in range(5):
        dovecot.append(user, message(f"number {i}"))
    running = watch(dovecot, user)
    before = n_done(running)
    calls = [bus.send("Fetch", "ssauas", "work", "INBOX", [i + 1], []) for i in range(5)]
    for i, call in enumerate(calls):
        [[one]] = call.result(20).body
        assert one["Subject"].value == f"number {i}"
    assert n_done(running) - before <= 5
    bus.wait_for_state("work", "INBOX")


def test_requests_for_the_same_message_are_each_answered(watch, bus, server):
    user = server.user()
    server.append(user, message("wanted by many"))
    watch(server, user)
    for _ in range(5):
        fetches = [bus.send("Fetch", "ssauas", "work", "INBOX", [1], []) for _ in range(5)]
        raw = bus.send("FetchRaw", "ssu", "work", "INBOX", 1)
        for fetch in fetches:
            [[one]] = fetch.result(20).body
            assert one["Subject"].value == "wanted by many"
        assert raw.result(20).message_type.name == "METHOD_RETURN"
        os.close(raw.result().unix_fds[0])


def test_nothing_but_the_identity(watch, bus, server):
    user = server.user()
    server.append(user, message("one"))
    watch(server, user)
    [one] = bus.call("Fetch", "ssauas", "work", "INBOX", [1], ["identity"])
    assert one["Uid"] == 1 and ("EmailId" in one) == (server.software == "cyrus")


def test_nothing_is_to_be_done_for_no_message(watch, bus, dovecot):
    user = dovecot.user()
    running = watch(dovecot, user)
    before = n_done(running)
    assert bus.call("Fetch", "ssauas", "work", "INBOX", [], []) == []
    bus.call("SetFlags", "ssauasas", "work", "INBOX", [], ["\\Seen"], [])
    bus.call("Move", "ssaus", "work", "INBOX", [], "Trash")
    assert n_done(running) == before
