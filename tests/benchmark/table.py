"""The table that tests/bench prints."""

import dataclasses
import datetime
import os
import pathlib
import statistics


@dataclasses.dataclass
class Row:
    """What was measured; values and floor are samples in the unit.

    bar: what the median may be at most (at_least: at least); of_floor: what its ratio to the
    floor's may be. instead: why there is nothing.
    """

    what: str
    unit: str = ""
    values: tuple = ()
    floor: tuple = ()
    bar: float = None
    of_floor: bool = False
    at_least: bool = False
    remark: str = ""
    instead: str = ""

    @property
    def ratio(self):
        if not self.values or not self.floor or not statistics.median(self.floor):
            return None
        return statistics.median(self.values) / statistics.median(self.floor)

    @property
    def holds(self):
        """None: nothing is claimed."""
        if self.bar is None or not self.values:
            return None
        value = self.ratio if self.of_floor else statistics.median(self.values)
        return value >= self.bar if self.at_least else value <= self.bar


def number(value):
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) >= 10 else 3}f}"


def spread(values):
    if not values:
        return ""
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def bar_text(row):
    if row.bar is None:
        return ""
    return f"{'≥' if row.at_least else '≤'} {row.bar:g}{' × floor' if row.of_floor else ''}"


def print_cells(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def print_head():
    print_cells("figure", "mailidle", "floor", "ratio", "bar", "holds")
    print_cells("---", "---", "---", "---", "---", "---")


def print_row(row):
    what = f"{row.what}, {row.unit}" if row.unit else row.what
    if row.remark:
        what += f" ({row.remark})"
    holds = {None: "", True: "yes", False: "NO"}[row.holds]
    print_cells(
        what,
        row.instead or spread(row.values),
        spread(row.floor),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        bar_text(row),
        holds,
    )


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def print_foot(rows):
    claims = [row.holds for row in rows if row.holds is not None]
    print(
        f"\nMedian (least–greatest). {sum(claims)} of {len(claims)} bars hold. "
        f"{datetime.date.today()}, {machine()}, {os.cpu_count()} cores, "
        f"Linux {os.uname().release}, load {os.getloadavg()[0]:.1f}."
    )
