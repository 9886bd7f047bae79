"""The figures of tests/bench: each takes a company and says rows of the table."""

import itertools
import statistics
import time

from parties import AUTHORITIES, cpu_nsec, memory, switches, wait
from table import Row

USEC, MSEC, SEC = 1e3, 1e6, 1e9
KIB, MIB = 1024, 1024 * 1024
ROUND_TRIP = 50
# What is put off by a moment has happened then.
SETTLE_SECONDS = 3
# The first samples page everything in.
N_WARM_UP = 3


def both(company, round_trip=0, notify=False, **server_options):
    """Floor and mailidle on one server, idle; mailidle with a subscriber."""
    server = company.server(round_trip=round_trip, notify=notify, **server_options)
    floor = company.floor(server, notify=notify)
    floor.wait("idle")
    bus = company.bus()
    subscriber = company.subscriber(bus)
    daemon = company.mailidled(bus, server)
    daemon.wait_idle()
    subscriber.wait("state", lambda _, path, state: state == "idle")
    return server, floor, subscriber, daemon


def rest(i, round_trip=0):
    """Between two samples, never the same: nothing falls into step."""
    time.sleep(0.02 + i % 7 * 0.003 + 2 * round_trip / 1000)


def repetitions(quick, round_trip):
    return N_WARM_UP + ((5 if quick else 30) if round_trip else (20 if quick else 200))


# -- from a push to its news --


def delivery(server, party, user, name):
    """A message: nanoseconds from its push to the party's news, and to DONE at the server."""
    connection = server.connection(user)
    heard, seen = len(party.look()), server.mark()
    server.deliver(user)
    news = party.wait("newmail", lambda _, who, *__: who == name, heard)
    push = server.wait_for(connection, "push", seen)
    # NOTIFY needs no DONE.
    done = [e for e in server.look()[seen:] if e[1:3] == (connection, "done")]
    return news.time - push.time, done[0].time - push.time if done else 0


def latencies(company, quick, round_trip, notify):
    """The mode that mailidle is in; deliveries of mailidle and of the floor, in turns, and what a
    signal takes by itself.
    """
    server, floor, subscriber, _ = both(company, round_trip, notify)
    mode = subscriber.call("mode a1", "mode")[2]
    ours, theirs, hops = [], [], []
    if notify and mode != "notify":
        return mode, ours, theirs, hops
    for i in range(repetitions(quick, round_trip)):
        theirs.append(delivery(server, floor, "user1", "1"))
        rest(i, round_trip)
        ours.append(delivery(server, subscriber, "jo1", "a1"))
        rest(i, round_trip)
        hop = subscriber.call("hop", "hop")
        hops.append(hop.time - int(hop[2]))
    return mode, ours[N_WARM_UP:], theirs[N_WARM_UP:], hops[N_WARM_UP:]


def latency(company, quick):
    for notify, round_trip in itertools.product((False, True), (ROUND_TRIP, 0)):
        mode, ours, theirs, hops = latencies(company, quick, round_trip, notify)
        way = "NOTIFY" if notify else "IDLE"
        where = f"{round_trip} ms round trip" if round_trip else "loopback"
        row = Row(f"EXISTS leaves the server to NewMail, {way}, {where}")
        if not ours:
            row.instead = f"not built: Mode is {mode}"
        unit = round_trip * MSEC or USEC
        row.unit = "round trips" if round_trip else "µs"
        row.values = [time / unit for time, _ in ours]
        row.floor = [time / unit for time, _ in theirs]
        if round_trip:
            row.bar = 0.55 if notify else 1.56
        elif not notify:
            row.bar, row.of_floor = 1.3, True
            to_done = [statistics.median(done for _, done in times) for times in (ours, theirs)]
            row.remark = "to DONE at the server {:.0f}, the floor {:.0f}".format(
                *(time / USEC for time in to_done)
            )
        yield row
        if not notify and not round_trip:
            hop = statistics.median(hops) / USEC
            together = hop + statistics.median(row.floor)
            yield Row(
                "such a signal by itself, from a program through the bus daemon to another",
                "µs",
                [time / USEC for time in hops],
                remark="with it the floor comes to {:.2f} times itself, mailidle to {:.2f} of "
                "that".format(
                    together / statistics.median(row.floor),
                    statistics.median(row.values) / together,
                ),
            )


