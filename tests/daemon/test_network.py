"""Dead paths: what vanishes without a word, addresses and routes that go and come."""

import hashlib
import os
import signal
import ssl
import time

import pytest

from busclient import MAILBOX, BusError, mailbox_path
from busdaemon import BusDaemon
from cable import LINK, Cable
from mail import message
from mailidled import Account
from relay import Relay

# How long after news of the network a connection may be silent, and what else that takes.
PROBE_SECONDS = 5
# DONE is answered within so long, whatever a call may take.
DONE_SECONDS = 15
NOTICED_SECONDS = 30
ANSWER_SECONDS = 20
# The kernel's: dial.h.
KEEPALIVE_SECONDS = 180
OFFLINE = "org.example.MailIdle.Error.Offline"


@pytest.fixture
def cable():
    reason = Cable.unavailable()
    if reason is not None:
        pytest.skip(reason)
    cable = Cable()
    yield cable
    cable.close()


@pytest.fixture
def far(cable, dovecot):
    """Dovecot at the other end of the cable."""
    relay = Relay(dovecot, host=cable.SERVER, listen=cable.listen)
    yield relay
    relay.close()


@pytest.fixture
def connect(cable, far, new_daemon, bus, certificates):
    """Starts mailidled at its end of the cable, and returns when all mailboxes are idle."""
    # The first is the server's own.
    first, _, _ = certificates.chain.read_text().partition(ssl.PEM_FOOTER)
    der = ssl.PEM_cert_to_DER_cert(first + ssl.PEM_FOOTER)
    fingerprint = "sha256:" + hashlib.sha256(der).hexdigest()

    def start(user, mailboxes=("INBOX",), state="idle", environment=None, **options):
        running = new_daemon(environment)
        running.prefix = cable.prefix()
        # Its certificate does not know this address.
        options |= {"ca_file": None, "certificate_fingerprint": fingerprint}
        running.configure(Account("work", far, user, mailboxes, options=options)).start()
        for mailbox in mailboxes:
            bus.wait_for_state("work", mailbox, state)
        return running

    return start


def state(bus):
    return bus.mailbox("work", "INBOX")["State"]


def wait_until_left(bus, what, timeout):
    """Until INBOX is no longer idle; returns how long that took."""
    began = time.monotonic()
    bus.wait(lambda: state(bus) != "idle", timeout, what)
    return time.monotonic() - began


def subjects(bus):
    return [one["Subject"] for one in bus.new_mail()]


def test_a_frozen_path_is_noticed_by_the_next_thing_asked(connect, bus, cable, far):
    user = far.user()
    running = connect(user)
    cable.freeze()
    far.deliver(user, message("meanwhile"))
    began = time.monotonic()
    with pytest.raises(BusError) as refused:
        bus.call("Refresh", "ss", "work", "INBOX")
    assert refused.value.name == "Timeout"
    assert time.monotonic() - began < ANSWER_SECONDS + 1
    bus.wait(
        lambda: state(bus) in ("connecting", "waiting"),
        began + NOTICED_SECONDS - time.monotonic(),
        "the path to be noticed",
    )
    assert "no answer in time to DONE" in running.log
    cable.thaw()
    bus.wait_for_state("work", "INBOX", timeout=60)
    assert subjects(bus) == ["meanwhile"]


def test_a_frozen_path_is_noticed_without_idle(connect, bus, cable, far):
    """Nothing but the kernel knows that what was asked did not arrive."""
    user = far.server.user(imap_capability="IMAP4rev1 UIDPLUS")
    running = connect(user)
    assert bus.mailbox("work", "INBOX")["Mode"] == "poll"
    cable.freeze()
    far.deliver(user, message("meanwhile"))
    began = time.monotonic()
    with pytest.raises(BusError) as refused:
        bus.call("Refresh", "ss", "work", "INBOX")
    assert refused.value.name == "Timeout"
    assert time.monotonic() - began < ANSWER_SECONDS + 1
    remaining = began + NOTICED_SECONDS - time.monotonic()
    running.wait_for_log("the server does not answer any more", remaining)
    cable.thaw()
    bus.call("Refresh", "ss", "work", "INBOX")
    assert subjects(bus) == ["meanwhile"]


