"""The table that tests/bench prints: Markdown, fit for README.md."""

import dataclasses
import datetime
import json
import os
import pathlib
import statistics
import subprocess


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
    remarks: list = dataclasses.field(default_factory=list)
    instead: str = ""

    @property
    def ratio(self):
        if not self.values or not self.floor or not statistics.median(self.floor):
            return None
        return statistics.median(self.values) / statistics.median(self.floor)

    @property
    def holds(self):
        """None: nothing is claimed."""
        if self.bar is None:
            return None
        if not self.values:
            return False
        value = self.ratio if self.of_floor else statistics.median(self.values)
        return value >= self.bar if self.at_least else value <= self.bar


def number(value):
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) >= 10 else 3}f}"


def spread(values):
    if not values:
        return ""
    if min(values) == max(values):
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
    holds = {None: "", True: "yes", False: "NO"}[row.holds]
    print_cells(
        f"{row.what}, {row.unit}" if row.unit else row.what,
        row.instead or spread(row.values),
        spread(row.floor),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        bar_text(row),
        holds,
    )


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def said(*command):
    """The first line that a command says, "" when it cannot."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return ""
    return done.stdout.decode().partition("\n")[0].strip() if done.returncode == 0 else ""


def versions(top, programs):
    """Of what takes part, in words."""
    commit = said("git", "-C", top, "describe", "--always", "--dirty")
    words = [said(programs / "mailidled", "--version") + (f" ({commit})" if commit else "")]
    for name, package in (("GnuTLS", "gnutls"), ("libsystemd", "libsystemd"), ("zlib", "zlib")):
        words.append(f"{name} {said('pkg-config', '--modversion', package)}")
    words.append(f"dbus-daemon {said('dbus-daemon', '--version').rpartition(' ')[2]}")
    return ", ".join(words)


def machine():
    return (
        f"{datetime.date.today()}, {processor()}, {os.cpu_count()} cores, "
        f"Linux {os.uname().release.partition('-')[0]}, load {os.getloadavg()[0]:.1f}"
    )


def print_foot(rows, what):
    """what: was measured, in words."""
    claims = [row.holds for row in rows if row.holds is not None]
    print(
        f"\nMedian (least–greatest). {sum(claims)} of {len(claims)} bars hold. {machine()}; {what}."
    )
    remarks = [f"- {row.what}: {'; '.join(row.remarks)}" for row in rows if row.remarks]
    if remarks:
        print("\n".join(["", *remarks]))


def write(file, rows, what):
    """As JSON, with every sample."""
    told = [{**dataclasses.asdict(row), "ratio": row.ratio, "holds": row.holds} for row in rows]
    file.write(json.dumps({"machine": machine(), "what": what, "rows": told}, indent=1) + "\n")
