"""The way from connect to IDLE: its round trips, and a storm of many."""

import itertools
import time

from measuring import MAILIDLE, MSEC, ROUND_TRIP, SEC, gathered, rest
from parties import cpu_nsec, wait
from table import Row


def way_up(server, connection):
    """Round trips from connect() to the client's having "+"; "resumed TLS1.3", or what it was; what
    the server was told in which flight.
    """
    events = [event for event in server.look() if event[1] == connection]
    accepted = next(event for event in events if event[2] == "accepted")
    idle = next(event for event in events if event[2] == "idle")
    commands = [e for e in events if e[2] == "command" and e.time <= idle.time]

    def trips(event):
        return (event.time - accepted.time) / MSEC / ROUND_TRIP

    flights = [
        " + ".join(" ".join(event[3:]) for event in flight)
        for _, flight in itertools.groupby(commands, lambda event: round(trips(event), 1))
    ]
    secured = next(event for event in events if event[2] == "secured")
    return trips(idle) + 0.5, " ".join(secured[3:]), "; ".join(flights)


def way_up_again(server, user, wake=lambda: None):
    """The way up of the connection that follows a cut."""
    seen = server.mark()
    server.order("drop")
    server.wait("closed", since=seen, place=1)
    wake()
    connection = wait(lambda: server.connection(user, seen), f"{user} to be back")
    server.wait_for(connection, "idle", seen)
    return way_up(server, connection)


def connect(company, effort):
    server = company.server(round_trip=ROUND_TRIP)
    bus = company.bus()
    subscriber = company.subscriber(bus)
    cold, warm, restarted, floor_cold, floor_warm = [], [], [], [], []

    def wake():
        # Not before it knows: then it waits, and Refresh is an attempt at once.
        time.sleep(0.1)
        subscriber.call(f"refresh {MAILIDLE} a1", "refreshed")

    for _ in range(effort.connects):
        floor = company.floor(server)
        floor.wait("idle")
        floor_cold.append(way_up(server, server.connection("user1")))
        floor_warm.append(way_up_again(server, "user1"))
        floor.close()
        daemon = company.mailidled(bus, server)
        daemon.wait_idle()
        cold.append(way_up(server, server.connection("jo1")))
        warm.append(way_up_again(server, "jo1", wake))
        rest(0, ROUND_TRIP)
        daemon.close()
        daemon = company.mailidled(bus, server, folder=daemon.folder)
        daemon.wait_idle()
        restarted.append(way_up(server, server.connection("jo1")))
        rest(0, ROUND_TRIP)
        daemon.close()
    for what, ours, theirs, bar in (
        ("warm", warm, floor_warm, 4.5),
        ("the first time", cold, floor_cold, None),
        ("after a restart", restarted, floor_cold, None),
    ):
        how = " or ".join(sorted({how for _, how, _ in ours}))
        yield Row(
            f"TCP connect to IDLE accepted, {ROUND_TRIP} ms round trip, {what}, {how}",
            "round trips",
            [trips for trips, *_ in ours],
            [trips for trips, *_ in theirs],
            bar,
            remarks=[ours[-1][2]],
        )


# -- a storm --


def storm_of(server, n, settle, start):
    """start() begins it and returns the party, and the CPU that this has used before: the party,
    its nanoseconds of CPU until all idle, and what the server saw: nanoseconds, the most handshakes
    at a time, and how many resumed TLS.
    """
    seen = server.mark()
    party, before = start()
    last = server.wait_idle(n, seen, 120)
    time.sleep(min(1, settle))
    cpu = cpu_nsec(party) - before
    events = server.look()[seen:]
    accepted = [event for event in events if event[2] == "accepted"]
    resumed = sum(event[2:4] == ("secured", "resumed") for event in events)
    most = max(int(event[3]) for event in accepted)
    return party, cpu, last.time - accepted[0].time, most, resumed


def storms(company, n, settle, begin):
    """The storm of a start, and that after a cut of all connections."""
    server = company.server()
    party, *first = storm_of(server, n, settle, lambda: (begin(server), 0))
    time.sleep(settle)

    def cut():
        before = cpu_nsec(party)
        server.order("drop")
        return party, before

    _, *second = storm_of(server, n, settle, cut)
    party.close()
    server.close()
    return first, second


def storm(company, effort):
    n = effort.storm
    bus = company.bus()

    def ours(server):
        return company.mailidled(bus, server, accounts=n)

    def floor(server):
        return company.floor(server, sessions=n)

    samples, words = gathered(
        effort,
        lambda: tuple(storms(company, n, effort.settle, begin) for begin in (ours, floor)),
        # Of the second storm, the CPU of mailidle by that of the floor.
        lambda sample: sample[0][1][0] / sample[1][1][0],
    )
    for i, what in enumerate(("at the start", "after a cut")):
        cpu, span, most, resumed = zip(*(first[i] for first, _ in samples))
        floor_cpu, floor_span, floor_most, floor_resumed = zip(*(last[i] for _, last in samples))
        yield Row(
            f"{n:,} connects at once, {what}: CPU",
            "s",
            [time / SEC for time in cpu],
            [time / SEC for time in floor_cpu],
            bar=2,
            of_floor=True,
            remarks=[f"TLS resumed by {resumed[-1]:,}, the floor {floor_resumed[-1]:,}", *words],
        )
        yield Row(
            f"{n:,} connects at once, {what}: all idle after",
            "s",
            [time / SEC for time in span],
            [time / SEC for time in floor_span],
        )
        yield Row(
            f"{n:,} connects at once, {what}: handshakes at a time",
            "",
            most,
            floor_most,
            bar=8,
        )
