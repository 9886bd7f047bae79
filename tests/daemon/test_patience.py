"""What does not shorten the wait for a server: a request that waits, a session that was over at
once, a login.
"""

import time

import pytest

from busclient import ERROR
from mailidled import Account
from scripted import Box, Server, Session

PLACE = ("work", "INBOX")
MINUTE = 60
# Between the daemon's reading of the clock and the test's.
SLACK = 1
THROTTLED = "BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds"


@pytest.fixture
def server(daemon):
    """One account at a scripted server."""
    with Server() as server:
        daemon(Account("work", server, server.user, security="plain"))
        yield server


def serve(server):
    """From the next connection on all is well."""
    server.start(Session(server.accept(), Box({5: []})).greet().answer_until)


def expect_wait(bus, least, most):
    """The mailbox waits for so many seconds."""
    began = time.time()
    bus.wait_for_state(*PLACE, "waiting")
    until = bus.mailbox(*PLACE)["NextTry"] / 1e6
    assert began + least - SLACK <= until <= time.time() + most + SLACK


def test_a_request_that_waits_does_not_hurry(bus, server):
    """It ends with the words that ended the connection; the next one may try at once."""
    wire = server.accept()
    session = Session(wire, Box({5: []}))
    tag = session.serve_until("IDLE")
    wire.tell("+ idling")
    bus.wait_for_state(*PLACE)
    refresh = bus.send("Refresh", "ss", *PLACE)
    wire.expect("DONE")
    wire.tell(f"{tag} OK done")
    tag = session.answer_until("NOOP")
    wire.tell(f"{tag} {THROTTLED}")
    assert refresh.result(10).error_name == ERROR + "ServerRefused"
    expect_wait(bus, 92.415, 92.415)
    refresh = bus.send("Refresh", "ss", *PLACE)
    serve(server)
    assert refresh.result(10).error_name is None


def test_a_session_that_was_over_at_once(bus, server):
    """Whoever asks for the next one in a loop gets one a second, or what jitter gives."""
    times = []
    for _ in range(3):
        wire = server.accept()
        times.append(time.monotonic())
        Session(wire).serve_until("EXAMINE .*")
        wire.end()
        refresh = bus.send("Refresh", "ss", *PLACE)
    times.append(time.monotonic())
    serve(server)
    assert refresh.result(20).error_name is None
    assert all(0.09 < after - before for before, after in zip(times, times[1:-1]))


def test_a_login_makes_up_for_nothing(bus, server):
    """Nor does an instant in IDLE. A wait may be short by chance, but of many not all are."""
    waits = []
    for i in range(9):
        wire = server.accept()
        tag = Session(wire, Box({5: []})).serve_until("EXAMINE .*" if i % 2 else "IDLE")
        if i % 2 == 0:
            wire.tell("+ idling")
            bus.wait_for_state(*PLACE)
        wire.tell("* BYE Go away", f"{tag} OK gone")
        expect_wait(bus, 0, min(2**i, 5 * MINUTE))
        waits.append(bus.mailbox(*PLACE)["NextTry"] / 1e6 - time.time())
        bus.call("Start", "ss", *PLACE)
    # All are below a second once in 2^28 times.
    assert max(waits) > 1
