"""How long it takes: from a push to its news, from a call to its reply."""

import itertools
import statistics
import types

from measuring import FLOOR, MAILIDLE, MSEC, N_WARM_UP, ROUND_TRIP, USEC
from measuring import both, calmest, mode_of, rest
from parties import cpu_nsec
from table import Row


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


def deliveries(n, round_trip, server, floor, subscriber, daemon):
    """Nanoseconds from a push, in turns: to news of mailidle, of the floor, of the floor on the
    wire; to DONE of mailidle and of the floor; and of CPU for all that it takes.
    """
    times = types.SimpleNamespace(
        ours=[], floor=[], wire=[], done=[], floor_done=[], cpu=[], floor_cpu=[]
    )
    for i in range(N_WARM_UP + n):
        since = len(floor.look())
        before = cpu_nsec(floor)
        push, news, done = delivery(server, subscriber, "user1", "1")
        times.floor.append(news.time - push.time)
        times.wire.append(floor.wait("newmail", since=since).time - push.time)
        times.floor_done += [done.time - push.time] if done else []
        rest(i, round_trip)
        times.floor_cpu.append(cpu_nsec(floor) - before)
        before = cpu_nsec(daemon)
        push, other, done = delivery(server, subscriber, "jo1", "a1")
        times.ours.append(other.time - push.time)
        times.done += [done.time - push.time] if done else []
        assert news[3:] == other[3:], f"not the same: {news} and {other}"
        rest(i, round_trip)
        times.cpu.append(cpu_nsec(daemon) - before)
    for name, values in vars(times).items():
        setattr(times, name, values[N_WARM_UP:])
    return times


def latency_rows(effort, round_trip, notify, parties):
    way = "NOTIFY" if notify else "IDLE"
    where = f"{round_trip} ms round trip" if round_trip else "loopback"
    row = Row(
        f"EXISTS leaves the server to NewMail, {way}, {where}",
        "round trips" if round_trip else "µs",
    )
    if round_trip:
        row.bar = 0.55 if notify else 1.56
    elif not notify:
        row.bar, row.of_floor = 1.3, True
    mode = mode_of(parties[2], way.lower())
    row.remarks.append(f"Mode is {mode}")
    if mode != way.lower():
        row.instead = f"not measured: Mode is {mode}"
        yield row
        return
    n = effort.distant if round_trip else effort.loopback
    times, words = calmest(
        effort, lambda: deliveries(n, round_trip, *parties), lambda times: times.floor
    )
    unit = round_trip * MSEC or USEC
    row.values = [time / unit for time in times.ours]
    row.floor = [time / unit for time in times.floor]
    row.remarks += words
    if times.done and not round_trip:
        done = [statistics.median(times) / USEC for times in (times.done, times.floor_done)]
        row.remarks.append("to DONE at the server {:.0f} µs, the floor {:.0f}".format(*done))
    yield row
    if not round_trip:
        yield Row(
            f"the same, {way}: a floor on the wire alone, that ends where it has the message",
            "µs",
            row.values,
            [time / unit for time in times.wire],
        )
        yield Row(
            f"CPU for one NewMail, {way}, with all that it takes",
            "µs",
            [time / unit for time in times.cpu],
            [time / unit for time in times.floor_cpu],
        )


def latency(company, effort):
    for notify, round_trip in itertools.product((False, True), (ROUND_TRIP, 0)):
        parties = both(company, round_trip, notify)
        yield from latency_rows(effort, round_trip, notify, parties)


def refreshing(server, subscriber, user, name, account):
    """Nanoseconds from the call to DONE at the server, and to the reply."""
    connection = server.connection(user)
    seen = server.mark()
    reply = subscriber.call(f"refresh {name} {account}", "refreshed")
    began = int(reply[2])
    done = server.wait_for(connection, "done", seen)
    server.wait_for(connection, "idle", seen)
    return done.time - began, reply.time - began


def refreshes(n, round_trip, server, subscriber):
    """Milliseconds, in turns: of mailidle and of the floor, each to DONE and to the reply."""
    ours, floor = [], []
    for i in range(N_WARM_UP + n):
        floor.append(refreshing(server, subscriber, "user1", FLOOR, "1"))
        rest(i, round_trip)
        ours.append(refreshing(server, subscriber, "jo1", MAILIDLE, "a1"))
        rest(i, round_trip)
    return [
        [[time / MSEC for time in times] for times in zip(*samples[N_WARM_UP:])]
        for samples in (ours, floor)
    ]


def refresh(company, effort):
    for round_trip in (0, ROUND_TRIP):
        server, _, subscriber, _ = both(company, round_trip)
        n = effort.distant if round_trip else effort.loopback
        (ours, floor), words = calmest(
            effort,
            lambda: refreshes(n, round_trip, server, subscriber),
            lambda times: times[1][1],
        )
        if round_trip:
            yield Row(
                f"Refresh call to its reply, {round_trip} ms round trip",
                "round trips",
                [time / round_trip for time in ours[1]],
                [time / round_trip for time in floor[1]],
                bar=1.05,
                remarks=words,
            )
            continue
        for what, bar, values, floor_values in zip(
            ("DONE on the server's side", "its reply"), (0.5, None), ours, floor
        ):
            yield Row(
                f"Refresh call to {what}, loopback",
                "ms",
                values,
                floor_values,
                bar=bar,
                remarks=words,
            )
