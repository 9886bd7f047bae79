"""The conversations of tests/conversations, played with the daemon itself.

They are written for the engine, and tests/unit/conversations.c says in which language. Here "S:" is
what a scripted server sends, "C:" what the daemon must have sent it, "> refresh" a call on the bus,
and what "E:" tells is compared with the signals, replies and properties that a subscriber sees.

    stage = Stage(folder, certificates)
    stage.play(Conversation.read(path))

Before it, another connection gives the daemon what "known" says it knows. Behind it, one more finds
a server on which nothing has happened since: nothing may be told twice, and nothing be missing.
"""

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re

from busclient import ERROR, Bus, BusError, check, mailbox_path, plain
from busdaemon import BusDaemon
from mailidled import Account, Daemon
from scripted import GREETING, Box, Server, Session, octets_of
from servers.base import User

# Calls, times and transports that are the engine's alone.
FOREIGN = re.compile(
    r"T: |C\? |> (cancel|drop|watch|probe|stall|flow|list|logout|secured|compressed|credentials)"
    r"|> (hold|release|visit|others)"
    r"|> store \S+ \S+ \S+$|E: (credentials|start-|closed.* token)"
    r"|option .*(manual|compress|auth=|secret=|user=|password=|early|stepwise|cold)|memory "
)
MESSAGE = re.compile(
    r'(\d+)(?: \((.*?)\))?(?: "(.*?)")?(?: size=(\d+))?(?: preview=(.*?))?(?: \[.*)?'
)
ITEMS = {"date": "received", "structure": "attachments"}


@dataclasses.dataclass
class Conversation:
    """One file, and what its beginning says. A text in a test will do as well."""

    name: str
    lines: list

    @classmethod
    def read(cls, path):
        return cls(pathlib.Path(path).stem, pathlib.Path(path).read_text().splitlines())

    def _rests(self, beginning):
        return [line.removeprefix(beginning) for line in self.lines if line.startswith(beginning)]

    @property
    def options(self):
        words = [word for rest in self._rests("option ") for word in rest.split()]
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    @property
    def known(self):
        return [rest.split() for rest in self._rests("known ")]

    @property
    def watched(self):
        return next(iter(self._rests("watch ")), None)

    @property
    def capabilities(self):
        greeting = next(iter(self._rests("S: * PREAUTH ")), "")
        match = re.search(r"\[CAPABILITY ([^]]*)\]", greeting)
        return match and match[1]

    @property
    def is_for_daemon(self):
        """One mailbox, a login that the stage can do for it, nothing that is the engine's own."""
        boxes = {rest.split()[0] for rest in self._rests("E: synchronised ")}
        boxes |= {words[0] for words in self.known}
        return (
            self.options.get("transport") == "tunnel"
            and self.capabilities is not None
            and self.watched is not None
            and boxes <= {self.watched}
            and not any(re.match("all$|told=", word) for words in self.known for word in words)
            and not any(FOREIGN.match(line) for line in self.lines)
            # More than one caller may have waiting.
            and len(self._rests("> ")) <= 8
        )


def flags_by_uid(words):
    """What "5=r 10:11=-" says."""
    messages = {}
    for word in words:
        if not word[0].isdigit():
            continue
        uids, _, value = word.partition("=")
        flags = {"-": [], "r": ["\\Seen"]}.get(value, value.split(","))
        for part in uids.split(","):
            first, _, last = part.partition(":")
            messages |= {uid: flags for uid in range(int(first), int(last or first) + 1)}
    return messages


def values_of(words):
    """What "uidvalidity=77 modseq=40" says."""
    return {
        name: int(value)
        for name, _, value in (word.partition("=") for word in words)
        if name.isalpha() and value
    }


def sorted_flags(flags):
    return tuple(sorted(flag for flag in flags if flag != "\\Recent"))


def message_of(text):
    """What '12 (\\Seen) "Subject" size=9' says, as the keys of a message on the bus."""
    uid, flags, subject, size, preview = MESSAGE.fullmatch(text).groups()
    message = {"Uid": int(uid), "Subject": subject, "Size": size and int(size), "Preview": preview}
    message["Flags"] = None if flags is None else sorted_flags(flags.split())
    return {key: value for key, value in message.items() if value is not None}


def fits(wanted, told):
    """Whether a message on the bus is what the conversation says of it."""
    # What is empty is left out on the bus.
    told = {"Preview": "", **told, "Flags": sorted_flags(told.get("Flags", []))}
    return all(told.get(key) == value for key, value in wanted.items())


