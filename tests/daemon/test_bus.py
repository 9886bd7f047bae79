"""The daemon on the bus, as far as no mail server is needed: its name, its objects, what it says of
itself, how it takes bad arguments and bad configurations, and how it ends."""

import os
import re
import signal
import socket
import stat
import subprocess
import time
import xml.etree.ElementTree

import pytest

from busclient import NAME, ROOT, BusError, account_path, mailbox_path
from busdaemon import BusDaemon
from mailidled import TOP, section

INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"

# An account of every method, with the arguments behind its name.
METHODS = [
    ("Refresh", "ss", "INBOX"),
    ("Fetch", "ssauas", "INBOX", [1], []),
    ("FetchRaw", "ssu", "INBOX", 1),
    ("ListSince", "ssuuu", "INBOX", 1, 1, 0),
    ("ListUnread", "ssu", "INBOX", 0),
    ("Stop", "ss", "INBOX"),
    ("Start", "ss", "INBOX"),
    ("SetFlags", "ssauasas", "INBOX", [1], ["\\Seen"], []),
    ("Move", "ssaus", "INBOX", [1], "\\Trash"),
    ("ListMailboxes", "s"),
]


@pytest.fixture
def account():
    """The text of an account section: its server is there, and takes no connection.

    A socket that is bound but does not listen keeps the port and refuses.
    """
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))

        def text(name="work", **options):
            return section(
                f"account {name}",
                {
                    "host": "127.0.0.1",
                    "port": closed.getsockname()[1],
                    "security": "plain",
                    "user": "jo",
                    "password-command": "echo secret",
                    **options,
                },
            )

        yield text


@pytest.fixture
def other_bus(folder):
    """A bus that a test may end."""
    (folder / "other").mkdir()
    other = BusDaemon(folder / "other")
    yield other
    other.stop()


@pytest.fixture
def empty(daemon):
    """The daemon without any account."""
    return daemon()


def run(daemon, *arguments, **environment):
    """Runs the daemon's program to its end."""
    return subprocess.run(
        [daemon.program, *arguments],
        env=daemon.environment | environment,
        cwd=daemon.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
    )


def interfaces(text):
    """Introspection data by interface, without the order and the spelling that carry no meaning;
    what every object of sd-bus has is left aside."""
    told = {}
    for interface in xml.etree.ElementTree.fromstring(text).findall("interface"):
        if not interface.get("name").startswith(NAME):
            continue
        members = told.setdefault(interface.get("name"), {})
        for member in interface:
            usual = "in" if member.tag == "method" else "out"
            arguments = [
                (arg.get("name"), arg.get("type"), arg.get("direction", usual))
                for arg in member.findall("arg")
            ]
            annotations = {
                annotation.get("name"): annotation.get("value")
                for annotation in member.findall("annotation")
            }
            if member.tag == "property" and annotations.get(EMITS) == "true":
                del annotations[EMITS]
            members[member.tag, member.get("name")] = (
                member.get("type"),
                member.get("access"),
                arguments,
                annotations,
            )
    return told


def introspect(bus, path):
    return interfaces(bus.call("Introspect", path=path, interface=INTROSPECTABLE))


# What is there.


def test_without_configuration(new_daemon, bus):
    daemon = new_daemon()
    daemon.command = lambda *arguments: [daemon.program, *arguments]
    daemon.start()
    assert bus.managed_objects() == {}
    assert bus.root()["Unread"] == 0
    assert bus.root()["Online"] is False
    state = daemon.folder / "home/.local/state/mailidle"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE(state.parent.stat().st_mode) == 0o700


def test_version(empty, bus):
    told = run(empty, "--version")
    assert told.returncode == 0
    assert told.stdout == f"mailidled {bus.root()['Version']}\n"


