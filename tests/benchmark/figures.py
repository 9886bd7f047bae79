"""The figures of tests/bench: each takes a company and says rows of the table."""

import itertools
import statistics
import time
import types

from parties import AUTHORITIES, cpu_nsec, memory, switches, wait
from table import Row

USEC, MSEC, SEC = 1e3, 1e6, 1e9
KIB, MIB = 1024, 1024 * 1024
ROUND_TRIP = 50
# Whom the subscriber calls.
MAILIDLE = "org.example.MailIdle"
FLOOR = f"{MAILIDLE}.Floor"
# What is put off by a moment has happened then.
SETTLE_SECONDS = 3
# The first samples page everything in.
N_WARM_UP = 3


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


def rest(i, round_trip=0):
    """Between two samples, never the same: nothing falls into step."""
    time.sleep(0.02 + i % 7 * 0.003 + 2 * round_trip / 1000)


def repetitions(quick, round_trip):
    return N_WARM_UP + ((5 if quick else 30) if round_trip else (20 if quick else 200))


# -- from a push to its news --


def delivery(server, subscriber, user, account):
    """A message: its push, the signal that the subscriber hears, and DONE or None."""
    connection = server.connection(user)
    heard, seen = len(subscriber.look()), server.mark()
    server.deliver(user)
    news = subscriber.wait("newmail", lambda _, name, *__: name == account, heard)
    push = server.wait_for(connection, "push", seen)
    # NOTIFY needs no DONE.
    done = [e for e in server.look()[seen:] if e[1:3] == (connection, "done")]
    return push, news, done[0] if done else None


def latencies(company, quick, round_trip, notify):
    """The mode that mailidle is in, and nanoseconds from pushes by which event: news of mailidle,
    of the floor, of the floor on the wire, DONE of mailidle and of the floor.
    """
    server, floor, subscriber, _ = both(company, round_trip, notify)
    mode = subscriber.call("mode a1", "mode")[2]
    times = types.SimpleNamespace(ours=[], floor=[], wire=[], done=[], floor_done=[])
    if notify and mode != "notify":
        return mode, times
    for i in range(repetitions(quick, round_trip)):
        since = len(floor.look())
        push, news, done = delivery(server, subscriber, "user1", "1")
        times.floor.append(news.time - push.time)
        times.wire.append(floor.wait("newmail", since=since).time - push.time)
        times.floor_done += [done.time - push.time] if done else []
        rest(i, round_trip)
        push, other, done = delivery(server, subscriber, "jo1", "a1")
        times.ours.append(other.time - push.time)
        times.done += [done.time - push.time] if done else []
        assert news[3:] == other[3:], f"not the same: {news} and {other}"
        rest(i, round_trip)
    for name, values in vars(times).items():
        setattr(times, name, values[N_WARM_UP:])
    return mode, times


def latency(company, quick):
    for notify, round_trip in itertools.product((False, True), (ROUND_TRIP, 0)):
        mode, times = latencies(company, quick, round_trip, notify)
        way = "NOTIFY" if notify else "IDLE"
        where = f"{round_trip} ms round trip" if round_trip else "loopback"
        unit = round_trip * MSEC or USEC
        row = Row(
            f"EXISTS leaves the server to NewMail, {way}, {where}",
            "round trips" if round_trip else "µs",
            [time / unit for time in times.ours],
            [time / unit for time in times.floor],
            remark=f"Mode is {mode}",
        )
        if not times.ours:
            row.instead = f"not measured: Mode is {mode}"
        if round_trip:
            row.bar = 0.55 if notify else 1.56
        elif not notify:
            row.bar, row.of_floor = 1.3, True
            to_done = [statistics.median(done) / USEC for done in (times.done, times.floor_done)]
            row.remark += "; to DONE at the server {:.0f}, the floor {:.0f}".format(*to_done)
        yield row
        if times.ours and not round_trip:
            yield Row(
                f"the same, against a floor that ends where the message has been read, {way}",
                "µs",
                row.values,
                [time / unit for time in times.wire],
                remark="no bus: the wire alone",
            )


# -- Refresh --


def refreshing(server, subscriber, user, name, account):
    """Nanoseconds from the call to DONE at the server, and to the reply."""
    connection = server.connection(user)
    seen = server.mark()
    reply = subscriber.call(f"refresh {name} {account}", "refreshed")
    began = int(reply[2])
    done = server.wait_for(connection, "done", seen)
    server.wait_for(connection, "idle", seen)
    return done.time - began, reply.time - began


def refreshes(company, quick, round_trip):
    """Of mailidle and of the floor: times to DONE, times to the reply."""
    server, _, subscriber, _ = both(company, round_trip)
    ours, theirs = [], []
    for i in range(repetitions(quick, round_trip)):
        theirs.append(refreshing(server, subscriber, "user1", FLOOR, "1"))
        rest(i, round_trip)
        ours.append(refreshing(server, subscriber, "jo1", MAILIDLE, "a1"))
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
        subscriber.call(f"refresh {MAILIDLE} a1", "refreshed")

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
    # What is mapped from files does not grow, but is shared now with more processes, now with less.
    few, many = counts[-2:]
    yield Row(
        f"PSS for each further idle TLS session, from {few:,} to {many:,}",
        "KiB",
        *(
            [(sizes[many].anonymous - sizes[few].anonymous) / KIB / (many - few)]
            for sizes in (ours, theirs)
        ),
        bar=24,
        remark="of anonymous memory: what is mapped from files is the same",
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
    _, floor, subscriber, daemon = both(company, messages=n, prepared=n)
    workers = daemon, company.buses[-1], subscriber
    ours, wire, bus, cpu = [], [], [], []
    calls = f"{n} 1000 4"
    for _ in range(1 if quick else 5):
        weights = []
        for party, order, rates in (
            (floor, f"fetch {n} 1000", wire),
            (subscriber, f"fetch {FLOOR} 1 {calls}", bus),
            (subscriber, f"fetch {MAILIDLE} a1 {calls}", ours),
        ):
            before = [cpu_nsec(worker) for worker in workers]
            event = party.call(order, "fetched")
            rates.append(n / ((event.time - int(event[2])) / SEC))
            after = [cpu_nsec(worker) for worker in workers]
            if party is subscriber:
                assert int(event[3]) == n, f"{event[3]} of {n} envelopes"
                weights.append(event[4])
            time.sleep(0.3)
        cpu.append([(end - start) / USEC / n for start, end in zip(before, after)])
        assert weights[0] == weights[1], f"not the same: {weights}"
    what = f"{n:,} envelopes by Fetch in blocks of 1,000, 4 calls at a time"
    each = [statistics.median(values) for values in zip(*cpu)]
    yield Row(
        what,
        "messages/s",
        ours,
        wire,
        bar=0.5,
        of_floor=True,
        at_least=True,
        remark="the floor drains the socket; µs of CPU for each: mailidle {:.1f}, bus daemon "
        "{:.1f}, caller {:.1f}".format(*each),
    )
    yield Row(
        "the same, against a service on the bus that has the dictionaries prepared",
        "messages/s",
        ours,
        bus,
        remark="what D-Bus allows: bare sd-bus, same bus daemon, same caller, no server asked",
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