def test_a_frozen_path_is_noticed_at_news_of_the_network(connect, bus, cable, far):
    user = far.user()
    running = connect(user)
    cable.freeze()
    far.deliver(user, message("meanwhile"))
    cable.at_client(f"addr add 198.51.100.7/24 dev {LINK}")
    began = time.monotonic()
    bus.wait(
        lambda: "no proof of life" in running.log, PROBE_SECONDS + 2, "the path to be noticed"
    )
    assert time.monotonic() - began > PROBE_SECONDS - 1
    cable.thaw()
    bus.wait_for_state("work", "INBOX", timeout=40)
    bus.wait_for_signal("NewMail")
    assert subjects(bus) == ["meanwhile"]


def test_what_lies_in_the_socket_is_read_before_time_is_up(connect, bus, cable, far):
    """As after a sleep that nobody announced: the answer came in time, only nobody was there."""
    user = far.user()
    running = connect(user)
    cable.freeze()
    cable.at_client(f"addr add 198.51.100.7/24 dev {LINK}")
    bus.wait_for_state("work", "INBOX", "interrupting")
    running.process.send_signal(signal.SIGSTOP)
    cable.thaw()
    far.deliver(user, message("meanwhile"))
    time.sleep(PROBE_SECONDS + 1)
    running.process.send_signal(signal.SIGCONT)
    bus.wait_for_signal("NewMail")
    bus.wait_for_state("work", "INBOX")
    assert far.n_connections == 1, running.log


def test_news_of_the_network_harms_no_path_that_lives(connect, bus, cable, far):
    user = far.user()
    running = connect(user)
    began = bus.mark()
    cable.at_client(
        f"addr add 198.51.100.7/24 dev {LINK}",
        f"route add 203.0.113.0/24 via {cable.SERVER}",
        f"addr del 198.51.100.7/24 dev {LINK}",
        f"route del 203.0.113.0/24",
    )
    far.deliver(user, message("on the same connection"))
    bus.wait_for_signal("NewMail")
    bus.call("Refresh", "ss", "work", "INBOX")
    assert far.n_connections == 1
    assert not bus.matching("PropertiesChanged", lambda i, p, g: "Error" in p, began), running.log


def test_an_address_that_goes_and_comes_back(connect, bus, cable, far):
    user = far.user()
    far.append(user, message("old"), "Lists")
    connect(user, ("INBOX", "Lists"))
    cable.at_client(f"addr del {cable.CLIENT}/24 dev {LINK}")
    for mailbox in ("INBOX", "Lists"):
        bus.wait_for_state("work", mailbox, "offline", timeout=1)
        box = bus.mailbox("work", mailbox)
        assert box["Error"][0] == OFFLINE and "no network" in box["Error"][1]
        assert box["NextTry"] == 0
    account = bus.account("work")
    assert account["State"] == "offline" and account["Error"][0] == OFFLINE
    assert account["NextTry"] == 0
    assert bus.root()["Online"] is False
    far.deliver(user, message("meanwhile"))
    cable.at_client(f"addr add {cable.CLIENT}/24 dev {LINK}")
    for mailbox in ("INBOX", "Lists"):
        bus.wait_for_state("work", mailbox, timeout=3)
    assert bus.account("work")["Error"] == ["", ""]
    assert subjects(bus) == ["meanwhile"]


def test_what_is_asked_offline_is_tried_and_answered_at_once(connect, bus, cable, far):
    user = far.user()
    running = connect(user)
    cable.at_client(f"link set {LINK} down")
    bus.wait_for_state("work", "INBOX", "offline", timeout=1)
    # The log comes by another way than the bus.
    running.wait_for_log("account=work state=offline")
    n_tries = running.log.count("state=dialing")
    for member, signature, arguments in (
        ("Refresh", "ss", ()),
        ("Fetch", "ssauas", ([1], [])),
        ("ListSince", "ssuuu", (0, 0, 0)),
    ):
        began = time.monotonic()
        with pytest.raises(BusError) as refused:
            bus.call(member, signature, "work", "INBOX", *arguments)
        assert refused.value.name == "Offline"
        assert time.monotonic() - began < 2
        bus.wait_for_state("work", "INBOX", "offline", timeout=1)
    bus.wait(lambda: running.log.count("state=dialing") >= n_tries + 3, what="all tries in the log")
    assert running.log.count("state=dialing") == n_tries + 3
    far.deliver(user, message("meanwhile"))
    cable.at_client(f"link set {LINK} up")
    bus.wait_for_state("work", "INBOX", timeout=3)
    assert subjects(bus) == ["meanwhile"]


