"""Time and memory of a harvest, on a language model with gates that open seldom.

    python -m benchmarks.harvest_cost [--components N ...] [--positions N ...]

Positions grow while components stay, and components while positions stay; every case is a process of its own. Prints
the tables that docs/analysis.md quotes: seconds of the processor, among them those of the network and its importances
and those of the rows that are written in the end; megabytes above the model, those of the harvest and of the rows; and
how time and memory grow.
"""

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.growth import forget_peak, measured
from spd_lightning import DecomposedModel, GateMLP, KeywordCall, PerSite
from spd_lightning.analysis.harvest import gather, options
from spd_lightning.analysis.harvest_rows import rows
from spd_lightning.analysis.harvest_tally import Tally
from spd_lightning.functional import ALIVE_THRESHOLD, keyed_generator
from spd_lightning.runs.memory import peak_memory
from spd_lightning.targets import LanguageModel

SIZES = {"positions": (1 << 14, 1 << 15, 1 << 16), "components": (1_000, 2_000, 4_000)}
STAYING = {"positions": 1 << 14, "components": 1_000}
"""What one of them is while the other grows."""
ROWS, LENGTH, VOCABULARY, WIDTH = 16, 128, 1000, 64
AT_ONCE = 50
"""Components that are important at a position, in the mean."""
SITES = ("transformer.h.0.mlp.c_fc", "transformer.h.0.mlp.c_proj")


def batches(n_positions: int) -> Iterator[dict[str, Tensor]]:
    """Tokens whose frequencies fall like one over their rank."""
    frequency = 1 / torch.arange(1, VOCABULARY + 1)
    for number in range(n_positions // (ROWS * LENGTH)):
        generator = keyed_generator("harvest cost", number)
        tokens = torch.multinomial(frequency, ROWS * LENGTH, replacement=True, generator=generator)
        yield {"input_ids": tokens.reshape(ROWS, LENGTH)}


@torch.no_grad()
def seldom(n_components: int) -> DecomposedModel:
    """A decomposition whose gates are set on one batch, so that each opens at an equal share of the positions."""
    torch.manual_seed(0)
    target = LanguageModel("gpt2", VOCABULARY, LENGTH, WIDTH, 1, 2)
    call = KeywordCall(["input_ids"], output="logits")
    gates = partial(PerSite, function=partial(GateMLP, hidden=[]))
    model = DecomposedModel(target, dict.fromkeys(SITES, n_components // len(SITES)), call=call, importance=gates)
    logits = model.importance_of(next(batches(ROWS * LENGTH)))
    assert isinstance(model.importance_function, PerSite)
    for site, gate in zip(SITES, model.importance_function.functions.values(), strict=True):
        assert isinstance(gate, GateMLP)
        flat = logits[site].logits.flatten(0, -2)
        rank = int(len(flat) * (1 - AT_ONCE / n_components))
        scale, bar = flat.std(0), flat.sort(0).values[rank]
        gate.weights[-1][:, 0, 0] /= scale
        gate.biases[-1][:, 0] = (gate.biases[-1][:, 0] - bar) / scale + ALIVE_THRESHOLD
    return model


@torch.no_grad()
def measure(n_components: int, n_positions: int) -> dict[str, float]:
    """Harvest once in this process."""
    model = seldom(n_components)
    tally = Tally(model, options())
    forget_peak()
    before, began = peak_memory(), time.process_time()
    gather(tally, model, batches(n_positions))
    passed, found = time.process_time() - began, tally.result()
    written = sum(len(json.dumps(row)) for row in rows(found))
    seconds, peak = time.process_time() - began, peak_memory()
    began = time.process_time()
    for batch in batches(n_positions):
        model.importance_of(batch)
    return {
        "components": n_components,
        "positions": n_positions,
        "important at a position": sum(float(one.density.sum()) for one in found.calls.values()),
        "seconds": seconds,
        "network": time.process_time() - began,
        "rows": seconds - passed,
        "MB": (peak - before) / 1e6,
        "kept": sum(tensor.nbytes for tensor in tally.tensors().values()) / 1e6,
        "text": written / 1e6,
    }


def main() -> None:
    """Measure all cases, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    measured(parser, SIZES, STAYING, measure)


if __name__ == "__main__":
    main()
