"""Patterns find sites; every kind of site is one matrix."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from spd_lightning import UsageError
from spd_lightning.model import Components, DecomposedModel, Site, SiteMask
from spd_lightning.model.sites import ConvolutionSite, EmbeddingSite, LinearSite, TransposedSite, find_sites
from tests.comparison import assert_same_with_gradients


class OwnLinear(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class PlainLinear(nn.Linear):
    """A subclass that computes what its parent does."""


class Conv1D(nn.Module):
    """Built like that of ``transformers``: the weight is ``[d_in, d_out]``."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


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
    assert all(isinstance(site, LinearSite) for site, _ in found.values())
    assert all(site.module is target.get_submodule(name) for name, (site, _) in found.items())


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ({}, "sites: at least one pattern is needed, for example {'linear*': 20}"),
        ({"zz*": 2}, "sites: pattern 'zz*' matches no module of the target; its modules are 'layers"),
        ({"layers.0.mlp_inn": 2}, "sites: pattern 'layers.0.mlp_inn' matches no module of the target; did you mean "),
        (
            {"layers.0.act": 2},
            "sites: module 'layers.0.act' is a GELU, which is no kind of site (LinearSite, TransposedSite, "
            "EmbeddingSite, ConvolutionSite); narrow the pattern, leave it out, or give a kind for it in kinds",
        ),
        ({"own": 2}, "sites: module 'own' is a OwnLinear, which is no kind of site ("),
        ({"plain": 0}, "sites: C must be at least 1, got 0 for 'plain'"),
        ({"plain": -3}, "sites: C must be at least 1, got -3 for 'plain'"),
        ({"plain": 2, "pl*": 3}, "sites: module 'plain' is matched by two patterns; keep one of them"),
        ({"plain": 2.5}, "sites: C of 'plain' must be a whole number, got 2.5"),
        (["plain"], "sites must map patterns to numbers of components, got ['plain']"),
        (
            {"plain[w]": 2},
            "sites: 'plain[w]': there is no part 'w'; the parts are [q], [k], [v], [gate], [up], or rows such as "
            "[0:64]",
        ),
        ({"plain[q]": 2}, "sites: 'plain[q]': 4 rows cannot be 3 equal parts; name the rows, such as [0:1]"),
        ({"plain[0:5]": 2}, "sites: 'plain[0:5]': rows must lie within [0:4], got [0:5]"),
        ({"plain[2:2]": 2}, "sites: 'plain[2:2]': rows must lie within [0:4], got [2:2]"),
        ({"plain[0:1:2]": 2}, "sites: 'plain[0:1:2]': rows are given as [first:last], got '0:1:2'"),
        ({"plain[0:3]": 2, "plain[2:4]": 3}, "sites: 'plain[0:3]' and 'plain[2:4]' are the same rows of one module; "),
        ({"plain": 2, "plain[up]": 3}, "sites: 'plain' and 'plain[up]' are the same rows of one module; "),
        ({"plain[0:2,1:3]": 2}, "sites: 'plain[0:2,1:3]' names a row twice; name each once"),
        ({"plain[up]": 2, "pl*n[up]": 3}, "sites: module 'plain[up]' is matched by two patterns; keep one of them"),
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


# ---- kinds

MODULES = {
    "linear": (lambda: nn.Linear(6, 4), LinearSite, (6, 4), lambda *lead: torch.randn(*lead, 6)),
    "transposed": (lambda: Conv1D(4, 6), TransposedSite, (6, 4), lambda *lead: torch.randn(*lead, 6)),
    "embedding": (lambda: nn.Embedding(9, 4), EmbeddingSite, (9, 4), lambda *lead: torch.randint(9, lead)),
    "1d": (
        lambda: nn.Conv1d(3, 4, 2, padding=1, stride=2, padding_mode="circular"),
        ConvolutionSite,
        (6, 4),
        lambda *lead: torch.randn(lead[0], 3, 7),
    ),
    "2d": (lambda: nn.Conv2d(2, 4, (1, 3), dilation=2), ConvolutionSite, (6, 4), lambda *lead: torch.randn(2, 2, 6, 7)),
}


