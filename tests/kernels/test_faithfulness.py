import torch

from spd_lightning.functional import faithfulness
from spd_lightning.kernels import Explained, mean_squared_rest
from tests.comparison import assert_same_with_gradients

SHAPES = [(5, 4, 2), (2, 4, 5), (3, 1, 3)]


def _sites():
    return [
        Explained(torch.randn(d_out, d_in).double(), *(torch.randn(*size).double().requires_grad_() for size in sizes))
        for d_in, count, d_out in SHAPES
        for sizes in [((d_in, count), (count, d_out))]
    ]


def test_equals_the_plain_formula_in_value_and_gradient():
    sites = _sites()
    expected = faithfulness(site.weight - (site.V @ site.U).T for site in sites)
    leaves = [factor for site in sites for factor in (site.V, site.U)]
    assert_same_with_gradients(mean_squared_rest(sites), expected, leaves, 1e-12)


def test_a_site_tied_to_another_adds_its_gradient():
    (first, *_) = _sites()
    tied = Explained(first.weight.T + 1, first.U.T, first.V.T)
    expected = faithfulness(site.weight - (site.V @ site.U).T for site in (first, tied))
    assert_same_with_gradients(mean_squared_rest([first, tied]), expected, [first.V, first.U], 1e-12)


def test_mixed_precision_does_not_reach_it():
    W, V, U = torch.randn(6, 7), torch.randn(7, 9, requires_grad=True), torch.randn(9, 6, requires_grad=True)
    expected = mean_squared_rest([Explained(W, V, U)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(mean_squared_rest([Explained(W, V, U)]), expected)
