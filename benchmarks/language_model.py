"""What a step on a language model costs: ``python -m benchmarks.language_model``.

A GPT-2 of random weights, all matrices of its blocks decomposed, tokens drawn at random: time and memory do not depend
on what is learned. Variants take turns, so that a machine that slows down slows all of them. ``published`` is the order
of work of the published PyTorch code, see :mod:`benchmarks.published_step`. On a CPU each variant's memory is that of
a process of its own.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch

from benchmarks.machine import describe
from benchmarks.processes import run
from benchmarks.published_step import PublishedStep
from spd_lightning import (
    Faithfulness,
    ImportanceMinimality,
    KeywordCall,
    PersistentAdversary,
    PerSite,
    Reconstruction,
    SharedMLP,
    Speed,
    StochasticDecomposition,
)
from spd_lightning.losses import Noise
from spd_lightning.runs.memory import peak_memory
from spd_lightning.targets import LanguageModel

SIZES = {"width": 128, "layers": 2, "vocabulary": 4096, "length": 128, "batch": 8, "components": 128, "hidden": 256}
StepKind = Literal["published", "plain", "fast"]
TERMS: dict[str, Callable[[], Reconstruction]] = {
    "stochastic": partial(Reconstruction, distance="kl", routing="subset"),
    "persistent": PersistentAdversary,
}


COEFFICIENTS, POWER = {"faithfulness": 1e3, "stochastic": 1.0, "importance": 1e-3}, 0.5


def module_of(options: argparse.Namespace, step: Literal["plain", "fast"], persistent: bool) -> StochasticDecomposition:
    """The decomposition of one variant."""
    torch.manual_seed(0)
    sizes = options.vocabulary, options.length, options.width, options.layers, options.width // 32
    target = LanguageModel("gpt2", *sizes)
    call = KeywordCall(["input_ids", "attention_mask"], weights="attention_mask", output="logits")
    names = ["attn.c_attn[q]", "attn.c_attn[k]", "attn.c_attn[v]", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    sites = {f"transformer.h.*.{name}": options.components * (2 if "mlp" in name else 1) for name in names}
    losses = {
        "faithfulness": Faithfulness(COEFFICIENTS["faithfulness"]),
        "importance": ImportanceMinimality(COEFFICIENTS["importance"], p=POWER),
    }
    losses |= {name: TERMS[name]() for name in (["stochastic", "persistent"] if persistent else ["stochastic"])}
    importance = partial(PerSite, function=partial(SharedMLP, hidden=[options.hidden]))
    module = StochasticDecomposition(
        target, sites, losses=losses, call=call, importance=importance, speed=Speed(step=step)
    )
    module.setup("fit")
    return module.to(options.device)


def stepper(options: argparse.Namespace, step: StepKind, precision: str, persistent: bool) -> Callable[[int], None]:
    """A whole training step of one variant: objective, backward pass, optimiser."""
    module = module_of(options, "fast" if step == "fast" else "plain", persistent)
    device = torch.device(options.device)
    optimizer, _ = module.optimization.build(module.model, 1000, module.fused)
    published = PublishedStep(module.model, COEFFICIENTS, POWER, partial(torch.rand, device=device))
    tokens = torch.randint(options.vocabulary, (options.batch, options.length), device=device)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}

    def take(number: int) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            if step == "published":
                total, _ = published(batch)
            else:
                total, _ = module.objective(batch, Noise((0, "train", number), device), progress=0.5)
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        for loss in module.terms().values():
            loss.after_backward(loss.coefficient)
        optimizer.step()

    return take


def timed(take: Callable[[int], None], number: int, device: str) -> float:
    """Milliseconds of one step."""
    if device == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    take(number)
    if device == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began)


def built(
    options: argparse.Namespace, variant: tuple[StepKind, str, bool]
) -> tuple[Callable[[int], None], float | None]:
    """A variant, warmed up, and the megabytes that it holds at most on a GPU."""
    on_gpu = options.device == "cuda"
    before = torch.cuda.memory_allocated() if on_gpu else 0
    take = stepper(options, *variant)
    for warm in range(3):
        take(warm)
    if not on_gpu:
        return take, memory_in_a_process(options, variant)
    torch.cuda.reset_peak_memory_stats()
    take(3)
    torch.cuda.synchronize()
    return take, (torch.cuda.max_memory_allocated() - before) / 2**20


def memory_in_a_process(
    options: argparse.Namespace, variant: tuple[StepKind, str, bool] = ("fast", "float32", False)
) -> float:
    """Megabytes that a process holds at most beyond what it holds before the first step, over three steps."""
    sizes = [f"--{name}={getattr(options, name)}" for name in SIZES]
    printed = run(["benchmarks.language_model", *sizes, "--device=cpu", "--only", json.dumps(variant)])
    return float(printed.splitlines()[-1])


def _only(options: argparse.Namespace) -> None:
    take = stepper(options, *json.loads(options.only))
    before = peak_memory()
    for number in range(3):
        take(number)
    print((peak_memory() - before) / 2**20)


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Medians of every variant."""
    variants = [
        (step, precision, persistent)
        for persistent in (False, True)
        for precision in options.precisions
        for step in cast(tuple[StepKind, ...], get_args(StepKind))
        if not (persistent and step == "published")  # which has no adversary
    ]
    takers = [built(options, variant) for variant in variants]
    rounds = [[timed(take, number, options.device) for take, _ in takers] for number in range(options.repeats)]
    rows = []
    for variant, (_, memory), times in zip(variants, takers, zip(*rounds, strict=True), strict=True):
        names = dict(zip(("step", "precision", "persistent adversary"), variant, strict=True))
        middle = statistics.median(times)
        tokens = round(options.batch * options.length / middle * 1e3)
        rows.append({**names, "ms": round(middle, 2), "tokens/s": tokens, "peak MB": memory and round(memory)})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Print a line per variant, and write all of them where ``--output`` says."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (SIZES | {"repeats": 15}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bf16"])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return _only(options)
    rows = measured(options)
    if options.output:
        options.output.write_text(json.dumps({"machine": describe(), "options": str(options), "rows": rows}, indent=1))
    return None


if __name__ == "__main__":
    main()