@pytest.fixture(params=MODULES)
def kind(request):
    """A module in double precision, its site, and an input."""
    make, cls, shape, draw = MODULES[request.param]
    module = make().double()
    ((site, _),) = find_sites(nn.ModuleDict({"it": module}), {"it": 2}).values()
    assert type(site) is cls
    assert (site.d_in, site.d_out) == shape
    x = draw(2, 3)
    return module, site, x.double() if x.is_floating_point() else x


def test_a_site_is_its_module(kind):
    module, site, x = kind
    assert site.weight().shape == (site.d_out, site.d_in)
    torch.testing.assert_close(site.place(site.output(site.own(x))), module(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(site.place(site.taken(module(x))), module(x), rtol=0, atol=0)
    assert site.taken(module(x)).shape == (*site.own(x).shape[:-1], site.d_out)


def test_reading_is_multiplying_the_examples_by_the_matrix(kind):
    _, site, x = kind
    matrix = torch.randn(site.d_in, 5, dtype=torch.float64, requires_grad=True)
    if isinstance(site, EmbeddingSite):  # whose examples are the different tokens
        expected = F.one_hot(x, site.d_in).double() @ matrix
    else:
        expected = site.examples(x) @ matrix
    assert_same_with_gradients(site.read(x, matrix), expected, [matrix])
    assert site.gate_features(x).shape == (*expected.shape[:-1], site.d_features)


def test_examples_of_an_embedding_are_its_tokens_once_each():
    site = EmbeddingSite(nn.Embedding(5, 3))
    assert site.examples(torch.tensor([[3, 1], [1, 1]])).tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]


def test_a_decomposed_site_is_the_module_with_another_weight(kind):
    module, site, x = kind
    parts = Components(site, 3)
    with torch.no_grad():
        parts.V.normal_()
        parts.U.normal_()
    found = site.place(parts(x, SiteMask(torch.ones(3, dtype=torch.float64))))
    with torch.no_grad():
        site.matrix().copy_(parts.weight())  # a view of the module's weight, or a copy of it
        if not torch.equal(site.matrix(), parts.weight()):
            module.weight.copy_(parts.weight().reshape(module.weight.shape))
    torch.testing.assert_close(found, module(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Conv1d(4, 4, 3, groups=2), "is a convolution of 2 groups, which is 2 matrices; narrow the pattern or "),
        (nn.Embedding(5, 4, max_norm=1.0), "is an embedding with max_norm, which rewrites its own weight; narrow the"),
    ],
)
def test_modules_of_a_kind_that_cannot_be_decomposed_all_the_same(module, said):
    with pytest.raises(UsageError) as error:
        find_sites(nn.ModuleDict({"it": module}), {"it": 2})
    assert f"sites: module 'it' {said}" in str(error.value)


class DoublingSite(Site):
    """``OwnLinear``, whose matrix is twice its weight, and the bias too."""

    @classmethod
    def suits(cls, module):
        return isinstance(module, OwnLinear)

    def matrix(self):
        return 2 * self.module.weight

    def vector(self):
        return 2 * self.module.bias

    def read(self, site_input, matrix):
        return site_input @ matrix


def test_a_kind_of_the_users_own(target):
    x = torch.randn(3, 4)
    model = DecomposedModel(nn.Sequential(target["own"], nn.Linear(4, 2)), {"*": 5}, kinds=[DoublingSite])
    assert [type(parts.site) for parts in model.components.values()] == [DoublingSite, LinearSite]
    everything = {name: SiteMask(torch.ones(5), torch.ones(3)) for name in model.site_names}
    torch.testing.assert_close(model.masked(x, everything).output, model.target(x))


