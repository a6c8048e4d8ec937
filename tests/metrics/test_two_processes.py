"""Two processes that see unequal shares must agree on the value over everything."""

import torch
import torch.multiprocessing
from torch import distributed

from spd_lightning.metrics import (
    ActiveComponents,
    AliveComponents,
    DenseContradictions,
    IdentityContradictions,
    MeanCausalImportance,
    MeanDistance,
    MeanL2Ratio,
    MeanMaxCosineSimilarity,
)

SIZES = [1, 2, 6]
OWNER = [0, 0, 1]


def _importances():
    table = torch.rand(sum(SIZES), 2, 4, generator=torch.Generator().manual_seed(0))
    table[..., 1] *= 0.05
    table[:3, :, 2] = 0.0
    table[3:, :, 3] = 0.0
    return list(table.split(SIZES))


def _pairs():
    generator = torch.Generator().manual_seed(1)
    return [tuple(torch.randn(size, 2, 3, generator=generator) for _ in range(2)) for size in SIZES]


def _factors():
    generator = torch.Generator().manual_seed(2)
    return [[torch.randn(s, generator=generator) for s in ((n, 5), (5, 3), (3, n))] for n in SIZES]


def _tables():
    return [(importance[:, 0],) for importance in _importances()]


def _cases():
    importances = [(importance,) for importance in _importances()]
    return {
        "l0": (ActiveComponents(), importances),
        "alive": (AliveComponents(4), importances),
        "mean": (MeanCausalImportance(4), importances),
        "mse": (MeanDistance("mse"), _pairs()),
        "kl": (MeanDistance("kl"), _pairs()),
        "mmcs": (MeanMaxCosineSimilarity(), _factors()),
        "ml2r": (MeanL2Ratio(), _factors()),
        "identity": (IdentityContradictions(0.1), _tables()),
        "dense": (DenseContradictions(2, 0.1), _tables()),
    }


def _scores(rank):
    """Values after seeing the shares of one process, or all of them."""
    scores = {}
    for name, (metric, shares) in _cases().items():
        for owner, share in zip(OWNER, shares, strict=True):
            if rank is None or owner == rank:
                metric.update(*share)
        if isinstance(metric, AliveComponents):
            scores["alive mask"] = metric.mask()
        scores[name] = metric.compute()
    return scores


def _process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(_scores(rank), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_the_reduced_value_is_the_single_process_value(tmp_path):
    expected = _scores(None)
    alone = _scores(0)
    torch.multiprocessing.spawn(_process, args=(str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected)
    assert not any(torch.equal(expected[name], alone[name]) for name in expected), "the shares must differ"
