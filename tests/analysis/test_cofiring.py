"""Partners against all pairs, counted one by one."""

import pytest
import torch

from spd_lightning.analysis.cofiring import partners
from tests.analysis.test_clustering import firings_of


@pytest.mark.parametrize("seed", range(3))
def test_partners_are_the_best_of_all_pairs(seed):
    table = torch.rand(50, 9, generator=torch.Generator().manual_seed(seed)) < torch.linspace(0, 0.6, 9)
    table[:, 0], table[:, 3] = False, table[:, 4]
    chosen = [component for component in range(9) if table[:, component].any()]
    found = dict(zip(chosen, partners(firings_of(table), chosen, 4), strict=True))
    for component in chosen:
        expected = []
        for other in range(9):
            both = int((table[:, component] & table[:, other]).sum())
            if other != component and both:
                either = int((table[:, component] | table[:, other]).sum())
                expected.append((-both / either, other, both / int(table[:, component].sum())))
        expected.sort()
        assert [other.component for other in found[component]] == [number for _, number, _ in expected[:4]]
        assert [other.jaccard for other in found[component]] == pytest.approx([-index for index, *_ in expected[:4]])
        assert [other.share for other in found[component]] == pytest.approx([share for *_, share in expected[:4]])
    assert found[3][0].component == 4


def test_one_that_fires_alone_has_no_partners():
    assert list(partners(firings_of(torch.eye(3, dtype=torch.bool)), [0, 2], 5)) == [[], []]


def test_components_have_names():
    firings = firings_of(torch.eye(5, dtype=torch.bool), {"a": 2, "b": 3})
    names = [firings.name_of(number) for number in range(5)]
    assert names == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
    assert [firings.number_of(*name) for name in names] == list(range(5))
    with pytest.raises(IndexError):
        firings.name_of(5)
