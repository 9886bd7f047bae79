"""What a subscriber knows of the mailboxes from signals alone, and whether that is the truth.

Promise 1 of the interface lets one thing pass: a kill -9 repeats the batch in flight. What had been
committed when the daemon was killed is read from its database, so that each message that was
announced twice is shown to have been in that batch, and nothing else is excused by it.
"""

import collections
import contextlib
import dataclasses
import pathlib
import shutil
import sqlite3
import tempfile

# Signals of the batch in flight are not older than this: one commit on a busy machine. The next
# batch comes 500 ms later, since Dovecot lets its news rest for so long.
BATCH_SECONDS = 0.25


@dataclasses.dataclass
class Truth:
    """A mailbox, as an independent client sees it on the server."""

    uidvalidity: int
    uidnext: int
    flags: dict  # uid: frozenset, without \\Recent
    ids: dict  # uid: Message-ID

    @property
    def n_unread(self):
        return sum("\\Seen" not in flags for flags in self.flags.values())


@dataclasses.dataclass
class Kill:
    """The end of a daemon's life by SIGKILL, and what was durable then."""

    place: int  # in the sequence of signals
    time: float
    uidnext: dict  # (user, mailbox): one above the highest UID that was committed


@dataclasses.dataclass
class Sight:
    """One message as it was announced or changed, in the signal of that number."""

    place: int
    time: float


def committed(state):
    """{(user, mailbox): uidnext} of the database in a daemon's state folder. Reads a copy."""
    with tempfile.TemporaryDirectory(prefix="mailidle-state-") as folder:
        for name in ("mailidle.db", "mailidle.db-wal"):
            if (state / name).exists():
                shutil.copy(state / name, folder)
        path = pathlib.Path(folder) / "mailidle.db"
        with contextlib.closing(sqlite3.connect(path)) as database:
            rows = database.execute("SELECT user, mailbox, uidnext FROM mailboxes").fetchall()
    return {(user, mailbox): uidnext for user, mailbox, uidnext in rows}


