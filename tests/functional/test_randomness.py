import hashlib
from itertools import product

import pytest
import torch

from spd_lightning.functional import (
    independent_subset,
    keyed_generator,
    keyed_seed,
    sparse_features,
    uniform_subset,
)

SITES = ["a", "b", "c"]


def test_the_same_key_draws_the_same_numbers():
    first, second = (torch.rand(8, generator=keyed_generator(0, 3, "masks")) for _ in range(2))
    assert torch.equal(first, second)


def test_every_part_of_a_key_matters():
    keys = [*product((0, 1), (0, 1), ("masks", "data")), (0, 0), (0, "0/masks"), (), (10, 0), (1, "00")]
    assert len({keyed_seed(*key) for key in keys}) == len(keys)


def test_a_key_means_the_same_on_every_machine():
    digest = hashlib.blake2b(b"0/1/masks", digest_size=8).digest()
    assert keyed_seed(0, 1, "masks") == int.from_bytes(digest, "little") >> 1


def test_a_draw_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    torch.rand(8, generator=keyed_generator("x"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("leading", [(6000,), (60, 100)])
def test_uniform_subset_draws_size_then_members(leading):
    routed = torch.stack(list(uniform_subset(SITES, torch.Size(leading), keyed_generator("subset")).values()))
    assert routed.dtype == torch.bool
    assert routed.shape == (3, *leading)
    sizes = routed.sum(0).flatten()
    assert torch.bincount(sizes, minlength=4).tolist()[0] == 0
    torch.testing.assert_close(torch.bincount(sizes)[1:] / 6000, torch.full((3,), 1 / 3), rtol=0, atol=0.03)
    of_size_two = routed.flatten(1)[:, sizes == 2]
    torch.testing.assert_close(of_size_two.float().mean(1), torch.full((3,), 2 / 3), rtol=0, atol=0.04)


def test_one_site_is_always_routed():
    (routed,) = uniform_subset(["a"], torch.Size([50]), keyed_generator("one")).values()
    assert routed.all()


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_independent_subset_has_the_stated_probability(probability):
    routed = independent_subset(SITES, torch.Size([100, 100]), probability, keyed_generator("independent"))
    for site in SITES:
        assert routed[site].float().mean().item() == pytest.approx(probability, abs=0.02)
    both = (routed["a"] & routed["b"]).float().mean().item()
    assert both == pytest.approx(probability**2, abs=0.02)


def test_sparse_features():
    features = sparse_features(20_000, 5, 0.05, (-1.0, 3.0), keyed_generator("features"))
    assert features.shape == (20_000, 5)
    active = features != 0
    assert active.float().mean().item() == pytest.approx(0.05, abs=0.003)
    assert (~active.any(1)).float().mean().item() == pytest.approx(0.95**5, abs=0.02)
    assert features.min() >= -1
    assert features.max() < 3
    assert features[active].mean().item() == pytest.approx(1.0, abs=0.06)
