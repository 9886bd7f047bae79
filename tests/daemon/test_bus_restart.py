"""The bus is killed while mail arrives: the daemon ends, and the next one on the next bus tells what
is left to tell."""

import random
import threading
import time

import pytest

from busclient import Bus
from busdaemon import BusDaemon
from mail import message
from mailidled import Account

N_MESSAGES = 120
# NewMail carries no more messages than this.
BATCH = 100


class Writer:
    """Delivers messages one after the other, each as soon as the server has the one before."""

    def __init__(self, server, user):
        self.subjects = [f"mail {n}" for n in range(N_MESSAGES)]
        self.n_delivered = 0
        self._server = server
        self._user = user
        self._progress = threading.Condition()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        for subject in self.subjects:
            self._server.deliver(self._user, message(subject))
            with self._progress:
                self.n_delivered += 1
                self._progress.notify()

    def wait_for(self, n):
        with self._progress:
            assert self._progress.wait_for(lambda: self.n_delivered >= n, 60)

    def wait(self):
        self._thread.join(60)
        assert self.n_delivered == N_MESSAGES


def subjects(bus):
    return [mail["Subject"] for mail in bus.new_mail("work", "INBOX")]


@pytest.fixture
def buses(folder):
    """Makes buses, one after the other, each with a program that listens."""
    made = []

    def make():
        own = folder / f"bus{len(made) + 1}"
        own.mkdir()
        bus_daemon = BusDaemon(own)
        made.append((bus_daemon, Bus(bus_daemon.address)))
        return made[-1]

    yield make
    for bus_daemon, bus in made:
        bus.close()
        bus_daemon.stop()


# Under a bus that stands still before it is killed, what is told piles up before it.
@pytest.mark.parametrize("is_stuck", [False, True], ids=["killed", "stuck-and-killed"])
@pytest.mark.parametrize("seed", range(3))
def test_the_bus_is_killed_while_mail_arrives(buses, new_daemon, dovecot, seed, is_stuck):
    chance = random.Random(seed)
    user = dovecot.user()
    bus_daemon, bus = buses()
    daemon = new_daemon({"DBUS_SESSION_BUS_ADDRESS": bus_daemon.address})
    daemon.bus = bus
    daemon.configure(Account("work", dovecot, user)).start()
    bus.wait_for_state("work", "INBOX")
    writer = Writer(dovecot, user)
    n_before = chance.randrange(1, N_MESSAGES // 2)
    bus.wait(lambda: len(subjects(bus)) >= n_before, 60, f"{n_before} messages told")
    if is_stuck:
        bus_daemon.freeze()
        writer.wait_for(n_before + 20)
    began = time.monotonic()
    bus_daemon.kill()
    assert daemon.wait() == 69
    assert time.monotonic() - began < 2 or daemon.is_sanitized
    assert "the bus went away" in daemon.log
    before = subjects(bus)

    bus_daemon, daemon.bus = buses()
    daemon.environment["DBUS_SESSION_BUS_ADDRESS"] = bus_daemon.address
    daemon.start()
    bus = daemon.bus
    bus.wait_for_state("work", "INBOX")
    writer.wait()
    bus.call("Refresh", "ss", "work", "INBOX")
    after = subjects(bus)

    assert len(set(before)) == len(before)
    assert len(set(after)) == len(after)
    assert set(before) | set(after) == set(writer.subjects)
    twice = set(before) & set(after)
    # The batch in flight, which was told last.
    assert len(twice) <= BATCH
    assert twice == set(before[len(before) - len(twice) :])
    box = bus.mailbox("work", "INBOX")
    assert (box["Messages"], box["Unread"]) == (N_MESSAGES, N_MESSAGES)
    with dovecot.client(user) as client:
        [(_, answer)] = [client.status("INBOX", "(UIDNEXT)")]
    assert f"UIDNEXT {box['UidNext']})".encode() in answer[0]
