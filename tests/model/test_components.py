import pytest
import torch
from torch import nn

from spd_lightning.functional import keyed_generator
from spd_lightning.model import Components, SiteMask
from spd_lightning.model.sites import LinearSite
from tests import reference


@pytest.fixture
def layer():
    return nn.Linear(6, 4, dtype=torch.float64)


@pytest.fixture
def parts(layer):
    parts = Components(LinearSite(layer), 9)
    parts.reset("random", keyed_generator("parts"))
    return parts


def test_weight_is_the_sum_of_rank_one_matrices(parts, layer):
    expected = reference.rank_one_sum(parts.V, parts.U, torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(parts.weight(), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parts.delta(), layer.weight - expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("leading", [(3,), (2, 3)])
def test_forward_is_one_weight_matrix_per_example(leading, parts, layer):
    a = torch.randn(*leading, 6, dtype=torch.float64)
    mask = torch.rand(*leading, 9, dtype=torch.float64)
    delta = torch.rand(*leading, dtype=torch.float64)
    site = (layer.weight, parts.V, parts.U)
    for with_delta in (False, True):
        expected = [
            reference.effective_weight(site, m, d if with_delta else None) @ row + layer.bias
            for row, m, d in zip(a.reshape(-1, 6), mask.reshape(-1, 9), delta.flatten(), strict=True)
        ]
        output = parts(a, SiteMask(mask, delta if with_delta else None))
        torch.testing.assert_close(output, torch.stack(expected).reshape(*leading, 4), rtol=1e-9, atol=1e-9)


def test_a_mask_without_leading_dimensions_serves_all_examples(parts):
    a = torch.randn(2, 3, 6, dtype=torch.float64)
    mask = torch.rand(9, dtype=torch.float64)
    torch.testing.assert_close(parts(a, SiteMask(mask)), parts(a, SiteMask(mask.expand(2, 3, 9))))


def test_everything_on_is_the_layer_itself(layer, parts):
    a = torch.randn(7, 6, dtype=torch.float64)
    ones = torch.ones(7, 9, dtype=torch.float64)
    torch.testing.assert_close(parts(a, SiteMask(ones, ones[:, 0])), layer(a), rtol=1e-9, atol=1e-9)


def test_everything_off_leaves_the_bias(layer, parts):
    a, off = torch.randn(2, 6, dtype=torch.float64), torch.zeros(2, 9, dtype=torch.float64)
    torch.testing.assert_close(parts(a, SiteMask(off, off[:, 0])), layer.bias.expand(2, 4))


def test_delta_has_a_live_gradient(parts):
    a, off = torch.randn(2, 6, dtype=torch.float64), torch.zeros(2, 9, dtype=torch.float64)
    parts(a, SiteMask(off, torch.ones(2, dtype=torch.float64))).sum().backward()
    assert parts.V.grad.abs().sum() > 0
    assert parts.U.grad.abs().sum() > 0


def test_overlap_start_is_unit_vectors_scaled_by_signed_overlap(layer):
    parts = Components(LinearSite(layer), 50)
    parts.reset("overlap", keyed_generator("overlap"))
    signs = set()
    for c in range(50):
        read, write = parts.V[:, c].detach(), parts.U[c].detach()
        assert read.norm().item() == pytest.approx(1)
        direction = write / write.norm()
        # up to the sign of the random vector, the write vector is its own projection of W
        torch.testing.assert_close(write, direction * (direction @ layer.weight @ read), rtol=1e-9, atol=1e-9)
        signs.add(bool(write[0] > 0))
    assert signs == {True, False}


def test_overlap_is_signed(layer):
    parts = Components(LinearSite(layer), 50)
    parts.reset("overlap", keyed_generator("overlap"))
    generator = keyed_generator("overlap")
    drawn_V, drawn_U = torch.randn(6, 50, generator=generator), torch.randn(50, 4, generator=generator)
    for c in range(50):
        u, v = drawn_U[c].double(), drawn_V[:, c].double()
        u, v = u / u.norm(), v / v.norm()
        torch.testing.assert_close(parts.U[c].detach(), u * (u @ layer.weight.detach() @ v), rtol=1e-9, atol=1e-9)


def test_random_start_has_the_later_library_scales():
    parts = Components(LinearSite(nn.Linear(100, 60)), 80)
    parts.reset("random", keyed_generator("random"))
    assert parts.V.std().item() == pytest.approx(100**-0.5, rel=0.05)
    assert parts.U.std().item() == pytest.approx(80**-0.5, rel=0.05)


@pytest.mark.parametrize(
    ("init", "count"), [("neurons", 4), ("neurons", 6), ("singular", 4), ("singular", 9), ("directions", 6)]
)
def test_a_basis_with_enough_components_is_exact(init, count):
    layer = nn.Linear(6, 4).double()
    parts = Components(LinearSite(layer), count)
    parts.reset(init, keyed_generator("basis"))
    torch.testing.assert_close(parts.weight(), layer.weight, rtol=1e-9, atol=1e-9)


def test_what_each_basis_is():
    layer = nn.Linear(6, 4).double()
    W, made = layer.weight.detach(), {}
    for init, count in (("neurons", 4), ("singular", 2), ("directions", 3)):
        made[init] = Components(LinearSite(layer), count)
        made[init].reset(init, keyed_generator("basis"))
    torch.testing.assert_close(made["neurons"].V.detach(), W.T)
    left, values, right = torch.linalg.svd(W, full_matrices=False)
    best = (left[:, :2] * values[:2]) @ right[:2]
    torch.testing.assert_close(made["singular"].weight().detach(), best)
    parts = made["directions"]  # what is left is orthogonal to what is read: no other write vectors come closer
    rest = (W - parts.weight()).detach()
    torch.testing.assert_close(rest @ torch.linalg.pinv(parts.V.detach()).T, torch.zeros(4, 3, dtype=torch.float64))
    torch.testing.assert_close(parts.V.detach().norm(dim=0), torch.ones(3, dtype=torch.float64))


def test_unknown_start(parts):
    with pytest.raises(ValueError, match=r"init must be one of .*'examples'.*, got 'zero'"):
        parts.reset("zero", keyed_generator("x"))


def test_the_layer_is_not_part_of_the_state(parts):
    assert set(parts.state_dict()) == {"V", "U"}
    assert repr(parts) == "Components(C=9, d_in=6, d_out=4)"
