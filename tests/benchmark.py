"""How fast, how small and how quiet mailidle is; tests/bench is how it is started.

The daemon (release build) on a bus of its own, against a scripted TLS server in C, and beside it
the floor: the smallest client imaginable that does the same on the wire, against the same server in
the same run. Each figure is a median with its least and greatest value, and what it is in terms of
the floor's. tests/benchmark/server.c and floor.c say what they do and what a round trip is here.
"""

import argparse
import sys

from workplace import TOP, BuildError, build, locked, temporary

sys.path.insert(0, str(TOP / "tests/benchmark"))
sys.path.insert(0, str(TOP / "tests/daemon"))

import figures
import table
from parties import Company

FOLDER = TOP / "build/benchmark"


def arguments():
    parser = argparse.ArgumentParser(
        prog="tests/bench", description="Measures mailidle; takes about five minutes."
    )
    parser.add_argument(
        "--figure",
        action="append",
        choices=sorted(figures.FIGURES),
        help="this figure alone; may be given several times",
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions: to see that it works"
    )
    return parser.parse_args()


def main():
    options = arguments()
    try:
        with locked(FOLDER):
            build(FOLDER, "--buildtype=release", "-Ddumpable=true")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    rows = []
    with temporary() as place:
        table.print_head()
        for name, measure in figures.FIGURES.items():
            if options.figure and name not in options.figure:
                continue
            with Company(place, FOLDER) as company:
                for row in measure(company, options.quick):
                    table.print_row(row)
                    rows.append(row)
    table.print_foot(rows)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
