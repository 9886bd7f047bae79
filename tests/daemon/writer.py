"""The other clients and the mail system: deliveries, flags, ends and moves, one after the other."""

import collections
import imaplib
import random
import re
import smtplib
import threading

from ledger import Truth
from mail import message
from otherclient import sets
from servers.base import quote

SYSTEM = ("\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted")
KEYWORDS = ("$Forwarded", "$Junk", "$Label1", "$Label2", "Later", "work-related")
# What a server that goes away does to its clients.
TROUBLE = (OSError, imaplib.IMAP4.error, smtplib.SMTPException, RuntimeError)
N_MOST = 400  # a mailbox with more is halved


class Refused(RuntimeError):
    pass


def checked(answer):
    status, data = answer
    if status != "OK":
        raise Refused(f"{status} {data}")
    return data


def read_mailbox(client, mailbox):
    """What is in it, seen by imaplib alone."""
    checked(client.select(quote(mailbox), readonly=True))
    uidvalidity, uidnext = (int(client.response(n)[1][0]) for n in ("UIDVALIDITY", "UIDNEXT"))
    flags, ids = {}, {}
    items = "(UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"
    for part in checked(client.uid("FETCH", "1:*", items)):
        if isinstance(part, tuple):
            head, value = part
            uid = int(re.search(rb"UID (\d+)", head)[1])
            words = re.search(rb"FLAGS \(([^)]*)\)", head)[1].decode().split()
            flags[uid] = frozenset(words) - {"\\Recent"}
            ids[uid] = value.decode().partition(":")[2].strip()
    return Truth(uidvalidity, uidnext, flags, ids)


def read_truth(server, account, user, mailboxes):
    client = server.client(user)
    try:
        return {(account, mailbox): read_mailbox(client, mailbox) for mailbox in mailboxes}
    finally:
        client.logout()


class Writer:
    """Works on the mailboxes of one user, by its own sequence of chance, until stop().

    on_delivery is called after each delivery. counts says what was done; uids what it saw in each
    mailbox last, for others that want to name messages.
    """

    def __init__(self, server, user, mailboxes, seed, pace, on_delivery=lambda: None):
        self.server = server
        self.user = user
        self.mailboxes = mailboxes
        self.counts = collections.Counter()
        self.uids = {mailbox: [] for mailbox in mailboxes}
        self._random = random.Random(f"{seed} writer {user}")
        self._pace = pace
        self._on_delivery = on_delivery
        self._client = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def start(self):
        self._thread.start()

    def stop(self):
        self._is_over.set()
        self._thread.join()

    def _run(self):
        deeds = {
            self._deliver: 10,
            self._deliver_many: 1,
            self._flag: 8,
            self._expunge: 3,
            self._move: 2,
        }
        while not self._is_over.wait(self._random.expovariate(self._pace)):
            mailbox = self._random.choice(self.mailboxes)
            [deed] = self._random.choices(list(deeds), list(deeds.values()))
            try:
                deed(mailbox)
            except TROUBLE:
                # What became of it, nobody knows; the server is asked at the end.
                self.counts["troubles"] += 1
                self._forget_client()
                self._is_over.wait(0.1)
        self._forget_client()

    def _forget_client(self):
        if self._client is not None:
            try:
                self._client.shutdown()
            except OSError:
                pass
            self._client = None

    def _select(self, mailbox):
        if self._client is None:
            self._client = self.server.client(self.user)
        checked(self._client.select(quote(mailbox)))
        [found] = checked(self._client.uid("SEARCH", "ALL"))
        self.uids[mailbox] = [int(word) for word in found.split()]
        return self.uids[mailbox]

    def _choose(self, uids, share):
        n = max(1, round(len(uids) * share))
        return self._random.sample(uids, n) if uids else []

    def _message(self):
        number = self._random.getrandbits(64)
        return message(f"message {number:016x}", message_id=f"<{number:016x}@example.test>")

    def _deliver(self, mailbox):
        self._put(mailbox, self._message())

    def _deliver_many(self, mailbox):
        for _ in range(self._random.randint(2, 30)):
            self._put(mailbox, self._message())

    def _put(self, mailbox, octets):
        if mailbox == "INBOX":
            self.server.deliver(self.user, octets)
        else:
            if self._client is None:
                self._client = self.server.client(self.user)
            flags = self._random.choice((None, None, "\\Seen", "\\Seen $Forwarded"))
            checked(self._client.append(quote(mailbox), flags, None, octets))
        self.counts["deliveries"] += 1
        self._on_delivery()

    def _flag(self, mailbox):
        how = self._random.choice(("+FLAGS.SILENT", "-FLAGS.SILENT", "FLAGS.SILENT"))
        n = self._random.randint(1, 3)
        flags = self._random.sample(SYSTEM[:4] + KEYWORDS, n)
        uids = self._choose(self._select(mailbox), self._random.random() ** 3)
        if uids:
            checked(self._client.uid("STORE", sets(uids), how, f"({' '.join(flags)})"))
            self.counts["flag changes"] += len(uids)

    def _expunge(self, mailbox):
        share = self._random.random() ** 4
        uids = self._select(mailbox)
        uids = self._choose(uids, 0.5 if len(uids) > N_MOST else share)
        if uids:
            checked(self._client.uid("STORE", sets(uids), "+FLAGS.SILENT", "(\\Deleted)"))
            checked(self._client.expunge())
            self.counts["expunges"] += len(uids)

    def _move(self, mailbox):
        how = self._random.choice(("MOVE", "COPY"))
        target = self._random.choice(self.mailboxes)
        uids = self._choose(self._select(mailbox), self._random.random() ** 6)
        if uids and target != mailbox:
            checked(self._client.uid(how, sets(uids), quote(target)))
            self.counts["moves and copies"] += len(uids)
