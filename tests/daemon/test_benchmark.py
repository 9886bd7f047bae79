"""tests/bench works: every figure in a hurry, with this build, and an end in the middle."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from mailidled import TOP, build_folder

sys.path.insert(0, str(TOP / "tests/benchmark"))

from figures import FIGURES

SECONDS = 120


def start(folder, *figures, **options):
    command = [sys.executable, "-B", TOP / "tests/benchmark.py", "--glance"]
    command += ["--build", build_folder()]
    command += [word for figure in figures for word in ("--figure", figure)]
    command += ["--json", folder / "rows"]
    return subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def processes(folder):
    """Those that have to do with the folder."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append((entry / "cmdline").read_bytes())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("figure", FIGURES)
def test_figure(figure, folder):
    benchmark = start(folder, figure)
    told, _ = benchmark.communicate(timeout=SECONDS)
    assert benchmark.returncode == 0, told
    rows = json.loads((folder / "rows").read_text())["rows"]
    assert rows
    for row in rows:
        # Where namespaces are forbidden, the authorities of the system cannot be replaced.
        assert row["values"] or "authorities" in row["what"], row
        assert f"| {row['what']}" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_end_in_the_middle(number, folder):
    benchmark = start(folder, "latency")
    # The head of the table, then a row: everything runs.
    for _ in range(3):
        benchmark.stdout.readline()
    assert any(b"mailidled" in command for command in processes(folder))
    benchmark.send_signal(number)
    benchmark.communicate(timeout=SECONDS)
    assert benchmark.returncode == 130
    assert os.listdir(folder) == ["rows"]
    assert processes(folder) == []
