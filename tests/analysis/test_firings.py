"""Firings as a table."""

import torch

from spd_lightning.analysis import Firings


def table_of(firings):
    """Boolean ``[units, C of all sites]``."""
    table = torch.zeros(firings.n_units, firings.n_components, dtype=torch.bool)
    table[firings.units.long(), firings.components.long()] = True
    return table


def test_counts_are_those_of_the_table():
    table = torch.rand(40, 7, generator=torch.Generator().manual_seed(0)) < 0.3
    components, units = table.T.nonzero(as_tuple=True)
    firings = Firings({"a": 3, "b": 4}, 40, components.int(), units.int())
    assert torch.equal(table_of(firings), table)
    assert torch.equal(firings.often(), table.sum(0))
    assert firings.number_of("b", 2) == 5
    for component in range(7):
        assert torch.equal(firings.together(component), (table & table[:, [component]]).sum(0))
