import math
from itertools import permutations

import pytest
import torch

from spd_lightning.functional import (
    UNMATCHED,
    chance_mmcs,
    dense_contradictions,
    identity_contradictions,
    identity_order,
    keyed_generator,
    l2_ratio,
    match_terms,
    max_cosine_similarity,
    term_contradictions,
)
from tests import reference

# the worked checks of the later library's target patterns
IDENTITY_CHECKS = [
    ([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], 1),
    ([[0.7, 0.3, 0, 0.2], [0.2, 0.95, 0, 0], [0, 0, 1, 0]], 4),
    ([[0.0] * 5] * 5, 5),
]
DENSE_CHECKS = [
    ([[0.9, 0.2, 0, 0], [0.6, 0.95, 0, 0]], 1, 2),
    ([[0.5, 0.5, 0], [0.7, 0.8, 0]], 2, 2),
    ([[1.0, 0.0], [1.0, 0.0]], 2, 1),
    ([[1.0, 1.0, 0.3], [1.0, 1.0, 0.0]], 2, 1),
]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@DTYPES
@pytest.mark.parametrize(("table", "errors"), IDENTITY_CHECKS)
def test_identity_contradictions_worked_checks(table, errors, dtype):
    assert identity_contradictions(torch.tensor(table, dtype=dtype), 0.1) == errors


@DTYPES
@pytest.mark.parametrize(("table", "n_dense", "errors"), DENSE_CHECKS)
def test_dense_contradictions_worked_checks(table, n_dense, errors, dtype):
    assert dense_contradictions(torch.tensor(table, dtype=dtype), n_dense, 0.1) == errors


@DTYPES
@pytest.mark.parametrize("tolerance", [0.1, 0.2])
def test_values_at_the_tolerance_are_no_errors(tolerance, dtype):
    table = torch.tensor([[1 - tolerance, tolerance], [tolerance, 1 - tolerance]], dtype=dtype)
    assert identity_contradictions(table, tolerance) == 0
    assert dense_contradictions(table[:, :1], 1, tolerance) == 0


@pytest.mark.parametrize("seed", range(20))
def test_identity_contradictions_equals_brute_force(seed):
    table = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    table = torch.where(table < 0.4, 0.0, table)
    for tolerance in (0.1, 0.3):
        assert identity_contradictions(table, tolerance) == reference.identity_contradictions(table, tolerance)


