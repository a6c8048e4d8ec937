import pytest
from torch import nn

from spd_lightning import UsageError
from spd_lightning.model import DecomposedModel
from spd_lightning.model.sites import find_sites


class OwnLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class PlainLinear(nn.Linear):
    """A subclass that computes what its parent does."""


@pytest.fixture
def target():
    def block():
        return nn.ModuleDict({"mlp_in": nn.Linear(4, 8), "act": nn.GELU(), "mlp_out": nn.Linear(8, 4)})

    layers = nn.ModuleList([block(), block()])
    return nn.ModuleDict({"layers": layers, "own": OwnLinear(4, 4), "plain": PlainLinear(4, 4)})


def test_patterns_match_module_paths_in_the_order_of_the_target(target):
    found = find_sites(target, {"plain": 2, "layers.1.mlp_*": 6, "layers.0.mlp_in": 3})
    counts = [(name, count) for name, (_, count) in found.items()]
    assert counts == [("layers.0.mlp_in", 3), ("layers.1.mlp_in", 6), ("layers.1.mlp_out", 6), ("plain", 2)]
    assert all(layer is target.get_submodule(name) for name, (layer, _) in found.items())


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({}, "sites: at least one pattern is needed, for example {'linear*': 20}"),
        ({"layers.0.mlp_inn": 2}, "sites: pattern 'layers.0.mlp_inn' matches no module of the target; did you mean "),
        ({"layers.0.act": 2}, "sites: module 'layers.0.act' is a GELU, but only torch.nn.Linear can be decomposed; "),
        ({"own": 2}, "sites: module 'own' is a OwnLinear, but only torch.nn.Linear can be decomposed; "),
        ({"plain": 0}, "sites: C must be at least 1, got 0 for 'plain'"),
        ({"plain": -3}, "sites: C must be at least 1, got -3 for 'plain'"),
        ({"plain": 2, "pl*": 3}, "sites: module 'plain' is matched by two patterns; keep one of them"),
    ],
)
def test_patterns_that_cannot_be_used(target, patterns, message):
    with pytest.raises(UsageError) as error:
        DecomposedModel(target, patterns)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_near_matches_are_listed_nearest_first(target):
    with pytest.raises(UsageError, match=r"did you mean 'layers\.0\.mlp_in', ") as error:
        find_sites(target, {"layers.0.mlp_inn": 2})
    assert "'layers.1.mlp_in'" in str(error.value)


def test_a_target_without_modules():
    with pytest.raises(UsageError, match="matches no module of the target; it has no named modules"):
        find_sites(nn.Linear(2, 2), {"linear": 2})


def test_names_that_differ_in_dots_and_dashes_only():
    target = nn.ModuleDict({"a": nn.ModuleDict({"b": nn.Linear(2, 2)}), "a-b": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match="site names must differ in more than"):
        DecomposedModel(target, {"*b": 2})
