"""What components read and write at the ends of a network, with names, as plain data."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spd_lightning.analysis.ends import Ends, strongest
from spd_lightning.analysis.firings import Firings
from spd_lightning.model import DecomposedModel

SHOWN = 5
Entries = dict[int, list[dict[str, Any]]]


class EndRows:
    """The strongest inputs and outputs of components at the ends of a network.

    A read vector has length 1, so that a weight is a cosine with its input; a write vector is what the component puts
    out when that unit vector is read. The two may change sign together.

    Args:
        model: the decomposition.
        found: where the ends are.
        firings: components that never fire are passed over.
        tokenizer: names tokens; ``None`` where there are none.
    """

    def __init__(self, model: DecomposedModel, found: Ends, firings: Firings, tokenizer: Any = None) -> None:
        self._tokenizer = tokenizer
        alive = torch.split(firings.often() > 0, list(firings.counts.values()))
        self._reads: dict[str, Entries] = {}
        self._writes: dict[str, Entries] = {}
        for site, fires in zip(firings.counts, alive, strict=True):
            chosen, parts = fires.nonzero()[:, 0], model.components[site]
            read = parts.V.detach().T[chosen.to(parts.V.device)]
            lengths = read.norm(dim=1, keepdim=True).clamp_min(torch.finfo(read.dtype).tiny)
            if site in found.read and len(chosen):
                best = strongest(read / lengths, found.read[site], SHOWN)
                self._reads[site] = _named(chosen, *best, partial(self._input, found.inputs[site]))
            if site in found.written and len(chosen):
                wrote = parts.U.detach()[chosen.to(parts.U.device)] * lengths
                best = strongest(wrote, found.written[site], SHOWN)
                self._writes[site] = _named(chosen, *best, partial(self._output, found.outputs))

    def of(self, site: str, component: int) -> dict[str, Any]:
        """Entries ``reads`` and ``writes`` of a row, where the site stands at an end of the network."""
        sides = {"reads": self._reads, "writes": self._writes}
        return {side: found[site].get(component, []) for side, found in sides.items() if site in found}

    def _input(self, shape: tuple[int, ...], number: int) -> str:
        if not shape:
            return self._token(number)
        places = ",".join(str(int(place)) for place in torch.unravel_index(torch.tensor(number), shape))
        return f"pixel {places}" if len(shape) > 1 else f"input {number}"

    def _output(self, count: int, number: int) -> str:
        """Text of a token where there are as many outputs as tokens."""
        return f"output {number}" if count < getattr(self._tokenizer, "size", math.inf) else self._token(number)

    def _token(self, number: int) -> str:
        known = number < getattr(self._tokenizer, "size", 0)  # a model's vocabulary may be padded
        return str(self._tokenizer.decode([number])) if known else f"token {number}"


def _named(chosen: Tensor, values: Tensor, numbers: Tensor, name: Callable[[int], str]) -> Entries:
    return {
        component: [
            {"index": number, "name": name(number), "weight": float(f"{value:.4g}")}
            for value, number in zip(row, places, strict=True)
        ]
        for component, row, places in zip(chosen.tolist(), values.tolist(), numbers.tolist(), strict=True)
    }
