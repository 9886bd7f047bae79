"""A million messages in one mailbox: opened, followed, known after a restart, and left, in a handful
of commands and within 64 MiB."""

import bisect
import re
import time

from mailidled import Account
from otherclient import Told
from scripted import Server, Session

HIGHEST_KIB = 64 * 1024
FLAGS = ["\\Seen", "\\Seen", "\\Seen", "\\Seen \\Answered", "", "\\Seen \\Flagged", "\\Seen $Junk"]


class VastBox:
    """UIDs with gaps, and flags without order: what keeps runs short."""

    def __init__(self, n):
        self.uids = [uid for uid in range(1, n * 20 // 19 + 20) if uid % 20 != 7]
        del self.uids[n:]
        self.uidvalidity = 77
        self.uidnext = self.uids[-1] + 1
        self.highestmodseq = 40
        self.changed = {}  # UID to its flags and modseq

    def flags(self, uid):
        if uid in self.changed:
            return self.changed[uid][0]
        return FLAGS[(uid * 2654435761 >> 12) % 7]

    def number(self, uid):
        return bisect.bisect_left(self.uids, uid) + 1

    def has(self, uid):
        return self.uids[self.number(uid) - 1 :][:1] == [uid]

    def unread(self):
        return sum("\\Seen" not in self.flags(uid) for uid in self.uids)

    # What happens, and what a server says of it.

    def add(self):
        self.highestmodseq += 1
        self.uids.append(self.uidnext)
        self.uidnext += 1
        self.changed[self.uids[-1]] = ("", self.highestmodseq)
        return f"* {len(self.uids)} EXISTS"

    def store(self, uid, flags):
        self.highestmodseq += 1
        self.changed[uid] = (flags, self.highestmodseq)
        return f"* {self.number(uid)} FETCH (FLAGS ({flags}) MODSEQ ({self.highestmodseq}))"

    def expunge(self, uid):
        self.highestmodseq += 1
        number = self.number(uid)
        del self.uids[number - 1]
        return f"* {number} EXPUNGE"


def ranges(uids):
    found, first, last = [], 0, -1
    for uid in uids:
        if uid != last + 1:
            found.append((first, last))
            first = uid
        last = uid
    found.append((first, last))
    return ",".join(f"{a}:{b}" if a < b else str(a) for a, b in found[1:])


class VastSession(Session):
    def _on_open(self, name):
        box = self.box
        modseq = f"[HIGHESTMODSEQ {box.highestmodseq}]" if self.has_modseq else "[NOMODSEQ]"
        return [
            f"* {len(box.uids)} EXISTS",
            f"* OK [UIDVALIDITY {box.uidvalidity}] .",
            f"* OK [UIDNEXT {box.uidnext}] .",
            f"* OK {modseq} .",
        ], "[READ-ONLY] opened"

    def _on_search(self, what):
        flags = self.box.flags
        uids = self.box.uids
        if what == "UNSEEN":
            uids = [uid for uid in uids if "\\Seen" not in flags(uid)]
        return [f'* ESEARCH (TAG "TAG") UID ALL {ranges(uids)}'], "searched"

    def _on_numbers(self, first, last):
        flags = self.box.flags
        uids = self.box.uids[int(first) - 1 : int(last or first)]
        return [
            f"* {number} FETCH (UID {uid} FLAGS ({flags(uid)}))"
            for number, uid in enumerate(uids, int(first))
        ], "fetched"

    def _on_fetch(self, wanted, items, since):
        first, _, last = wanted.partition(":")
        first, last = int(first), int(last or first)
        if since:
            changed = self.box.changed.items()
            uids = sorted(uid for uid, (_, modseq) in changed if modseq > int(since))
        else:
            uids = self.box.uids[self.box.number(first) - 1 : self.box.number(last + 1) - 1]
        assert len(uids) < 1000, "whoever knows the rest asks for no more"
        return [self._line(uid, items) for uid in uids if self.box.has(uid)], "fetched"

    def _line(self, uid, items):
        modseq = self.box.changed.get(uid, ("", 1))[1]
        envelope = f'(NIL "Message {uid}" NIL NIL NIL NIL NIL NIL NIL NIL)'
        text = f"UID {uid} FLAGS ({self.box.flags(uid)})"
        if self.has_modseq:
            text += f" MODSEQ ({modseq})"
        if "ENVELOPE" in items:
            text += f' INTERNALDATE "01-Feb-2024 10:00:00 +0100" RFC822.SIZE 9 ENVELOPE {envelope}'
        return f"* {self.box.number(uid)} FETCH ({text})"

    _methods = tuple(
        (pattern, lambda self, *words, name=method.__name__: getattr(self, name)(*words))
        for pattern, method in Session._methods
    )


def peak_kib(running):
    with open(f"/proc/{running.process.pid}/status") as file:
        return int(re.search(r"^VmHWM:\s+(\d+) kB$", file.read(), re.MULTILINE)[1])


def test_a_million_messages_by_modseq(new_daemon, bus):
    # Login, EXAMINE, two searches, a look, IDLE.
    live_with(new_daemon(), bus, VastBox(1_000_000), "IMAP4rev1 IDLE CONDSTORE ESEARCH", n_highest=8)


def test_a_million_messages_by_comparison(new_daemon, bus):
    running = new_daemon()
    # Sanitizers make it slow; then the same in small. 10,000 messages in each command.
    n = 100_000 if running.is_sanitized else 1_000_000
    live_with(running, bus, VastBox(n), "IMAP4rev1 IDLE", n_highest=n // 10_000 + 8)


def live_with(running, bus, box, capabilities, n_highest):
    # A trace of a million lines is of no use to anybody.
    running.is_traced = False
    with Server() as server:
        server.serve(lambda wire: VastSession(wire, box, capabilities).greet().answer_until())
        began = time.monotonic()
        running.configure(Account("work", server, server.user, security="plain")).start()

        def check(what, n_highest):
            seconds = time.monotonic() - began
            n = len(box.uids)
            commands = [line for line in server.wires[-1].said if line != "DONE"]
            peak = peak_kib(running)
            print(f"--- big, {n} {what}: {len(commands)} commands, {seconds:.1f} s, peak {peak} KiB")
            assert len(commands) <= n_highest
            if not running.is_sanitized:
                assert peak <= HIGHEST_KIB

        def check_counts():
            shown = bus.mailbox("work", "INBOX")
            assert (shown["Messages"], shown["Unread"]) == (len(box.uids), box.unread())

        bus.wait_for_state("work", "INBOX", timeout=120)
        check("opened", n_highest)
        check_counts()
        assert Told(bus).is_nothing()

        # Followed: at the end and in the middle.
        wire = server.wires[-1]
        last, middle = box.uids[-1], box.uids[len(box.uids) // 2]
        new = box.uidnext
        wire.tell(box.add())
        bus.wait_for_signal("NewMail")
        bus.wait_for_state("work", "INBOX")
        other = box.uids[len(box.uids) // 3]
        wire.tell(box.store(other, "\\Draft"), box.expunge(last), box.expunge(middle))
        bus.wait(lambda: len(Told(bus).expunged) == 2)
        bus.call("Refresh", "ss", "work", "INBOX")
        told = Told(bus)
        assert [(m["Uid"], m["Subject"]) for m in told.new] == [(new, f"Message {new}")]
        assert told.changed == [(other, {"\\Draft"})]
        assert sorted(told.expunged) == [middle, last]
        check_counts()
        check("followed", n_highest + 12)

        # Left, and known again.
        running.stop()
        mark, began = bus.mark(), time.monotonic()
        another = box.uids[len(box.uids) // 4]
        box.store(another, "\\Deleted")
        gone = box.uids[10]
        box.expunge(gone)
        box.add()
        running.start()
        bus.wait_for_state("work", "INBOX", timeout=120)
        check("opened again", n_highest)
        bus.call("Refresh", "ss", "work", "INBOX")
        told = Told(bus, mark)
        assert [m["Uid"] for m in told.new] == [box.uids[-1]]
        assert (told.changed, told.expunged) == ([(another, {"\\Deleted"})], [gone])
        check_counts()
        running.stop()
