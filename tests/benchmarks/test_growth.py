"""Tables of costs, and the powers that they grow as."""

import argparse
import sys
from contextlib import contextmanager

import pytest

from benchmarks import growth


def _rows():
    return [{"components": c, "positions": 500.0, "seconds": 2 * c**1.5, "MB": 7.0} for c in (100.0, 400.0, 1600.0)]


def test_powers_are_those_that_the_costs_were_made_with():
    assert growth.exponent(_rows(), "components", "seconds") == pytest.approx(1.5)
    assert growth.exponent(_rows(), "components", "MB") == pytest.approx(0)


def test_costs_are_told_of_a_unit_of_what_grows():
    header, rule, first, *_ = growth.lines(_rows(), "components")
    assert header == (
        "| components | positions | seconds | MB | seconds per 1000 components | MB per 1000 components |"
    )
    assert rule == "| --- | --- | --- | --- | --- | --- |"
    assert first == "| 100 | 500 | 2,000 | 7 | 20,000 | 70 |"
    assert growth.lines(_rows(), "positions")[2].endswith(" | 4,000,000 | 14,000 |")


class Here:
    """What processes are started with, that starts none."""

    @classmethod
    @contextmanager
    def Pool(cls, count):  # noqa: N802 (of multiprocessing)
        yield cls

    @staticmethod
    def apply(function, arguments):
        return function(*arguments)


def squared(components, positions):
    return {"components": components, "positions": positions, "seconds": components**2, "MB": components}


def test_the_command_lets_one_size_grow_while_the_other_stays(monkeypatch, capsys):
    sizes, staying = {"components": (1, 2), "positions": (30, 60)}, {"components": 5, "positions": 10}
    monkeypatch.setattr(sys, "argv", ["this", "--positions", "40"])
    monkeypatch.setattr(growth, "get_context", lambda kind: Here)
    growth.measured(argparse.ArgumentParser(), sizes, staying, squared)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:2] for line in lines if line.startswith(("| 1 ", "| 2 ", "| 5 "))] == [
        ["| 1", "10"],
        ["| 2", "10"],
        ["| 5", "40"],
    ]
    assert "In components: seconds as the power 2.00 and MB as the power 1.00." in lines
    assert not any(line.startswith("In positions") for line in lines)
