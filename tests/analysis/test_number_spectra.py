"""Directions on numbers: waves and single numbers made by hand, components of any rank against their matrices."""

import pytest
import torch

from spd_lightning.analysis import NumberSide
from spd_lightning.functional import fourier_basis, fourier_planes, plane_alignment

P = 7


def _random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_waves_and_single_numbers_are_told_apart():
    basis, numbers = fourier_basis(P), torch.eye(2 * P, dtype=torch.float64)
    wave = torch.cat([basis[3], 2 * basis[4]])  # frequency 2 of both numbers
    both = torch.cat([basis[1], basis[3]])
    constant = torch.cat([basis[0], basis[0]])

    spectra = NumberSide("read", numbers, P).spectra(torch.stack([wave, numbers[9], both, constant])[:, None])

    assert spectra.alignment.tolist() == pytest.approx([1.0, 2 / P, 0.5, 0.0])
    assert spectra.frequency[0] == 2
    assert spectra.single[1].item() == pytest.approx(1.0)
    assert spectra.single[3].item() == pytest.approx(1 / (2 * P))
    torch.testing.assert_close(spectra.shares.sum(1), torch.ones(4, dtype=torch.float64))
    assert spectra.shares[3, 0].item() == pytest.approx(1.0)


def test_directions_are_seen_through_the_embedding():
    table, read = _random(P, 3), _random(6, 4)
    numbers = torch.block_diag(table, table)

    spectra = NumberSide("read", numbers, P).spectra(read.T[:, None])

    seen = torch.cat([table @ read[:3], table @ read[3:]]).T[:, None]
    torch.testing.assert_close(spectra.alignment, plane_alignment(seen, fourier_planes(P, 2)))


@pytest.mark.parametrize("side", ["read", "write"])
def test_components_of_rank_one_are_the_same_either_way(side):
    d_in, d_out = (P, 4) if side == "read" else (4, P)
    read, write = _random(d_in, 5), _random(5, d_out)
    here = NumberSide(side, torch.eye(P, dtype=torch.float64), P)

    plain = here.spectra(here.of_components(read, write))
    full = here.spectra(here.of_components(read[..., None], write[:, None]))

    torch.testing.assert_close(full.shares, plain.shares)
    torch.testing.assert_close(full.single, plain.single)


@pytest.mark.parametrize("side", ["read", "write"])
def test_neurons_are_rows_or_columns_that_are_not_decayed(side):
    weight = _random(4, P)
    weight[2] *= 1e-3
    here = NumberSide(side, torch.eye(P, dtype=torch.float64), P)

    neurons = here.of_neurons(weight if side == "read" else weight.T)

    assert torch.equal(neurons[:, 0], weight[[0, 1, 3]])


def test_chance_levels_are_those_of_random_directions():
    here = NumberSide("read", torch.eye(2 * P), P)

    aligned, single = here.chance(terms=1, draws=4000)

    drawn = here.spectra(_random(4000, 1, 2 * P).float())
    assert aligned == pytest.approx(drawn.alignment.mean().item(), abs=0.01)
    assert single == pytest.approx(drawn.single.mean().item(), abs=0.01)
    assert here.chance(terms=5, draws=1000)[0] < aligned
