"""What the layers of a trained cross-layer target do, seen in its weights alone.

    python -m benchmarks.cross_layer [CONFIG ...]

For each layer: how strongly features act through it, and what it reads of what earlier layers wrote. Prints the table
that docs/recipes.md quotes. Targets are trained if the cache does not hold them.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from spd_lightning.functional import neuron_contributions
from spd_lightning.targets import FeatureTraining, ResidualMLP

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
PROBE = 0.75


@dataclass(frozen=True)
class LayerReading:
    """One layer of a target.

    Attributes:
        weakest: least sum of a feature's positive neuron contributions to its own output.
        median: the median of these sums over features.
        own: median length of what the layer's neurons read of a probed feature's own embedding.
        written: the same of what earlier layers wrote on that probe.
        singular: singular values of the latter, ``[features, neurons]``, largest first.
    """

    weakest: float
    median: float
    own: float
    written: float
    singular: list[float]


def trained(config: Path) -> ResidualMLP:
    """The target of a shipped config with its weights."""
    model: dict[str, Any] = yaml.safe_load(config.read_text())["model"]
    target = ResidualMLP(**model["target"]["init_args"])
    FeatureTraining(**model["recipe"]["init_args"]).prepare(target)
    return target


@torch.no_grad()
def readings(target: ResidualMLP) -> Iterator[LayerReading]:
    """One entry per layer, for positive probes of every feature."""
    probes = PROBE * target.embedding
    stream = probes
    for layer in target.layers:
        reads, writes = layer.mlp_in.weight, layer.mlp_out.weight  # type: ignore[union-attr]
        yield _reading(target.embedding, reads, writes, probes, stream - probes)  # type: ignore[arg-type]
        stream = stream + layer(stream)


def _reading(embedding: Tensor, reads: Tensor, writes: Tensor, probes: Tensor, written: Tensor) -> LayerReading:
    acts = neuron_contributions(embedding, embedding, reads, writes).clamp_min(0).sum(1)
    own, other = probes @ reads.T, written @ reads.T
    singular = torch.linalg.svdvals(other.double())[:3].tolist()
    lengths = own.norm(dim=1).median().item(), other.norm(dim=1).median().item()
    return LayerReading(acts.min().item(), acts.median().item(), *lengths, singular)


def rows(name: str, entries: Sequence[LayerReading]) -> list[str]:
    """The table's rows for one target."""
    return [
        f"| {name} | {index} | {entry.weakest:.3f} | {entry.median:.3f} | {entry.own:.3f} | {entry.written:.3f} | "
        f"{', '.join(f'{value:.2f}' for value in entry.singular)} |"
        for index, entry in enumerate(entries)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=["residual_mlp_2.yaml", "residual_mlp_3.yaml"])
    names = parser.parse_args().configs
    header = "| target | layer | weakest feature | median | own | written by earlier layers | its singular values |"
    lines = [header, "|---|---|---|---|---|---|---|"]
    for name in names:
        lines += rows(name.removesuffix(".yaml"), list(readings(trained(CONFIGS / name))))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
