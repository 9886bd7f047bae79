"""Callers and buses that do not keep up: what the daemon holds for them is bounded, others are
served meanwhile, and nothing is lost."""

import os
import pathlib
import re
import signal
import socket
import threading
import time

import pytest

import dbus_next
from busclient import NAME, OBJECT_MANAGER, PROPERTIES, ROOT, SECONDS, BusError, check
from mailidled import Account
from scripted import GREETING, Box, Server, Session
from servers.base import User

# What comes is 42 MiB; what is kept for the bus is 16 MiB by its own count, to which malloc adds.
N_MESSAGES = 3500
MESSAGE_SIZE = 12 * 1024
KEPT_SIZE = 16 << 20
HELD_GROWTH_KIB = 32 * 1024
# The same, with what a server has said of the next reply.
REPLIES_GROWTH_KIB = 48 * 1024
FLOOD_GROWTH_KIB = 8 * 1024
# The rule is 0.1 s; what the flood left in the queues of the bus, on a busy machine, comes first.
SERVED_SECONDS = 0.1
SERVED_SECONDS_AT_MOST = 2


class Rude:
    """A program on the bus that says what it likes and reads nothing."""

    def __init__(self, address):
        self._socket = socket.socket(socket.AF_UNIX)
        path = re.search("path=([^,;]*)", address)[1]
        self._socket.connect(path)
        user = str(pathlib.Path("/proc/self").stat().st_uid).encode().hex()
        self._socket.sendall(f"\0AUTH EXTERNAL {user}\r\n".encode())
        assert self._socket.recv(200).startswith(b"OK")
        self._socket.sendall(b"BEGIN\r\n")
        self._serial = 0
        self.say("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")

    def say(self, destination, path, interface, member, signature="", body=(), times=1, **more):
        pieces = []
        for _ in range(times):
            self._serial += 1
            call = dbus_next.Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
                serial=self._serial,
                **more,
            )
            pieces.append(bytes(call._marshall()))
        self._socket.sendall(b"".join(pieces))

    def close(self):
        self._socket.close()


@pytest.fixture
def rude(bus_daemon):
    rude = Rude(bus_daemon.address)
    yield rude
    rude.close()


@pytest.fixture
def scripted():
    """A server with one mailbox, whose session is the test's."""
    with Server() as server:
        yield server


def memory(running, name="VmRSS"):
    status = pathlib.Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1])


def wait_until_quiet(running):
    """It does nothing any more."""
    path = pathlib.Path(f"/proc/{running.process.pid}/schedstat")
    last = None
    while last != (last := path.read_text()):
        time.sleep(0.5)


def begin(daemon, bus, server, box, kind=Session):
    running = daemon(Account("work", server, User("jo", "secret"), security="plain"))
    session = kind(server.accept(), box).serve_until_idling()
    session.wire.be_patient()
    bus.wait_for_state("work", "INBOX")
    return running, session


class Pushing(Session):
    """Changes flags to and fro with everything it answers."""

    n = 0

    def _fetch(self, uid, items):
        if "ENVELOPE" in items:
            self.n += 1
            self.box.messages[1] = [f"k{self.n}"]
        return super()._fetch(1, "UID FLAGS MODSEQ") + "\r\n" + super()._fetch(uid, items)

    def wait_until_left_alone(self):
        """Nothing more is asked."""
        n = None
        while n != self.n:
            n = self.n
            time.sleep(1)
        return n


def fill(box):
    """So many long messages come; returns their UIDs."""
    name = f'("{"x" * 250}" NIL "somebody" "example.org")'
    uids = list(range(2, 2 + N_MESSAGES))
    for uid in uids:
        box.messages[uid] = []
        box.envelopes[uid] = f"(NIL {'NIL ' * 4}({name * (MESSAGE_SIZE // 260)}) NIL NIL NIL NIL)"
    box.uidnext = uids[-1] + 1
    return uids