# -- Refresh --


def refreshing(server, party, user, order):
    """Nanoseconds from the call to DONE at the server, and to the reply."""
    connection = server.connection(user)
    seen = server.mark()
    reply = party.call(order, "refreshed")
    began = int(reply[2])
    done = server.wait_for(connection, "done", seen)
    server.wait_for(connection, "idle", seen)
    return done.time - began, reply.time - began


def refreshes(company, quick, round_trip):
    """Of mailidle and of the floor: times to DONE, times to the reply."""
    server, floor, subscriber, _ = both(company, round_trip)
    ours, theirs = [], []
    for i in range(repetitions(quick, round_trip)):
        theirs.append(refreshing(server, floor, "user1", "refresh"))
        rest(i, round_trip)
        ours.append(refreshing(server, subscriber, "jo1", "refresh a1"))
        rest(i, round_trip)
    return [list(zip(*times[N_WARM_UP:])) for times in (ours, theirs)]


def refresh(company, quick):
    (done, replies), (floor_done, floor_replies) = refreshes(company, quick, 0)
    yield Row(
        "Refresh call to DONE on the server's side, loopback",
        "ms",
        [time / MSEC for time in done],
        [time / MSEC for time in floor_done],
        bar=0.5,
    )
    yield Row(
        "Refresh call to its reply, loopback",
        "ms",
        [time / MSEC for time in replies],
        [time / MSEC for time in floor_replies],
    )
    (_, replies), (_, floor_replies) = refreshes(company, quick, ROUND_TRIP)
    yield Row(
        f"Refresh call to its reply, {ROUND_TRIP} ms round trip",
        "round trips",
        [time / MSEC / ROUND_TRIP for time in replies],
        [time / MSEC / ROUND_TRIP for time in floor_replies],
        bar=1.05,
    )


# -- from connect to IDLE --