def test_introspection_is_the_file(daemon, bus, account):
    daemon(text=account(mailboxes=["INBOX", "Lists/dev"]))
    expected = interfaces((TOP / "org.example.MailIdle.xml").read_text())
    assert len(expected) == 3
    paths = [ROOT, account_path("work"), mailbox_path("work", "Lists/dev")]
    told = [introspect(bus, path) for path in paths]
    assert [list(one) for one in told] == [[NAME], [f"{NAME}.Account"], [f"{NAME}.Mailbox"]]
    for one in told:
        [(name, members)] = one.items()
        assert members == expected[name]


def test_every_member_has_a_comment():
    """In the file that is installed."""
    builder = xml.etree.ElementTree.TreeBuilder(insert_comments=True)
    parser = xml.etree.ElementTree.XMLParser(target=builder)
    tree = xml.etree.ElementTree.parse(TOP / "org.example.MailIdle.xml", parser)
    n = 0
    for parent in tree.iter():
        before = None
        for child in parent:
            if child.tag in ("interface", "method", "signal", "property"):
                n += 1
                assert before is not None and before.tag is xml.etree.ElementTree.Comment, (
                    child.attrib
                )
                for argument in child.findall("arg"):
                    assert re.search(rf"\b{argument.get('name')}\b", before.text), child.attrib
            before = child
    assert n > 40


def test_objects_come_and_go(daemon, bus, account):
    running = daemon(text=account(mailboxes=["INBOX", "Entwürfe"]))
    first = {account_path("work")} | {mailbox_path("work", m) for m in ("INBOX", "Entwürfe")}
    assert set(bus.managed_objects()) == first
    assert bus.mailbox("work", "Entwürfe")["Account"] == "work"
    assert bus.mailbox("work", "Entwürfe")["Name"] == "Entwürfe"
    mark = bus.mark()
    running.configure(text=account("jo@example.org"))
    bus.call("Reload")
    second = {account_path("jo@example.org"), mailbox_path("jo@example.org", "INBOX")}
    # Told before the reply, hence known without asking.
    assert set(bus.objects) - {ROOT} == second
    assert {signal.arguments[0] for signal in bus.matching("InterfacesAdded", since=mark)} == second
    assert {signal.arguments[0] for signal in bus.matching("InterfacesRemoved", since=mark)} == first
    assert set(bus.managed_objects()) == second


def test_properties_that_change_are_told(daemon, bus, account):
    daemon(text=account())
    bus.wait(lambda: bus.mailbox("work", "INBOX")["State"] == "waiting")
    bus.wait(lambda: bus.mailbox("work", "INBOX")["Error"][0] == f"{NAME}.Error.Offline")
    bus.wait(lambda: bus.account("work")["Error"][0] == f"{NAME}.Error.Offline")
    assert bus.mailbox("work", "INBOX")["Error"][1]
    assert bus.mailbox("work", "INBOX")["NextTry"] > 0


# Calls that make no sense.


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method[0])
def test_no_such_account(empty, bus, method):
    member, signature, *arguments = method
    with pytest.raises(BusError) as error:
        bus.call(member, signature, "nobody", *arguments)
    assert error.value.name == "NoSuchAccount"
    assert error.value.text


@pytest.mark.parametrize("method", METHODS[:-1], ids=lambda method: method[0])
def test_no_such_mailbox(daemon, bus, account, method):
    daemon(text=account())
    member, signature, _, *arguments = method
    with pytest.raises(BusError) as error:
        bus.call(member, signature, "work", "nowhere", *arguments)
    assert error.value.name == "NoSuchMailbox"
    assert error.value.text


