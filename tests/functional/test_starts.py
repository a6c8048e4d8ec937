"""Starting components from examples of what reaches a site."""

import pytest
import torch

from spd_lightning.functional import examples_start, keyed_generator, spread_directions


def _double(*shape, key="starts"):
    return torch.randn(shape, generator=keyed_generator(key), dtype=torch.float64)


def test_every_direction_is_found_before_one_comes_again():
    examples = torch.eye(4)[torch.tensor([0] * 500 + [1] * 20 + [2] * 3 + [3])] * torch.linspace(0.5, 2, 524)[:, None]
    for seed in range(20):
        found = spread_directions(examples, 4, keyed_generator(seed))
        assert sorted(found.argmax(dim=1).tolist()) == [0, 1, 2, 3]
        torch.testing.assert_close(found.amax(dim=1), torch.ones(4))


def test_opposite_directions_are_one_direction():
    examples = torch.tensor([[1.0, 0], [-1, 0], [0, 2]])
    for seed in range(20):
        assert sorted(spread_directions(examples, 2, keyed_generator(seed)).abs().argmax(dim=1).tolist()) == [0, 1]


def test_empty_and_negligible_examples_are_left_out_and_few_examples_come_again():
    examples = torch.tensor([[[0.0, 0, 0], [0, 3, 0]], [[1e-4, 0, 0], [0, 0, 0]]])
    assert torch.equal(spread_directions(examples, 3, keyed_generator(0)), torch.tensor([[0.0, 1, 0]] * 3))


def test_zeros_have_no_direction():
    with pytest.raises(ValueError, match="every example is zero"):
        spread_directions(torch.zeros(5, 3), 2, keyed_generator(0))
    with pytest.raises(ValueError, match="every example is zero"):
        examples_start(torch.eye(3), torch.zeros(5, 3), 7, keyed_generator(0))


@pytest.mark.parametrize(("d_out", "d_in", "n_components"), [(3, 8, 20), (3, 8, 5), (8, 3, 4), (4, 4, 5), (4, 4, 4)])
def test_the_sum_is_the_weight(d_out, d_in, n_components):
    weight, examples = _double(d_out, d_in), _double(50, d_in, key="examples")

    V, U = examples_start(weight, examples, n_components, keyed_generator("pick"))

    torch.testing.assert_close((V @ U).T, weight, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(V.norm(dim=0), U.norm(dim=1), rtol=1e-9, atol=1e-9)


def test_each_component_writes_the_image_of_an_example():
    weight, examples = _double(3, 8), _double(50, 8, key="examples")
    _, U = examples_start(weight, examples, 20, keyed_generator("pick"))
    images = torch.nn.functional.normalize(examples @ weight.T, dim=1)
    best = (torch.nn.functional.normalize(U, dim=1) @ images.T).amax(dim=1)
    torch.testing.assert_close(best, torch.ones_like(best), rtol=1e-9, atol=1e-9)


def test_orthogonal_examples_that_fill_the_space_are_read_alone():
    """With each basis vector chosen once or more, no correction is left to make off the chosen directions."""
    weight = _double(3, 4)
    V, U = examples_start(weight, torch.eye(4, dtype=torch.float64).repeat(5, 1), 4, keyed_generator("pick"))
    torch.testing.assert_close(V.abs().amax(dim=0), V.norm(dim=0), rtol=1e-9, atol=1e-9)
    assert sorted(V.abs().argmax(dim=0).tolist()) == [0, 1, 2, 3]
    for c, feature in enumerate(V.abs().argmax(dim=0).tolist()):
        torch.testing.assert_close(torch.outer(U[c], V[:, c])[:, feature], weight[:, feature], rtol=1e-9, atol=1e-9)


def test_too_few_components_read_orthonormal_directions():
    weight = _double(6, 5)
    V, U = examples_start(weight, _double(50, 5, key="examples"), 3, keyed_generator("pick"))
    read = torch.nn.functional.normalize(V, dim=0)
    torch.testing.assert_close(read.T @ read, torch.eye(3, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((V @ U).T, weight @ read @ read.T, rtol=1e-9, atol=1e-9)


def test_a_weight_of_zeros_stays_finite():
    V, U = examples_start(torch.zeros(2, 3), torch.eye(3), 4, keyed_generator("pick"))
    assert V.isfinite().all()
    assert U.isfinite().all()
    assert torch.equal(V @ U, torch.zeros(3, 2))


def test_the_same_key_gives_the_same_start():
    weight, examples = (
        torch.randn(3, 8, generator=keyed_generator("w")),
        torch.rand(60, 8, generator=keyed_generator("x")),
    )
    first, again = (examples_start(weight, examples, 20, keyed_generator("pick")) for _ in range(2))
    other = examples_start(weight, examples, 20, keyed_generator("another"))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
