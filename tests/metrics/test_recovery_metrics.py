import pytest
import torch

from spd_lightning.metrics import DenseContradictions, IdentityContradictions, MeanL2Ratio, MeanMaxCosineSimilarity
from tests import reference

SCORES = pytest.mark.parametrize(
    ("kind", "formula"), [(MeanMaxCosineSimilarity, reference.mmcs), (MeanL2Ratio, reference.ml2r)]
)


def _factors(columns):
    return [torch.randn(shape, dtype=torch.float64) for shape in ((columns, 7), (7, 3), (3, columns))]


@SCORES
def test_one_matrix_equals_the_reference(kind, formula):
    factors, metric = _factors(5), kind()
    metric.update(*factors)
    assert metric.compute().item() == pytest.approx(formula(*factors), abs=1e-9)


@SCORES
def test_matrices_weigh_by_their_columns(kind, formula):
    small, large, metric = _factors(2), _factors(8), kind()
    metric.update(*small)
    metric.update(*large)
    expected = (2 * formula(*small) + 8 * formula(*large)) / 10
    assert metric.compute().item() == pytest.approx(expected, abs=1e-9)


@SCORES
def test_shapes_that_do_not_belong_together(kind, formula):
    read, write, weight = _factors(5)
    with pytest.raises(ValueError, match=r"read, write and weight must be .* got \[5, 7\], \[7, 3\] and \[5, 3\]"):
        kind().update(read, write, weight.T)


def test_contradictions_of_identity_add_up_over_updates():
    metric = IdentityContradictions(tolerance=0.1)
    for table, count in (([[1, 0.2, 0], [0, 1, 0]], 1), ([[0.7, 0.3, 0], [0.2, 0.95, 0]], 3)):
        before = metric.compute().item() if metric.update_called else 0
        metric.update(torch.tensor(table))
        assert metric.compute().item() - before == count
    assert metric.compute() == 4
    metric.reset()
    metric.update(torch.eye(3))
    assert metric.compute() == 0


def test_contradictions_of_density_add_up_over_updates():
    metric = DenseContradictions(n_dense=1, tolerance=0.1)
    metric.update(torch.tensor([[0.9, 0.2, 0, 0], [0.6, 0.95, 0, 0]]))
    metric.update(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert metric.compute() == 2
    strict = DenseContradictions(n_dense=1, tolerance=0.1, min_entries=2)
    strict.update(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert strict.compute() == 1


def test_tolerance_is_kept():
    loose, tight = IdentityContradictions(0.2), IdentityContradictions(0.1)
    for metric in (loose, tight):
        metric.update(torch.tensor([[0.85, 0.15], [0.0, 1.0]]))
    assert (loose.compute().item(), tight.compute().item()) == (0, 2)


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match=r"table must have shape \[n_rows, C\], got \[2, 3, 4\]"):
        IdentityContradictions().update(torch.rand(2, 3, 4))
    with pytest.raises(ValueError, match="n_dense must be at least 0 and min_entries at least 1, got -1 and 1"):
        DenseContradictions(n_dense=-1)
    with pytest.raises(ValueError, match="n_dense must be at least 0 and min_entries at least 1, got 2 and 0"):
        DenseContradictions(n_dense=2, min_entries=0)