def test_kinds_are_tried_before_the_packages_own(target):
    class Preferred(LinearSite):
        pass

    ((site, _),) = find_sites(target, {"plain": 2}, [Preferred]).values()
    assert type(site) is Preferred


# ---- parts of fused matrices


class Fused(nn.Module):
    def __init__(self, make):
        super().__init__()
        self.qkv, self.out = make(), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.qkv(x).tanh())


FUSED = {"linear": lambda: nn.Linear(4, 6), "transposed": lambda: Conv1D(6, 4)}


def test_parts_are_runs_of_rows():
    target = Fused(FUSED["linear"])
    found = find_sites(target, {"qkv[v]": 3, "qkv[q]": 2, "out[:1]": 1, "qkv[2:3, 3:4]": 4})
    assert list(found) == ["qkv[v]", "qkv[q]", "qkv[2:3, 3:4]", "out[:1]"]
    for name, rows in {"qkv[q]": [0, 1], "qkv[2:3, 3:4]": [2, 3], "qkv[v]": [4, 5]}.items():
        site, _ = found[name]
        assert torch.equal(site.weight(), target.qkv.weight[rows])
        assert torch.equal(site.bias(), target.qkv.bias[rows])
        assert (site.d_in, site.d_out) == (4, len(rows))


def test_halves_of_a_gated_layer():
    layer = nn.Linear(4, 6, bias=False)
    found = find_sites(nn.ModuleDict({"in_proj": layer}), {"in_proj[gate]": 2, "in_proj[up]": 2})
    gate, up = (site for site, _ in found.values())
    assert torch.equal(torch.cat([gate.weight(), up.weight()]), layer.weight)
    assert gate.bias() is None


def test_rows_need_not_follow_each_other():
    layer = nn.Linear(4, 6)
    site = LinearSite(layer, [range(4, 6), range(1, 2)])
    assert torch.equal(site.weight(), layer.weight[[4, 5, 1]])
    assert torch.equal(site.bias(), layer.bias[[4, 5, 1]])


@pytest.mark.parametrize("make", FUSED.values(), ids=FUSED)
@pytest.mark.parametrize(
    "sites", [["qkv[q]"], ["qkv[1:2,4:6]"], ["qkv[4:6,1:2]"], ["qkv[v]", "qkv[q]"], ["qkv[q]", "qkv[k]", "qkv[v]"]]
)
@pytest.mark.parametrize("routed", [False, True])
def test_masked_parts_replace_their_rows_alone(make, sites, routed):
    model = DecomposedModel(Fused(make).double(), dict.fromkeys(sites, 5))
    x = torch.randn(3, 4, dtype=torch.float64)
    masks = {name: SiteMask(torch.rand(3, 5).double(), torch.rand(3).double()) for name in sites}
    routing = {sites[0]: torch.tensor([True, False, True])} if routed else {}
    expected = model.target.qkv(x).clone()
    for name, mask in masks.items():
        parts, rows = model.components[name], [i for r in model.components[name].site.rows for i in r]
        for n in range(3):
            if bool(routing.get(name, torch.ones(3))[n]):
                weight = (parts.V * mask.components[n]) @ parts.U + mask.delta[n] * parts.delta().T
                expected[n, rows] = x[n] @ weight + parts.site.bias()
    expected = model.target.out(expected.tanh())
    found = model.masked(x, masks, routing).output
    assert_same_with_gradients(found, expected, model.components.parameters())


def test_brackets_of_fnmatch_still_are_sets_of_characters():
    target = nn.ModuleDict({"a1": nn.Linear(2, 2), "a2": nn.Linear(2, 2), "a3": nn.Linear(2, 2)})
    assert list(find_sites(target, {"a[12]": 2})) == ["a1", "a2"]
    letters = nn.ModuleDict({"ax": nn.Linear(2, 2), "ay": nn.Linear(2, 2)})
    assert list(find_sites(letters, {"a[xy]": 2})) == ["ax", "ay"]