def test_stop_start_and_reload_offline(connect, bus, cable, far):
    user = far.user()
    far.append(user, message("old"), "Lists")
    running = connect(user, ("INBOX", "Lists"))
    cable.at_client(f"link set {LINK} down")
    for mailbox in ("INBOX", "Lists"):
        bus.wait_for_state("work", mailbox, "offline", timeout=1)
    for account, mailbox in (("", ""), ("work", ""), ("work", "Lists")):
        with pytest.raises(BusError) as refused:
            bus.call("Refresh", "ss", account, mailbox)
        assert refused.value.name == "Offline"
    # The first is the one that tries for all.
    bus.call("Stop", "ss", "work", "INBOX")
    box = bus.mailbox("work", "INBOX")
    assert box["State"] == "stopped" and box["Error"] == ["", ""]
    bus.wait_for_state("work", "Lists", "offline", timeout=2)
    bus.call("Reload")
    bus.wait_for_state("work", "Lists", "offline", timeout=2)
    bus.call("Stop", "ss", "", "")
    assert bus.account("work")["State"] == "stopped"
    bus.call("Start", "ss", "", "")
    for mailbox in ("INBOX", "Lists"):
        bus.wait_for_state("work", mailbox, "offline", timeout=2)
    far.deliver(user, message("meanwhile"))
    cable.at_client(f"link set {LINK} up")
    for mailbox in ("INBOX", "Lists"):
        bus.wait_for_state("work", mailbox, timeout=3)
    assert subjects(bus) == ["meanwhile"]
    cable.at_client(f"link set {LINK} down")
    bus.wait_for_state("work", "INBOX", "offline", timeout=1)
    running.stop()


def test_started_without_a_network(connect, bus, cable, far):
    user = far.user()
    cable.at_client(f"link set {LINK} down")
    running = connect(user, state="offline")
    assert bus.mailbox("work", "INBOX")["Error"][0] == OFFLINE
    cable.at_client(f"link set {LINK} up")
    bus.wait_for_state("work", "INBOX", timeout=3)
    assert "next attempt" not in running.log


@pytest.mark.parametrize(
    "options",
    [
        {"host": "127.0.0.1"},
        {"host": "localhost"},
        {"proxy_command": "exit 3"},
        # It comes by a way of its own, whatever the kernel thinks of ours.
        {"host": "no-such-host.test", "proxy_command": "exit 3"},
    ],
)
def test_what_needs_no_network_is_not_offline(connect, bus, cable, far, options):
    cable.at_client(f"link set {LINK} down")
    connect(far.user(), state="waiting", **options)
    assert bus.mailbox("work", "INBOX")["NextTry"] > 0


def test_a_name_that_cannot_be_resolved_without_a_network(connect, bus, cable, far):
    cable.at_client(f"link set {LINK} down")
    connect(far.user(), state="offline", host="imap.example.test")
    assert "no network" in bus.mailbox("work", "INBOX")["Error"][1]
    cable.at_client(f"link set {LINK} up")

    def has_failed_otherwise():
        name, text = bus.mailbox("work", "INBOX")["Error"]
        return name == OFFLINE and "no network" not in text

    # There is a network now, and nobody in it to ask.
    bus.wait(has_failed_otherwise, 20, "another attempt")
    assert state(bus) == "waiting"


def test_news_of_the_network_are_no_reason_to_try_a_password_again(connect, bus, cable, far):
    user = far.user()
    running = connect(user._replace(password="wrong"), state="waiting")
    box = bus.mailbox("work", "INBOX")
    assert box["Error"][0] == "org.example.MailIdle.Error.AuthenticationFailed"
    for verb in ("add", "del", "add"):
        cable.at_client(f"addr {verb} 198.51.100.7/24 dev {LINK}")
        cable.at_client(f"route add 203.0.113.0/24 via {cable.SERVER}")
        cable.at_client("route del 203.0.113.0/24")
    # It has read all that by the time it answers.
    bus.get_all(mailbox_path("work", "INBOX"), MAILBOX)
    assert bus.mailbox("work", "INBOX")["NextTry"] == box["NextTry"]
    assert far.n_connections == 1, running.log


