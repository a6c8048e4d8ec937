"""A run directory as large as a large decomposition's: arrays are drawn, files are written by the package's writers."""

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor

from spd_lightning import MLP, DecomposedModel
from spd_lightning.analysis import AttributionGraph, save_graph
from spd_lightning.analysis.__main__ import main as analyse
from spd_lightning.analysis.attribution_graph import COMPONENT, INPUT, OUTPUT
from spd_lightning.analysis.call_tally import BINS, CallTally, HarvestOptions
from spd_lightning.analysis.clustering import Clustering
from spd_lightning.analysis.firings import CYCLE, FiringSample
from spd_lightning.analysis.harvest import options
from spd_lightning.analysis.harvest_files import HarvestFiles
from spd_lightning.analysis.harvest_tally import Tally
from spd_lightning.analysis.mechanisms import Settings, save_mechanisms
from spd_lightning.analysis.token_statistics import SHIFT
from spd_lightning.files.whole import written_whole
from spd_lightning.functional import keyed_generator
from spd_lightning.runs.analysis_files import FOLDER, MECHANISMS

SITES, WIDTH, VOCABULARY, LENGTH = 8, 256, 20_000, 512
GRAPH = "drawn"
AT_ONCE, UNITS, MEMBERS, PAIRS, ROWS, GRAPH_NODES, GRAPH_EDGES = 40, 1 << 16, 5, 40, 128, 2_000, 20_000