def way_up(server, connection):
    """Round trips from connect() to the client's having "+"; whether TLS was resumed; what the
    server was told in which flight.
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
    is_resumed = any(event[2:4] == ("secured", "resumed") for event in events)
    return trips(idle) + 0.5, is_resumed, "; ".join(flights)


def way_up_again(server, user, wake=lambda: None):
    """The way up of the connection that follows a cut."""
    seen = server.mark()
    server.order("drop")
    server.wait("closed", since=seen, place=1)
    wake()
    connection = wait(lambda: server.connection(user, seen), f"{user} to be back")
    server.wait_for(connection, "idle", seen)
    return way_up(server, connection)


def connect(company, quick):
    server = company.server(round_trip=ROUND_TRIP)
    bus = company.bus()
    subscriber = company.subscriber(bus)
    cold, warm, floor_cold, floor_warm = [], [], [], []

    def wake():
        # Not before it knows: then it waits, and Refresh is an attempt at once.
        time.sleep(0.1)
        subscriber.call("refresh a1", "refreshed")

    for _ in range(1 if quick else 5):
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
    for what, ours, theirs, bar in (
        ("warm", warm, floor_warm, 4.5),
        ("the first time", cold, floor_cold, None),
    ):
        how = "resumed" if all(is_resumed for _, is_resumed, _ in ours) else "full"
        yield Row(
            f"TCP connect to IDLE accepted, {ROUND_TRIP} ms round trip, {what}, {how} TLS",
            "round trips",
            [trips for trips, *_ in ours],
            [trips for trips, *_ in theirs],
            bar,
            remark=ours[-1][2],
        )


# -- memory --


def idle_daemon(company, server, n):
    daemon = company.mailidled(company.bus(), server, accounts=n)
    daemon.wait_idle(120)
    return daemon


def settled_memory(party):
    time.sleep(SETTLE_SECONDS)
    return memory(party)


def with_authorities(company, server):
    """Memory where the authorities of the system were needed, and why it is None."""
    if not AUTHORITIES.exists():
        return None, f"{AUTHORITIES} is missing"
    bundle = company.folder / "authorities"
    bundle.write_bytes(AUTHORITIES.read_bytes() + company.certificates.ca.read_bytes())
    daemon = company.mailidled(company.bus(), server, authorities=bundle)
    try:
        daemon.wait_idle(10)
    except TimeoutError:
        return None, f"not measured: {daemon.log().strip()[-80:]}"
    size = settled_memory(daemon)
    daemon.close()
    return size, ""


def sizes(company, quick):
    server = company.server()
    counts = (1, 10, 100) if quick else (1, 10, 100, 1000)
    ours, theirs = {}, {}
    for n in counts:
        floor = company.floor(server, sessions=n)
        floor.wait("idle", lambda _, count, n=n: int(count) == n)
        theirs[n] = settled_memory(floor)
        floor.close()
        daemon = idle_daemon(company, server, n)
        ours[n] = settled_memory(daemon)
        daemon.close()
    for n in counts:
        yield Row(
            f"PSS with {n:,} idle TLS session{'s' if n > 1 else ''}",
            "MiB",
            [ours[n].pss / MIB],
            [theirs[n].pss / MIB],
            bar=9 if n == 1 else None,
            remark=f"what is its own alone: {ours[n].own / MIB:.1f}",
        )
    trusting, reason = with_authorities(company, server)
    row = Row("PSS with 1 idle TLS session, the system's authorities in use", "MiB", bar=9)
    if trusting:
        more = trusting.anonymous - ours[1].anonymous
        row.values = [trusting.pss / MIB]
        row.remark = f"{more / KIB:.0f} KiB more of anonymous memory than without"
    row.instead = reason
    yield row
    last = counts[-1]
    yield Row(
        f"PSS for each further idle TLS session, of {last:,}",
        "KiB",
        [(ours[last].pss - ours[1].pss) / KIB / (last - 1)],
        [(theirs[last].pss - theirs[1].pss) / KIB / (last - 1)],
        bar=24,
    )


# -- quiet --


def quiet(company, quick):
    n, seconds = (10, 5) if quick else (100, 30)
    server = company.server()
    floor = company.floor(server, sessions=n)
    floor.wait("idle", lambda _, count: int(count) == n)
    daemon = idle_daemon(company, server, n)
    time.sleep(SETTLE_SECONDS)
    before = switches(daemon), switches(floor), cpu_nsec(daemon)
    slept = 0
    # Whoever sleeps a minute at most is found out by the second.
    for until in (seconds, 3 * seconds):
        time.sleep(until - slept)
        slept = until
        after = switches(daemon), switches(floor), cpu_nsec(daemon)
        yield Row(
            f"context switches, {n} idle sessions, {until} s",
            "",
            [after[0] - before[0]],
            [after[1] - before[1]],
            bar=0 if until == seconds else None,
            remark=f"{(after[2] - before[2]) / USEC:.0f} µs of CPU",
        )


# -- envelopes --


def envelopes(company, quick):
    n = 10_000 if quick else 100_000
    _, floor, subscriber, daemon = both(company, messages=n)
    workers = daemon, company.buses[-1], subscriber
    ours, theirs = [], []
    before = [cpu_nsec(worker) for worker in workers]
    for _ in range(1 if quick else 5):
        for party, order, rates in (
            (floor, f"fetch {n} 1000", theirs),
            (subscriber, f"fetch a1 {n} 1000 4", ours),
        ):
            event = party.call(order, "fetched")
            rates.append(n / ((event.time - int(event[2])) / SEC))
            time.sleep(0.3)
        assert int(event[3]) == n, f"{event[3]} of {n} envelopes"
    cpu = [
        (cpu_nsec(worker) - start) / USEC / len(ours) / n
        for worker, start in zip(workers, before)
    ]
    yield Row(
        f"{n:,} envelopes by Fetch in blocks of 1,000, 4 calls at a time",
        "messages/s",
        ours,
        theirs,
        bar=0.5,
        of_floor=True,
        at_least=True,
        remark="µs of CPU for each: mailidle {:.1f}, bus {:.1f}, caller {:.1f}".format(*cpu),
    )


# -- CPU for news --


def news_cpu(server, subscriber, daemon, users, n):
    """Nanoseconds of CPU for each of n messages, one after the other, to the users in turn."""
    connections = {event[3]: event[1] for event in server.look() if event[2] == "login"}

    def one(i):
        number = i % users + 1
        heard, seen = len(subscriber.look()), server.mark()
        server.deliver(f"jo{number}")
        subscriber.wait("newmail", lambda _, name, *__: name == f"a{number}", heard)
        server.wait_for(connections[f"jo{number}"], "idle", seen)

    for i in range(10):
        one(i)
    time.sleep(0.5)
    before = cpu_nsec(daemon)
    for i in range(n):
        one(i)
    time.sleep(0.2)
    return (cpu_nsec(daemon) - before) / n


def news(company, quick):
    many, n, repeat = (100, 30, 1) if quick else (1000, 200, 3)
    alone, crowd, turns = [], [], []
    for count in (1, many):
        server = company.server()
        bus = company.bus()
        subscriber = company.subscriber(bus)
        daemon = company.mailidled(bus, server, accounts=count)
        daemon.wait_idle(120)
        time.sleep(SETTLE_SECONDS)
        for _ in range(repeat):
            cpu = news_cpu(server, subscriber, daemon, 1, n) / USEC
            (alone if count == 1 else crowd).append(cpu)
            if count > 1:
                turns.append(news_cpu(server, subscriber, daemon, many, n) / USEC)
        daemon.close()
    least = statistics.median(alone)
    yield Row("CPU for one NewMail, 1 session open", "µs", alone)
    for what, times, bar in (
        (f"CPU for one NewMail, {many:,} sessions open against 1", crowd, 1.2),
        (f"CPU for one NewMail, another of {many:,} sessions each time, against 1", turns, None),
    ):
        yield Row(
            what,
            "times",
            [cpu / least for cpu in times],
            bar=bar,
            remark=f"{statistics.median(times):.0f} µs",
        )


# -- a storm --


def storm_of(server, n, start):
    """start() begins it and returns the party, and the CPU that this has used before: the party,
    its nanoseconds of CPU until all idle, and what the server saw: seconds, the most handshakes at
    a time, and how many resumed TLS.
    """
    seen = server.mark()
    party, before = start()
    last = server.wait_idle(n, seen, 120)
    time.sleep(1)
    cpu = cpu_nsec(party) - before
    events = server.look()[seen:]
    accepted = [event for event in events if event[2] == "accepted"]
    resumed = sum(event[2:4] == ("secured", "resumed") for event in events)
    most = max(int(event[3]) for event in accepted)
    return party, cpu, last.time - accepted[0].time, most, resumed


def storms(company, n, begin):
    """The storm of a start, and that after a cut of all connections."""
    server = company.server()
    party, *first = storm_of(server, n, lambda: (begin(server), 0))
    time.sleep(SETTLE_SECONDS)

    def cut():
        before = cpu_nsec(party)
        server.order("drop")
        return party, before

    _, *second = storm_of(server, n, cut)
    party.close()
    server.close()
    return first, second


def storm(company, quick):
    n = 100 if quick else 1000
    ours, theirs = [], []
    for _ in range(1 if quick else 3):
        theirs.append(storms(company, n, lambda server: company.floor(server, sessions=n)))
        bus = company.bus()
        ours.append(
            storms(company, n, lambda server: company.mailidled(bus, server, accounts=n))
        )
    for i, what in enumerate(("at the start", "after a cut")):
        cpu, seconds, most, resumed = zip(*(run[i] for run in ours))
        floor_cpu, floor_seconds, floor_most, floor_resumed = zip(*(run[i] for run in theirs))
        yield Row(
            f"{n:,} connects at once, {what}: CPU",
            "s",
            [time / SEC for time in cpu],
            [time / SEC for time in floor_cpu],
            bar=2,
            of_floor=True,
            remark=f"TLS resumed by {resumed[-1]}, the floor {floor_resumed[-1]}",
        )
        yield Row(
            f"{n:,} connects at once, {what}: all idle after",
            "s",
            [time / SEC for time in seconds],
            [time / SEC for time in floor_seconds],
        )
        yield Row(
            f"{n:,} connects at once, {what}: handshakes at a time",
            "",
            most,
            floor_most,
            bar=8,
        )


FIGURES = {
    "latency": latency,
    "refresh": refresh,
    "connect": connect,
    "memory": sizes,
    "quiet": quiet,
    "envelopes": envelopes,
    "news": news,
    "storm": storm,
}
