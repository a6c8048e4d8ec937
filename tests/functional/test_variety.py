"""Ranks, dimensions and directions of matrices and vectors that are made to have known ones."""

import math

import pytest
import torch

from spd_lightning.functional.variety import effective_dimension, growing_directions, numerical_rank, shows_features


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rank", [0, 1, 3, 7])
def test_a_product_has_the_rank_of_its_middle(rank, dtype):
    left = torch.linalg.qr(torch.randn(12, rank, generator=_generator(1), dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(7, rank, generator=_generator(2), dtype=torch.float64))[0]

    assert numerical_rank((left @ right.T).to(dtype)) == rank


def test_a_small_singular_value_counts_unless_rounding_explains_it():
    assert numerical_rank(torch.diag(torch.tensor([1.0, 1e-4, 1e-8]))) == 2
    assert numerical_rank(torch.diag(torch.tensor([1.0, 1e-4, 1e-8]).double())) == 3


def test_a_matrix_too_large_to_look_at_counts_as_of_full_rank():
    assert numerical_rank(torch.zeros(2049, 2050)) == 2049
    assert numerical_rank(torch.zeros(2048, 3)) == 0


@pytest.mark.parametrize("shape", [(4, 3), (3, 9)])
def test_the_effective_dimension_is_that_of_the_eigenvalues(shape):
    vectors = torch.randn(shape, generator=_generator()).double()
    eigenvalues = torch.linalg.eigvalsh(torch.cov(vectors.T, correction=0))

    expected = eigenvalues.sum() ** 2 / eigenvalues.square().sum()
    assert effective_dimension(vectors) == pytest.approx(expected.item())


def test_directions_that_vary_alike_count_one_each():
    corners = torch.tensor([[x, y, z, 5.0] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])

    assert effective_dimension(corners) == pytest.approx(3)
    assert effective_dimension(corners[:1].expand(4, 4)) == 0
    assert effective_dimension(corners[:0]) == 0


def _slowly(vectors):
    """Lines through 0, by their angle to every other vector."""
    left, lines = list(vectors.double()), 0
    while left:
        same = []
        for other in left:
            length = left[0].norm() * other.norm()
            across = math.sqrt(max(float(1 - (left[0] @ other / length) ** 2), 0))
            same.append(across < 1e-5)
        lengths = [float(v.norm()) for v, is_same in zip(left, same, strict=True) if is_same]
        lines += len(lengths) >= 3 and max(lengths) > 1.001 * min(lengths)
        left = [v for v, is_same in zip(left, same, strict=True) if not is_same]
    return lines


@pytest.mark.parametrize("features", [1, 4, 6])
def test_sparse_features_are_seen_in_fewer_dimensions(features):
    on = torch.rand(300, features, generator=_generator(1)) < 0.2
    x = torch.rand(300, features, generator=_generator(2)) * on
    squeezed = (x @ torch.randn(features, 2, generator=_generator(3)))[on.any(1)]

    assert growing_directions(squeezed) == _slowly(squeezed) == features
    assert growing_directions(-squeezed) == features


def test_both_signs_are_one_direction():
    line = torch.tensor([[1.0, 2.0], [-2.0, -4.0], [3.0, 6.0]])

    assert growing_directions(line) == 1


def test_what_is_seen_again_at_one_length_is_no_direction():
    assert growing_directions(torch.eye(3).repeat(5, 1)) == 0
    assert growing_directions(torch.tensor([[1.0, 0.0], [2.0, 0.0]])) == 0  # two are too few


@pytest.mark.parametrize("width", [2, 3, 20])
def test_dense_vectors_show_no_directions(width):
    assert growing_directions(torch.randn(1024, width, generator=_generator(width))) == 0


def test_no_vectors_show_no_directions():
    assert growing_directions(torch.zeros(0, 4)) == 0


def _sparse(features, probability, width, n=2000, scale=1.0):
    strengths = torch.rand(n, features, generator=_generator(1)) * 2 - 1
    present = torch.rand(n, features, generator=_generator(2)) < probability
    return scale * (strengths * present) @ torch.randn(features, width, generator=_generator(3))


@pytest.mark.parametrize(("features", "probability"), [(5, 0.05), (60, 0.05), (100, 0.01)])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_features_that_come_one_at_a_time_are_seen(features, probability, scale):
    vectors = _sparse(features, probability, 10, scale=scale)

    assert shows_features(vectors, _generator())
    assert shows_features(vectors.relu(), _generator())


def test_dense_vectors_and_none_show_no_features():
    assert not shows_features(_sparse(20, 0.5, 10), _generator())
    assert not shows_features(torch.randn(2000, 10, generator=_generator()).relu(), _generator())
    assert not shows_features(torch.zeros(50, 10), _generator())


@pytest.mark.parametrize(("alone", "expected"), [(9, False), (11, True)])
def test_a_few_vectors_on_a_line_are_not_features_yet(alone, expected):
    vectors = torch.randn(1000, 10, generator=_generator())
    vectors[:alone] = torch.linspace(1, 2, alone)[:, None] * torch.eye(10)[0]

    assert shows_features(torch.cat([vectors, torch.zeros(500, 10)]), _generator()) == expected