class Stage:
    """A bus and a daemon, on which one conversation after the other is played."""

    def __init__(self, folder, certificates):
        self.folder = pathlib.Path(folder)
        self.certificates = certificates
        self.bus_daemon = BusDaemon(folder)
        self.bus = Bus(self.bus_daemon.address)
        self.daemon = None
        self.n_plays = 0

    def close(self):
        try:
            if self.daemon:
                self.daemon.close()
        finally:
            self.bus.close()
            self.bus_daemon.stop()

    def configure(self, *accounts):
        """Makes these the accounts of the daemon, which is started if need be."""
        if self.daemon:
            self.daemon.configure(*accounts)
            self.bus.call("Reload")
            return
        self.daemon = Daemon(self.folder, self.bus).configure(*accounts).start()

    def new_server(self):
        """With a user of whom nothing is known, for state belongs to the user."""
        self.n_plays += 1
        user = User(f"jo{self.n_plays}", "secret")
        return Server(certificates=self.certificates, user=user)

    def play(self, conversation, tls=False, by_octets=False):
        """by_octets: each octet of the server is a segment of its own."""
        with self.new_server() as server:
            Play(self, conversation, server, tls, by_octets).run()

    def ping(self):
        """What has arrived before, octets and calls, is behind the daemon then."""
        self.bus.call("Ping", interface="org.freedesktop.DBus.Peer")


