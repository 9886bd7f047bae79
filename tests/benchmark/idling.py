"""What sessions take that do nothing: memory, and context switches."""

import time

from measuring import KIB, MIB, USEC
from parties import AUTHORITIES, cpu_nsec, memory, switches
from table import Row


def idle_daemon(company, server, n, **options):
    daemon = company.mailidled(company.bus(), server, accounts=n, **options)
    daemon.wait_idle(120)
    return daemon


def settled_memory(server, party, user, n, settle):
    """Of n sessions that have told of a message each."""
    seen = server.mark()
    for number in range(1, n + 1):
        server.deliver(f"{user}{number}")
    server.wait_idle(n, seen)
    time.sleep(settle)
    return memory(party)


def size(company, server, n, settle, **options):
    daemon = idle_daemon(company, server, n, **options)
    try:
        return settled_memory(server, daemon, "jo", n, settle)
    finally:
        daemon.close()


def floor_size(company, server, n, settle):
    floor = company.floor(server, sessions=n)
    floor.wait("idle", lambda _, count: int(count) == n)
    try:
        return settled_memory(server, floor, "user", n, settle)
    finally:
        floor.close()


def each(sizes, few, many):
    """KiB for each session more; what is mapped from files does not grow, but is shared now with
    more of the company, now with less.
    """
    return (sizes[many].anonymous - sizes[few].anonymous) / KIB / (many - few)


def authorities_row(company, server, settle, without):
    """Memory where the authorities of the system were needed."""
    row = Row("PSS with 1 idle TLS session, the system's authorities in use", "MiB", bar=9)
    if not AUTHORITIES.exists():
        row.instead = f"not measured: {AUTHORITIES} is missing"
        return row
    bundle = company.folder / "authorities"
    bundle.write_bytes(AUTHORITIES.read_bytes() + company.certificates.ca.read_bytes())
    daemon = company.mailidled(company.bus(), server, authorities=bundle)
    try:
        daemon.wait_idle(10)
        trusting = settled_memory(server, daemon, "jo", 1, settle)
    except TimeoutError:
        row.instead = f"not measured: {daemon.log().strip()[-80:]}"
        return row
    finally:
        daemon.close()
    row.values = [trusting.pss / MIB]
    more = (trusting.anonymous - without.anonymous) / KIB
    row.remarks.append(f"{more:.0f} KiB more of anonymous memory than without")
    return row


def compressed_row(company, few, many, settle, without):
    """What COMPRESS adds to a session."""
    server = company.server(compress=True)
    sizes = {n: size(company, server, n, settle, compress=True) for n in (few, many)}
    row = Row(f"PSS that COMPRESS adds to each session, from {few} to {many}", "KiB", bar=64)
    n = sum(event[2:4] == ("command", "COMPRESS") for event in server.look())
    if n < few + many:
        row.instead = f"not measured: COMPRESS {n} times"
    else:
        row.values = [each(sizes, few, many) - each(without, few, many)]
    return row


def sizes(company, effort):
    # PSS is to be the same whatever else runs here.
    company.copy_libraries()
    server = company.server()
    counts = effort.sessions
    ours, theirs = {}, {}
    for n in counts:
        theirs[n] = floor_size(company, server, n, effort.settle)
        ours[n] = size(company, server, n, effort.settle)
    for n in counts:
        yield Row(
            f"PSS with {n:,} idle TLS session{'s' if n > 1 else ''}",
            "MiB",
            [ours[n].pss / MIB],
            [theirs[n].pss / MIB],
            bar=9 if n == 1 else None,
            remarks=[
                f"its own alone: {ours[n].own / MIB:.1f} MiB; with all that it shares: "
                f"{ours[n].resident / MIB:.1f} MiB",
                "libraries are shared among the programs of the benchmark alone",
            ],
        )
    yield authorities_row(company, server, effort.settle, ours[1])
    few, many = counts[-2:]
    yield Row(
        f"PSS for each further idle TLS session, from {few:,} to {many:,}",
        "KiB",
        [each(ours, few, many)],
        [each(theirs, few, many)],
        bar=24,
        remarks=["anonymous memory: what is mapped from files does not grow"],
    )
    yield compressed_row(company, *counts[1:3], effort.settle, ours)


def quiet(company, effort):
    n, *moments = effort.quiet
    server = company.server()
    floor = company.floor(server, sessions=n)
    floor.wait("idle", lambda _, count: int(count) == n)
    daemon = idle_daemon(company, server, n)
    time.sleep(effort.settle)
    before = switches(daemon), switches(floor), cpu_nsec(daemon)
    slept = 0
    # Whoever sleeps a minute at most is found out by the second.
    for moment in sorted(set(moments)):
        time.sleep(moment - slept)
        slept = moment
        after = switches(daemon), switches(floor), cpu_nsec(daemon)
        yield Row(
            f"context switches, {n} idle sessions, {moment} s",
            "",
            [after[0] - before[0]],
            [after[1] - before[1]],
            bar=0 if moment == moments[0] else None,
            remarks=[f"{(after[2] - before[2]) / USEC:.0f} µs of CPU"],
        )
