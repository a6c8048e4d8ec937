import torch

from spd_lightning.functional import ascend
from tests import reference


def _objective(source):
    slopes = torch.tensor([[1.0, -1.0, 0.5], [2.0, 0.0, -3.0]], dtype=torch.float64)
    return (slopes * source).sum() - 0.4 * (source**2).sum()


def test_equals_the_reference_step_by_step():
    start = torch.rand(2, 3, dtype=torch.float64)
    for steps in (0, 1, 3, 10):
        expected = reference.sign_ascent(_objective, start, steps, 0.13)
        found = ascend(lambda sources: _objective(sources["a"]), {"a": start}, steps, 0.13)
        torch.testing.assert_close(found["a"], expected, rtol=0, atol=1e-12)


def test_raises_the_objective_and_stays_in_the_box():
    start = torch.full((2, 3), 0.5, dtype=torch.float64)
    worst = ascend(lambda sources: _objective(sources["a"]), {"a": start}, 20, 0.1)["a"]
    assert _objective(worst) > _objective(start)
    assert worst.min() >= 0
    assert worst.max() <= 1
    torch.testing.assert_close(worst[1, 0].item(), 1.0)
    torch.testing.assert_close(worst[1, 2].item(), 0.0)


def test_the_start_is_left_alone_and_nothing_else_gets_a_gradient():
    start, constant = torch.full((3,), 0.5), torch.ones(3, requires_grad=True)
    worst = ascend(lambda sources: (constant * sources["a"]).sum(), {"a": start}, 2, 0.1)
    assert start.tolist() == [0.5, 0.5, 0.5]
    assert constant.grad is None
    assert not worst["a"].requires_grad


def test_works_where_gradients_are_off():
    with torch.no_grad():
        worst = ascend(lambda sources: sources["a"].sum(), {"a": torch.zeros(2)}, 1, 0.25)
    assert worst["a"].tolist() == [0.25, 0.25]
