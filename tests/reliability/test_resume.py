"""A run killed at any moment and started again by the same command ends as if nothing had happened."""

import pytest

from tests.reliability.conftest import assert_identical, make_bench, results


@pytest.fixture(scope="module")
def straight(tmp_path_factory, starter):
    """What a run that nobody disturbs leaves."""
    bench = make_bench(tmp_path_factory.mktemp("straight"), starter)
    assert bench.run() == 0, bench.log()
    return results(bench.last_run)


MOMENTS = [
    ("step", 2),  # before the first checkpoint: starts anew
    ("step", 5),
    ("validation", 6),
    ("save", 8),
    ("validation_end", 12),  # a step that is saved once it is validated
    ("batch_end", 17),
    ("save", 24),
    ("save", 25),
    ("fit_end", 25),
    ("test", 25),
    ("report", 25),
]


def test_killed_at_many_moments(bench, straight):
    for hook, step in MOMENTS:
        bench.killed_at(hook, step)

    assert bench.run() == 0, bench.log()

    assert_identical(straight, results(bench.last_run))
