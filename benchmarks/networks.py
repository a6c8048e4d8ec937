"""Step times and memory on language models: ``python -m benchmarks.networks --device cuda``.

Each step is what training does: clean pass, importances, one stochastic pass over a random subset of the sites at every
position, faithfulness, importance penalty, backward and AdamW. Targets have random weights: they take the same time.
Forms and precisions take turns, so that a machine whose speed drifts treats them alike.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from spd_lightning import (
    Faithfulness,
    GateMLP,
    ImportanceMinimality,
    Optimization,
    PerSite,
    Reconstruction,
    SharedMLP,
    SiteTransformer,
    StochasticDecomposition,
)
from spd_lightning.losses import Noise
from spd_lightning.methods import Speed

WARM_UP, VOCABULARY = 3, 4096
PRECISIONS = ("float32", "bf16-mixed")
FORMS = ("plain", "fast")


class Size(NamedTuple):
    """A transformer, how many components its sites get, and the batch."""

    layers: int
    width: int
    heads: int
    attention: int
    mlp: int
    batch: int
    length: int


SIZES = {
    "tiny": Size(2, 64, 2, 48, 96, 8, 64),
    "2 layers, 256 wide": Size(2, 256, 4, 288, 1152, 32, 256),
    "4 layers, 768 wide": Size(4, 768, 12, 512, 3072, 16, 512),
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gates": partial(PerSite, function=partial(GateMLP, hidden=[16])),
    "MLP per site": partial(PerSite, function=partial(SharedMLP, hidden=[256])),
    "transformer": partial(SiteTransformer, width=512, blocks=4, heads=8),
}


class Block(nn.Module):
    """A pre-norm transformer block with a layer for every matrix.

    Args:
        size: of the model.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.q, self.k, self.v, self.o = (nn.Linear(size.width, size.width) for _ in range(4))
        self.up, self.down = nn.Linear(size.width, 4 * size.width), nn.Linear(4 * size.width, size.width)
        self.norm1, self.norm2 = nn.LayerNorm(size.width), nn.LayerNorm(size.width)

    def forward(self, stream: Tensor) -> Tensor:
        """``[batch, position, width]`` to the same."""
        x = self.norm1(stream)
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        stream = stream + self.o(mixed.transpose(1, 2).flatten(2))
        down: Tensor = self.down(F.gelu(self.up(self.norm2(stream))))
        return stream + down


class LanguageModel(nn.Module):
    """A causal transformer over tokens.

    Args:
        size: of the model.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, size.width)
        self.places = nn.Parameter(0.02 * torch.randn(size.length, size.width))
        self.blocks = nn.Sequential(*(Block(size) for _ in range(size.layers)))
        self.norm, self.unembed = nn.LayerNorm(size.width), nn.Linear(size.width, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Tokens ``[batch, position]`` to logits."""
        logits: Tensor = self.unembed(self.norm(self.blocks(self.embed(ids) + self.places[: ids.shape[1]])))
        return logits


class Case:
    """A decomposition whose steps are timed.

    Args:
        size: name in :data:`SIZES`.
        function: name in :data:`FUNCTIONS`.
        form: ``fast`` or ``plain``.
        precision: ``float32`` or ``bf16-mixed``.
        device: where.
    """

    def __init__(self, size: str, function: str, form: str, precision: str, device: str) -> None:
        self.size, self.function, self.form, self.precision, self.device = (
            SIZES[size],
            function,
            form,
            precision,
            device,
        )
        self.name = size
        torch.manual_seed(0)
        sites = {"blocks.*.[qkvo]": self.size.attention, "blocks.*.up": self.size.mlp, "blocks.*.down": self.size.mlp}
        self.module = StochasticDecomposition(
            LanguageModel(self.size),
            sites,
            losses={
                "faithfulness": Faithfulness(1e3),
                "stochastic": Reconstruction(routing="subset", distance="kl"),
                "importance": ImportanceMinimality(1e-3, p=2.0),
            },
            importance=FUNCTIONS[function],
            speed=Speed(step=form),  # type: ignore[arg-type]
        ).to(device)
        self.optimizer = Optimization(lr=1e-4).build(self.module.model, 1000, fused=True)[0]
        self.ids = torch.randint(VOCABULARY, (self.size.batch, self.size.length), device=device)
        self.taken = 0

    def step(self) -> float:
        """Seconds of one step."""
        self._wait()
        began = time.perf_counter()
        self.optimizer.zero_grad()
        half = self.precision != "float32"
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=half):
            noise = Noise((0, "train", self.taken), torch.device(self.device))
            loss, _ = self.module.objective(self.ids, noise, 0.1)
        loss.backward()  # type: ignore[no-untyped-call]
        self.module.optimization.clip(self.module.model)
        self.optimizer.step()
        self._wait()
        self.taken += 1
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()