def make_large_run(folder: Path, components: int = 10_000, positions: int = 1_000_000) -> None:
    """Write a run of so many components, harvested on so many positions of text.

    Args:
        folder: a free name.
        components: of all sites together; a multiple of eight.
        positions: what the harvest says that it has seen.
    """
    generator = keyed_generator("large run", components, positions)
    model = DecomposedModel(MLP([WIDTH] * (SITES + 1)), {"fc*": components // SITES})
    model.save_pretrained(folder)
    (folder / "config.yaml").write_text("trainer: {}\nmodel: {}\ndata: {}\n")
    densities = _densities(components, generator)
    calls = dict(zip(model.components, densities.chunk(SITES), strict=True))
    tally = _tally(model, calls, positions, generator)
    HarvestFiles(folder).finish(tally, _decode)
    _write_arrays(folder / FOLDER, calls, generator)
    _write_scores(folder, calls)
    save_mechanisms(folder / FOLDER / MECHANISMS, _groups(tally), model, Settings(0.1, 1.0, 1, UNITS))
    analyse(["label", str(folder)])
    save_graph(_graph(list(calls), components // SITES, generator), folder / FOLDER / "graphs" / GRAPH)


def _densities(components: int, generator: Generator) -> Tensor:
    """How often each is important: logarithms are normal, and in the mean so many act at once."""
    drawn = (1.5 * torch.randn(components, generator=generator)).exp()
    return (drawn * AT_ONCE / drawn.sum()).clamp(2e-5, 1)


def _tally(model: DecomposedModel, calls: dict[str, Tensor], positions: int, generator: Generator) -> Tally:
    chosen = options(units=UNITS)
    tally = Tally(model, chosen)
    tally.batches, tally.examples = positions // (16 * LENGTH), positions // LENGTH
    tally.calls = {
        call: CallTally.of(_sums(density, positions, chosen, generator), chosen) for call, density in calls.items()
    }
    tally.sample = FiringSample.of(tally.sample.counts, _firings(torch.cat(list(calls.values())), generator))
    return tally


def _sums(density: Tensor, positions: int, chosen: HarvestOptions, generator: Generator) -> dict[str, Tensor]:
    """What a tally of one site call holds."""
    firings = (density * positions).long().clamp_min(1)
    spread = torch.rand(len(density), BINS, generator=generator)
    histogram = (spread / spread.sum(1, keepdim=True) * firings[:, None]).long()
    histogram[:, 0] += positions - histogram.sum(1)
    sums = {
        "firings": firings,
        "positive": (firings * torch.rand(len(density), generator=generator)).long(),
        "histogram": histogram,
        "positions": torch.tensor(positions),
        "sums/levels": torch.zeros(1, dtype=torch.long),
        "sums/numbers": torch.zeros(1, dtype=torch.long),
        "sums/terms": torch.stack([firings * 0.6, firings * 2.0])[None].double(),
    }
    sums |= {f"places/{name}": value for name, value in _places(firings, positions, chosen, generator).items()}
    for side in ("on", "before"):
        sums |= {f"{side}/{name}": value for name, value in _tokens(firings, positions, generator).items()}
    return sums


def _places(firings: Tensor, positions: int, chosen: HarvestOptions, generator: Generator) -> dict[str, Tensor]:
    components = torch.arange(len(firings)).repeat_interleave(firings.clamp_max(chosen.places))
    count, window = len(components), 2 * chosen.reach + 1
    inner = 3 * torch.randn(count, generator=generator)
    importance = torch.rand(count, generator=generator)
    order = torch.argsort(components * 100 - (inner.abs() * importance).clamp_max(99))
    examples = torch.randint(positions // LENGTH, (count,), generator=generator)
    near = torch.rand(count, window, generator=generator)
    return {
        "components": components,
        "documents": examples,
        "examples": examples,
        "positions": torch.randint(LENGTH, (count,), generator=generator),
        "scores": (inner.abs() * importance)[order],
        "inner": inner[order],
        "importance": importance[order],
        "tokens": _drawn_tokens((count, window), generator).int(),
        "importances": torch.where(near > 0.8, near, 0).half(),
    }


def _drawn_tokens(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Tokens as frequent as one over their rank."""
    return (VOCABULARY ** torch.rand(shape, generator=generator)).long() - 1


def _tokens(firings: Tensor, positions: int, generator: Generator) -> dict[str, Tensor]:
    often = (positions / torch.arange(1, VOCABULARY + 1) / 10.5).long().clamp_min(1)
    numbers = torch.arange(len(firings))[:, None] * SHIFT + _drawn_tokens((len(firings), PAIRS), generator)
    pairs = numbers.unique()  # type: ignore[no-untyped-call]
    together = torch.minimum(firings[pairs // SHIFT] // PAIRS + 1, often[pairs % SHIFT])
    return {"pairs": pairs, "together": together, "tokens": torch.arange(VOCABULARY), "often": often}


def _firings(density: Tensor, generator: Generator) -> dict[str, Tensor]:
    often = (density * UNITS).long().clamp_min(1)
    components = torch.arange(len(density)).repeat_interleave(often)
    units = torch.randint(UNITS, (len(components),), generator=generator)
    chosen = (components * UNITS + units).unique()  # type: ignore[no-untyped-call]
    return {
        "components": (chosen // UNITS).int(),
        "units": (chosen % UNITS).int(),
        "kept": torch.arange(UNITS),
        "rule": torch.tensor([CYCLE, UNITS]),
    }


def _decode(tokens: Sequence[int]) -> str:
    return "".join(_WORDS[token] for token in tokens)


_LETTERS = random.Random(0)
_WORDS = [f" {''.join(_LETTERS.choices(string.ascii_lowercase, k=1 + n % 8))}" for n in range(VOCABULARY)]


def _groups(tally: Tally) -> Clustering:
    counts = tally.sample.counts
    total = sum(counts.values())
    labels = torch.randperm(total, generator=keyed_generator("groups")) // MEMBERS
    groups = int(labels.max()) + 1
    firings = torch.arange(groups, 0, -1)
    nothing = torch.empty(0)
    return Clustering(labels, firings, torch.full((groups,), 0.5), nothing, nothing, 2.0, 1.0, counts)


def _write_arrays(folder: Path, calls: dict[str, Tensor], generator: Generator) -> None:
    """Densities and importances, as callbacks write them."""
    with written_whole(folder / "density.safetensors") as aside:
        save_file({call: density.clone() for call, density in calls.items()}, aside, {"threshold": "0.1"})
    arrays = {}
    for call, density in calls.items():
        arrays[f"values/{call}"] = torch.rand(ROWS, len(density), generator=generator).half()
        arrays[f"order/{call}"] = torch.randperm(len(density), generator=generator).int()
    labels = [_WORDS[int(token)] for token in _drawn_tokens((ROWS,), generator)]
    about = {"format": 1, "step": 0, "rows": "positions", "row_labels": labels, "weights": None}
    with written_whole(folder / "importances.safetensors") as aside:
        save_file(arrays, aside, {"importances": json.dumps(about)})


def _write_scores(folder: Path, calls: dict[str, Tensor]) -> None:
    scores = {f"l0/{call}": float(density.sum()) for call, density in calls.items()}
    scores |= {f"alive/{call}": float(len(density)) for call, density in calls.items()}
    content = {"scores": scores, "verdict": [], "settings": {}, "seed": 0, "steps": 0}
    (folder / "metrics.json").write_text(json.dumps(content))


def _graph(calls: list[str], count: int, generator: Generator) -> AttributionGraph:
    """Nodes at eight positions, and edges that lead from any place to a later one."""

    def below(most: int, size: int) -> Tensor:
        return torch.randint(most, (size,), generator=generator)

    places = ("input", *calls, "output")
    place = below(len(places), GRAPH_NODES).sort().values
    kind = torch.full((GRAPH_NODES,), COMPONENT).masked_fill(place == 0, INPUT)
    kind = kind.masked_fill(place == len(places) - 1, OUTPUT)
    ends = torch.stack([below(GRAPH_NODES, 4 * GRAPH_EDGES), below(GRAPH_NODES, 4 * GRAPH_EDGES)])
    ends = ends[:, place[ends[0]] < place[ends[1]]][:, :GRAPH_EDGES]
    signed = torch.randn(ends.shape[1], generator=generator, dtype=torch.double).pow(3)
    total = torch.zeros(GRAPH_NODES, dtype=torch.double).index_add(0, ends[1], signed.abs())
    entering = torch.zeros(GRAPH_NODES, dtype=torch.double).index_add(0, ends[1], signed)
    ones, index = torch.ones(GRAPH_NODES, dtype=torch.double), below(count, GRAPH_NODES)
    position = below(8, GRAPH_NODES)
    nodes = (kind, place, index, position, 2 * ones, ones, entering, total)
    return AttributionGraph(places, *nodes, ends[0], ends[1], signed, signed.abs(), 0, tuple(_WORDS[:8]))
