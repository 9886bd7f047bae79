"""Fixtures for tests of the daemon: a bus, servers, and mailidled itself.

    def test_new_mail(daemon, bus, dovecot):
        user = dovecot.user()
        daemon(Account("work", dovecot, user))
        bus.wait_for_state("work", "INBOX", "idle")
        dovecot.deliver(user, message("hello"))
        assert bus.wait_for_signal("NewMail").arguments[2][0]["Subject"] == "hello"

The servers live as long as the process; every test makes users of its own on them. A test that
stops, starts or slows a server makes a server of its own.
"""

import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from busclient import Bus
from busdaemon import BusDaemon
from mailidled import Account, Daemon
from relay import Relay
from servers import Certificates, Courier, Cyrus, Dovecot


running_servers = []


def pytest_addoption(parser):
    parser.addoption(
        "--case-traces",
        type=pathlib.Path,
        metavar="FOLDER",
        help="writes what was said in each case of tests/cases there",
    )


@pytest.fixture(scope="session")
def certificates():
    return Certificates.shared()


def run_server(kind):
    reason = kind.unavailable()
    if reason is not None:
        pytest.skip(f"{kind.__name__}: {reason}")
    with kind() as server:
        running_servers.append(server)
        yield server
        running_servers.remove(server)


@pytest.fixture(autouse=True)
def server_logs():
    """What the servers said meanwhile; pytest shows it when the test fails."""
    sizes = {server: server.log.stat().st_size for server in running_servers}
    yield
    for server in running_servers:
        said = server.log.read_bytes()[sizes.get(server, 0) :].decode(errors="replace")
        print(f"--- {server.software} said:\n{said}")


@pytest.fixture(scope="session")
def dovecot():
    yield from run_server(Dovecot)


@pytest.fixture(scope="session")
def cyrus():
    yield from run_server(Cyrus)


@pytest.fixture(scope="session")
def courier():
    yield from run_server(Courier)


@pytest.fixture(params=["dovecot", "cyrus", "courier"])
def server(request):
    """Each of the three in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["notify", "idle"])
def mode(request):
    return request.param


@pytest.fixture
def either(dovecot, mode):
    """A user of Dovecot, in turn one whose sessions have NOTIFY and one whose sessions have not;
    mode is what INBOX then says."""
    return dovecot.user() if mode == "notify" else dovecot.user_without("NOTIFY")


@pytest.fixture
def folder():
    """A folder with a short name (sockets lie in it), gone after the test."""
    with tempfile.TemporaryDirectory(prefix="mailidle-test-") as name:
        yield pathlib.Path(name)


@pytest.fixture
def bus_daemon(folder):
    """A session bus for this test alone."""
    daemon = BusDaemon(folder)
    yield daemon
    daemon.stop()


@pytest.fixture
def bus(bus_daemon):
    """A program on that bus, which watches mailidled from the first moment."""
    client = Bus(bus_daemon.address)
    yield client
    client.close()


@pytest.fixture
def new_daemon(folder, bus):
    """Makes a Daemon that is neither configured nor started; ends it after the test."""
    made = []

    def make(environment=None):
        own = folder / f"daemon{len(made) + 1}"
        own.mkdir()
        made.append(Daemon(own, bus, environment))
        return made[-1]

    yield make
    problems = []
    for daemon in made:
        try:
            daemon.close()
        except Exception as problem:
            problems.append(problem)
    if problems:
        raise problems[0]


@pytest.fixture
def daemon(new_daemon):
    """Starts mailidled with these accounts: daemon(Account(...), text="notifications {...}")."""

    def start(*accounts, text="", arguments=(), environment=None):
        return new_daemon(environment).configure(*accounts, text=text).start(*arguments)

    return start


@pytest.fixture
def watch(daemon, bus):
    """Starts mailidled with one account "work", and returns when all its mailboxes are idle."""

    def start(server, user, mailboxes=("INBOX",), security="tls", **options):
        running = daemon(Account("work", server, user, mailboxes, security, options=options))
        for mailbox in mailboxes:
            bus.wait_for_state("work", mailbox)
        return running

    return start


@pytest.fixture
def relay(dovecot):
    """Dovecot behind a network that a test can freeze and cut."""
    relay = Relay(dovecot)
    yield relay
    relay.close()
