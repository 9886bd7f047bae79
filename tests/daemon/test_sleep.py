"""Sleep as logind announces it: out before it begins, back at once when it is over."""

import os
import time

import pytest

from busclient import NAME, ROOT, BusError, mailbox_path
from logind import MANAGER, PATH, Logind
from mail import message
from mailidled import Account, program

# The accounts take 0.9 s at most, the rest is for a machine that has much to do.
SECONDS_STUCK = 1.5


@pytest.fixture
def system_bus(folder):
    """A system bus on which logind does not run yet."""
    (folder / "system").mkdir()
    logind = Logind(folder / "system")
    yield logind
    logind.close()


@pytest.fixture
def logind(system_bus):
    return system_bus.start()


@pytest.fixture
def sleepy(daemon, bus, system_bus):
    """mailidled on that system bus, with one account "work" whose mailbox is idle."""

    def start(server, user):
        running = daemon(Account("work", server, user), environment=system_bus.environment)
        bus.wait_for_state("work", "INBOX")
        return running

    return start


def subjects(bus, mark=0):
    return [mail["Subject"] for mail in bus.new_mail(since=mark)]


def states(bus, mark):
    """Those of the mailbox, since then."""
    return [
        signal.arguments[1]["State"]
        for signal in bus.matching("PropertiesChanged", since=mark)
        if signal.path == mailbox_path("work", "INBOX") and "State" in signal.arguments[1]
    ]


def fall_asleep(logind, bus, seconds):
    """Announces the sleep, and waits for what it waits for."""
    logind.wait_for_inhibitor()
    began = time.monotonic()
    logind.prepare_for_sleep(True)
    logind.wait_for_consent()
    assert time.monotonic() - began < seconds
    bus.wait_for_state("work", "INBOX", "offline", timeout=1)


def test_out_before_sleep_and_back_after_it(sleepy, bus, logind, dovecot):
    user = dovecot.user()
    running = sleepy(dovecot, user)
    for n in range(1, 4):
        mark = bus.mark()
        fall_asleep(logind, bus, 1)
        trace = running.trace.read_text()
        assert trace.count("C: DONE") >= n
        assert trace.count(" LOGOUT\n") == n
        bus.wait(lambda: bus.root()["Online"] is False, 1, "offline")
        dovecot.deliver(user, message(f"while asleep {n}"))
        assert bus.get(ROOT, NAME, "Online") is False
        assert not subjects(bus, mark)
        began = time.monotonic()
        logind.prepare_for_sleep(False)
        bus.wait_for_state("work", "INBOX")
        assert time.monotonic() - began < 5
        bus.wait_for_signal("NewMail", since=mark)
        logind.wait_for_inhibitor()
    dovecot.deliver(user, message("awake"))
    bus.wait(lambda: "awake" in subjects(bus))
    assert subjects(bus) == ["while asleep 1", "while asleep 2", "while asleep 3", "awake"]


def test_a_frozen_server_does_not_keep_the_machine_awake(sleepy, bus, logind, relay):
    user = relay.user()
    sleepy(relay, user)
    relay.freeze()
    fall_asleep(logind, bus, SECONDS_STUCK)
    relay.thaw()
    relay.deliver(user, message("meanwhile"))
    logind.prepare_for_sleep(False)
    bus.wait_for_state("work", "INBOX")
    assert subjects(bus) == ["meanwhile"]
    logind.wait_for_inhibitor()


def test_sleep_while_nothing_is_connected(sleepy, bus, logind, relay):
    """What waits for its next attempt waits for the end of the sleep instead."""
    sleepy(relay, relay.user())
    relay.refuse()
    relay.cut()
    bus.wait_for_state("work", "INBOX", "waiting")
    fall_asleep(logind, bus, 1)
    relay.refuse(False)
    n = relay.n_connections
    time.sleep(1.5)
    assert relay.n_connections == n
    logind.prepare_for_sleep(False)
    bus.wait_for_state("work", "INBOX")


def test_requests_while_asleep(sleepy, bus, logind, dovecot):
    user = dovecot.user()
    sleepy(dovecot, user)
    fall_asleep(logind, bus, 1)
    pending = bus.send("Refresh", "ss", "work", "INBOX")
    logind.prepare_for_sleep(False)
    reply = pending.result(20)
    assert reply.error_name in (None, "org.example.MailIdle.Error.Offline")
    bus.wait_for_state("work", "INBOX")
    bus.call("Refresh", "ss", "work", "INBOX")


def test_stop_start_and_reload_while_asleep(sleepy, bus, logind, dovecot):
    user = dovecot.user()
    running = sleepy(dovecot, user)
    fall_asleep(logind, bus, 1)
    n_logins = running.log.count("logged in")
    with pytest.raises(BusError) as refused:
        bus.call("Refresh", "ss", "", "")
    assert refused.value.name == "Offline"
    box = bus.mailbox("work", "INBOX")
    assert box["Error"][0] == "org.example.MailIdle.Error.Offline" and box["NextTry"] == 0
    bus.call("Stop", "ss", "", "")
    assert bus.mailbox("work", "INBOX")["State"] == "stopped"
    assert bus.mailbox("work", "INBOX")["Error"] == ["", ""]
    assert bus.account("work")["State"] == "stopped"
    bus.call("Start", "ss", "work", "INBOX")
    bus.wait_for_state("work", "INBOX", "offline")
    running.configure(Account("work", dovecot, user), Account("new", dovecot, dovecot.user()))
    bus.call("Reload")
    bus.wait_for_state("new", "INBOX", "offline")
    bus.call("Stop", "ss", "work", "INBOX")
    dovecot.deliver(user, message("meanwhile"))
    assert running.log.count("logged in") == n_logins
    logind.prepare_for_sleep(False)
    bus.wait_for_state("new", "INBOX")
    assert bus.mailbox("work", "INBOX")["State"] == "stopped"
    bus.call("Start", "ss", "work", "")
    bus.wait_for_state("work", "INBOX")
    assert subjects(bus) == ["meanwhile"]


