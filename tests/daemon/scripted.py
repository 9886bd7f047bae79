"""A server that a test plays itself, octet by octet, for what no real server would do on demand.

The test's own thread is the server: nothing happens but what it says, and in that order.

    server = Server()                     # stands for a server in an Account
    wire = server.accept()                # the next connection of the daemon
    session = Session(wire, Box({5: [], 10: ["\\\\Seen"]}))
    session.serve_until("IDLE")           # the boring part: greeting, login, EXAMINE, listing
    wire.send("+ idling\\r\\n* 3 EXISTS\\r\\n")   # one segment
    wire.expect("DONE")
    wire.end(by_reset=True)

Where connections are many, server.serve(function) gives each of them a thread of its own. Waiting
ends by what is waited for; the time limits are for mistakes alone.
"""

import contextlib
import dataclasses
import re
import socket
import ssl
import struct
import threading
import warnings
import zlib

from servers import Certificates, ports
from servers.base import User

SECONDS = 20
RECORDED = 1024
GREETING = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready"
CAPABILITIES = "IMAP4rev1 IDLE UIDPLUS MOVE CONDSTORE ESEARCH"


class Server:
    """Listens on a port of its own, in plain and (with certificates) ready for TLS.

    host: any address of 127.0.0.0/8, or localhost; what the state of an account belongs to.
    """

    def __init__(self, host="127.0.0.1", certificates=None, user=User("jo", "secret")):
        self.host = host
        self.certificates = certificates
        self.ca = certificates.ca if certificates else None
        self.imap = self.imaps = ports.take()
        self.user = user
        self.wires = []
        address = "127.0.0.1" if host == "localhost" else host
        self._listener = socket.create_server((address, self.imap))
        self._threads = []
        self._problems = []

    def accept(self, seconds=SECONDS, tls=False):
        """The next connection; whoever waits in vain gets a TimeoutError."""
        self._listener.settimeout(seconds)
        wire = Wire(self._listener.accept()[0], self.certificates)
        self.wires.append(wire)
        if tls:
            wire.secure()
        return wire

    def serve(self, function, tls=False):
        """From now on function(wire) serves each connection, in a thread; what it raises fails
        close()."""
        self.start(self._accept_all, function, tls)

    def start(self, function, *arguments):
        """Runs it in a thread, which close() joins."""
        thread = threading.Thread(target=self._run, args=[function, *arguments])
        self._threads.append(thread)
        thread.start()

    def _run(self, function, *arguments):
        try:
            function(*arguments)
        except Exception as problem:
            self._problems.append(problem)

    def _accept_all(self, function, tls):
        while True:
            try:
                wire = self.accept(None, tls)
            except OSError:
                return
            self.start(function, wire)

    def close(self):
        """Ends all that is left, and raises what went wrong in threads."""
        # A thread in accept() does not notice that the socket is closed.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for wire in self.wires:
            wire.end()
        for thread in self._threads:
            thread.join(SECONDS)
        for wire in self.wires:
            wire.end()
            wire.close()
        ports.give_back(self.imap)
        if self._problems:
            raise self._problems[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Wire:
    """One connection, seen from the server. said holds all lines of the client so far."""

    def __init__(self, connection, certificates=None):
        self._socket = connection
        self._certificates = certificates
        self._buffer = b""
        self._is_over = False
        self._deflater = self._inflater = None
        self.is_secure = False
        self.said = []
        self.in_clear = b""  # what the client said before TLS, if there is any
        self.record = []  # who, whether in TLS, octets (of the server the first of each piece)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(SECONDS)

    def be_patient(self):
        """The client may be silent for ever."""
        self._socket.settimeout(None)

    def secure(self, bad=None, newest=None):
        """The handshake, at once or after STARTTLS. bad: a certificate of tests/certificates that
        is refused; newest: the newest version of TLS that is offered, like "TLSv1_1"."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if bad or newest:
            # Weak keys and old versions, too.
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        if newest:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion[newest]
        if bad:
            pair = self._certificates.folder / "bad" / bad
            context.load_cert_chain(f"{pair}.pem", f"{pair}.key")
        else:
            context.load_cert_chain(self._certificates.chain, self._certificates.key)
        self.record.append(("-", False, b"handshake"))
        try:
            self._socket = context.wrap_socket(self._socket, server_side=True)
        except OSError as problem:
            self.record.append(("-", False, f"refused: {problem}".encode()))
            raise
        self.is_secure = True

    def deflate(self):
        """From here on both sides are compressed (RFC 4978)."""
        self._deflater = zlib.compressobj(wbits=-15)
        self._inflater = zlib.decompressobj(-15)

    def read(self, n):
        """So many octets of the client: a literal, say."""
        while len(self._buffer) < n:
            octets = self._receive()
            if not octets:
                raise EOFError(f"the client left; it said {self._buffer!r}")
            self._buffer += octets
        octets, self._buffer = self._buffer[:n], self._buffer[n:]
        return octets

    @property
    def is_read(self):
        """Whether nothing has come together with the line that was read last."""
        return not self._buffer

    def line(self):
        """The client's next line without its end, None when it has left."""
        while b"\r\n" not in self._buffer:
            octets = self._receive()
            if not octets:
                if self._buffer:
                    raise AssertionError(f"the client left in the middle of {self._buffer!r}")
                return None
            self._buffer += octets
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        self.said.append(line.decode(errors="surrogateescape"))
        return self.said[-1]

    def rest(self):
        """All that the client says until it leaves."""
        while octets := self._receive():
            self._buffer += octets
        left, self._buffer = self._buffer, b""
        return left

    def _receive(self):
        try:
            octets = self._socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return b""
        if not self.is_secure:
            self.in_clear += octets
        inflated = self._inflater.decompress(octets) if self._inflater else octets
        self.record.append(("C", self.is_secure, inflated))
        if octets and not inflated:
            return self._receive()
        return inflated

    def expect(self, pattern):
        """The client's next line, which must match all of the pattern; returns the match."""
        line = self.line()
        match = re.fullmatch(pattern, line) if line is not None else None
        assert match, f"the client said {line!r} where {pattern!r} was expected"
        return match

    def send(self, *pieces):
        """Octets (or text), each piece as a segment, or with TLS as a record, of its own. Whoever
        wants one to be read before the next makes the daemon answer something in between."""
        for piece in pieces:
            octets = octets_of(piece)
            self.record.append(("S", self.is_secure, octets[:RECORDED]))
            if self._deflater:
                octets = self._deflater.compress(octets)
                octets += self._deflater.flush(zlib.Z_SYNC_FLUSH)
            self._socket.sendall(octets)

    def said_in_tls(self):
        return b"".join(octets for who, secure, octets in self.record if who == "C" and secure)

    def tell(self, *lines):
        """Whole lines, in one segment."""
        self.send(b"".join(octets_of(line) + b"\r\n" for line in lines))

    def expect_end(self):
        """The client leaves, and says nothing before it does."""
        line = self.line()
        assert line is None, f"the client said {line!r} where it was expected to leave"

    def end(self, by_reset=False):
        """FIN, or RST."""
        if self._is_over:
            return
        self._is_over = True
        if by_reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
            return
        # Not close(), which would reset where something is unread; and a thread that reads wakes.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._socket.close()


def octets_of(text):
    """As they go over the wire; text has them from Wire.line(), or is UTF-8."""
    return text if isinstance(text, bytes) else text.encode(errors="surrogateescape")


@dataclasses.dataclass
class Box:
    """The mailbox of a Session: flags by UID, and what EXAMINE says of it."""

    messages: dict = dataclasses.field(default_factory=dict)
    uidnext: int = None
    uidvalidity: int = 77
    highestmodseq: int = 40
    envelopes: dict = dataclasses.field(default_factory=dict)  # by UID, where they are not usual
    structures: dict = dataclasses.field(default_factory=dict)  # the same
    parts: dict = dataclasses.field(default_factory=dict)  # octets by (UID, section)

    def __post_init__(self):
        if self.uidnext is None:
            self.uidnext = max(self.messages, default=0) + 1

    def uids(self):
        return sorted(self.messages)

    def add(self, uid):
        """One that arrives."""
        self.messages[uid] = []
        self.uidnext = uid + 1
        self.highestmodseq += 1

    def is_unseen(self, uid):
        return "\\seen" not in [flag.lower() for flag in self.messages[uid]]


class Session:
    """What every server does alike, on a wire: answers for a Box, until the test takes over.

    capabilities are those after login. A command that it does not know is a mistake of the test.
    boxes: by name, where they are not all alike; box is then the one that is open.
    """

    def __init__(self, wire, box=None, capabilities=CAPABILITIES, boxes=None):
        self.wire = wire
        self.box = box or Box()
        self.boxes = boxes or {}
        self.capabilities = capabilities
        self._idle = None

    @property
    def has_modseq(self):
        return "CONDSTORE" in self.capabilities or "QRESYNC" in self.capabilities

    def greet(self):
        self.wire.tell(GREETING)
        return self

    def log_in(self, *lines, ok=None):
        """Greeting and login; lines follow the OK in its segment, ok is its text."""
        self.greet()
        tag = self.wire.expect(r"(\S+) AUTHENTICATE PLAIN \S+")[1]
        self.wire.tell(f"{tag} OK {ok or f'[CAPABILITY {self.capabilities}] in'}", *lines)
        return tag

    def serve_until(self, pattern):
        """Greets, and answers everything up to the command that the pattern matches (without its
        tag), which is left to the test; returns its tag."""
        return self.greet().answer_until(pattern)

    def serve_until_idling(self):
        self._idle = self.serve_until("IDLE")
        self.wire.tell("+ idling")
        return self

    def begin_idle(self, tag):
        """The test has answered IDLE itself."""
        self._idle = tag

    def answer_until(self, pattern=None):
        """The same on a connection that is greeted. Without a pattern: until the client leaves."""
        while (line := self.wire.line()) is not None:
            tag, _, command = line.partition(" ")
            if pattern and re.fullmatch(pattern, command or tag):
                return tag
            try:
                self.wire.tell(*self.answers(line))
            except ConnectionError:
                break
            if command == "LOGOUT":
                self.wire.end()
                break
        assert pattern is None, f"the client left before it said {pattern!r}"
        return None

    def answer_flight(self):
        """All that the client says up to the next IDLE is answered in one segment."""
        lines = []
        while not lines or self._idle is None:
            line = self.wire.line()
            assert line is not None, "the client left before it said IDLE"
            lines += self.answers(line)
        self.wire.tell(*lines)

    def answers(self, line):
        """What is answered to a line of the client."""
        tag, _, command = line.partition(" ")
        if tag == "DONE" and self._idle:
            tag, self._idle = self._idle, None
            return [f"{tag} OK Idle completed"]
        if command == "IDLE":
            self._idle = tag
            return ["+ idling"]
        for pattern, method in self._methods:
            match = re.fullmatch(pattern, command, re.IGNORECASE)
            if match:
                lines, text = method(self, *match.groups())
                lines = [line.replace('"TAG"', f'"{tag}"') for line in lines]
                return [*lines, f"{tag} OK {text}"]
        raise AssertionError(f"nobody has told the server what to answer to {tag} {command}")

    def _on_login(self):
        return [], f"[CAPABILITY {self.capabilities}] in"

    def _on_capability(self):
        return [f"* CAPABILITY {self.capabilities}"], "that is all"

    def _on_nothing(self):
        return [], "done"

    def _on_namespace(self):
        return ['* NAMESPACE (("" "/")) NIL NIL'], "done"

    def _on_enable(self, words):
        return [f"* ENABLED {words}"], "enabled"

    def _on_open(self, name):
        self.box = box = self.boxes.get(name, self.box)
        modseq = f"[HIGHESTMODSEQ {box.highestmodseq}]" if self.has_modseq else "[NOMODSEQ]"
        return [
            r"* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)",
            f"* {len(box.messages)} EXISTS",
            f"* OK [UIDVALIDITY {box.uidvalidity}] .",
            f"* OK [UIDNEXT {box.uidnext}] .",
            f"* OK {modseq} .",
        ], "[READ-ONLY] opened"

    def _on_status(self, name):
        return [self.status_line(name)], "that is all"

    def status_line(self, name):
        box = self.boxes.get(name, self.box)
        n_unseen = sum(box.is_unseen(uid) for uid in box.messages)
        values = f"MESSAGES {len(box.messages)} UIDNEXT {box.uidnext} UIDVALIDITY {box.uidvalidity}"
        modseq = f" HIGHESTMODSEQ {box.highestmodseq}" if self.has_modseq else ""
        return f'* STATUS "{name}" ({values} UNSEEN {n_unseen}{modseq})'

    def _on_notify(self, names):
        lines = [self.status_line(name) for name in re.findall('"(.*?)"', names or "")]
        return lines, "notifying"

    def _on_search(self, what):
        found = [
            str(uid)
            for uid in self.box.uids()
            if what.upper() == "ALL" or self.box.is_unseen(uid)
        ]
        answer = f" ALL {','.join(found)}" if found else ""
        return [f'* ESEARCH (TAG "TAG") UID{answer}'], "searched"

    def _on_numbers(self, first, last):
        uids = self.box.uids()[int(first) - 1 : int(last or first)]
        return [self._fetch(uid, "UID FLAGS") for uid in uids], "fetched"

    def _on_fetch(self, wanted, items, since):
        if since and int(since) >= self.box.highestmodseq:
            return [], "nothing has changed"
        lines = []
        for uid in self.box.uids():
            for part in wanted.split(","):
                first, _, last = part.partition(":")
                if int(first) <= uid <= int(last or first):
                    lines.append(self._fetch(uid, items))
        return lines, "fetched"

    def _fetch(self, uid, items):
        items = items.strip("()").upper().split()
        number = self.box.uids().index(uid) + 1
        values = {
            "UID": str(uid),
            "FLAGS": f"({' '.join(self.box.messages[uid])})",
            "MODSEQ": f"({self.box.highestmodseq})",
            "INTERNALDATE": '"01-Feb-2024 10:00:00 +0100"',
            "RFC822.SIZE": "9",
            "ENVELOPE": self.box.envelopes.get(
                uid, f'(NIL "Message {uid}" NIL NIL NIL NIL NIL NIL NIL NIL)'
            ),
            "BODYSTRUCTURE": self.box.structures.get(
                uid, '("TEXT" "PLAIN" NIL NIL NIL "7BIT" 9 1)'
            ),
        }
        pairs = [
            self._part(uid, item) if item not in values else f"{item} {values[item]}"
            for item in items
        ]
        return f"* {number} FETCH ({' '.join(pairs)})"

    def _part(self, uid, item):
        section, last = re.fullmatch(r"BODY\.PEEK\[([\d.]*)\](?:<0\.(\d+)>)?", item).groups()
        text = octets_of(self.box.parts.get((uid, section), "nothing\r\n"))
        if last:
            text, section = text[: int(last)], f"{section}]<0>"
        else:
            section += "]"
        return f"BODY[{section} {{{len(text)}}}\r\n{text.decode(errors='surrogateescape')}"

    def _on_logout(self):
        return ["* BYE until next time"], "left"

    _methods = (
        (r"AUTHENTICATE PLAIN \S+", _on_login),
        (r"LOGIN .*", _on_login),
        (r"CAPABILITY", _on_capability),
        (r"ID .*|NOOP|NOTIFY NONE", _on_nothing),
        (r"NOTIFY SET (?:STATUS )?\(.*?\)\)(?: \(MAILBOXES \((.*?)\) .*)?", _on_notify),
        (r"NAMESPACE", _on_namespace),
        (r"ENABLE (.*)", _on_enable),
        (r'(?:EXAMINE|SELECT) "(.*?)".*', _on_open),
        (r'STATUS "(.*?)" \([A-Z ]+\)', _on_status),
        (r"UID SEARCH RETURN \(ALL\) (ALL|UNSEEN)", _on_search),
        (r"FETCH (\d+)(?::(\d+))? \(UID FLAGS(?: MODSEQ)?\)", _on_numbers),
        (r"UID FETCH ([\d:,]+) (\([^()]*\))(?: \(CHANGEDSINCE (\d+)\))?", _on_fetch),
        (r"LOGOUT", _on_logout),
    )
