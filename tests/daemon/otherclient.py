"""The other client: what it does to a mailbox by the hundred, and what the server says is there."""

import re

from servers.base import quote


def sets(uids):
    """UIDs as a sequence set."""
    uids = sorted(uids)
    runs = []
    for uid in uids:
        if runs and uid == runs[-1][1] + 1:
            runs[-1][1] = uid
        else:
            runs.append([uid, uid])
    return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in runs)


class OtherClient:
    """Logged in and with the mailbox selected for writing, while it is used by `with`."""

    def __init__(self, server, user, mailbox="INBOX"):
        self.server = server
        self.user = user
        self.mailbox = mailbox

    def __enter__(self):
        self._imap = self.server.client(self.user)
        self._check(self._imap.select(quote(self.mailbox)))
        return self

    def __exit__(self, *_):
        self._imap.logout()

    @staticmethod
    def _check(answer):
        status, data = answer
        assert status == "OK", data
        return data

    def add(self, messages):
        """Many at once, as the server takes them best."""
        messages = list(messages)
        if not messages:
            return
        if self.server.software == "courier":
            for octets in messages:
                self.server.deliver(self.user, octets, self.mailbox)
            self._check(self._imap.noop())
            return
        # MULTIAPPEND (RFC 3502) and LITERAL+ (RFC 7888), which imaplib has not.
        imap = self._imap
        tag = imap._new_tag()
        imap.tagged_commands[tag] = None
        literals = b"".join(b" {%d+}\r\n" % len(octets) + octets for octets in messages)
        imap.send(tag + b" APPEND " + quote(self.mailbox).encode() + literals + b"\r\n")
        self._check(imap._command_complete("APPEND", tag))
        self._check(imap.noop())

    def store(self, uids, change, flags):
        """change: +, - or nothing."""
        if uids:
            self._check(self._imap.uid("STORE", sets(uids), f"{change}FLAGS.SILENT", f"({flags})"))

    def expunge(self, uids):
        self.store(uids, "+", "\\Deleted")
        self._check(self._imap.expunge())

    def messages(self):
        """UID to flags without \\Recent: the truth."""
        self._check(self._imap.noop())
        imap = self._imap
        count = int(self._check(imap.select(quote(self.mailbox), readonly=True))[0])
        found = {}
        if count > 0:
            for line in self._check(imap.uid("FETCH", "1:*", "(FLAGS)")):
                uid = int(re.search(rb"\bUID (\d+)", line)[1])
                flags = re.search(rb"FLAGS \(([^)]*)\)", line)[1].decode().split()
                found[uid] = frozenset(flags) - {"\\Recent"}
        self._check(imap.select(quote(self.mailbox)))
        assert len(found) == count
        return found


class Told:
    """What was signalled of a mailbox since a mark."""

    def __init__(self, bus, mark=0, mailbox="INBOX"):
        def signals(member):
            return bus.matching(member, lambda account, name, *_: name == mailbox, since=mark)

        self.new = [m for signal in signals("NewMail") for m in signal.arguments[2]]
        self.changed = [
            (uid, frozenset(flags))
            for signal in signals("FlagsChanged")
            for uid, flags in signal.arguments[2]
        ]
        self.expunged = [uid for signal in signals("Expunged") for uid in signal.arguments[2]]
        self.resets = [signal.arguments[2] for signal in signals("MailboxReset")]

    def is_nothing(self):
        return not (self.new or self.changed or self.expunged or self.resets)
