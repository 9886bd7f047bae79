"""What work takes: envelopes in bulk, and the CPU of an event."""

import statistics
import time
import types

from measuring import FLOOR, MAILIDLE, SEC, USEC, both, gathered, mode_of
from parties import cpu_nsec
from table import Row


def fetched(company, n, floor, subscriber, daemon):
    """A round: messages a second of mailidle, of the service on the bus, of the wire; and what
    mailidle, the bus daemon and the caller used of CPU for each, in µs.
    """
    workers = daemon, company.buses[-1], subscriber
    rates, weights = [], []
    for party, order in (
        (floor, f"fetch {n} 1000"),
        (subscriber, f"fetch {FLOOR} 1 {n} 1000 4"),
        (subscriber, f"fetch {MAILIDLE} a1 {n} 1000 4"),
    ):
        before = [cpu_nsec(worker) for worker in workers]
        event = party.call(order, "fetched")
        after = [cpu_nsec(worker) for worker in workers]
        rates.append(n / ((event.time - int(event[2])) / SEC))
        if party is subscriber:
            assert int(event[3]) == n, f"{event[3]} of {n} envelopes"
            weights.append(event[4])
        time.sleep(0.3)
    assert weights[0] == weights[1], f"not the same: {weights}"
    wire, bus, ours = rates
    cpu = [(end - start) / USEC / n for start, end in zip(before, after)]
    return types.SimpleNamespace(ours=ours, bus=bus, wire=wire, cpu=cpu)


def envelopes(company, effort):
    n = effort.envelopes
    _, *parties = both(company, messages=n, prepared=n)
    samples, words = gathered(
        effort, lambda: fetched(company, n, *parties), lambda sample: sample.ours / sample.bus
    )
    cpu = [statistics.median(values) for values in zip(*(sample.cpu for sample in samples))]
    ours = [sample.ours for sample in samples]
    yield Row(
        f"{n:,} envelopes by Fetch in blocks of 1,000, 4 calls at a time; a floor that drains "
        "the socket",
        "messages/s",
        ours,
        [sample.wire for sample in samples],
        bar=0.5,
        of_floor=True,
        at_least=True,
        remarks=[
            "µs of CPU for each: mailidle {:.1f}, bus daemon {:.1f}, caller {:.1f}".format(*cpu),
            *words,
        ],
    )
    yield Row(
        "the same; a service on the same bus with the dictionaries prepared, for the same caller",
        "messages/s",
        ours,
        [sample.bus for sample in samples],
        remarks=["what D-Bus allows: bare sd-bus, the same bus daemon, no server asked", *words],
    )


# -- CPU for news --


class Watched:
    """mailidled, its server, and a subscriber."""

    def __init__(self, company, effort, accounts=1, notify=False, mailboxes=1):
        self.server = company.server(notify=notify, mailboxes=mailboxes)
        bus = company.bus()
        self.subscriber = company.subscriber(bus)
        options = {"mailboxes": ("INBOX", "Box*"), "poll-interval": "1h"} if mailboxes > 1 else {}
        self.daemon = company.mailidled(bus, self.server, accounts=accounts, **options)
        self.daemon.wait_idle(120)
        self._wait_for_states(accounts * mailboxes)
        time.sleep(effort.settle)
        self.mode = mode_of(self.subscriber, "notify" if notify else "idle")

    def _wait_for_states(self, n):
        """Until so many mailboxes are watched."""
        idle = set()

        def is_last(_, path, state):
            # Accounts have states as well: .../ACCOUNT beside .../ACCOUNT/MAILBOX.
            if state == "idle" and path.count("/") == 5:
                idle.add(path)
            return len(idle) == n

        self.subscriber.wait("state", is_last, seconds=120)

    def hear(self, number, mailbox=1):
        """A message for a user: until it is told, and the connection idles again."""
        heard, seen = len(self.subscriber.look()), self.server.mark()
        self.server.deliver(f"jo{number}", mailbox)
        self.subscriber.wait("newmail", lambda _, name, *__: name == f"a{number}", heard)
        if self.mode == "idle":
            push = self.server.wait("push", since=seen, place=1)
            self.server.wait_for(push[1], "idle", seen)
        else:
            time.sleep(0.005)

    def cpu_usec(self, n, users=1, mailbox=1):
        """µs of CPU for each of n messages, one after the other, to the users in turn."""
        for i in range(3):
            self.hear(i % users + 1, mailbox)
        time.sleep(0.2)
        before = cpu_nsec(self.daemon)
        for i in range(n):
            self.hear(i % users + 1, mailbox)
        time.sleep(0.1)
        return (cpu_nsec(self.daemon) - before) / USEC / n


def compared(effort, what, alone, crowd, bar, **message):
    """CPU for an event of the crowd against that of the one that is alone, in turns."""
    samples, words = gathered(
        effort,
        lambda: (crowd.cpu_usec(effort.news, **message), alone.cpu_usec(effort.news)),
        lambda sample: sample[0] / sample[1],
    )
    many, one = (statistics.median(times) for times in zip(*samples))
    return Row(
        what,
        "times",
        [sample[0] / sample[1] for sample in samples],
        bar=bar,
        remarks=[f"{many:.0f} µs against {one:.0f} µs", *words],
    )


def news(company, effort):
    n = effort.crowd
    alone, crowd = Watched(company, effort), Watched(company, effort, accounts=n)
    yield compared(
        effort, f"CPU for one NewMail, {n:,} sessions open against 1", alone, crowd, 1.2
    )
    yield compared(
        effort,
        f"CPU for one NewMail, another of {n:,} sessions each time, against 1",
        alone,
        crowd,
        None,
        users=n,
    )


def mailboxes(company, effort):
    n = effort.crowd
    for notify in (False, True):
        way = "NOTIFY" if notify else "IDLE"
        alone = Watched(company, effort, notify=notify)
        crowd = Watched(company, effort, notify=notify, mailboxes=n)
        row = Row(f"CPU for one NewMail, {n:,} mailboxes in the account against 1, {way}", bar=1.2)
        if alone.mode != way.lower() or crowd.mode != way.lower():
            row.instead = f"not measured: Mode is {alone.mode} and {crowd.mode}"
            yield row
            continue
        yield compared(effort, row.what, alone, crowd, 1.2)
        if notify:
            yield compared(
                effort,
                f"the same, in a mailbox that is not the open one, {way}: STATUS and a visit",
                alone,
                crowd,
                None,
                mailbox=2,
            )
