"""mailidle while everything goes wrong; tests/chaos is how it is started.

What happens and what must be true afterwards stands in tests/daemon/turmoil.py. The same seed is
the same sequence of faults and of writes; when exactly they meet is the machine's affair.
"""

import argparse
import collections
import os
import signal
import sys
import tempfile
import traceback

from workplace import TOP, BuildError, build, locked, temporary

sys.path.insert(0, str(TOP / "tests/daemon"))

import turmoil

SANITIZE = ["-Db_sanitize=address,undefined", "-Dwerror=true"]
RELEASE = ["--buildtype=release"]
CUTS = (
    *("cut", "refuse", "path close", "path reset"),
    *("kick", "kill a session", "kill a login"),
)
# (heading, what is added up)
COLUMNS = (
    ("deliv.", ("deliveries",)),
    ("flags", ("flag changes",)),
    ("expung.", ("expunges",)),
    ("moves", ("moves and copies",)),
    ("calls", ("calls",)),
    ("cuts", CUTS),
    ("freezes", ("freeze", "path freeze", "pause the daemon")),
    ("restarts", ("restart the server", "restart the daemon")),
    ("server -9", ("kill the server",)),
    ("kills", ("kills",)),
    ("announced", ("announced",)),
    ("doubles", ("doubles",)),
)


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/chaos",
        description="Cuts, delays, freezes, restarts and kills everything between a mail server "
        "and a subscriber, and compares what the subscriber knows with the server.",
    )
    parser.add_argument(
        "--seconds", type=float, default=60, help="of faults for each seed (default: 60)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds (default: 1)")
    parser.add_argument(
        "--kills",
        type=int,
        metavar="N",
        help="instead of the faults: SIGKILL for the daemon N times for each seed, under load",
    )
    parser.add_argument("--release", action="store_true", help="an optimised build, no sanitizers")
    return parser.parse_args()


def row(first, cells, last):
    return f"{first:>6} " + " ".join(
        f"{cell:>{len(head)}}" for cell, (head, _) in zip(cells, COLUMNS)
    ) + f"  {last}"


def cells(counts):
    return [sum(counts[name] for name in names) for _, names in COLUMNS]


def one(folder, seed, options):
    """The result of a seed. Where it does not come to its end, that is a problem as others are."""
    with tempfile.TemporaryDirectory(prefix="mailidle-chaos-", dir=folder) as name:
        with turmoil.Turmoil(name, seed) as ordeal:
            try:
                if options.kills is None:
                    ordeal.run(options.seconds)
                else:
                    ordeal.run_kills(options.kills)
            except Exception:
                ordeal.result.problems.append(traceback.format_exc())
            if ordeal.result.problems:
                ordeal.keep(TOP / f"build/chaos-{seed}")
            return ordeal.result


def run(options, folder):
    total = collections.Counter()
    n_problems = 0
    print(row("seed", [head for head, _ in COLUMNS], "result"), flush=True)
    for seed in range(options.seed, options.seed + options.seeds):
        result = one(folder, seed, options)
        total += result.counts
        n_problems += len(result.problems)
        verdict = f"ok, {result.seconds:.0f} s"
        if result.growth is not None:
            verdict += f", {result.growth:+} KiB, {result.n_files} files"
        if result.problems:
            verdict = f"{len(result.problems)} problems"
        print(row(seed, cells(result.counts), verdict), flush=True)
        for problem in result.problems:
            print(f"       {problem}", flush=True)
        if result.problems:
            print(f"       What was said is kept in build/chaos-{seed}.", flush=True)
        if result.counts["doubles"]:
            print(
                f"       {result.counts['doubles']} announced twice, each in the batch in flight "
                f"at a kill, told at most {result.longest_batch * 1000:.0f} ms before it"
            )
    print(row("all", cells(total), ""))
    for name in sorted(total):
        if name.startswith("error ") or name in ("ends repeated", "stale after a kill", "troubles"):
            print(f"       {name}: {total[name]}")
    return n_problems


def main():
    options = arguments()
    # As Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = TOP / "build" / ("release" if options.release else "sanitize")
    os.environ["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    os.environ["MAILIDLE_BUILD"] = str(folder)
    try:
        with locked(folder):
            print(f"== build ({folder.relative_to(TOP)})", flush=True)
            build(folder, *(RELEASE if options.release else SANITIZE))
        with temporary() as place:
            n_problems = run(options, place.folder)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted")
        return 1
    if place.left_behind:
        print("Left behind, and ended:", *place.left_behind)
        n_problems += 1
    print(
        "Nothing was lost, and nothing told twice that a kill does not explain."
        if n_problems == 0
        else f"{n_problems} problems"
    )
    return 1 if n_problems else 0


if __name__ == "__main__":
    sys.exit(main())