def test_a_bus_that_stands_still(daemon, bus, bus_daemon, scripted):
    """What is not told yet is kept up to a limit, then nothing more is read of the server.
    Afterwards every message is told once, in order."""
    box = Box({1: []})
    running, session = begin(daemon, bus, scripted, box, Pushing)
    uids = fill(box)
    before = memory(running)
    bus_daemon.freeze()
    try:
        session.wire.tell(f"* {len(box.messages)} EXISTS")
        scripted.start(session.answer_until)
        running.wait_for_log("nothing is read from servers", 60)
        n_asked = session.wait_until_left_alone()
        highest = memory(running, "VmHWM")
    finally:
        bus_daemon.thaw()
    bus.wait(lambda: bus.new_mail()[-1]["Uid"] == uids[-1], 120, "all to be told")
    print(f"{n_asked} asked for; {before} KiB before, {highest} KiB at most")
    assert [message["Uid"] for message in bus.new_mail()] == uids
    assert n_asked * MESSAGE_SIZE < 1.5 * KEPT_SIZE
    if not running.is_sanitized:
        assert highest - before < HELD_GROWTH_KIB
    last = box.messages[1]
    bus.wait_for_signal("FlagsChanged", lambda _a, _b, changed: [1, last] in changed)


def test_replies_that_wait_for_the_bus(daemon, bus, bus_daemon, scripted):
    """They are kept as far as signals are, and what was cut off of them is not."""
    n, n_calls = 60, 8
    box = Box({uid: [] for uid in range(1, n + 1)})
    box.parts = {(uid, "1"): "x" * 200000 for uid in box.messages}
    running, session = begin(daemon, bus, scripted, box)
    others = [bus.another() for _ in range(4)]
    before = memory(running)
    calls = []
    for other in others:
        calls += [
            other.send("Fetch", "ssauas", "work", "INBOX", list(box.messages), ["text"])
            for _ in range(n_calls)
        ]
        other.get(ROOT, NAME, "Version")
    bus_daemon.freeze()
    try:
        scripted.start(session.answer_until)
        running.wait_for_log("nothing is read from servers")
        highest = memory(running, "VmHWM")
    finally:
        bus_daemon.thaw()
    for call in calls:
        [messages] = check(call.result(SECONDS)).body
        assert [message["Uid"].value for message in messages] == list(box.messages)
    print(f"{before} KiB before, {highest} KiB at most")
    if not running.is_sanitized:
        assert highest - before < REPLIES_GROWTH_KIB


def test_raw_messages_that_wait_for_the_bus(daemon, bus, bus_daemon, scripted):
    """They are memory, too."""
    size = 5 << 20
    running, session = begin(daemon, bus, scripted, Box({1: []}), Generous)
    session.raw = "x" * size
    calls = []
    for _ in range(3):
        other = bus.another()
        calls += [other.send("FetchRaw", "ssu", "work", "INBOX", 1) for _ in range(8)]
        other.get(ROOT, NAME, "Version")
    bus_daemon.freeze()
    try:
        scripted.start(session.answer_until)
        running.wait_for_log("nothing is read from servers")
        folder = pathlib.Path(f"/proc/{running.process.pid}/fd")
        kept = [file for file in folder.iterdir() if "memfd:message" in str(file.readlink())]
    finally:
        bus_daemon.thaw()
    for call in calls:
        reply = check(call.result(SECONDS))
        os.close(reply.unix_fds[0])
        assert reply.body[1] == size
    assert len(kept) * size <= 2 * KEPT_SIZE


def test_large_answers_that_wait_for_the_bus(daemon, bus, bus_daemon, rude):
    """Callers are not read as long as the bus takes no answers."""
    boxes = tuple(f"{'x' * 200}{i}" for i in range(500))
    server = Server()
    account = Account("work", server, User("jo", "secret"), boxes, security="plain")
    with server:
        running = daemon(account)
        before = memory(running)
        running.process.send_signal(signal.SIGSTOP)
        rude.say(NAME, ROOT, OBJECT_MANAGER, "GetManagedObjects", times=1000)
        # The bus looks at what is said in its order.
        bus.another()
        bus_daemon.freeze()
        running.process.send_signal(signal.SIGCONT)
        try:
            wait_until_quiet(running)
            highest = memory(running, "VmHWM")
        finally:
            bus_daemon.thaw()
        bus.get(ROOT, NAME, "Version")
        print(f"{before} KiB before, {highest} KiB at most")
        if not running.is_sanitized:
            assert highest - before < HELD_GROWTH_KIB


