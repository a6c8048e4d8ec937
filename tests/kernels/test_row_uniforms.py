"""The noise of masks: which numbers they are, and whether they are random."""

import ctypes

import pytest
import torch

from spd_lightning.kernels import row_uniforms

WORD = 2**32
SEED = 0x1234_5678_9ABC_DEF1


def _philox(counter, key):
    """Philox 4x32-10 (Salmon et al. 2011, figure 2), in whole numbers of any size."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right // WORD) ^ b ^ k, right % WORD, (left // WORD) ^ d ^ m, left % WORD
        k, m = (k + 0x9E3779B9) % WORD, (m + 0xBB67AE85) % WORD
    return a, b, c, d


def _uniform(entry, seed):
    """64 entries are four words of sixteen counters, the first words first."""
    group, place = divmod(entry, 64)
    word, lane = divmod(place, 16)
    return (_philox((16 * group + lane, 0, 0, 0), (seed % WORD, seed // WORD))[word] >> 8) / 2**24


# Random123's kat_vectors
ANSWERS = {
    "zeros": ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    "ones": ([WORD - 1] * 4, [WORD - 1] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    "pi": (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_philox_gives_the_published_answers(library, case):
    counter, key, answer = ANSWERS[case]
    out = (ctypes.c_uint32 * 4)()
    library.philox_words((ctypes.c_uint32 * 4)(*counter), (ctypes.c_uint32 * 2)(*key), out)
    assert list(out) == answer
    assert list(_philox(counter, key)) == answer


def _draw(*shape, seed=SEED, compiled=True, dtype=torch.float32):
    return row_uniforms(torch.Size(shape), seed, torch.empty(0, dtype=dtype), compiled)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("width", [1, 15, 16, 17, 63, 64, 65, 130])
def test_every_number_is_named_by_its_entry(width):
    expected = [[_uniform(row * width + column, SEED) for column in range(width)] for row in range(3)]
    assert _draw(3, width).tolist() == expected


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 - 1])
def test_all_bits_of_a_seed_matter(seed):
    assert _draw(1, 3, seed=seed).tolist() == [[_uniform(column, seed) for column in range(3)]]


@pytest.mark.usefixtures("library")
def test_positions_are_rows_too():
    assert torch.equal(_draw(2, 3, 70).flatten(0, 1), _draw(6, 70))


def test_a_seed_repeats_its_numbers_and_leaves_the_global_generator_alone(compiled):
    before = torch.get_rng_state()
    first = _draw(5, 70, compiled=compiled)
    assert torch.equal(first, _draw(5, 70, compiled=compiled))
    assert not torch.equal(first, _draw(5, 70, compiled=compiled, seed=SEED + 1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_matter(with_threads, threads):
    first = with_threads(1, lambda: _draw(7, 130))
    assert torch.equal(with_threads(threads, lambda: _draw(7, 130)), first)


def test_the_numbers_are_uniform(compiled):
    u = _draw(1000, 130, compiled=compiled).double().flatten()
    n = len(u)
    assert ((u >= 0) & (u < 1)).all()
    # five standard deviations each
    assert u.mean().item() == pytest.approx(1 / 2, abs=5 * (1 / 12 / n) ** 0.5)
    assert u.var().item() == pytest.approx(1 / 12, abs=5 * (1 / 180 / n) ** 0.5)
    counts = torch.histc(u, 64, 0, 1)
    assert ((counts - n / 64).square() / (n / 64)).sum().item() == pytest.approx(63, abs=5 * (2 * 63) ** 0.5)


def _correlation(left, right):
    return torch.corrcoef(torch.stack([left.flatten(), right.flatten()]).double())[0, 1].item()


def test_rows_columns_and_seeds_are_independent(compiled):
    u, bound = _draw(1000, 130, compiled=compiled), 5 / 129_000**0.5
    neighbours = {
        "rows": (u[1:], u[:-1]),
        "columns": (u[:, 1:], u[:, :-1]),
        "lanes": (u[:, 16:], u[:, :-16]),
        "groups": (u[:, 64:], u[:, :-64]),
        "next seed": (u, _draw(1000, 130, seed=SEED + 1, compiled=compiled)),
    }
    if compiled:  # torch's own generator on the CPU reads the lower 32 bits of a seed
        neighbours["higher bits of the seed"] = u, _draw(1000, 130, seed=SEED + 2**40)
    for name, (left, right) in neighbours.items():
        assert abs(_correlation(left, right)) < bound * (u.numel() / left.numel()) ** 0.5, name
    columns = torch.corrcoef(u.T.double()) - torch.eye(130)
    assert columns.abs().max() < 6 / 1000**0.5


def test_double_precision_is_drawn_by_pytorch():
    drawn = _draw(4, 5, dtype=torch.float64)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, _draw(4, 5, dtype=torch.float64, compiled=False))