def test_ended_while_asleep(sleepy, bus, logind, dovecot):
    running = sleepy(dovecot, dovecot.user())
    fall_asleep(logind, bus, 1)
    running.stop()


def test_without_logind(sleepy, bus, system_bus, dovecot):
    """One that comes later is found."""
    user = dovecot.user()
    sleepy(dovecot, user)
    dovecot.deliver(user, message("without"))
    bus.wait_for_signal("NewMail")
    system_bus.start()
    fall_asleep(system_bus, bus, 1)
    system_bus.prepare_for_sleep(False)
    bus.wait_for_state("work", "INBOX")


def test_logind_restarts(sleepy, bus, logind, dovecot):
    user = dovecot.user()
    sleepy(dovecot, user)
    logind.wait_for_inhibitor()
    mark = bus.mark()
    logind.stop()
    logind.start()
    logind.wait_for_inhibitor()
    # The mail has not noticed.
    assert not states(bus, mark)
    fall_asleep(logind, bus, 1)
    # It takes what it said with it.
    logind.stop()
    bus.wait_for_state("work", "INBOX")
    logind.start()
    logind.wait_for_inhibitor()


def test_the_system_bus_restarts(sleepy, bus, logind, dovecot):
    user = dovecot.user()
    sleepy(dovecot, user)
    fall_asleep(logind, bus, 1)
    logind.kill_bus()
    bus.wait_for_state("work", "INBOX")
    dovecot.deliver(user, message("without a system bus"))
    bus.wait_for_signal("NewMail")
    logind.start_bus()
    logind.start()
    logind.wait_for_inhibitor()
    fall_asleep(logind, bus, 1)
    logind.prepare_for_sleep(False)
    bus.wait_for_state("work", "INBOX")
    assert subjects(bus) == ["without a system bus"]


@pytest.mark.skipif(
    "MAILIDLE_SLOW" not in os.environ, reason="takes two minutes: MAILIDLE_SLOW=1"
)
def test_a_sleep_that_never_comes(sleepy, bus, logind, dovecot):
    """Nor does a word that it was given up."""
    user = dovecot.user()
    sleepy(dovecot, user)
    fall_asleep(logind, bus, 1)
    dovecot.deliver(user, message("meanwhile"))
    bus.wait_for_state("work", "INBOX", timeout=180)
    bus.wait_for_signal("NewMail")
    logind.wait_for_inhibitor()
    logind.prepare_for_sleep(False)
    fall_asleep(logind, bus, 1)
    logind.prepare_for_sleep(False)
    bus.wait_for_state("work", "INBOX")


def test_nobody_else_puts_it_to_sleep(sleepy, bus, logind, dovecot):
    """On the system bus any user may send a signal to any program."""
    import dbus_next

    user = dovecot.user()
    sleepy(dovecot, user)
    logind.wait_for_inhibitor()
    mark = bus.mark()
    driver = {
        "path": "/org/freedesktop/DBus",
        "interface": "org.freedesktop.DBus",
        "destination": "org.freedesktop.DBus",
    }
    for name in logind.bus.call("ListNames", **driver):
        if not name.startswith(":") or name == logind.bus.unique_name:
            continue
        for path, interface, member, signature, body in (
            ("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", "sss",
             ["org.freedesktop.login1", "", logind.bus.unique_name]),
            (PATH, MANAGER, "PrepareForSleep", "b", [True]),
        ):
            logind.bus.emit(
                dbus_next.Message(
                    message_type=dbus_next.MessageType.SIGNAL,
                    destination=name,
                    path=path,
                    interface=interface,
                    member=member,
                    signature=signature,
                    body=body,
                )
            )
    dovecot.deliver(user, message("still here"))
    bus.wait_for_signal("NewMail")
    assert "offline" not in states(bus, mark)
    logind.wait_for_inhibitor()


def test_a_sleep_that_nobody_announced(daemon, bus, dovecot, folder):
    """Its clocks tell the daemon that the machine has slept: the path is probed at once, and not
    when IDLE is renewed."""
    slept = folder / "slept"
    slept.write_text("0")
    environment = {
        "ASAN_OPTIONS": "detect_leaks=1:verify_asan_link_order=0",
        "LD_PRELOAD": str(program("shifted-clock.so")),
        "SLEPT_CLOCK": str(slept),
    }
    running = daemon(Account("work", dovecot, dovecot.user()), environment=environment)

    def n_probes():
        return running.trace.read_text().count("C: DONE\n")

    bus.wait_for_state("work", "INBOX")
    # Any turn of its loop will do, but does nothing by itself.
    bus.call("Reload")
    bus.call("Reload")
    assert n_probes() == 0
    new = slept.with_suffix(".new")
    new.write_text("60")
    new.replace(slept)
    bus.call("Reload")
    bus.wait(lambda: n_probes() == 1, what="a probe")
    bus.wait_for_state("work", "INBOX")
