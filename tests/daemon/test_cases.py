"""The cases of tests/cases, all with one daemon: see cases.py."""

import pytest

from busclient import Bus
from busdaemon import BusDaemon
from cases import Stage, read_cases
from mailidled import Daemon

# One process lives through all of them.
pytestmark = pytest.mark.xdist_group("cases")

CASES = read_cases()
# Beyond what the first round has warmed up.
SPARE_KIB = 2048


@pytest.fixture(scope="module")
def stage(request, tmp_path_factory, certificates):
    folder = tmp_path_factory.mktemp("cases")
    bus_daemon = BusDaemon(folder)
    bus = Bus(bus_daemon.address)
    stage = Stage(Daemon(folder, bus), bus, certificates, request.config.getoption("case_traces"))
    try:
        yield stage
    finally:
        stage.close()
        bus.close()
        bus_daemon.stop()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}-{case.name}")
def test_case(stage, case):
    stage.play(case)


def test_nothing_is_left(stage):
    """Once more the first case of each group: it takes no more than it did after all of them, nor
    is a descriptor left of what was played, with the process that began."""
    firsts = {case.group: case for case in reversed(CASES)}.values()
    n_before, memory_before = stage.rest()
    for case in firsts:
        stage.play(case)
    n_after, memory_after = stage.rest()
    assert stage.daemon.process.pid == stage.pid
    assert (n_before, n_after) == (stage.n_descriptors, stage.n_descriptors)
    if not stage.daemon.is_sanitized:
        assert memory_after - memory_before < SPARE_KIB
        print(f"{stage.n_played} cases, {n_after} descriptors")
