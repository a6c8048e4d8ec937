import pytest
import torch

from spd_lightning.functional import (
    SitePart,
    attributions,
    batch_topk,
    hidden_error,
    relative_attributions,
    simplicity,
)
from spd_lightning.functional import attribution as formulas
from tests import reference
from tests.comparison import assert_same_with_gradients


def factors(d_in, n_components, rank, d_out):
    shapes = (d_in, n_components, rank), (n_components, rank, d_out)
    return tuple(torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)


def parts_of(shapes, examples=5, outputs=3):
    """Sites with random reads, writes and gradients."""
    for rank, width in shapes:
        sizes = (examples, 4, rank), (4, rank, width), (outputs, examples, width)
        yield SitePart(*(torch.randn(size, dtype=torch.float64) for size in sizes))


def test_attributions_add_up_what_a_component_does_through_every_site():
    parts = list(parts_of([(2, 6), (1, 3)]))
    expected = torch.zeros(5, 4, dtype=torch.float64)
    for n in range(5):
        for c in range(4):
            for o in range(3):
                change = sum(g[o, n] @ (inner[n, c] @ write[c]) for inner, write, g in parts)
                expected[n, c] += change**2 / 3
    torch.testing.assert_close(attributions(parts), expected.sqrt())


def test_attributions_by_hand():
    part = SitePart(torch.tensor([[[2.0]]]), torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 0.0]], [[0.0, -8.0]]]))
    # two outputs change by 2 * 3 * 1 and by 2 * 1 * -8
    torch.testing.assert_close(attributions([part]), torch.tensor([[((36 + 256) / 2) ** 0.5]]))


def test_pieces_and_gradients_shared_by_all_examples_change_nothing(monkeypatch):
    (part,) = parts_of([(2, 6)])
    whole = attributions([part])
    monkeypatch.setattr(formulas, "CHUNK", 50)  # two examples at a time
    torch.testing.assert_close(attributions([part]), whole)
    same = part._replace(gradients=part.gradients[:, :1].expand(3, 5, 6))
    slow = torch.stack([attributions([SitePart(*row)])[0] for row in rows_of(same)])
    torch.testing.assert_close(attributions([same]), slow)


def rows_of(part):
    for n in range(len(part.inner)):
        yield part.inner[n : n + 1], part.write, part.gradients[:, n : n + 1]


@pytest.mark.parametrize("k", [0.2, 0.5, 1.0, 1.28, 4.0])
def test_batch_topk_keeps_k_per_example_of_the_whole_batch(k):
    scores = torch.rand(10, 4, dtype=torch.float64)
    mask = batch_topk(scores, k)
    assert torch.equal(mask, reference.batch_topk(scores, k))
    assert mask.sum() == int(k * 10)


def test_batch_topk_takes_any_leading_dimensions():
    scores = torch.rand(2, 5, 4)
    assert torch.equal(batch_topk(scores, 1.5), batch_topk(scores.reshape(10, 4), 1.5).reshape(2, 5, 4))


def test_what_does_nothing_is_never_chosen():
    assert torch.equal(batch_topk(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), 2.0), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))


def test_equal_weights_choose_as_none_do():
    scores = torch.rand(50, 6)
    for k in (0.1, 1.0, 1.28):
        assert torch.equal(batch_topk(scores, k, torch.full((50,), 1 / 50)), batch_topk(scores, k))


def test_a_row_that_stands_for_many_takes_as_much_of_the_budget():
    scores = torch.tensor([[9.0, 1.0], [8.0, 2.0], [3.0, 4.0]])
    # the first row stands for eight of ten: its 9 uses 0.8 of the budget of 1, then 8 and 4 use the rest
    mask = batch_topk(scores, 1.0, torch.tensor([0.8, 0.1, 0.1]))
    assert torch.equal(mask, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))


def test_empty_rows_merged_into_one_leave_the_choice_as_it_was():
    scores = torch.cat([torch.rand(6, 4), torch.zeros(14, 4)])
    merged = torch.cat([scores[:6], torch.zeros(1, 4)])
    weights = torch.tensor([1 / 20] * 6 + [14 / 20])
    assert torch.equal(batch_topk(merged, 0.2, weights)[:6], batch_topk(scores, 0.2)[:6])


def test_what_alone_exceeds_the_budget_does_not_shut_out_the_rest():
    mask = batch_topk(torch.tensor([[5.0, 1.0], [4.0, 2.0]]), 0.5, torch.tensor([0.8, 0.2]))
    assert torch.equal(mask, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


def test_rows_of_no_weight_are_no_obstacle():
    mask = batch_topk(torch.tensor([[5.0], [4.0], [3.0]]), 0.5, torch.tensor([0.5, 0.0, 0.5]))
    assert torch.equal(mask, torch.tensor([[1.0], [1.0], [0.0]]))


def test_a_budget_that_is_a_whole_number_but_for_rounding_is_that_number():
    assert batch_topk(torch.rand(100, 3) + 0.1, 0.29).sum() == 29  # 0.29 * 100 is 28.999999999999996


def test_relative_attributions_are_shares_of_each_examples_largest():
    shares = relative_attributions(torch.tensor([[2.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))
    assert torch.equal(shares, torch.tensor([[0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize("p", [0.9, 1.0, 2.0])
def test_simplicity_equals_the_reference(p):
    sites = {"a": factors(3, 4, 2, 5), "b": factors(5, 4, 1, 2)}
    mask = (torch.rand(6, 4) < 0.4).double()
    weighed = [(torch.zeros(U.shape[-1], V.shape[0]), V, U) for V, U in sites.values()]
    leaves = [leaf for pair in sites.values() for leaf in pair]
    assert_same_with_gradients(simplicity(sites, mask, p), reference.simplicity(weighed, mask, p), leaves)


def test_simplicity_weighs_examples():
    sites, mask = {"a": factors(3, 4, 2, 5)}, (torch.rand(4, 4) < 0.5).double()
    repeated = mask[[0, 1, 1, 1, 2, 3]]
    weights = torch.tensor([1 / 6, 3 / 6, 1 / 6, 1 / 6], dtype=torch.float64)
    torch.testing.assert_close(simplicity(sites, mask, 0.9, weights), simplicity(sites, repeated, 0.9))


def test_simplicity_of_orthogonal_factors_is_the_schatten_norm():
    read, write = torch.linalg.qr(torch.randn(5, 3))[0], torch.linalg.qr(torch.randn(4, 3))[0].T
    scale = torch.tensor([3.0, 2.0, 0.5])
    matrix = (read * scale) @ write
    found = simplicity({"a": ((read * scale)[:, None], write[None])}, torch.ones(1, 1), 0.9)
    expected = torch.linalg.svdvals(matrix).pow(0.9).sum() / 20
    torch.testing.assert_close(found, expected)


def test_hidden_error_equals_the_reference():
    found = {
        name: torch.randn(4, width, dtype=torch.float64, requires_grad=True) for name, width in (("a", 3), ("b", 2))
    }
    wanted = {name: torch.randn_like(pre) for name, pre in found.items()}
    expected = reference.hidden_error(list(found.values()), list(wanted.values()))
    assert_same_with_gradients(hidden_error(found, wanted), expected, found.values())