def test_a_bus_on_which_nobody_listens(daemon, bus, scripted):
    """What is told to nobody is not kept, nor is more asked for than a NewMail has."""
    box = Box({1: []})
    running, session = begin(daemon, bus, scripted, box)
    driver = "org.freedesktop.DBus"
    rule = f"type='signal',sender='{NAME}'"
    where = {"path": "/org/freedesktop/DBus", "interface": driver, "destination": driver}
    bus.reply("RemoveMatch", "s", rule, **where)
    before = memory(running)
    uids = fill(box)
    session.wire.tell(f"* {len(box.messages)} EXISTS")
    scripted.start(session.answer_until)
    bus.reply("Refresh", "ss", "work", "INBOX")
    highest = memory(running, "VmHWM")
    listed = bus.call("ListSince", "ssuuu", "work", "INBOX", 77, uids[-3], 9)
    assert [message["Uid"] for message in listed] == uids[-2:]
    assert not bus.new_mail()
    print(f"{before} KiB before, {highest} KiB at most")
    assert not any("BODY" in line for line in session.wire.said)
    if not running.is_sanitized:
        assert highest - before < HELD_GROWTH_KIB


class Generous(Session):
    """Answers all that the methods below ask for."""

    raw = "a: b\r\n\r\nc"

    def answers(self, line):
        tag, _, command = line.partition(" ")
        if "BODY.PEEK[]" in command:
            literal = f"{{{len(self.raw)}}}\r\n{self.raw}"
            return [f"* 1 FETCH (UID 1 BODY[] {literal})", f"{tag} OK fetched"]
        if command.startswith("LIST "):
            return ['* LIST () "/" "INBOX"', f"{tag} OK listed"]
        if command.startswith("UID STORE "):
            return [f"{tag} OK stored"]
        return super().answers(line)


FLOODS = {
    # Answered without the server.
    "Introspect": ("org.freedesktop.DBus.Introspectable", "Introspect", "", ()),
    "GetManagedObjects": (OBJECT_MANAGER, "GetManagedObjects", "", ()),
    "GetAll": (PROPERTIES, "GetAll", "s", (NAME,)),
    "Start": (NAME, "Start", "ss", ("", "")),
    "Reload": (NAME, "Reload", "", ()),
    "unknown": (NAME, "Explode", "", ()),
    "signature": (NAME, "Refresh", "uu", (1, 2)),
    "argument": (NAME, "Fetch", "ssauas", ("work", "INBOX", [0], [])),
    "name": (NAME, "Refresh", "ss", ("x" * 10000, "x" * 10000)),
    # By the server.
    "Refresh": (NAME, "Refresh", "ss", ("", "")),
    "Fetch": (NAME, "Fetch", "ssauas", ("work", "INBOX", [1], ["envelope"])),
    "FetchRaw": (NAME, "FetchRaw", "ssu", ("work", "INBOX", 1)),
    "ListSince": (NAME, "ListSince", "ssuuu", ("work", "INBOX", 77, 0, 1000)),
    "ListUnread": (NAME, "ListUnread", "ssu", ("work", "INBOX", 0)),
    "ListMailboxes": (NAME, "ListMailboxes", "s", ("work",)),
    "SetFlags": (NAME, "SetFlags", "ssauasas", ("work", "INBOX", [1], ["\\Seen"], [])),
}


