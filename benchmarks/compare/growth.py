"""Time and memory of a training step against the number of components, by both methods on one network."""

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.memory import peak_mb
from benchmarks.processes import run
from spd_lightning import (
    AttributionDecomposition,
    Faithfulness,
    HiddenActivations,
    ImportanceMinimality,
    Minimality,
    Optimization,
    Reconstruction,
    ResidualMLP,
    Simplicity,
    SparseFeatures,
    StochasticDecomposition,
)
from spd_lightning.figures.style import CATEGORIES, TICK_SIZE, describe, new_figure
from spd_lightning.losses import Noise

Row = dict[str, Any]
COUNTS = (50, 100, 200, 400)
METHODS = ("SPD", "APD", "APD, rank 10")
BATCH, WARM, STEPS = 256, 2, 7
SITES = "layers.*.mlp_*"


def measure() -> list[Row]:
    """One row per method and count: milliseconds per step (median) and peak megabytes, each in a process of its own."""
    cases = [(method, count) for count in COUNTS for method in METHODS]
    return [
        json.loads(run(["benchmarks.compare.growth", method, str(count)]).splitlines()[-1])
        for method, count in tqdm(cases, desc="Cost of a step")
    ]


def draw(rows: list[Row], path: Path) -> None:
    """Both costs as curves."""
    figure, panels = new_figure(f"Cost of a training step of {BATCH} examples, residual MLP of one layer", 2, 3.6, 2.8)
    for axes, (key, words) in zip(panels, (("ms", "milliseconds"), ("mb", "peak memory in MB")), strict=True):
        for method, color in zip(METHODS, CATEGORIES, strict=False):
            points = [row for row in rows if row["method"] == method]
            axes.plot([row["C"] for row in points], [row[key] for row in points], "o-", color=color, label=method)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
        describe(axes, "", "", "components", words)
    _legend(figure)
    figure.savefig(path)


def _legend(figure: Figure) -> None:
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=TICK_SIZE)


def build(method: str, count: int) -> StochasticDecomposition | AttributionDecomposition:
    """A decomposition of a random residual MLP of the paper's size."""
    torch.manual_seed(0)
    target = ResidualMLP(n_features=100)
    if method == "SPD":
        paper = {
            "faithfulness": Faithfulness(),
            "stochastic": Reconstruction(),
            "layerwise": Reconstruction(routing="layerwise"),
            "importance": ImportanceMinimality(coefficient=3e-3),
        }
        return StochasticDecomposition(target, {SITES: count}, losses=paper)
    losses = {
        "faithfulness": Faithfulness(),
        "minimality": Minimality(),
        "simplicity": Simplicity(p=0.9),
        "hidden_activations": HiddenActivations(),
    }
    rank = 10 if "rank" in method else None
    return AttributionDecomposition(target, [SITES], count, 1.28, losses=losses, rank=rank, init_scale=2.0)


def step_ms(module: StochasticDecomposition | AttributionDecomposition) -> float:
    """Milliseconds of a step, the median of several after a few to warm up."""
    data = SparseFeatures(n_features=100, feature_probability=0.01, value_min=-1.0, batch_size=BATCH, seed=0)
    optimizer, _ = Optimization().build(module.model, 1000, fused=True)
    seconds = []
    for index in range(WARM + STEPS):
        batch, began = data.train_batch(index), time.perf_counter()
        loss, _ = module.objective(batch, Noise(("growth", index), torch.device("cpu")))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds[WARM:])


def main() -> None:
    """Measure the method and count named on the command line; print what was found."""
    method, count = sys.argv[1], int(sys.argv[2])
    found = step_ms(build(method, count))
    print(json.dumps({"method": method, "C": count, "ms": found, "mb": peak_mb(), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
