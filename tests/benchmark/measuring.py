"""What the figures of tests/bench have in common: how much is measured, units, and who takes part."""

import dataclasses
import statistics
import time

USEC, MSEC, SEC = 1e3, 1e6, 1e9
KIB, MIB = 1024, 1024 * 1024
# Milliseconds, where a network is simulated.
ROUND_TRIP = 50
# Whom the subscriber calls.
MAILIDLE = "org.example.MailIdle"
FLOOR = f"{MAILIDLE}.Floor"
# The first samples page everything in.
N_WARM_UP = 3
# Samples that lie further apart than this part of their median are of a machine with other work.
UNSTEADY = 0.3


@dataclasses.dataclass(frozen=True)
class Effort:
    """How often and how much. settle: seconds until what is put off by a moment has happened; tries:
    of what a busy machine has spoilt.
    """

    loopback: int
    distant: int
    connects: int
    sessions: tuple
    quiet: tuple  # sessions, seconds, seconds altogether
    envelopes: int
    news: int
    crowd: int
    storm: int
    settle: float
    rounds: int
    tries: int


FULL = Effort(
    loopback=120,
    distant=20,
    connects=5,
    sessions=(1, 10, 100, 1000),
    quiet=(100, 30, 65),
    envelopes=100_000,
    news=100,
    crowd=1000,
    storm=1000,
    settle=3,
    rounds=3,
    tries=3,
)
QUICK = Effort(
    loopback=30,
    distant=4,
    connects=1,
    sessions=(1, 10, 100),
    quiet=(10, 5, 5),
    envelopes=10_000,
    news=30,
    crowd=100,
    storm=100,
    settle=2,
    rounds=1,
    tries=1,
)
# That it works: for tests/run.
GLANCE = Effort(
    loopback=1,
    distant=1,
    connects=1,
    sessions=(1, 2, 4),
    quiet=(2, 1, 1),
    envelopes=1000,
    news=2,
    crowd=4,
    storm=10,
    settle=0.1,
    rounds=1,
    tries=1,
)


def spread(values):
    """How far the middle half of the values lies apart, as a part of the median."""
    if len(values) < 2:
        return 0
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return (third - first) / middle


def calmest(effort, measure, values):
    """What measure() gives; again where values(of it) are unsteady, then the steadiest; and words
    about those that are not.
    """
    best, least = None, None
    for _ in range(effort.tries):
        result = measure()
        width = spread(values(result))
        if least is None or width < least:
            best, least = result, width
        if least <= UNSTEADY:
            return best, []
    return best, unsteady(least)


def gathered(effort, sample, value):
    """Samples: as many as the effort says, and more, up to twice as many, while value(of them) lie
    too far apart; and words about those that still do.
    """
    samples = []
    width = 0
    while len(samples) < effort.rounds * min(effort.tries, 2):
        samples.append(sample())
        width = spread([value(each) for each in samples])
        if len(samples) >= effort.rounds and width <= UNSTEADY:
            break
    return samples, unsteady(width)


def unsteady(width):
    if width <= UNSTEADY:
        return []
    return [f"unsteady: half of the samples lie within {100 * width:.0f} % of the median"]


def rest(i=0, round_trip=0):
    """Between two samples, never the same: nothing falls into step."""
    time.sleep(0.02 + i % 7 * 0.003 + 2 * round_trip / 1000)


def both(company, round_trip=0, notify=False, prepared=0, **server_options):
    """Floor and mailidle on one server and one bus, idle, with a subscriber of both."""
    server = company.server(round_trip=round_trip, notify=notify, **server_options)
    bus = company.bus()
    floor = company.floor(server, notify=notify, bus=bus, prepared=prepared)
    floor.wait("idle")
    subscriber = company.subscriber(bus)
    daemon = company.mailidled(bus, server)
    daemon.wait_idle()
    subscriber.wait("state", lambda _, path, state: state == "idle")
    return server, floor, subscriber, daemon


def mode_of(subscriber, wanted):
    """How mailidle is told of changes; "notify" may come a moment after IDLE."""
    for _ in range(20):
        mode = subscriber.call("mode a1", "mode")[2]
        if mode == wanted:
            break
        time.sleep(0.05)
    return mode