def measure(size: str, function: str, device: str, steps: int) -> list[dict[str, Any]]:
    """A row per form and precision; they take turns, and one that does not fit says so."""
    rows = []
    for precision in PRECISIONS:
        cases = {form: Case(size, function, form, precision, device) for form in FORMS}
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        memory: dict[str, float | None] = dict.fromkeys(FORMS, 0.0)
        for number in range(WARM_UP + steps):
            for form, case in cases.items():
                if memory[form] is None:
                    continue
                seconds, memory[form] = _timed(case)
                if number >= WARM_UP:
                    times[form].append(seconds)
        rows += [_row(case, times[form], memory[form]) for form, case in cases.items()]
        del cases
    return rows


def _timed(case: Case) -> tuple[float, float | None]:
    """Seconds of a step and the most memory that it took, in GiB; ``None`` if there was not enough."""
    if not case.device.startswith("cuda"):
        return case.step(), 0.0
    torch.cuda.reset_peak_memory_stats()
    try:
        return case.step(), torch.cuda.max_memory_allocated() / 2**30
    except torch.cuda.OutOfMemoryError:
        case.optimizer.zero_grad()
        torch.cuda.empty_cache()
        return float("inf"), None


def _row(case: Case, times: list[float], memory: float | None) -> dict[str, Any]:
    seconds, model = statistics.median(times) if memory is not None else float("inf"), case.module.model
    return {
        "size": case.name,
        "function": case.function,
        "form": case.form,
        "precision": case.precision,
        "components": sum(parts.n_components for parts in model.components.values()),
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "milliseconds": None if memory is None else 1e3 * seconds,
        "tokens_per_second": None if memory is None else case.ids.numel() / seconds,
        "peak_gib": memory,
    }


def _line(row: dict[str, Any]) -> str:
    case = (
        f"{row['size']:20} {row['function']:13} {row['form']:6} {row['precision']:11} {row['components']:6} components"
    )
    if row["peak_gib"] is None:
        return f"{case}  does not fit"
    took = f"{row['milliseconds']:9.1f} ms {row['tokens_per_second']:10.0f} tokens/s"
    return f"{case} {took} {row['peak_gib']:6.1f} GiB"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, and keep the numbers if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sizes", nargs="*", default=["tiny"], choices=[*SIZES], help="models")
    parser.add_argument("--functions", nargs="*", default=[*FUNCTIONS], choices=[*FUNCTIONS], help="importances")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each")
    parser.add_argument("--output", type=Path, help="JSON file to keep the rows in")
    options = parser.parse_args(arguments)
    on = torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{on}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    rows: list[dict[str, Any]] = []
    for size in options.sizes:
        for function in options.functions:
            rows += measure(size, function, options.device, options.steps)
            for row in rows[-len(FORMS) * len(PRECISIONS) :]:
                print(_line(row), flush=True)
            if options.output is not None:
                options.output.write_text(
                    json.dumps({"machine": on, "torch": torch.__version__, "rows": rows}, indent=1)
                )


if __name__ == "__main__":
    main()
