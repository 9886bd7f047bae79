"""Cases: what a hostile server, network, caller or message does, as a few lines of data.

Each file of tests/cases is a list of cases, played one after the other with one daemon. Its
language, a line each:

    case NAME            begins a case; lines that begin with "#" say why, and where it is known from
    account NAME=VALUE...   options of its account beyond user, password and mailbox; the words are
                         those of the configuration (security=starttls auth=PLAIN), and secret=OPTION
                         names the option that the password comes by. Default: security=plain
    command TEXT         its password comes by this command of the shell, for which $password is it
    file WORDS           its password comes by a file that is so: mode=OCTAL, holds=TEXT (with
                         escapes), or is=fifo, folder, nothing or link
    mended               from here on the file is as it should be
    alone                nothing connects: the case has no server
    messages UID...      what lies in the mailbox (1 by default), nothing when empty
    capabilities WORDS   those after login
    accept               the next connection (the first one is accepted by itself)
    serve until REGEX    what every server does, beginning with its greeting, up to the command that
                         matches (without its tag), which is left to the case
    answer until REGEX   the same on a connection that is greeted
    serve                from here on the connection is served as usual, whatever the client says
    idle                 serve until IDLE, and the mailbox is idle
    box UID...           what lies in the mailbox from now on
    alive                the connection is still good: a Refresh over it succeeds; from here on it
                         is served as usual
    S: LINE              the server says LINE CRLF; \\xHH is an octet, $tag the tag of the client's
                         last command, $said the last word of the last line that it said
    S+ TEXT              the same without CRLF
    S* N TEXT            TEXT N times, without CRLF (\\r\\n is one); %n is the count from 1
    C: REGEX             the client's next line, without its tag
    tls [bad=NAME] [newest=VERSION]     the handshake; NAME is one of tests/certificates
    tls refused [...]    the client breaks it off, or leaves behind it without a word
    deflate              from here on both sides are compressed
    end / reset          the server ends the connection
    gone                 the client ends it, and says nothing before (in clear text where TLS is
                         asked for: nothing but what is harmless)
    call METHOD JSON...  a call on the bus, whose arguments are JSON; "$account" is the case's;
                         {"repeat": THING, "times": N} is a list, or a text, of so many, in which
                         "%n" is the count from 1; {"first": N, "last": N} are numbers
    calls N METHOD JSON...  so many of them at once
    replies N            of the next N calls
    drained N            the same, whether they succeeded or not
    refused N NAME       the last N calls are answered by this error, before all others
    reply JSON           of the last call, which is waited for
    error NAME /REGEX/   the same where it is an error
    expect PROPERTY VALUE   what the mailbox shows within 10 s
    expect Error NAME /REGEX/
    mail PART TEXT       a message comes (UID 2, if one was there), whose envelope has TEXT as its
                         subject, date, message-id or in-reply-to; as its from or to (a list of
                         addresses, as on the wire); or is TEXT (envelope). From here on the
                         connection is served as usual
    mail* N PART TEXT    TEXT is N times there
    structure TEXT       message 1 is built so (BODYSTRUCTURE); several lines are one text
    structure* N TEXT    TEXT is N times there
    part SECTION TEXT    what lies in that section of it; several lines are one text
    part* N SECTION TEXT TEXT is N times there
    fetch ITEM...        a Fetch of message 1 is served by what the lines before say; what comes of
                         it is for "new" and "clean". From here on the connection is served as usual
    clean UID KEY N      the text, or each text in the list, is of one line without anything that
                         would deceive a reader, and has N characters at most; a Text has lines
    new UID KEY=JSON...  the message is told in a NewMail, with these values; null: without it
    none UID             it is not told (so far; put it behind something that comes later)
    hidden TEXT          TEXT is neither in the log above debug nor on the bus
    invalid /REGEX/      the account is not taken, for this reason; nothing else stands in such a case
    final                the account does not recover: what it wants a usual server has not
    change NAME=VALUE... the account's options are others from now on (a Reload)
    clear REGEX          matches all that was said in clear text, for all connections

What holds for every case is checked behind it: the daemon is the same process; an account beside it
idles and is told a mail that comes now; the case's own account recovers when the next server is as
servers should be, and is told a mail there; what was said in clear text has no credentials in it,
nor have log, trace and bus; and where the case does not say that the client logs in ("C:
AUTHENTICATE", "C: LOGIN", or by what is served), it has not shown them inside TLS, either. "$canary"
in what the server says is an address that nobody may connect to.

With --case-traces FOLDER the conversation of each case is written there, both ways: "C" and "S" in
clear text, "C+" and "S+" inside TLS.
"""