class Play:
    """One conversation on the stage."""

    def __init__(self, stage, conversation, server, tls, by_octets):
        self.stage = stage
        self.bus = stage.bus
        self.conversation = conversation
        self.server = server
        self.tls = tls
        self.by_octets = by_octets
        self.place = (f"play{stage.n_plays}", conversation.watched)
        self.wire = None
        self.prefix = ""  # of the tags
        self.offset = 0  # of the login's tag
        self.truth = Box()  # what a subscriber must believe
        self.expected = []  # signals: (member, uid or uidvalidity, flags or message)
        self.calls = {}  # by their number in the conversation
        self.answers = {}  # messages or octets that they must give
        self.closed = None

    def run(self):
        self.stage.configure(self._account())
        if self.conversation.known:
            self._make_known(self.conversation.known[0])
        since = self.bus.mark()
        self.wire = self.server.accept(tls=self.tls)
        self._log_in()
        self._play()
        if self.closed:
            self._expect_closed(since)
        else:
            self._expect_silence()
        self._come_again()
        self._compare(since)

    def _account(self):
        options = {"preview": "preview" in self.conversation.options}
        for name, option in (("poll", "poll_interval"), ("idle", "idle_timeout")):
            if name in self.conversation.options:
                options[option] = self.conversation.options[name] + "s"
        name, box = self.place
        security = "tls" if self.tls else "plain"
        return Account(name, self.server, self.server.user, (box,), security, options=options)

    # Before and behind.

    def _make_known(self, words):
        values = values_of(words)
        last = values["watermark"] - 1
        self.truth = Box(
            {last: [], **flags_by_uid(words[1:])},
            last + 1,
            values["uidvalidity"],
            values.get("modseq", 1),
        )
        capabilities = self.conversation.capabilities.split()
        if "flags" in words:
            # Where a server has modseqs, nobody knows all flags.
            capabilities = [word for word in capabilities if word not in ("CONDSTORE", "QRESYNC")]
        wire = self._serve_truth(" ".join(capabilities))
        self.bus.wait_for_state(*self.place)
        if last not in flags_by_uid(words[1:]):
            # The watermark is what was the highest UID once.
            wire.tell(f"* {len(self.truth.messages)} EXPUNGE")
            del self.truth.messages[last]
            self._compare_properties()
        self.bus.call("Stop", "ss", *self.place)
        self.bus.call("Start", "ss", *self.place)

    def _serve_truth(self, capabilities=None):
        wire = self.server.accept(tls=self.tls)
        session = Session(wire, self.truth, capabilities or self.conversation.capabilities)
        self.server.start(session.greet().answer_until)
        return wire

    def _log_in(self):
        """The stage logs in; what the conversation greets with becomes the OK to that, and its tags
        are higher by one."""
        self.wire.tell(GREETING)
        self.prefix, number = self.wire.expect(r"(\w+?)(\d+) AUTHENTICATE PLAIN \S+").groups()
        self.offset = int(number)

    def _expect_closed(self, since):
        """The connection is over, and why is to be seen."""
        path = mailbox_path(*self.place)

        def is_error(interface, changed, gone):
            return changed.get("Error", [""])[0] == ERROR + self.closed

        def is_shown():
            signals = self.bus.matching("PropertiesChanged", is_error, since)
            return path in [signal.path for signal in signals]

        self.bus.wait(is_shown, what=f"{self.place} with the error {self.closed}")
        self.wire.end()

    def _expect_silence(self):
        """Nothing was said since but what leaves."""
        stopping = self.bus.send("Stop", "ss", *self.place)
        rest = []
        while (line := self.wire.line()) is not None:
            tag, _, word = line.partition(" ")
            rest.append(word or tag)
            if word == "LOGOUT":
                self.wire.tell("* BYE until next time", f"{tag} OK left")
                self.wire.end()
                break
        check(stopping.result(10))
        # NOOP tells what is older than what was told with a modseq.
        ways = [[], ["LOGOUT"], ["DONE", "LOGOUT"], ["DONE", "NOOP", "LOGOUT"]]
        assert rest in ways, f"the client also said {rest}"

    def _come_again(self):
        """Nothing has happened since."""
        self.bus.call("Start", "ss", *self.place)
        self._serve_truth()
        self.bus.wait_for_state(*self.place)
        # What is to be told comes before the reply.
        self.bus.call("Refresh", "ss", *self.place)
        self._compare_properties()

    # What is to be seen.

    def _compare_properties(self):
        n_unread = sum(map(self.truth.is_unseen, self.truth.messages))
        wanted = {"Messages": len(self.truth.messages), "Unread": n_unread}

        def is_right():
            seen = self.bus.mailbox(*self.place)
            return all(seen[name] == value for name, value in wanted.items())

        self.bus.wait(is_right, what=f"{self.place} with {wanted}")
        # They come before what they are the sums of.
        assert self.bus.wrong_sums() == {}

    def _told(self, since):
        """The signals about the mailbox."""
        told = []
        for signal in self.bus.signals[since:]:
            if signal.arguments[:2] != list(self.place):
                continue
            thing = signal.arguments[2]
            if signal.member == "NewMail":
                told += [("new", message["Uid"], message) for message in thing]
            elif signal.member == "FlagsChanged":
                told += [("flags", uid, sorted_flags(flags)) for uid, flags in thing]
            elif signal.member == "Expunged":
                told += [("expunged", uid, None) for uid in thing]
            elif signal.member == "MailboxReset":
                told.append(("reset", thing, None))
        return told

    def _compare(self, since):
        told = in_order(self._told(since))
        expected = in_order(self.expected)
        short = [one[:2] if one[0] == "new" else one for one in told]
        wanted = [one[:2] if one[0] == "new" else one for one in expected]
        assert short == wanted
        for (kind, _, is_told), (_, _, is_wanted) in zip(told, expected):
            assert kind != "new" or fits(is_wanted, is_told), f"{is_told}, not {is_wanted}"

    # The lines.

    def _play(self):
        octets = b""  # of the server; consecutive lines are one segment
        for number, line in enumerate([*self.conversation.lines, ""], 1):
            kind, _, text = line.partition(" ")
            if kind in ("S:", "S+", "S*"):
                octets += self._server_line(kind, text)
                continue
            try:
                if octets:
                    self._send(octets)
                    octets = b""
                self._line(kind, text)
            except (AssertionError, TimeoutError, BusError) as problem:
                raise AssertionError(f"{self.conversation.name}:{number}: {problem}") from problem

    def _send(self, octets):
        pieces = [bytes([octet]) for octet in octets] if self.by_octets else [octets]
        # Behind a BYE there may be nobody left to hear it.
        with contextlib.suppress(ConnectionError):
            self.wire.send(*pieces)

    def _server_line(self, kind, text):
        if text.startswith("* PREAUTH"):
            text = "$0 OK" + text.removeprefix("* PREAUTH")
        n = 1
        if kind == "S*":
            times, _, text = text.partition(" ")
            n = int(times)
        end = b"" if kind == "S+" else b"\r\n"
        return b"".join(self._expand(text, i) + end for i in range(1, n + 1))

    def _expand(self, text, count=1):
        """"$7" to the tag, \\xHH to the octet, "%n+7" to the count."""
        text = re.sub(
            r"(?:\$|AAAA)(\d+)", lambda m: f"{self.prefix}{int(m[1]) + self.offset}", text
        )
        text = re.sub(r"%n(?:\+(\d+))?", lambda m: str(count + int(m[1] or 0)), text)
        return re.sub(
            rb"\\x([0-9a-fA-F]{2})", lambda m: bytes.fromhex(m[1].decode()), octets_of(text)
        )

    def _line(self, kind, text):
        if kind == "C:":
            self._expect_said(text)
        elif kind == "E:":
            self._event(text)
        elif kind == "E*":
            n, _, text = text.partition(" ")
            for i in range(1, int(n) + 1):
                self._event(self._expand(text, i).decode())
        elif kind == "?" and text == "idling":
            self.bus.wait_for_state(*self.place)
            self._compare_properties()
        elif kind == ">":
            # What the server said has arrived, and is read before the call is.
            self.stage.ping()
            self._call(*text.split())
            self.stage.ping()
        elif kind == "X:":
            self.wire.end()

    def _expect_said(self, text):
        wanted = self._expand(text).decode(errors="surrogateescape")
        line = self.wire.line()
        assert line == wanted, f"the client said {line!r}"

    def _event(self, text):
        kind, _, rest = text.partition(" ")
        method = getattr(self, f"_on_{kind}", None)
        if method:
            method(*rest.split(" ", 1))

    def _on_baseline(self, box, rest):
        self.truth.messages = flags_by_uid(rest.split())
        self.truth.uidvalidity = values_of(rest.split())["uidvalidity"]

    def _on_reset(self, box, rest):
        self._on_baseline(box, rest)
        self.expected.append(("reset", self.truth.uidvalidity, None))

    def _on_new(self, box, rest):
        message = message_of(rest)
        self.truth.messages[message["Uid"]] = list(message.get("Flags", ()))
        self.expected.append(("new", message["Uid"], message))

    def _on_flags(self, box, rest):
        message = message_of(rest)
        self.truth.messages[message["Uid"]] = list(message["Flags"])
        self.expected.append(("flags", message["Uid"], message["Flags"]))

    def _on_expunged(self, box, rest):
        del self.truth.messages[int(rest)]
        self.expected.append(("expunged", int(rest), None))

    def _on_synchronised(self, box, rest):
        values = values_of(rest.split())
        self.truth.uidnext = values["watermark"]
        self.truth.highestmodseq = values["modseq"] or 1

    def _on_failed(self, box, error):
        self.bus.wait(lambda: self.bus.mailbox(*self.place)["Error"][0] == ERROR + error)

    def _on_closed(self, error, end=None):
        self.closed = error

    def _on_message(self, number, rest):
        self.answers.setdefault(number, []).append(message_of(rest))

    def _on_chunk(self, number, text):
        self.answers[number] = self.answers.get(number, b"") + self._expand(text)

    def _on_done(self, number, error=None):
        kind, reply = self.calls.pop(number)
        reply = reply.result(20)
        if error:
            assert reply.error_name == ERROR + error, reply.error_name
            return
        check(reply)
        answer = self.answers.get(number)
        if kind == "fetch":
            messages = plain(reply.body[0])
            assert len(messages) == len(answer or [])
            assert all(map(fits, answer or [], messages)), messages
        elif kind == "raw":
            with os.fdopen(reply.unix_fds[0], "rb") as file:
                assert file.read() == (answer or b"")

    def _call(self, kind, number, box, *words):
        uids = [uid for word in words[:1] for uid in flags_by_uid([word])]
        if kind == "refresh":
            call = ("Refresh", "ss", *self.place)
        elif kind == "fetch":
            items = [ITEMS.get(item, item) for item in words[1].split(",")]
            call = ("Fetch", "ssauas", *self.place, uids, items)
        elif kind == "raw":
            call = ("FetchRaw", "ssu", *self.place, uids[0])
        elif kind == "store":
            add = [word[1:] for word in words[1:] if word[0] == "+"]
            remove = [word[1:] for word in words[1:] if word[0] == "-"]
            call = ("SetFlags", "ssauasas", *self.place, uids, add, remove)
        else:
            call = ("Move", "ssaus", *self.place, uids, words[1])
        self.calls[number] = (kind, self.bus.send(*call))


def in_order(told):
    """Changes that follow each other may be told in any order: they are sorted."""
    result = []
    for is_change, group in itertools.groupby(told, lambda one: one[0] in ("flags", "expunged")):
        result += sorted(group, key=repr) if is_change else group
    return result
