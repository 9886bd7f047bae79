"""How fast, how small and how quiet mailidle is; tests/bench is how it is started.

The daemon (release build) on a bus of its own, against a scripted TLS server in C, and beside it
the floor: the smallest client imaginable that does the same on the wire, against the same server in
the same run. Each figure is a median with its least and greatest value, and what it is in terms of
the floor's. tests/benchmark/server.c and floor.c say what they do and what a round trip is here.

CPU is the time of the process itself, whatever else the machine does. Where samples lie too far
apart they are taken again, a few times at most; what is unsteady then is said below the table.
"""

import argparse
import pathlib
import signal
import sys

from workplace import TOP, BuildError, build, locked, temporary

sys.path.insert(0, str(TOP / "tests/benchmark"))
sys.path.insert(0, str(TOP / "tests/daemon"))

import figures
import measuring
import table
from parties import Company

FOLDER = TOP / "build/benchmark"


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/bench", description="Measures mailidle; takes about six minutes."
    )
    parser.add_argument(
        "--figure",
        action="append",
        choices=sorted(figures.FIGURES),
        help="this figure alone; may be given several times",
    )
    parser.add_argument(
        "--quick",
        action="store_const",
        dest="effort",
        const=measuring.QUICK,
        default=measuring.FULL,
        help="fewer and smaller: a minute and a half",
    )
    parser.add_argument(
        "--glance",
        action="store_const",
        dest="effort",
        const=measuring.GLANCE,
        help="hardly anything: to see that it works",
    )
    parser.add_argument(
        "--build",
        type=pathlib.Path,
        metavar="FOLDER",
        help="measure what is built there, with whatever options",
    )
    parser.add_argument(
        "--json",
        type=argparse.FileType("w"),
        metavar="FILE",
        help="write every sample into this file, too",
    )
    return parser.parse_args()


def measure(options, programs, place):
    rows = []
    table.print_head()
    for name, figure in figures.FIGURES.items():
        if options.figure and name not in options.figure:
            continue
        with Company(place, programs) as company:
            for row in figure(company, options.effort):
                table.print_row(row)
                rows.append(row)
    what = table.versions(TOP, programs)
    if options.build:
        what += f"; the build in {options.build.name}, not an optimised one of its own"
    table.print_foot(rows, what)
    if options.json:
        table.write(options.json, rows, what)
    return 0


def main():
    options = arguments()
    # As Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if not options.build:
        try:
            with locked(FOLDER):
                build(FOLDER, "--buildtype=release", "-Ddumpable=true")
        except BuildError as error:
            print(error, file=sys.stderr)
            return 1
    with temporary() as place:
        return measure(options, (options.build or FOLDER).resolve(), place)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
