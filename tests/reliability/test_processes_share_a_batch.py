"""Several processes hold rows of one batch: together they compute what one process computes from all rows.

The mean over processes of the gradients, which data-parallel training takes, is the gradient of the whole batch; every
process reports the values of the whole batch.
"""

import functools

import pytest
import torch
import torch.multiprocessing
from torch import distributed, nn
from torch.utils._pytree import tree_map

from spd_lightning import AttributionDecomposition, KeywordCall, ResidualMLP, SiteTransformer, StochasticDecomposition
from spd_lightning.functional import WeightedBatch, keyed_generator
from spd_lightning.losses import (
    ActivationReconstruction,
    ContributionSparsity,
    Faithfulness,
    FrequencyMinimality,
    HiddenActivations,
    ImportanceCovariance,
    ImportanceMinimality,
    Minimality,
    Noise,
    PersistentAdversary,
    RankPenalty,
    Reconstruction,
    RelativeFaithfulness,
    Simplicity,
    SmoothFrequency,
    SmoothImportance,
)
from spd_lightning.methods.speed import Speed
from tests.methods.tiny import toy_target

CPU = torch.device("cpu")
ROWS = 40
SPLITS = {"even": [20, 20], "uneven": [27, 13]}


def _losses():
    return {
        "faithfulness": Faithfulness(),
        "importance": ImportanceMinimality(coefficient=0.1, p=0.8),
        "frequency": FrequencyMinimality(coefficient=0.1, reference=50.0),
        "contributions": ContributionSparsity(coefficient=0.1),
        "covariance": ImportanceCovariance(coefficient=0.1),
        "rank": RankPenalty(coefficient=0.1),
        "uniform": Reconstruction(),
        "layerwise": Reconstruction(routing="layerwise", samples=2),
        "binomial": Reconstruction(sources="binomial", routing="subset"),
        "independent": Reconstruction(routing="subset", subset_probability=0.4),
        "ci": Reconstruction(sources="ci", distance="kl"),
        "activations": ActivationReconstruction(),
        "shared": Reconstruction(sources="adversarial", adversary_steps=3, adversary_step_size=0.3),
        "per example": Reconstruction(
            sources="adversarial", adversary_scope="per_example", adversary_steps=2, adversary_step_size=0.3
        ),
        "relative": RelativeFaithfulness(),
        "smooth": SmoothImportance(coefficient=0.1, gamma=0.3),
        "smooth frequency": SmoothFrequency(coefficient=0.1, gamma=0.3, half_life=5.0),
        **{
            scope: PersistentAdversary(scope=scope, pool=3, warmup=0.0, lr=0.05, share=share)
            for scope, share in (("row", 1.0), ("position", 0.5), ("component", 1.0), ("pool", 0.5))
        },
    }


def _attribution():
    losses = {"m": Minimality(), "s": Simplicity(p=0.9), "h": HiddenActivations(), "f": Faithfulness()}
    torch.manual_seed(3)
    target = ResidualMLP(n_features=5, n_layers=2, d_mlp=3, d_embed=8)
    return AttributionDecomposition(target, ["layers.*.mlp_*"], 6, 0.9, losses=losses)


class Reader(nn.Module):
    """Tokens to classes: an embedding, a layer that is called twice, and a head on the mean over what is no padding."""

    def __init__(self):
        super().__init__()
        self.table, self.layer, self.head = nn.Embedding(11, 5), nn.Linear(5, 5), nn.Linear(5, 4)
        self.split = nn.Unflatten(-1, (5, 1))

    def forward(self, tokens, seen):
        stream = self.table(tokens)
        for _ in range(2):
            stream = stream + self.split(self.layer(stream)).flatten(-2).relu()
        return self.head((stream * seen[..., None]).sum(1) / seen.sum(1, keepdim=True))


def _reader():
    torch.manual_seed(4)
    call = KeywordCall(["tokens", "seen"], weights="seen")
    importance = functools.partial(SiteTransformer, width=8, blocks=1, heads=2)
    losses = _losses() | {"stream": ActivationReconstruction(of=["table", "split", "head"])}
    sites = {"table": 6, "layer": 7, "head": 3}
    return StochasticDecomposition(Reader(), sites, losses=losses, call=call, importance=importance)


