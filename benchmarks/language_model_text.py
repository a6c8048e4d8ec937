"""How well the target of ``lm/python.yaml`` knows its text: ``python -m benchmarks.language_model_text``.

Bits per character of the held-out documents, beside those of ``zlib`` and of a model of five bytes, and what the target
writes. The target and its tokens come from the cache, or are made as ``make lm`` makes them.
"""

import math
import zlib
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch.utils.data import default_collate

from spd_lightning import LanguageModel, LanguageModelTraining, TextTokens
from spd_lightning.callbacks.text_samples import continued
from spd_lightning.cli.shipped import shipped_configs
from spd_lightning.data.corpus import held_out
from spd_lightning.targets.language_model import next_token_loss

ORDER = 5
BETWEEN = "\0"
"""Stands for the token between documents."""
PROMPTS = ("def ", "import os\n", "class Foo(")
SAMPLE, TEMPERATURE = 60, 0.7


def main() -> None:
    """Train or read the target, and print everything."""
    settings = yaml.safe_load((shipped_configs() / "lm" / "python.yaml").read_text())
    text = TextTokens(**settings["data"]["init_args"])
    recipe = settings["model"]["recipe"]["init_args"]
    network = LanguageModel(**settings["model"]["target"]["init_args"])
    LanguageModelTraining(**(recipe | {"data": text})).prepare(network)
    outside = held_out(text.corpus.digests, text.val_fraction)
    documents = list(text.corpus.documents())
    train, held = (BETWEEN.join(np.array(documents, dtype=object)[chosen]) for chosen in (~outside, outside))
    rows = {
        "the target": target_bits(network, text) / len(held),
        f"{ORDER} bytes, Witten-Bell": five_gram_bits(_bytes(train), _bytes(held)) / len(held),
        "zlib, level 9": 8 * len(zlib.compress(held.encode(), 9)) / len(held),
    }
    print(f"{len(held)} characters held out, {len(train)} to train on")
    print("\n".join(f"{name:28}{bits:.3f} bits per character" for name, bits in rows.items()))
    for prompt in PROMPTS:
        print(f"--- {prompt!r}\n{sample(network, text, prompt)}")


@torch.no_grad()
def target_bits(network: LanguageModel, text: TextTokens) -> float:
    """Bits for all held-out tokens; the first of a window, which nothing comes before, costs a uniform guess."""
    windows: Any = text.windows(held=True)
    nats, predicted, tokens = 0.0, 0.0, 0.0
    for rows in torch.arange(len(windows)).split(64):  # type: ignore[no-untyped-call]
        batch = default_collate([windows[row] for row in rows.tolist()])
        total, count = next_token_loss(network, batch)
        nats, predicted = nats + total.item(), predicted + count.item()
        tokens += batch["attention_mask"].sum().item()
    return (nats + (tokens - predicted) * math.log(network.vocabulary)) / math.log(2)


def five_gram_bits(train: NDArray[np.int64], held: NDArray[np.int64]) -> float:
    """Bits of bytes given the four before them, counts of shorter contexts mixed in by Witten and Bell's rule."""
    probability = np.full(len(held), 1 / 256)
    for order in range(1, ORDER + 1):
        seen, counts = np.unique(_grams(train, order), return_counts=True)
        contexts, place = np.unique(seen // 256, return_inverse=True)
        total = np.bincount(place, counts).astype(float)
        kinds = np.bincount(place).astype(float)
        asked = _grams(held, order)
        own, context = _found(seen, counts, asked), asked // 256
        n, t = _found(contexts, total, context), _found(contexts, kinds, context)
        known = n > 0
        mixed = (own[known] + t[known] * probability[order - 1 :][known]) / (n[known] + t[known])
        probability[order - 1 :][known] = mixed
    return float(-np.log2(probability).sum())


def _bytes(text: str) -> NDArray[np.int64]:
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)


def _grams(text: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Every run of so many bytes as one number."""
    found = np.zeros(len(text) - order + 1, dtype=np.int64)
    for place in range(order):
        found = found * 256 + text[place : len(text) - order + 1 + place]
    return found


def _found(keys: NDArray[np.int64], values: NDArray[Any], asked: NDArray[np.int64]) -> NDArray[np.float64]:
    """The value of each key that is asked for, 0 for one that is not there."""
    places = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[places] == asked, values[places], 0.0)


@torch.no_grad()
def sample(network: LanguageModel, text: TextTokens, prompt: str) -> str:
    """What the target writes after a prompt."""
    (tokens,) = text.tokenizer.encode([prompt])

    def logits_of(ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        return logits

    ids = torch.tensor([[int(token) for token in tokens]])
    return text.tokenizer.decode(continued(logits_of, ids, SAMPLE, TEMPERATURE, network.length)[0].tolist())


if __name__ == "__main__":
    main()