class Ledger:
    """users: {account: user}. baseline: {(account, mailbox): Truth} after the first
    synchronisation.
    """

    def __init__(self, users, baseline):
        self.users = {account: str(user) for account, user in users.items()}
        self.known = {where: dict(truth.flags) for where, truth in baseline.items()}
        self.uidvalidity = {where: truth.uidvalidity for where, truth in baseline.items()}
        self.kills = []
        self.problems = []
        self.counts = collections.Counter()
        self.longest_batch = 0
        self._place = 0
        self._times = []
        # Where each message was told of: first announcement, last change, end.
        self._announced = {
            (*where, uid): None for where, truth in baseline.items() for uid in truth.flags
        }
        self._ids = {}
        self._touched = {}
        self._gone = {}
        self._doubles = []
        self._news = collections.defaultdict(list)  # place: keys that it announced

    def note_kill(self, kill):
        self.kills.append(kill)

    def read(self, signals):
        """Takes in what has come since the last call; signals: all of them from the beginning."""
        for signal in signals[self._place :]:
            self._times.append(signal.time)
            handler = getattr(self, f"_on_{signal.member}", None)
            if handler is not None:
                handler(Sight(self._place, signal.time), *signal.arguments)
            self._place += 1

    def _complain(self, text):
        self.problems.append(text)

    def _kill_between(self, first, second):
        """The kill that ended the life in which the first was seen, if the second came later."""
        for kill in self.kills:
            if first.place < kill.place:
                return kill if kill.place <= second.place else None
        return None

    def _on_NewMail(self, sight, account, mailbox, messages):
        where = (account, mailbox)
        uids = [message["Uid"] for message in messages]
        if not 1 <= len(uids) <= 100 or sorted(set(uids)) != uids:
            self._complain(f"{where}: a NewMail with the UIDs {uids}")
        for message in messages:
            uid = message["Uid"]
            key = (*where, uid)
            if message["UidValidity"] != self.uidvalidity[where]:
                self._complain(f"{key}: UIDVALIDITY {message['UidValidity']}")
            if key in self._announced:
                self._doubles.append((key, self._announced[key], sight))
            else:
                self.counts["announced"] += 1
            self._announced[key] = sight
            self._touched[key] = sight
            self._gone.pop(key, None)
            self._news[sight.place].append(key)
            if "Flags" in message:
                self.known[where][uid] = frozenset(message["Flags"])
                self._ids[key] = message.get("MessageId")
            else:
                self._complain(f"{key}: announced by its identity alone")

    def _on_FlagsChanged(self, sight, account, mailbox, changes):
        where = (account, mailbox)
        for uid, flags in changes:
            self.counts["changes told"] += 1
            if uid not in self.known[where]:
                self._complain(f"{(*where, uid)}: FlagsChanged, but it is not known")
            self.known[where][uid] = frozenset(flags)
            self._touched[(*where, uid)] = sight

    def _on_Expunged(self, sight, account, mailbox, uids):
        where = (account, mailbox)
        for uid in uids:
            key = (*where, uid)
            self.counts["ends told"] += 1
            if self.known[where].pop(uid, None) is None:
                before = self._gone.get(key)
                kill = self._kill_between(before, sight) if before else None
                if kill is None or kill.time - before.time > BATCH_SECONDS:
                    self._complain(f"{key}: Expunged, but it is not known")
                else:
                    self.counts["ends repeated"] += 1
            self._gone[key] = sight
            self._touched[key] = sight

    def _on_MailboxReset(self, sight, account, mailbox, uidvalidity):
        self._complain(f"{(account, mailbox)}: MailboxReset to {uidvalidity}")

    # What a kill excuses.

    def _is_in_flight(self, key, kill):
        account, mailbox, uid = key
        return uid >= kill.uidnext.get((self.users[account], mailbox), 0)

    def check_doubles(self):
        """Each double was in the one batch that was not committed when the daemon was killed: the
        last announcements before it, of which nothing was durable.
        """
        for key, first, second in self._doubles:
            kill = self._kill_between(first, second) if first else None
            if kill is None:
                self._complain(f"{key}: announced twice, and no kill was between")
                continue
            self.counts["doubles"] += 1
            durable = [
                other
                for place, keys in self._news.items()
                if first.place <= place < kill.place
                for other in keys
                if not self._is_in_flight(other, kill)
            ]
            if durable:
                self._complain(f"{key}: announced twice, but not in the last batch: {durable}")
            age = kill.time - first.time
            self.longest_batch = max(self.longest_batch, age)
            if age > BATCH_SECONDS:
                self._complain(f"{key}: announced twice, {age:.1f} s before the kill")
        self._doubles = []

    def _is_excused(self, key):
        """Whether the last that was told of a message lay in the batch in flight of a kill: what
        happens to it before the next start may then be unknown to the daemon as a change.
        """
        sight = self._touched.get(key)
        if sight is None:
            return False
        kill = self._kill_between(sight, Sight(self._place, 0))
        return kill is not None and kill.time - sight.time <= BATCH_SECONDS

    # The comparison.

    def differences(self, truths):
        """What the subscriber believes and the server does not, or the other way round."""
        found = []
        excused = 0
        for where, truth in truths.items():
            known = self.known[where]
            if truth.uidvalidity != self.uidvalidity[where]:
                found.append(f"{where}: the server's UIDVALIDITY is {truth.uidvalidity}")
                continue
            for uid in sorted(known.keys() | truth.flags.keys()):
                key = (*where, uid)
                if uid not in known:
                    is_new = key not in self._announced
                    what = "never announced" if is_new else "told to be gone, but it is there"
                    found.append(f"{key}: {what}")
                elif known[uid] != truth.flags.get(uid):
                    if self._is_excused(key):
                        excused += 1
                        continue
                    there = truth.flags.get(uid)
                    found.append(
                        f"{key}: believed to be {sorted(known[uid])}, is "
                        f"{'gone' if there is None else sorted(there)}"
                    )
                elif self._ids.get(key, truth.ids[uid]) != truth.ids[uid]:
                    found.append(f"{key}: announced as {self._ids[key]}, is {truth.ids[uid]}")
        self.counts["stale after a kill"] = excused
        return found