@pytest.mark.parametrize(
    "call",
    [
        ("Refresh", "s", "work"),
        ("Refresh", "ssu", "work", "INBOX", 1),
        ("Fetch", "ssasas", "work", "INBOX", ["1"], []),
        ("Reload", "s", "work"),
        ("Fetch", "ssauas", "work", "INBOX", [1], ["everything"]),
        ("Fetch", "ssauas", "work", "INBOX", [0], []),
        ("FetchRaw", "ssu", "work", "INBOX", 0),
        ("Refresh", "ss", "work", "INBOX\r\nA1 LOGOUT"),
        ("Refresh", "ss", "work", "I" * 1001),
        ("SetFlags", "ssauasas", "work", "INBOX", [1], ["\\Seen)\r\nA1 LOGOUT"], []),
    ],
    ids=lambda call: f"{call[0]}-{call[1]}-{str(call[-1])[:12]!r}",
)
def test_invalid_arguments(daemon, bus, account, call):
    daemon(text=account())
    with pytest.raises(BusError) as error:
        bus.call(*call)
    assert error.value.name == "org.freedesktop.DBus.Error.InvalidArgs"
    assert error.value.text


@pytest.mark.parametrize("n", [1001, 100000])
def test_too_many_uids(daemon, bus, account, n):
    daemon(text=account())
    with pytest.raises(BusError) as error:
        bus.call("Fetch", "ssauas", "work", "INBOX", list(range(1, n + 1)), [])
    assert error.value.name == "LimitExceeded"


@pytest.mark.parametrize("n", [1001, 100000])
def test_too_many_strings(empty, bus, n):
    with pytest.raises(BusError) as error:
        bus.call("Fetch", "ssauas", "work", "INBOX", [1], ["flags"] * n)
    assert error.value.name == "LimitExceeded"
    assert bus.get(ROOT, NAME, "Unread") == 0


def test_unknown_members(empty, bus):
    for path, interface, member in [
        (ROOT, NAME, "Launch"),
        (ROOT, f"{NAME}.Account", "Refresh"),
        (f"{ROOT}/nobody", NAME, "Refresh"),
    ]:
        with pytest.raises(BusError) as error:
            bus.call(member, "ss", "", "", path=path, interface=interface)
        assert error.value.name.startswith("org.freedesktop.DBus.Error.Unknown")
    with pytest.raises(BusError):
        bus.call(
            "Set",
            "ssv",
            NAME,
            "Unread",
            bus_variant("u", 7),
            path=ROOT,
            interface="org.freedesktop.DBus.Properties",
        )


def bus_variant(signature, value):
    import dbus_next

    return dbus_next.Variant(signature, value)


def test_many_calls_at_once(empty, bus):
    pending = [bus.send("Refresh", "ss", "nobody", "INBOX") for _ in range(100)]
    replies = [one.result(20) for one in pending]
    names = {reply.error_name.removeprefix(f"{NAME}.Error.") for reply in replies}
    assert names <= {"NoSuchAccount", "LimitExceeded"}
    assert "NoSuchAccount" in names


def test_a_caller_that_left(empty, bus):
    """A reply to nobody harms nobody."""
    for _ in range(5):
        other = bus.another()
        other.send("Refresh", "ss", "nobody", "INBOX")
        other.send("Reload")
        other.close()
    assert bus.get(ROOT, NAME, "Unread") == 0


# Configurations.


def test_reload_of_a_bad_file_changes_nothing(daemon, bus, account):
    running = daemon(text=account())
    before = set(bus.managed_objects())
    assert len(before) == 2
    mark = bus.mark()
    running.configure(text=account() + "account other {\n\tcolour = 'blue'\n}\n")
    line = running.configuration.read_text().splitlines().index("\tcolour = 'blue'") + 1
    with pytest.raises(BusError) as error:
        bus.call("Reload")
    assert error.value.name == "ConfigInvalid"
    assert f"{running.configuration}:{line}:" in error.value.text
    assert "colour" in error.value.text
    assert set(bus.managed_objects()) == before
    assert not bus.matching("InterfacesRemoved", since=mark)