class Flood:
    """While the block is run, by so many programs at once."""

    N_CALLS = 100
    N_ROUNDS = 40  # of one; many have their part of it

    def __init__(self, address, kind, n_callers=1):
        self._callers = [Rude(address) for _ in range(n_callers)]
        self._kind = kind
        self._thread = threading.Thread(target=self._run)
        self.n = 0

    def _run(self):
        interface, member, signature, body = FLOODS[self._kind]
        for _ in range(max(self.N_ROUNDS // len(self._callers), 4)):
            for caller in self._callers:
                caller.say(NAME, ROOT, interface, member, signature, body, self.N_CALLS)
                self.n += self.N_CALLS

    @property
    def is_over(self):
        return not self._thread.is_alive()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()
        for caller in self._callers:
            caller.close()


def waits_of(bus, n, is_over=lambda: True):
    """How long another program waits for what takes no server."""
    waits = []
    while not is_over() or len(waits) < n:
        began = time.monotonic()
        bus.get(ROOT, NAME, "Version")
        waits.append(time.monotonic() - began)
        time.sleep(0.002)
    return sorted(waits)


def report(kind, waits, n, before, highest):
    print(
        f"{kind}: {n} calls; {len(waits)} waits: median {waits[len(waits) // 2]:.4f} s,"
        f" 95 % {waits[len(waits) * 95 // 100]:.4f} s, all {waits[-1]:.4f} s;"
        f" {before} KiB before, {highest} KiB at most"
    )


def flood(running, bus, address, kind, n_callers):
    before = memory(running)
    with Flood(address, kind, n_callers) as caller:
        waits = waits_of(bus, 20, lambda: caller.is_over)
        # What needs the server is not refused to those who ask little.
        if n_callers < 8:
            bus.reply("Refresh", "ss", "work", "INBOX")
    bus.reply("Refresh", "ss", "work", "INBOX")
    highest = memory(running, "VmHWM")
    report(kind, waits, caller.n, before, highest)
    assert waits[len(waits) // 2] < SERVED_SECONDS
    assert waits[-1] < SERVED_SECONDS_AT_MOST
    if not running.is_sanitized:
        assert highest - before < FLOOD_GROWTH_KIB


def test_callers_that_flood_and_never_read(daemon, bus, bus_daemon, scripted):
    """What is asked is answered to the bus, whoever reads it: memory stays, and others are
    served."""
    running, session = begin(daemon, bus, scripted, Box({1: []}), Generous)
    scripted.start(session.answer_until)
    for kind in FLOODS:
        flood(running, bus, bus_daemon.address, kind, 1)
    for kind in ("GetAll", "Fetch", "Refresh"):
        flood(running, bus, bus_daemon.address, kind, 20)


def test_arguments_of_megabytes(daemon, bus, scripted, rude):
    """They are refused, and gone then: 64 MiB in all."""
    running, session = begin(daemon, bus, scripted, Box({1: []}), Generous)
    scripted.start(session.answer_until)
    before = memory(running)
    n = 1 << 20
    for member, signature, body in (
        ("Refresh", "ss", ("x" * n, "INBOX")),
        ("ListUnread", "ssu", ("work", "x" * n, 0)),
        ("Fetch", "ssauas", ("work", "INBOX", [1], ["x" * n])),
        ("Move", "ssaus", ("work", "INBOX", [1], "x" * n)),
    ):
        for _ in range(16):
            rude.say(NAME, ROOT, NAME, member, signature, body)
    rude.say(NAME, ROOT, NAME, "Reload")
    running.wait_for_log("configuration read again")
    highest = memory(running, "VmHWM")
    print(f"{before} KiB before, {highest} KiB at most")
    if not running.is_sanitized:
        assert highest - before < HELD_GROWTH_KIB


def test_descriptors_that_nobody_wants(daemon, bus, scripted):
    """What a caller passes along is closed."""
    running, session = begin(daemon, bus, scripted, Box({1: []}), Generous)
    folder = pathlib.Path(f"/proc/{running.process.pid}/fd")
    before = len(list(folder.iterdir()))
    fds = [running.process.stderr.fileno()] * 16
    for member, signature, arguments in (
        ("Refresh", "ssh", ("work", "INBOX", 0)),
        ("Refresh", "ss", ("nobody", "INBOX")),
        ("Explode", "h", (0,)),
    ):
        for _ in range(100):
            with pytest.raises(BusError):
                check(bus.send(member, signature, *arguments, fds=fds).result(SECONDS))
    bus.get(ROOT, NAME, "Version")
    assert len(list(folder.iterdir())) == before


def test_a_reply_behind_the_account(daemon, bus, scripted):
    """CVE-2020-1712: what a call waits for goes away before it is answered."""
    box = Box({1: []})
    running, session = begin(daemon, bus, scripted, box)
    calls = [bus.send("Fetch", "ssauas", "work", "INBOX", [1], ["envelope"]) for _ in range(8)]
    session.answer_until(r"UID FETCH 1 .*ENVELOPE.*")
    running.configure()
    bus.call("Reload")
    for call in calls:
        with pytest.raises(BusError) as problem:
            check(call.result(5))
        assert problem.value.name == "NoSuchAccount"
    # Whatever the server says now is said to nobody.
    try:
        session.wire.tell('* 1 FETCH (UID 1 ENVELOPE (NIL "x" NIL NIL NIL NIL NIL NIL NIL NIL))')
    except ConnectionError:
        pass
    assert bus.get(ROOT, NAME, "Version")


def test_callers_that_leave_at_once(daemon, bus, bus_daemon, scripted):
    """What they asked for is dropped, so that the next ones are not told that too much waits."""
    n_callers, n_calls = 40, 8
    running, session = begin(daemon, bus, scripted, Box({1: []}), Generous)
    for _ in range(n_callers):
        rude = Rude(bus_daemon.address)
        rude.say(NAME, ROOT, NAME, "FetchRaw", "ssu", ("work", "INBOX", 1), n_calls)
        rude.close()
        # The bus tells of the end before it passes on what is said after it.
        bus.get(ROOT, NAME, "Version")
    call = bus.send("FetchRaw", "ssu", "work", "INBOX", 1)
    scripted.start(session.answer_until)
    check(call.result(SECONDS))
    n_asked = sum("BODY.PEEK[]" in line for line in session.wire.said)
    assert n_asked <= n_calls + 1


def test_start_again_and_again(daemon, bus, scripted):
    """A program that tries again whenever it is told that the login was refused: the server is not
    asked as often as that."""
    n = 0

    def refuse(wire):
        nonlocal n
        wire.tell(GREETING)
        tag = wire.expect(r"(\S+) AUTHENTICATE PLAIN \S+")[1]
        n += 1
        wire.tell(f"{tag} NO [AUTHENTICATIONFAILED] no")
        wire.rest()

    def wait_for_refusal(since):
        bus.wait_for_signal(
            "PropertiesChanged",
            lambda interface, changed, _: interface.endswith(".Account")
            and changed.get("Error", [""])[0].endswith("AuthenticationFailed"),
            since=since,
        )

    scripted.serve(refuse)
    daemon(Account("work", scripted, User("jo", "secret"), security="plain"))
    bus.wait(lambda: bus.account("work")["Error"][0], what="the first refusal")
    before = n
    for i in range(8):
        mark = bus.mark()
        bus.reply("Start", "ss", *(("work", "INBOX"), ("work", ""), ("", ""))[i % 3])
        wait_for_refusal(mark)
        assert n == before + i + 1
    for _ in range(10):
        with pytest.raises(BusError, match="LimitExceeded: the server refused the login of work"):
            bus.reply("Start", "ss", "work", "")
    assert n == before + 8


def test_too_many_callers(daemon, bus, scripted):
    """64 requests wait for the account at most, 8 of them from one program; who asks for nothing
    that has to wait does not notice."""
    running, session = begin(daemon, bus, scripted, Box({1: []}), Generous)
    accepted = []
    for _ in range(8):
        other = bus.another()
        *calls, refused = [other.send("FetchRaw", "ssu", "work", "INBOX", 1) for _ in range(9)]
        with pytest.raises(BusError, match="LimitExceeded: you have 8 requests"):
            check(refused.result(SECONDS))
        accepted += calls
    with pytest.raises(BusError, match="LimitExceeded: 64 requests wait"):
        bus.reply("FetchRaw", "ssu", "work", "INBOX", 1)
    bus.get(ROOT, NAME, "Version")
    scripted.start(session.answer_until)
    for call in accepted:
        check(call.result(SECONDS))
    bus.reply("FetchRaw", "ssu", "work", "INBOX", 1)


def test_calls_without_a_reply(daemon, bus, scripted, rude):
    """Nobody is answered, and the limit holds as for others."""
    running, session = begin(daemon, bus, scripted, Box({1: []}), Generous)
    flags = dbus_next.MessageFlag.NO_REPLY_EXPECTED
    rude.say(NAME, ROOT, NAME, "FetchRaw", "ssu", ("work", "INBOX", 1), 1000, flags=flags)
    rude.say(NAME, ROOT, NAME, "Reload")
    running.wait_for_log("configuration read again")
    scripted.start(session.answer_until)
    bus.reply("FetchRaw", "ssu", "work", "INBOX", 1)
    assert sum("BODY.PEEK[]" in line for line in session.wire.said) == 9