def test_a_route_that_goes_and_comes_back(connect, bus, cable, far):
    """Our address stays, so that there is a network; only nothing leads to the server."""
    user = far.user()
    connect(user)
    route = f"{cable.SERVER}/32 dev {LINK}"
    cable.at_client(f"route del 192.0.2.0/24 dev {LINK}")
    assert wait_until_left(bus, "the connection to be dropped", 1) < 1
    bus.wait_for_state("work", "INBOX", "waiting", timeout=1)
    assert bus.mailbox("work", "INBOX")["Error"][0] == OFFLINE
    # It has waited a few times by now, and would wait for long.
    bus.wait(lambda: bus.mailbox("work", "INBOX")["NextTry"] > (time.time() + 2) * 1e6, 30)
    cable.at_client(f"route add {route}")
    bus.wait_for_state("work", "INBOX", timeout=2)


def test_news_without_end_are_no_reason_to_try_without_end(connect, bus, cable, far):
    running = connect(far.user())
    far.refuse()
    far.cut()
    bus.wait_for_state("work", "INBOX", "waiting")
    n_tries = running.log.count("state=dialing")
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for verb in ("add", "del"):
            cable.at_client(f"route {verb} 203.0.113.0/24 via {cable.SERVER}")
            time.sleep(0.05)
    # After 0.2 s, 0.4 s, 0.8 s, 1.6 s, and when it would have been tried anyway.
    assert running.log.count("state=dialing") - n_tries <= 7
    far.refuse(False)
    cable.at_client(f"addr add 198.51.100.7/24 dev {LINK}")
    bus.wait_for_state("work", "INBOX", timeout=8)


def test_a_better_way_is_no_reason_to_drop_one_that_works(connect, bus, cable, far):
    user = far.user()
    connect(user)
    cable.at_client(
        f"addr add 192.0.2.3/32 dev {LINK}",
        f"route add {cable.SERVER}/32 dev {LINK} src 192.0.2.3",
    )
    far.deliver(user, message("as before"))
    bus.wait_for_signal("NewMail")
    bus.call("Refresh", "ss", "work", "INBOX")
    assert far.n_connections == 1
    # What is no longer there cannot be used, though another address could reach the server.
    cable.at_client(f"addr del {cable.CLIENT}/24 dev {LINK}")
    bus.wait(lambda: far.n_connections == 2, 2, "another connection")
    bus.wait_for_state("work", "INBOX")


@pytest.fixture
def system_bus(folder):
    """Where there is none, it is looked for a few times."""
    daemon = BusDaemon(folder, "system")
    yield daemon
    daemon.stop()


def test_nothing_runs_while_offline(connect, bus, cable, far, system_bus):
    user = far.user()
    running = connect(user, environment={"DBUS_SYSTEM_BUS_ADDRESS": system_bus.address})
    cable.at_client(f"addr del {cable.CLIENT}/24 dev {LINK}")
    bus.wait_for_state("work", "INBOX", "offline", timeout=1)

    def switches():
        status = (f"/proc/{running.process.pid}/task/{task}/status" for task in tasks)
        text = "".join(open(path).read() for path in status)
        return sum(
            int(line.split()[1]) for line in text.splitlines() if "voluntary_ctxt_switches" in line
        )

    tasks = os.listdir(f"/proc/{running.process.pid}/task")
    # What happens now is the end of what happened before: it has told all, and sleeps.
    before = switches()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = switches()
        if now == before:
            break
        before = now
    time.sleep(3)
    assert switches() == before


@pytest.mark.skipif(
    "MAILIDLE_SLOW" not in os.environ, reason="takes the keepalive's time: MAILIDLE_SLOW=1"
)
def test_a_frozen_path_is_noticed_while_nothing_is_asked(connect, bus, cable, far):
    user = far.user()
    running = connect(user)
    cable.freeze()
    far.deliver(user, message("meanwhile"))
    # Not by the first probe that gets no answer.
    seconds = wait_until_left(bus, "the path to be noticed", KEEPALIVE_SECONDS + 5)
    assert seconds > 150
    assert "the server does not answer any more" in running.log
    cable.thaw()
    bus.wait_for_state("work", "INBOX", timeout=60)
    assert subjects(bus) == ["meanwhile"]