def test_sighup(daemon, bus, account):
    running = daemon(text=account())
    before = set(bus.managed_objects())
    running.configure(text="account other {\n\tcolour = 'blue'\n}\n")
    running.reload()
    running.wait_for_log(f"{running.configuration}:2:")
    running.wait_for_log("left as it was")
    assert set(bus.managed_objects()) == before
    running.configure(text=account("other"))
    running.reload()
    bus.wait(lambda: bus.account("other")["Name"] == "other")
    bus.wait(lambda: account_path("work") not in bus.objects)


def test_reload_of_a_lost_file(daemon, bus, account):
    running = daemon(text=account())
    running.configuration.unlink()
    with pytest.raises(BusError) as error:
        bus.call("Reload")
    assert error.value.name == "ConfigInvalid"
    assert str(running.configuration) in error.value.text
    assert len(bus.managed_objects()) == 2


def test_many_reloads_at_once(daemon, bus, account):
    daemon(text=account())
    for one in [bus.send("Reload") for _ in range(20)]:
        assert one.result(20).error_name is None
    assert len(bus.managed_objects()) == 2


def test_check_config(new_daemon, account):
    daemon = new_daemon().configure(text=account())
    good = run(daemon, "--config", daemon.configuration, "--check-config")
    assert (good.returncode, good.stderr) == (0, "")
    assert str(daemon.configuration) in good.stdout
    daemon.configure(text="account work {\n\thost = 'h'\n\tport = 'many'\n\tcolour = 'blue'\n}\n")
    bad = run(daemon, "--config", daemon.configuration, "--check-config")
    assert (bad.returncode, bad.stdout) == (78, "")
    assert f"{daemon.configuration}:3:" in bad.stderr or f"{daemon.configuration}:4:" in bad.stderr
    missing = run(daemon, "--config", daemon.folder / "nothing", "--check-config")
    assert missing.returncode == 78
    assert str(daemon.folder / "nothing") in missing.stderr
    default = run(daemon, "--check-config")
    assert default.returncode == 0
    assert not daemon.state.exists()


# Ends.


@pytest.mark.parametrize(
    "arguments",
    [
        ["--colour"],
        ["--config"],
        ["--config="],
        ["--log-level", "loud"],
        ["--check-config=yes"],
        ["work"],
        ["-x"],
    ],
    ids=" ".join,
)
def test_usage(new_daemon, arguments):
    told = run(new_daemon(), *arguments)
    assert (told.returncode, told.stdout) == (2, "")
    assert "--help" in told.stderr


def test_help(new_daemon):
    told = run(new_daemon(), "--help")
    assert (told.returncode, told.stderr) == (0, "")
    for option in ("config", "state-dir", "check-config", "log-level", "trace-imap", "version"):
        assert f"--{option}" in told.stdout


def test_bad_configuration(new_daemon, bus):
    daemon = new_daemon().configure(text="account work {\n\tcolour = 'blue'\n}\n")
    daemon.start(ready=False)
    assert daemon.wait() == 78
    assert f"{daemon.configuration}:2:" in daemon.log
    assert "colour" in daemon.log
    assert not bus.owner_times


def test_no_bus(new_daemon, folder):
    daemon = new_daemon({"DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder}/nothing"}).configure()
    daemon.start(ready=False)
    assert daemon.wait() == 69


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ends", "crashes"])
def test_the_bus_goes_away(new_daemon, other_bus, account, number):
    daemon = new_daemon({"DBUS_SESSION_BUS_ADDRESS": other_bus.address}).configure(text=account())
    daemon.start(ready=False)
    daemon.wait_for_log("service: running")
    began = time.monotonic()
    other_bus._process.send_signal(number)
    assert daemon.wait() == 69
    assert time.monotonic() - began < 10
    assert "the bus went away" in daemon.log


def test_the_name_is_taken(empty, new_daemon, bus):
    owner = bus.owner
    second = new_daemon().configure()
    second.start(ready=False)
    assert second.wait() == 1
    assert f"{NAME} is taken" in second.log
    assert bus.owner == owner
    # Nor does it wait for the name.
    empty.stop()
    bus.wait(lambda: not bus.owner)
    assert [owner for _, owner in bus.owner_times] == [owner, ""]


