"""Noise of a batch that processes share: a row's numbers do not depend on the split, and nobody draws them all."""

import math

import pytest
import torch

from spd_lightning.functional import (
    RowShare,
    independent_subset,
    jittered_importance,
    keyed_generator,
    own_rows,
    random_source,
    sampling,
    uniform_subset,
)
from spd_lightning.kernels import row_uniforms

ROWS, RANKS = 203, 8
SITES = ["a", "b", "c"]


@pytest.fixture(params=[2**20, 100, 3], ids=["one block", "blocks", "rows longer than a block"])
def block(request, monkeypatch):
    monkeypatch.setattr(sampling, "BLOCK", request.param)
    return request.param


def _shares(sizes):
    firsts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    return [RowShare(first, sum(sizes)) for first in firsts]


SIZES = {
    "even": [26] * 7 + [21],
    "uneven": [1, 50, 0, 99, 3, 17, 0, 33],
}
SOURCE = torch.rand(ROWS, 4, generator=keyed_generator("logits"))
DRAWS = {
    "uniform": lambda rows, g, share: random_source("uniform", (rows, 4), g, share=share),
    "positions": lambda rows, g, share: random_source("uniform", (rows, 2, 3), g, torch.float64, share),
    "binomial": lambda rows, g, share: random_source("binomial", (rows, 4), g, share=share),
    "delta": lambda rows, g, share: random_source("uniform", (rows,), g, share=share),
    "jitter": lambda rows, g, share: jittered_importance(torch.ones(rows, 4), "linear", g, share),
    "subset": lambda rows, g, share: torch.stack([*uniform_subset(SITES, torch.Size([rows, 2]), g, share).values()], 1),
    "independent": lambda rows, g, share: torch.stack(
        [*independent_subset(SITES, torch.Size([rows]), 0.4, g, share).values()], 1
    ),
    "masks": lambda rows, g, share: row_uniforms(torch.Size([rows, 4]), g.initial_seed(), SOURCE, False, share),
}


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_eight_processes_together_draw_what_one_draws(draw, sizes):
    alone = keyed_generator("noise", 5)
    expected, after = draw(ROWS, alone, None), torch.rand(3, generator=alone)
    assert len(sizes) == RANKS

    generators = [keyed_generator("noise", 5) for _ in sizes]
    parts = [draw(rows, *one) for rows, *one in zip(sizes, generators, _shares(sizes), strict=True)]

    assert torch.equal(torch.cat(parts), expected)
    for generator in generators:  # the draws that follow are the same as well
        assert torch.equal(torch.rand(3, generator=generator), after)


def test_what_fits_in_one_block_is_what_the_generator_gives():
    assert torch.equal(
        random_source("uniform", (ROWS, 4), keyed_generator("x")), torch.rand(ROWS, 4, generator=keyed_generator("x"))
    )
    shared = random_source("uniform", (20, 4), keyed_generator("x"), share=RowShare(10, ROWS))
    assert torch.equal(shared, torch.rand(ROWS, 4, generator=keyed_generator("x"))[10:30])


def test_the_first_of_several_blocks_is_what_the_generator_gives(monkeypatch):
    monkeypatch.setattr(sampling, "BLOCK", 40)
    drawn = random_source("uniform", (25, 4), keyed_generator("x"))
    assert torch.equal(drawn[:10], torch.rand(10, 4, generator=keyed_generator("x")))


def test_neither_blocks_nor_draws_repeat_each_other(monkeypatch):
    monkeypatch.setattr(sampling, "BLOCK", 40)
    generator = keyed_generator("x")
    drawn = torch.cat([random_source("uniform", (100, 4), generator, torch.float64) for _ in range(3)])
    assert len(drawn.unique()) == drawn.numel()
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("dim", [0, 1])
def test_a_process_draws_only_the_blocks_that_its_rows_touch(dim):
    """A batch of 2**25 entries among 8: a process makes an eighth of them, and at most two blocks more."""
    drawn = []

    def draw(size, generator):
        drawn.append(math.prod(size))
        return torch.rand(size, generator=generator)

    total, width = 2**16 + 24, 512
    rows = total // RANKS
    shape = (rows, width) if dim == 0 else (2, rows, width // 2)
    for rank in (0, 3, 7):
        drawn.clear()
        part = own_rows(draw, shape, keyed_generator("large"), RowShare(rank * rows, total), dim)
        assert part.shape == shape
        assert rows * width <= sum(drawn) <= rows * width + 2 * sampling.BLOCK
        assert max(drawn) <= sampling.BLOCK