import base64
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import socket
import ssl

from busclient import ERROR, MAILBOX, NAME, BusError, check, mailbox_path, plain
from mailidled import Account
from scripted import CAPABILITIES, Box, Server, Session
from servers.base import User

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "cases"
PASSWORD = "Pa55-of-the-case"
# Whatever anybody sends: what the daemon may ever take.
HIGHEST_KIB = 64 * 1024
# What a client may say in clear text where TLS was asked for, to the beginning of a handshake.
HARMLESS = rb"(?:\S+ (?:CAPABILITY|STARTTLS|LOGOUT)\r\n)*(?:\x16\x03(?s:.*))?"


class CaseError(Exception):
    """A mistake in a file of cases."""


@dataclasses.dataclass
class Step:
    place: str
    verb: str
    rest: str


@dataclasses.dataclass
class Case:
    group: str
    name: str
    steps: list

    def rests(self, verb):
        return [step.rest for step in self.steps if step.verb == verb]

    @property
    def options(self):
        words = [word for rest in self.rests("account") for word in rest.split()]
        return dict(word.split("=", 1) for word in words)


def read_cases(folder=FOLDER):
    """All of them, in the order of the files."""
    cases = []
    for path in sorted(folder.glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            place = f"{path.name}:{number}"
            if not line or line.startswith("#"):
                continue
            verb, _, rest = line.partition(" ")
            if verb == "case":
                cases.append(Case(path.stem, rest, []))
            elif not cases or cases[-1].group != path.stem:
                raise CaseError(f"{place}: nothing stands before the first case")
            elif verb not in Play.verbs:
                raise CaseError(f"{place}: there is no {verb!r}")
            else:
                cases[-1].steps.append(Step(place, verb, rest))
    names = [(case.group, case.name) for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise CaseError(f"named twice: {sorted(twice)}")
    return cases


def forms(user, secret):
    """What a secret looks like on the wire."""
    plain_form = base64.b64encode(f"\0{user}\0{secret}".encode()).decode().rstrip("=")
    xoauth2 = f"user={user}\1auth=Bearer {secret}\1\1".encode()
    oauthbearer = f"n,a={user},\1host=".encode()
    return [
        secret,
        base64.b64encode(secret.encode()).decode().rstrip("="),
        plain_form,
        base64.b64encode(xoauth2).decode()[:40],
        base64.b64encode(oauthbearer).decode()[:24],
    ]


def octets(text):
    """The text of a case as octets."""
    text = re.sub(
        r"\\(?:x([0-9a-fA-F]{2})|r|n)",
        lambda match: chr(int(match[1], 16)) if match[1] else {"r": "\r", "n": "\n"}[match[0][1]],
        text,
    )
    # What is beyond Latin-1 is not an octet by itself.
    return b"".join(
        character.encode("latin-1" if ord(character) < 256 else "utf-8") for character in text
    )


ENVELOPE = (
    *("date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc", "in-reply-to"),
    "message-id",
)
# Control characters, and those that turn the direction of what follows.
DECEIVING = re.compile("[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def as_text(value):
    """Octets, for what is sent as text."""
    return value.decode(errors="surrogateescape")


def texts_of(value):
    """All texts in a value from the bus."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, int):
        return []
    return [text for item in value for text in texts_of(item)]


def expanded(value):
    """An argument of a call."""
    if not isinstance(value, dict):
        return value
    if "first" in value:
        return list(range(value["first"], value["last"] + 1))
    thing, times = value["repeat"], value["times"]
    if isinstance(thing, str):
        return thing * times
    return [str(thing[0]).replace("%n", str(i)) for i in range(1, times + 1)]


class Bystander:
    """An account that has nothing to do with it: idle all the time, told what comes."""

    def __init__(self, bus):
        self.bus = bus
        self.server = Server(user=User("bystander", "another-secret"))
        self.account = Account("bystander", self.server, self.server.user, security="plain")
        self.box = Box({1: ["\\Seen"]})
        self.session = None
        self.server.serve(self._serve)

    def _serve(self, wire):
        self.session = Session(wire, self.box)
        wire.be_patient()
        with contextlib.suppress(OSError, EOFError):
            self.session.serve_until_idling().answer_until()

    def check(self):
        """It idles on the same connection, and a mail is told."""
        state = self.bus.mailbox("bystander", "INBOX")["State"]
        assert len(self.server.wires) == 1, "the bystander's connection was lost"
        assert state == "idle", f"the bystander is {state}"
        since = self.bus.mark()
        uid = self.box.uidnext
        self.box.add(uid)
        self.session.wire.tell(f"* {len(self.box.messages)} EXISTS")
        self.bus.wait_for_signal(
            "NewMail",
            lambda account, _, messages: account == "bystander" and messages[0]["Uid"] == uid,
            timeout=5,
            since=since,
        )
        self.bus.wait_for_state("bystander", "INBOX")


class Stage:
    """One daemon for all cases."""

    def __init__(self, daemon, bus, certificates, traces=None):
        self.daemon = daemon
        self.traces = traces
        self.bus = bus
        self.certificates = certificates
        self.bystander = Bystander(bus)
        self.n_played = 0
        self.n_log = 0
        daemon.configure(self.bystander.account).start()
        self.pid = daemon.process.pid
        bus.wait_for_state("bystander", "INBOX")
        self.bystander.check()
        self.n_descriptors = self.descriptors()

    def configure(self, *accounts):
        self.daemon.configure(self.bystander.account, *accounts)
        self.bus.call("Reload")

    def descriptors(self):
        return len(list(pathlib.Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory(self, name):
        """A line of /proc/PID/status, in KiB."""
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)[1])

    def play(self, case):
        self.n_played += 1
        with Play(self, case) as play:
            play.run()
            play.check()
        if not self.daemon.is_sanitized:
            highest = self.memory("VmHWM")
            assert highest < HIGHEST_KIB, f"it has taken {highest} KiB"

    def rest(self):
        """What it holds when there is nothing but the bystander: descriptors, and KiB."""
        self.configure()
        return self.descriptors(), self.memory("VmRSS")

    def close(self):
        try:
            self.daemon.close()
        finally:
            self.bystander.server.close()


class Play:
    """One case with its account and its server."""

    def __init__(self, stage, case):
        self.stage = stage
        self.bus = stage.bus
        self.case = case
        self.name = f"case{stage.n_played}"
        self.wire = None
        self.session = None
        self.tag = ""
        self.calls = []
        self.fetched = {}
        options = {name.replace("-", "_"): value for name, value in case.options.items()}
        security = options.pop("security", "plain")
        secret = options.pop("secret", "password-file")
        host = options.pop("host", "localhost" if security != "plain" else "127.0.0.1")
        user = User(f"jo{stage.n_played}", PASSWORD)
        if "certificate_fingerprint" in options:
            options["ca_file"] = None  # it is the one or the other
        self.is_implicit = security == "tls"
        self.canary = None
        self.n_attacked = 0
        self.server = Server(host, stage.certificates, user)
        self.server.token = lambda user: user.password
        self.server.imaps = self.server.imap
        self.account = Account(
            self.name, self.server, user, security=security, secret=secret, options=options
        )
        self.provide()
        self.mark = self.bus.mark()
        self.n_log = len(stage.daemon.log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stage.configure()
        self.server.close()
        if self.canary:
            self.canary.close()
        if self.stage.traces:
            self.write_trace(self.stage.traces)

    def write_trace(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{self.case.group}-{self.case.name}.txt").open("w") as file:
            for n, wire in enumerate(self.server.wires, 1):
                well = "" if n <= self.n_attacked else ", to a server as it should be"
                file.write(f"connection {n}{well}\n")
                for who, is_secure, octets in wire.record:
                    text = octets.decode("latin-1").encode("unicode_escape").decode()
                    file.write(f"{who}{'+' if is_secure else ' '} {text}\n")

    def run(self):
        try:
            self.stage.configure(self.account)
        except BusError as error:
            [pattern] = self.case.rests("invalid") or [None]
            if pattern is None or not re.search(pattern.strip("/"), error.text):
                raise
            return
        assert not self.case.rests("invalid"), "the configuration was taken"
        for step in self.case.steps:
            if step.verb not in self.before and self.wire is None and not self.is_alone:
                self.accept("")
            try:
                self.verbs[step.verb](self, step.rest)
            except Exception as problem:
                problem.args = (f"{step.place}: {step.verb} {step.rest}: {problem}",)
                raise

    # What the case prepares.

    def prepare(self, rest):
        pass

    @property
    def is_alone(self):
        return bool(self.case.rests("alone"))

    def provide(self):
        """Where the password comes from, if not as usual."""
        for rest in self.case.rests("command"):
            option = self.account.secret.replace("-", "_")
            option = "password_command" if option == "password_file" else option
            self.account.options[option] = f"password={PASSWORD}; {rest}"
            self.account.secret = None
        for rest in self.case.rests("file"):
            self.file = self.stage.daemon.folder / f"{self.name}.password"
            self.account.options["password_file"] = str(self.file)
            self.account.secret = None
            self.make_file(dict(word.split("=", 1) for word in rest.split()))

    def make_file(self, words):
        kind = words.get("is")
        if kind == "fifo":
            os.mkfifo(self.file, 0o600)
        elif kind == "folder":
            self.file.mkdir(mode=0o700)
        elif kind != "nothing":
            file = self.file.with_suffix(".other") if kind == "link" else self.file
            file.touch(0o600)
            file.write_bytes(octets(words.get("holds", PASSWORD + "\\n")))
            file.chmod(int(words.get("mode", "600"), 8))
            if kind == "link":
                self.file.symlink_to(file)

    def mended(self, rest):
        new = self.file.with_suffix(".new")
        new.touch(0o600)
        new.write_text(PASSWORD + "\n")
        if self.file.is_dir():
            self.file.rmdir()
        new.replace(self.file)

    def box(self):
        rests = self.case.rests("messages")
        uids = [int(uid) for rest in rests for uid in rest.split()] if rests else [1]
        return Box({uid: [] for uid in uids})

    def new_session(self):
        words = self.case.rests("capabilities")
        return Session(self.wire, self.box(), words[-1] if words else CAPABILITIES)

    # The server.

    def accept(self, rest):
        assert not rest
        self.wire = self.server.accept()
        self.wire.security = self.account.security
        self.session = self.new_session()

    def serve(self, rest):
        if not rest:
            self.server.start(self._serve_all, self.session)
            return
        self.session.greet()
        self.answer(rest)

    def answer(self, rest):
        pattern = rest.removeprefix("until ")
        self.tag = self.session.answer_until(pattern)
        if pattern == "IDLE":
            self.session.begin_idle(self.tag)

    def idle(self, rest):
        self.serve("until IDLE")
        self.line("+ idling")
        self.expect("State idle")

    def change_box(self, rest):
        self.session.box.messages = {int(uid): [] for uid in rest.split()}
        self.session.box.uidnext = max(self.session.box.messages, default=0) + 1

    def alive(self, rest):
        n = len(self.server.wires)
        self.serve("")
        self.call('Refresh "$account" "INBOX"')
        self.reply("")
        assert len(self.server.wires) == n

    def _serve_all(self, session):
        with contextlib.suppress(OSError, EOFError):
            session.answer_until()

    def line(self, rest):
        self.say(rest + "\\r\\n")

    def say(self, rest):
        # The client may leave while it is still told more.
        with contextlib.suppress(ConnectionError):
            self.wire.send(octets(self.filled(rest)))

    def filled(self, text):
        if "$canary" in text and self.canary is None:
            self.canary = socket.create_server(("127.0.0.1", 0))
            self.canary.setblocking(False)
        if self.canary:
            text = text.replace("$canary", "127.0.0.1:%d" % self.canary.getsockname()[1])
        said = self.wire.said[-1].rpartition(" ")[2] if self.wire.said else ""
        text = text.replace("$said", said.replace("\\", r"\x5c"))
        return text.replace("$tag", self.tag)

    def say_often(self, rest):
        n, _, text = rest.partition(" ")
        pieces = (
            octets(text.replace("$tag", self.tag).replace("%n", str(i)))
            for i in range(1, int(n) + 1)
        )
        with contextlib.suppress(ConnectionError):
            block = b""
            for piece in pieces:
                block += piece
                if len(block) > 65536:
                    self.wire.send(block)
                    block = b""
            self.wire.send(block)

    def expect_line(self, rest):
        line = self.wire.line()
        assert line is not None, "the client left"
        tag, _, command = line.partition(" ")
        if command and not re.fullmatch(rest, line):
            self.tag = tag
        else:
            command = line
        assert re.fullmatch(rest, command), f"the client said {line!r}"

    def tls(self, rest):
        words = rest.split()
        values = dict(word.split("=", 1) for word in words if "=" in word)
        if "refused" not in words:
            self.wire.secure(**values)
            return
        try:
            self.wire.secure(**values)
        except (ssl.SSLError, ConnectionError):
            self.wire.is_secure = True
            return
        self.wire.expect_end()

    def deflate(self, rest):
        self.wire.deflate()

    def end(self, rest):
        self.wire.end()

    def reset(self, rest):
        self.wire.end(by_reset=True)

    def change(self, rest):
        options = dict(word.split("=", 1) for word in rest.split())
        security = options.pop("security", self.account.security)
        self.is_implicit = security == "tls"
        self.account = dataclasses.replace(
            self.account, security=security, options=self.account.options | options
        )
        self.stage.configure(self.account)

    def gone(self, rest):
        left = self.wire.rest()
        # What was on its way before the attack was seen.
        is_clear = self.account.security != "plain" and not self.wire.is_secure
        assert re.fullmatch(HARMLESS if is_clear else b"", left), f"the client said {left!r}"

    # Callers.

    def call(self, rest):
        self.call_often("1 " + rest)

    def call_often(self, rest):
        n, member, rest = f"{rest} ".split(" ", 2)
        decoder = json.JSONDecoder()
        arguments = []
        while rest := rest.strip():
            value, end = decoder.raw_decode(rest)
            arguments.append(self.name if value == "$account" else expanded(value))
            rest = rest[end:]
        signature = SIGNATURES.get(member, "s" * len(arguments))
        for _ in range(int(n)):
            self.calls.append(self.bus.send(member, signature, *arguments))

    def refused(self, rest):
        """The newest of them are, at once; the older ones wait."""
        n, name = rest.split()
        for call in reversed(self.calls[-int(n) :]):
            try:
                check(call.result(5))
            except BusError as error:
                assert error.name == name, f"{error}"
                continue
            raise AssertionError("it was answered")
        del self.calls[-int(n) :]

    def drained(self, rest):
        for _ in range(int(rest)):
            with contextlib.suppress(BusError):
                self.reply("")

    def replies(self, rest):
        for _ in range(int(rest)):
            self.reply("")

    def reply(self, rest):
        values = plain(check(self.calls.pop(0).result(25)).body)
        if rest:
            assert values == json.loads(rest), f"{values}"

    def error(self, rest):
        name, _, pattern = rest.partition(" ")
        try:
            values = plain(check(self.calls.pop(0).result(25)).body)
        except BusError as error:
            assert error.name in (name, f"org.freedesktop.DBus.Error.{name}"), f"{error}"
            assert re.search(pattern.strip("/"), error.text), f"{error}"
            return
        raise AssertionError(f"it was answered: {values}")

    # What everybody sees.

    def shown(self):
        return self.bus.objects[mailbox_path(self.name, "INBOX")][MAILBOX]

    def expect(self, rest):
        name, _, value = rest.partition(" ")
        if name == "Error":
            kind, _, pattern = value.partition(" ")
            pattern = pattern.strip("/")
            self.bus.wait(lambda: self.has_shown(kind, pattern), what=f"{kind} /{pattern}/")
        else:
            self.bus.wait(lambda: str(self.shown()[name]) == value, what=rest)

    def has_shown(self, kind, pattern):
        """The next attempt may have begun meanwhile."""
        path = mailbox_path(self.name, "INBOX")
        errors = [
            signal.arguments[1].get("Error", ["", ""])
            for signal in self.bus.signals[self.mark :]
            if signal.member == "PropertiesChanged" and signal.path == path
        ]
        return any(
            name == ERROR + kind and re.search(pattern, text)
            for name, text in [*errors, self.shown()["Error"]]
        )

    def told(self):
        return self.fetched | {
            message["Uid"]: message
            for message in self.bus.new_mail(self.name, "INBOX", since=self.mark)
        }

    def new(self, rest):
        uid, _, values = rest.partition(" ")
        message = self.bus.wait(lambda: self.told()[int(uid)], what=f"message {uid}")
        decoder = json.JSONDecoder()
        while values := values.strip():
            key, _, values = values.partition("=")
            value, end = decoder.raw_decode(values)
            values = values[end:]
            assert message.get(key) == value, f"{key} is {message.get(key)!r}"

    def mail(self, rest):
        self.mail_of("1 " + rest)

    def mail_of(self, rest):
        n, part, text = f"{rest} ".split(" ", 2)
        value = octets(text[:-1]) * int(n)
        parts = ["NIL"] * 10
        if part in ("from", "to"):
            parts[ENVELOPE.index(part)] = as_text(b"(" + value + b")")
        elif part != "envelope":
            parts[ENVELOPE.index(part)] = f"{{{len(value)}}}\r\n" + as_text(value)
        box = self.session.box
        uid = box.uidnext
        box.add(uid)
        box.envelopes[uid] = as_text(value) if part == "envelope" else f"({' '.join(parts)})"
        self.wire.tell(f"* {len(box.messages)} EXISTS")
        self.serve("")

    def structure(self, rest):
        self.structure_of("1 " + rest)

    def structure_of(self, rest):
        n, _, text = rest.partition(" ")
        structures = self.session.box.structures
        structures[1] = structures.get(1, "") + as_text(octets(text)) * int(n)

    def part(self, rest):
        self.part_of("1 " + rest)

    def part_of(self, rest):
        n, section, text = rest.split(" ", 2)
        parts = self.session.box.parts
        parts[1, section] = parts.get((1, section), b"") + octets(text) * int(n)

    def fetch(self, rest):
        self.serve("")
        [messages] = self.bus.reply("Fetch", "ssauas", self.name, "INBOX", [1], rest.split()).body
        self.fetched = {message["Uid"]: message for message in plain(messages)}

    def clean(self, rest):
        uid, key, n = rest.split()
        message = self.bus.wait(lambda: self.told()[int(uid)], what=f"message {uid}")
        for text in texts_of(message[key]):
            if key == "Text":
                text = text.replace("\n", "").replace("\t", "")
            assert not DECEIVING.search(text), f"{text[:200]!r}"
            assert len(text) <= int(n), f"{len(text)} characters"

    def none(self, rest):
        assert int(rest) not in self.told()

    def hidden(self, rest):
        log = self.stage.daemon.log[self.n_log :]
        loud = "".join(
            line for line in log.splitlines(True) if not line.startswith(("<7>", "debug"))
        )
        assert rest not in loud, f"the log shows {rest!r}:\n{loud}"
        assert rest not in self.seen(), f"the bus shows {rest!r}"

    def clear(self, rest):
        for wire in self.server.wires:
            said = wire.in_clear.decode(errors="surrogateescape")
            assert re.fullmatch(rest, said), f"{said!r} was said in clear text"

    def seen(self):
        """All that was on the bus meanwhile."""
        signals = self.bus.signals[self.mark :]
        return repr([signal.arguments for signal in signals])

    # What holds for every case.

    def check(self):
        assert not self.calls, "a call's reply is not asked for"
        assert self.stage.daemon.process.poll() is None, "the daemon has ended"
        self.check_credentials()
        self.check_restraint()
        self.n_attacked = len(self.server.wires)
        self.stage.bystander.check()
        if not self.case.rests("final") and not self.case.rests("invalid"):
            self.recover()
        self.check_credentials()

    def check_credentials(self):
        """Nothing has left in clear text where TLS was asked for, nor is it seen anywhere."""
        secrets = forms(self.account.user, PASSWORD)
        for wire in self.server.wires:
            # What it was made with, where that has changed meanwhile.
            security = getattr(wire, "security", self.account.security)
            # What comes behind the ClientHello is not ours to read.
            said = wire.in_clear
            if security == "starttls" or (security == "tls" and not wire.is_secure):
                assert re.fullmatch(HARMLESS, said), f"{said!r} was said in clear text"
        trace = self.stage.daemon.trace
        places = {
            "log": self.stage.daemon.log[self.n_log :],
            "bus": self.seen(),
            "trace": trace.read_text(errors="replace") if trace.exists() else "",
        }
        for where, text in places.items():
            for secret in secrets[:4]:
                assert secret not in text, f"the {where} has the secret as {secret!r}"

    def check_restraint(self):
        """Who is not to be logged in to has not been shown credentials, whatever the transport;
        and nobody was followed elsewhere."""
        is_login = any(
            step.verb in ("serve", "answer", "idle", "alive")
            or (step.verb == "C:" and re.match(r"AUTHENTICATE|LOGIN ", step.rest))
            for step in self.case.steps
        )
        for wire in [] if is_login else self.server.wires:
            said = wire.in_clear + wire.said_in_tls()
            for form in forms(self.account.user, PASSWORD):
                assert form.encode() not in said, f"{form!r} was said: {said!r}"
            assert not re.search(rb"AUTHENTICATE|LOGIN ", said), f"it logs in: {said!r}"
        if self.canary:
            try:
                self.canary.accept()[0].close()
            except BlockingIOError:
                return
            raise AssertionError("a referral was followed")

    def recover(self):
        """The next server is as it should be."""
        for wire in self.server.wires:
            wire.end()
        # Start is for what has ended.
        self.bus.wait(lambda: self.shown()["State"] != "idle", what="the end to be noticed")
        box = self.box()
        uid = max(box.uids(), default=0) + 1000
        box.add(uid)
        self.server.serve(lambda wire: self._behave(wire, box))
        self.bus.call("Start", "ss", self.name, "INBOX")
        self.bus.wait_for_state(self.name, "INBOX")

    def _behave(self, wire, box):
        if self.is_implicit:
            wire.secure()
        session = Session(wire, box)
        with contextlib.suppress(OSError, EOFError):
            session.greet()
            if self.account.security == "starttls":
                tag = wire.expect(r"(\S+) STARTTLS")[1]
                wire.tell(f"{tag} OK begin")
                wire.secure()
            session.answer_until()

    before = ("account", "command", "file", "alone", "messages", "capabilities", "accept", "clear", "hidden")
    verbs = {
        "account": prepare,
        "command": prepare,
        "file": prepare,
        "alone": prepare,
        "mended": mended,
        "messages": prepare,
        "capabilities": prepare,
        "accept": accept,
        "serve": serve,
        "answer": answer,
        "idle": idle,
        "box": change_box,
        "alive": alive,
        "S:": line,
        "S+": say,
        "S*": say_often,
        "C:": expect_line,
        "tls": tls,
        "deflate": deflate,
        "end": end,
        "reset": reset,
        "gone": gone,
        "change": change,
        "call": call,
        "calls": call_often,
        "replies": replies,
        "refused": refused,
        "drained": drained,
        "reply": reply,
        "error": error,
        "expect": expect,
        "new": new,
        "mail": mail,
        "mail*": mail_of,
        "structure": structure,
        "structure*": structure_of,
        "part": part,
        "part*": part_of,
        "fetch": fetch,
        "clean": clean,
        "none": none,
        "hidden": hidden,
        "final": prepare,
        "invalid": prepare,
        "clear": clear,
    }


SIGNATURES = {
    "Fetch": "ssauas",
    "FetchRaw": "ssu",
    "ListSince": "ssuuu",
    "ListUnread": "ssu",
    "SetFlags": "ssauasas",
    "Move": "ssaus",
}