def test_the_state_is_taken(empty, new_daemon, other_bus):
    second = new_daemon({"DBUS_SESSION_BUS_ADDRESS": other_bus.address}).configure()
    second.state = empty.state
    second.start(ready=False)
    assert second.wait() == 1
    assert "another mailidled" in second.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signals_end_it(daemon, bus, account, number):
    running = daemon(text=account())
    owner = bus.owner
    began = time.monotonic()
    running.process.send_signal(number)
    bus.wait(lambda: bus.owner != owner, 2, "its end")
    assert running.wait() == 0
    assert time.monotonic() - began < 2 or running.is_sanitized


def test_pending_calls_end_with_it(daemon, bus, account):
    """A call that is never answered would end after 25 s; the bus tells of an owner that left."""
    running = daemon(text=account())
    pending = bus.send("Refresh", "ss", "work", "INBOX")
    running.stop()
    assert pending.result(5).error_name is not None


# The process.


def test_nothing_is_left_for_others(daemon, account):
    running = daemon(text=account())
    process = f"/proc/{running.process.pid}"
    with open(f"{process}/limits") as file:
        [core] = [line for line in file if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    with open(f"{process}/status") as file:
        assert "Umask:\t0077\n" in file.readlines()
    assert stat.S_IMODE(running.state.stat().st_mode) == 0o700
    assert stat.S_IMODE(running.trace.stat().st_mode) == 0o600


def test_trace_follows_no_link(new_daemon):
    daemon = new_daemon().configure()
    target = daemon.folder / "precious"
    target.write_text("precious")
    daemon.trace.symlink_to(target)
    daemon.start(ready=False)
    assert daemon.wait() == 1
    daemon.trace.unlink()
    assert target.read_text() == "precious"


def test_trace_of_others_is_closed(new_daemon):
    daemon = new_daemon().configure()
    daemon.trace.write_text("before\n")
    daemon.trace.chmod(0o644)
    daemon.start()
    assert stat.S_IMODE(daemon.trace.stat().st_mode) == 0o600
    daemon.stop()
    assert daemon.trace.read_text().startswith("before\n")


def test_service_manager(new_daemon, bus, folder, account):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(10)
        daemon = new_daemon(
            {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(500_000)}
        )
        daemon.configure(text=account()).start()

        def wait_for(line):
            deadline = time.monotonic() + 10
            seen = []
            while line not in seen:
                assert time.monotonic() < deadline, f"no {line} among {seen}"
                seen += manager.recv(4096).decode().splitlines()
            return seen

        assert not any(line.startswith("STATUS=") for line in wait_for("READY=1"))
        assert bus.owner
        wait_for("STATUS=0 of 1 mailboxes idle, 0 unread")
        wait_for("WATCHDOG=1")
        began = time.monotonic()
        wait_for("WATCHDOG=1")
        wait_for("WATCHDOG=1")
        assert time.monotonic() - began < 5
        daemon.configure()
        bus.call("Reload")
        wait_for("STATUS=no account is configured")
        daemon.stop()
        wait_for("STOPPING=1")


def test_quiet_when_nothing_happens(empty):
    """No periodic timer: an idle daemon does not wake up."""

    def n_switches():
        with open(f"/proc/{empty.process.pid}/status") as file:
            return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)

    def is_asleep():
        before = n_switches()
        time.sleep(0.5)
        return n_switches() == before

    # The test's own programs have been talking to it until now.
    assert any(is_asleep() for _ in range(20))


def test_journal_is_not_opened_for_a_pipe(new_daemon):
    """JOURNAL_STREAM is inherited; it does not name this stderr."""
    daemon = new_daemon({"JOURNAL_STREAM": f"{os.getpid()}:1"}).configure()
    daemon.start()
    daemon.wait_for_log("service: running")
