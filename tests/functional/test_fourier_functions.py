"""Fourier analysis modulo a modulus: against sums that are written out, and directions made by hand."""

import math

import pytest
import torch

from spd_lightning.functional import (
    answer_matrices,
    chance_plane_alignment,
    eigenspace_alignment,
    eigenvectors,
    fourier_basis,
    fourier_planes,
    frequency_power,
    is_odd_prime,
    keyed_generator,
    number_pairs,
    plane_alignment,
    plane_invariance,
    plane_shares,
    split_rows,
)

MODULI = pytest.mark.parametrize("modulus", [3, 7, 23])


def _random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _power(values, frequency):
    """Squared length in the plane of a frequency: the sums of cosine and sine, one number at a time."""
    modulus = len(values)
    angles = [2 * math.pi * frequency * number / modulus for number in range(modulus)]
    cosine = sum(value * math.cos(angle) for value, angle in zip(values, angles, strict=True))
    sine = sum(value * math.sin(angle) for value, angle in zip(values, angles, strict=True))
    return (cosine**2 + sine**2) * (1 if frequency == 0 else 2) / modulus


@MODULI
def test_the_basis_is_orthonormal_and_holds_waves(modulus):
    basis = fourier_basis(modulus)

    torch.testing.assert_close(basis @ basis.T, torch.eye(modulus, dtype=torch.float64))
    torch.testing.assert_close(basis[2, 1].item(), math.sqrt(2 / modulus) * math.sin(2 * math.pi / modulus))
    torch.testing.assert_close(
        basis[-2, 1].item(), math.sqrt(2 / modulus) * math.cos(2 * math.pi * (modulus // 2) / modulus)
    )


@MODULI
def test_power_is_what_the_sums_say(modulus):
    functions = _random(4, modulus)

    power = frequency_power(functions)

    expected = [[_power(row, frequency) for frequency in range(modulus // 2 + 1)] for row in functions.tolist()]
    torch.testing.assert_close(power, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(power.sum(1), functions.square().sum(1))


@MODULI
def test_shares_in_the_planes_of_two_numbers_are_the_power_of_both(modulus):
    functions = _random(5, 2, modulus)

    shares = plane_shares(functions.flatten(1)[:, None], fourier_planes(modulus, 2))

    power = frequency_power(functions).sum(1)
    torch.testing.assert_close(shares, power[:, 1:] / power.sum(1, keepdim=True))


def test_a_wave_lies_in_its_plane_and_a_single_number_in_none():
    basis, planes = fourier_basis(11), fourier_planes(11)
    wave = 0.3 * basis[5] - 2 * basis[6]  # cosine and sine of frequency 3
    one = torch.eye(11, dtype=torch.float64)[4]

    shares = plane_shares(torch.stack([wave, one, 0 * one])[:, None], planes)

    torch.testing.assert_close(shares[0], torch.eye(5, dtype=torch.float64)[2])
    torch.testing.assert_close(shares[1], torch.full((5,), 2 / 11, dtype=torch.float64))
    assert not shares[2].any()


def test_a_bundle_counts_its_squared_lengths_together():
    basis, planes = fourier_basis(7), fourier_planes(7)
    bundle = torch.stack([2 * basis[1], basis[3]])  # frequencies 1 and 2, squared lengths 4 and 1

    assert plane_alignment(bundle[None], planes).item() == pytest.approx(0.8)


def test_chance_is_the_best_of_many_planes_and_1_where_there_is_but_one():
    generator = keyed_generator("a test")
    planes = fourier_planes(23, 2)
    identity = torch.eye(46, dtype=torch.float64)

    chance = chance_plane_alignment(identity, planes, 1, 4000, generator)
    broader = chance_plane_alignment(identity, planes, 20, 1000, generator)
    through = chance_plane_alignment(planes[3], planes, 1, 50, generator)

    drawn = _random(4000, 46)
    inside = [(drawn @ plane).square().sum(1) / drawn.square().sum(1) for plane in planes]
    assert chance == pytest.approx(torch.stack(inside).amax(0).mean().item(), abs=0.01)
    assert 4 / 46 < broader < chance
    assert through == pytest.approx(1.0)


def test_answer_matrices_are_the_outputs_as_quadratic_forms():
    left, right, output, x = _random(6, 4), _random(7, 4)[1:], _random(3, 6), _random(5, 4)

    matrices = answer_matrices(left, right, output)

    torch.testing.assert_close(matrices, matrices.transpose(1, 2))
    expected = ((x @ left.T) * (x @ right.T)) @ output.T
    torch.testing.assert_close(torch.einsum("bi,rij,bj->br", x, matrices, x), expected)


def test_eigenvectors_come_with_the_largest_magnitude_first():
    matrix = torch.diag(torch.tensor([1.0, -3.0, 2.0]))

    values, vectors = eigenvectors(matrix[None])

    assert values[0].tolist() == [-3.0, 2.0, 1.0]
    assert torch.equal(vectors[0].abs(), torch.eye(3)[[1, 2, 0]])


def _adding(modulus, weights):
    """Answer matrices of a network that adds the angles of every frequency, weighted."""
    pairs, _ = number_pairs(modulus)
    blocks = []
    for answer in range(modulus):
        angles = 2 * math.pi / modulus * (pairs.sum(1) - answer).double().reshape(modulus, modulus)
        cross = sum(weight * (frequency * angles).cos() for frequency, weight in weights.items())
        blocks.append(torch.cat([torch.cat([0 * cross, cross], 1), torch.cat([cross.T, 0 * cross], 1)]))
    return torch.stack(blocks)


def test_of_a_network_that_adds_angles_planes_are_eigenspaces():
    planes = fourier_planes(7, 2)

    distinct, equal = _adding(7, {1: 3.0, 2: 1.0}), _adding(7, {1: 1.0, 2: 1.0, 3: 1.0})

    assert eigenspace_alignment(distinct, planes) == pytest.approx(1.0)
    assert plane_invariance(distinct, planes) == pytest.approx(1.0)
    assert plane_invariance(equal, planes) == pytest.approx(1.0), "mixing eigenvectors do not matter"


def test_invariance_is_the_share_within_blocks():
    planes = torch.eye(4)[:, :, None].reshape(2, 2, 4).transpose(1, 2)  # the first two axes, the last two
    matrix = torch.ones(1, 4, 4)

    assert plane_invariance(matrix, planes) == pytest.approx(0.5)
    assert eigenspace_alignment(matrix, planes) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("number", "prime"),
    [(-7, False), (0, False), (1, False), (2, False), (3, True), (9, False), (23, True), (25, False)],
)
def test_odd_primes(number, prime):
    assert is_odd_prime(number) == prime


def test_pairs_are_the_addition_table():
    pairs, sums = number_pairs(3)

    assert pairs.tolist() == [[a, b] for a in range(3) for b in range(3)]
    assert sums.tolist() == [0, 1, 2, 1, 2, 0, 2, 0, 1]


@pytest.mark.parametrize(("fraction", "size"), [(0.75, 6), (0.01, 1), (0.999, 7)])
def test_a_split_is_a_partition_without_an_empty_half(fraction, size):
    first, second = split_rows(8, fraction, keyed_generator(0))

    assert len(first) == size
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(8))
    assert torch.equal(first, split_rows(8, fraction, keyed_generator(0))[0])