SPEEDS = {"plain": Speed(step="plain"), "fast": Speed(table_nodes=0), "torch": Speed(compile=False, table_nodes=0)}


def _module(kind):
    if kind == "attribution":
        return _attribution()
    toy = functools.partial(StochasticDecomposition, toy_target(), {"linear*": 7}, losses=_losses())
    module = _reader() if kind == "reader" else toy(speed=SPEEDS[kind])
    with torch.no_grad():
        for parameter in module.model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=keyed_generator("parameters", *parameter.shape))
                parameter.copy_(0.5 * noise)
    return module


def _batch(kind):
    generator = keyed_generator("batch")
    if kind == "padded":
        lengths = torch.randint(1, 7, (ROWS, 1), generator=generator)
        tokens = torch.randint(0, 11, (ROWS, 6), generator=generator)
        return {"tokens": tokens, "seen": (torch.arange(6) < lengths).long()}
    shape = (ROWS, 3, 5) if kind == "positions" else (ROWS, 5)
    x = torch.rand(shape, generator=generator) * (torch.rand(shape, generator=generator) < 0.4)
    if kind != "weighted":
        return x
    weights = torch.rand(shape[:-1], generator=generator)
    return WeightedBatch(x, weights / weights.sum())


CASES = [
    *(
        (kind, batch)
        for kind in ("plain", "fast", "torch", "attribution")
        for batch in ("even", "weighted", "positions")
    ),
    ("reader", "padded"),
]


CHECKED = {"attribution": "mlp_out.U"}
"""Parameters whose gradient hangs on the whole batch."""


def _results(take):
    """Values and gradients of every case on the rows that ``take`` leaves."""
    results = []
    for kind, batch in CASES:
        module, own = _module(kind), tree_map(take, _batch(batch))
        total, terms = module.objective(own, Noise(("noise", 3), CPU), 0.5)
        total.backward()
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        results.append(({"total": total.detach(), **terms}, gradients))
    return results


def _process(rank, folder):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, sizes in SPLITS.items():
        torch.save(_results(lambda rows, sizes=sizes: rows.split(sizes)[rank]), f"{folder}/{name}-{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """What each of two processes computed, by split."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(_process, args=(str(folder),), nprocs=2)
    return {name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(2)] for name in SPLITS}


@pytest.fixture(scope="module")
def alone():
    return _results(lambda rows: rows)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("case", range(len(CASES)), ids=map("-".join, CASES))
def test_the_processes_compute_the_whole_batch(case, split, shares, alone):
    values, gradients = alone[case]
    found = [share[case] for share in shares[split]]

    assert all(theirs.keys() == values.keys() for theirs, _ in found)
    for name, value in values.items():
        least = 1e-6 if name == "covariance" else 1e-7  # a covariance is a small difference of numbers near 10
        for theirs, _ in found:
            torch.testing.assert_close(
                theirs[name], value, rtol=1e-5, atol=least, msg=lambda text, name=name: f"{name}: {text}"
            )
    for name, gradient in gradients.items():
        mean = torch.stack([theirs[name] for _, theirs in found]).mean(0)
        apart = (mean - gradient).norm().item()  # single entries are small differences of large numbers
        assert apart <= 1e-5 * gradient.norm().item() + 1e-7, name


def test_each_process_alone_would_be_wrong(shares, alone):
    for case, (_, gradients) in enumerate(alone):
        own = shares["uneven"][0][case][1]
        checked = [name for name in gradients if CHECKED.get(CASES[case][0], "importance_function") in name]
        assert checked
        assert not any(torch.allclose(own[name], gradients[name], rtol=1e-2) for name in checked)


def test_the_budget_of_components_is_that_of_the_whole_batch(alone):
    case = CASES.index(("attribution", "even"))
    step = _attribution().step(_batch("even"), Noise(("noise", 3), CPU))
    for importance in step.importance.values():
        assert importance.lower.sum() == int(0.9 * ROWS)
    assert all(value > 0 for value in alone[case][0].values())