@pytest.mark.parametrize("seed", range(20))
def test_dense_contradictions_equals_the_reference(seed):
    table = torch.rand(4, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for n_dense in (0, 2, 6):
        for least in (1, 3):
            expected = reference.dense_contradictions(table, n_dense, 0.3, least)
            assert dense_contradictions(table, n_dense, 0.3, least) == expected


def test_identity_contradictions_does_not_care_about_the_order_of_columns():
    table = torch.eye(5, 8)[:, torch.tensor([7, 2, 0, 5, 1, 6, 3, 4])]
    assert identity_contradictions(table, 0.1) == 0


def test_doubling_a_dead_column_changes_no_error():
    table = torch.tensor([[1.0, 0.3, 0.0], [0.0, 1.0, 0.05]])
    doubled = torch.cat([table, table[:, 2:]], dim=1)
    assert identity_contradictions(doubled, 0.1) == identity_contradictions(table, 0.1) == 1
    assert dense_contradictions(doubled, 1, 0.1) == dense_contradictions(table, 1, 0.1)


def test_doubling_a_live_column_is_an_error():
    assert identity_contradictions(torch.cat([torch.eye(3), torch.eye(3)], dim=1), 0.1) == 3


def test_rows_without_a_column_count_once():
    assert identity_contradictions(torch.eye(3)[:, :2], 0.1) == 1
    assert dense_contradictions(torch.ones(3, 2), 4, 0.1, min_entries=2) == 4


def test_identity_order_puts_the_matching_on_the_diagonal():
    table = torch.tensor([[0.0, 0.1, 0.9, 0.0], [0.8, 0.0, 0.0, 0.3]])
    order = identity_order(table)
    assert order.tolist() == [2, 0, 3, 1]
    assert sorted(identity_order(torch.rand(7, 4)).tolist()) == [0, 1, 2, 3]


@pytest.fixture
def factors():
    shapes = [(5, 7), (7, 3), (3, 5)]
    return [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def test_mmcs_and_ml2r_equal_the_reference(factors):
    cosines, ratios = max_cosine_similarity(*factors), l2_ratio(*factors)
    best = reference.best_components(*factors)
    torch.testing.assert_close(cosines.tolist(), [cosine for cosine, _, _ in best], rtol=0, atol=1e-9)
    torch.testing.assert_close(ratios.tolist(), [ratio for _, _, ratio in best], rtol=0, atol=1e-9)
    assert cosines.mean().item() == pytest.approx(reference.mmcs(*factors), abs=1e-9)
    assert ratios.mean().item() == pytest.approx(reference.ml2r(*factors), abs=1e-9)


def test_mmcs_is_signed_and_blind_to_length():
    V, U, W = torch.tensor([[2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0], [4.0]])
    assert max_cosine_similarity(V, U, W).item() == pytest.approx(1.0)
    assert l2_ratio(V, U, W).item() == pytest.approx(2.0)
    assert max_cosine_similarity(-V, U, W).item() == pytest.approx(-1.0)


def test_zero_components_score_zero_and_not_nan():
    V, U, W = torch.zeros(2, 3), torch.ones(3, 2), torch.eye(2)
    assert max_cosine_similarity(V, U, W).tolist() == [0, 0]
    assert l2_ratio(V, U, W).tolist() == [0, 0]


@pytest.mark.parametrize(("length", "nearest"), [(0.9e-3, 0), (1.1e-3, 1)])
def test_a_column_of_next_to_no_length_is_nobodys_nearest(length, nearest):
    """Two components: one a little off, one exact but short; both scores speak of the same one."""
    V, U, W = torch.ones(1, 2), torch.tensor([[1.0, 0.02], [length, 0.0]]), torch.tensor([[1.0], [0.0]])
    near = 1 / math.hypot(1, 0.02)

    assert max_cosine_similarity(V, U, W).item() == pytest.approx([near, 1.0][nearest], abs=1e-6)
    assert l2_ratio(V, U, W).item() == pytest.approx([1 / near, length][nearest], rel=1e-5)
    factors = V.double(), U.double(), W.double()
    assert max_cosine_similarity(*factors).mean().item() == pytest.approx(reference.mmcs(*factors), abs=1e-9)
    assert l2_ratio(*factors).mean().item() == pytest.approx(reference.ml2r(*factors), abs=1e-9)


@pytest.mark.parametrize(("d_out", "columns", "C", "expected"), [(2, 5, 20, 0.979), (10, 40, 200, 0.759)])
def test_chance_level_of_the_paper_sizes(d_out, columns, C, expected):
    chance = chance_mmcs(d_out, columns, C, 100, keyed_generator("chance"))
    assert chance == pytest.approx(expected, abs=0.008)


def _term_contradictions_slowly(table, needed, matched, tolerance):
    count = 0
    for row in range(table.shape[0]):
        for component in range(table.shape[1]):
            terms = [term for term, other in enumerate(matched) if other == component]
            if terms and needed[row][terms[0]]:
                count += bool(table[row, component] < 1 - tolerance)
            else:
                count += bool(table[row, component] > tolerance)
    return count + sum(other == UNMATCHED for other in matched)


@pytest.mark.parametrize("seed", range(10))
def test_term_contradictions_equal_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(7, 5, generator=generator)
    needed = torch.rand(7, 4, generator=generator) < 0.4
    matched = torch.randperm(5, generator=generator)[:4]
    matched[seed % 4] = UNMATCHED

    for tolerance in (0.1, 0.3):
        expected = _term_contradictions_slowly(table, needed, matched.tolist(), tolerance)
        assert term_contradictions(table, needed, matched, tolerance) == expected


def test_terms_are_matched_whatever_the_order_sign_and_share_of_length():
    terms = torch.tensor([[3.0, 0.0, 4.0], [0.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    V = torch.stack([torch.tensor([0.0, 1.0, 1.0]), -2 * terms[0][1], 0.5 * terms[0][0]], dim=1)
    U = torch.stack([torch.tensor([1.0, -1.0]), -terms[1][1], terms[1][0]])

    found = match_terms(V, U, *terms)

    assert found.component.tolist() == [2, 1]
    assert found.cosine.tolist() == pytest.approx([1, 1])
    assert found.length.tolist() == pytest.approx([0.5, 2])


def test_a_component_without_length_does_not_take_the_place_of_one_that_acts():
    terms = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])
    dead, acting = torch.tensor([1e-4, 0.0]), torch.tensor([1.0, 0.1])

    found = match_terms(torch.stack([dead, acting], dim=1), terms[1].expand(2, 2), *terms)

    assert found.component.tolist() == [1]
    assert found.cosine.tolist() == pytest.approx([1 / 1.01**0.5])
    assert found.length.tolist() == pytest.approx([1.01**0.5])


def test_terms_are_matched_so_that_their_likeness_sums_to_most():
    generator = torch.Generator().manual_seed(0)
    V, U = torch.randn(3, 4, generator=generator), torch.randn(4, 2, generator=generator)
    read, write = torch.randn(3, 3, generator=generator), torch.randn(3, 2, generator=generator)

    def likeness(term: int, component: int) -> float:
        whole, part = torch.outer(read[term], write[term]), torch.outer(V[:, component], U[component])
        cosine = (whole * part).sum() / whole.norm() / part.norm()
        return float(cosine * min(whole.norm() / part.norm(), part.norm() / whole.norm()))

    best = max(permutations(range(4), 3), key=lambda chosen: sum(map(likeness, range(3), chosen)))

    assert match_terms(V, U, read, write).component.tolist() == list(best)


def test_terms_without_a_component_are_unmatched():
    found = match_terms(torch.eye(2)[:, :1], torch.eye(2)[:1], torch.eye(2), torch.eye(2))

    assert found.component.tolist() == [0, UNMATCHED]
    assert found.cosine.tolist() == [1, 0]
    assert found.length.tolist() == [1, 0]
