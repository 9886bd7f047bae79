"""A minute of the ordeal; tests/chaos gives longer ones, and says what it means."""

import pytest

import turmoil


@pytest.mark.parametrize("seed", [1, 2])
def test_the_truth_survives(folder, seed):
    result = turmoil.run(folder, seed, 30)
    assert not result.problems
    assert result.counts["announced"] > 50


def test_kills(folder):
    result = turmoil.run_kills(folder, 1, 15)
    assert not result.problems
    assert result.counts["kills"] == 15
