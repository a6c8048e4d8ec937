"""Small language models that are trained once on text, to be taken apart."""

import math
import sys
from collections.abc import Sized
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

from spd_lightning.errors import UsageError, check_below_one, check_choice, check_whole
from spd_lightning.files.token_data import TokenData
from spd_lightning.functional import keyed_generator
from spd_lightning.functional.schedules import LRSchedule
from spd_lightning.targets.hugging_face import AdoptedModel, transformers_library
from spd_lightning.targets.training import TargetTraining

Family = Literal["gpt2", "llama"]
WIDER = 4
"""How much wider than the stream an MLP is."""
HELD_OUT_WINDOWS = 1024
"""So many at most are looked at for the loss on text that is held out."""


class LanguageModel(AdoptedModel):
    """A causal transformer of random weights, built by ``transformers``; modules have the names of its family.

    Args:
        family: ``gpt2``, whose embedding and unembedding are one matrix, or ``llama``, whose are two.
        vocabulary: number of tokens.
        length: largest number of positions.
        width: of the residual stream.
        layers: number of blocks.
        heads: number of attention heads.

    Raises:
        UsageError: for a value outside its range, or a width that the heads cannot share.
    """

    def __init__(
        self,
        family: Family = "gpt2",
        vocabulary: int = 2048,
        length: int = 128,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        check_choice("target: family", family, get_args(Family))
        sizes = {"vocabulary": vocabulary, "length": length, "width": width, "layers": layers, "heads": heads}
        for name, size in sizes.items():
            check_whole(f"target: {name}", size, least=1)
        if width % (2 * heads):  # rotary positions turn pairs of numbers
            raise UsageError(f"target: width must be a multiple of twice the heads, got {width} and {heads}")
        super().__init__(_random(family, **sizes))
        self.family, self.vocabulary, self.length = family, vocabulary, length
        self.width, self.layers, self.heads = width, layers, heads

    @staticmethod
    def declared_size(
        family: str = "gpt2",
        vocabulary: int = 2048,
        length: int = 128,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
    ) -> int:
        """About how many numbers a model of these arguments has, asked before it is built."""
        for name, size in {"vocabulary": vocabulary, "width": width, "layers": layers}.items():
            check_whole(f"config.json: {name}", size, least=1)
        tables = vocabulary + (length if family == "gpt2" else vocabulary)
        return tables * width + layers * (4 + 2 * WIDER) * width**2

    def reset_parameters(self) -> None:
        """Draw new weights from torch's global generator."""
        sizes = {name: getattr(self, name) for name in ("vocabulary", "length", "width", "layers", "heads")}
        self.load_state_dict(_random(self.family, **sizes).state_dict())


def _random(family: str, vocabulary: int, length: int, width: int, layers: int, heads: int) -> nn.Module:
    library = transformers_library()
    common = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0}
    if family == "gpt2":
        undisturbed = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        sizes = {"n_positions": length, "n_embd": width, "n_layer": layers, "n_head": heads, "n_inner": WIDER * width}
        # the same GELU as GPT-2's, in one operation instead of eight
        config = library.GPT2Config(**common, **undisturbed, **sizes, activation_function="gelu_pytorch_tanh")
    else:
        config = library.LlamaConfig(
            **common,
            max_position_embeddings=length,
            hidden_size=width,
            intermediate_size=WIDER * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
        )
    built: nn.Module = library.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return built


class LanguageModelTraining(TargetTraining):
    """Train a :class:`LanguageModel` to predict the next token, once, and keep the result in the cache.

    Cross entropy, AdamW, gradients of norm 1 at most, windows drawn with replacement; on a GPU where there is one. The
    loss on held-out text is told after training.

    Args:
        data: the text, a ``TextTokens``; in a config the same as ``data``, by a YAML anchor.
        steps: number of updates.
        batch_size: windows per update.
        lr: largest learning rate.
        weight_decay: AdamW's.
        beta1: AdamW's, of the mean of gradients.
        beta2: AdamW's, of the mean of their squares.
        warmup_fraction: share of the updates over which the learning rate rises from 0.
        schedule: learning rate after that.
        seed: seeds the start and the batches.

    Raises:
        UsageError: for a value outside its range; later, for a network that it cannot train on this text.
    """

    given_by_caller = ("data",)
    """Described by a hash of what it holds."""
    clip_norm = 1.0
    told_every = 20

    def __init__(
        self,
        data: TokenData,
        steps: int = 2000,
        batch_size: int = 32,
        lr: float = 3e-3,
        weight_decay: float = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.99,
        warmup_fraction: float = 0.05,
        schedule: LRSchedule = "half_cosine",
        seed: int = 0,
    ) -> None:
        super().__init__(steps, batch_size, lr, weight_decay, schedule, seed)
        for name, value in {"beta1": beta1, "beta2": beta2, "warmup_fraction": warmup_fraction}.items():
            check_below_one(f"recipe: {name}", value)
        self.data, self.beta1, self.beta2, self.betas = data, beta1, beta2, (beta1, beta2)
        self.warmup_fraction = warmup_fraction

    def description(self, network: nn.Module) -> dict[str, Any]:
        """The network and the recipe, with a hash in the place of the text."""
        described = super().description(network)
        described["recipe"]["init_args"]["data"] = self.data.fingerprint()
        return described

    def prepare(self, network: nn.Module) -> None:
        """Load the trained weights from the cache, or train and fill it."""
        if not isinstance(network, LanguageModel):
            raise UsageError(
                f"recipe: LanguageModelTraining trains a LanguageModel, not a {type(network).__name__}; use recipe: "
                "null for weights that are there, or LoadedWeights"
            )
        self.data.check_fits(network)
        super().prepare(network)

    def reset(self, network: nn.Module) -> None:
        """The network's own way."""
        cast(LanguageModel, network).reset_parameters()

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Mean cross entropy of the next token on windows of this step."""
        windows = self._windows()
        generator = keyed_generator(self.seed, step, "target training")
        rows = torch.randint(len(cast(Sized, windows)), (self.batch_size,), generator=generator)
        total, count = next_token_loss(network, default_collate([windows[row] for row in rows.tolist()]))
        return total / count.clamp(min=1)

    @torch.no_grad()
    def held_out_loss(self, network: nn.Module) -> float | None:
        """Mean cross entropy of the next token on text that is held out, in nats; ``None`` where none is."""
        windows = self.data.windows(held=True)
        if windows is None:
            return None
        held = len(cast(Sized, windows))
        numbers = torch.linspace(0, held - 1, min(held, HELD_OUT_WINDOWS)).long()  # from all over the text
        sums = torch.zeros(2, dtype=torch.float64)
        for rows in numbers.split(self.batch_size):  # type: ignore[no-untyped-call]
            total, count = next_token_loss(network, default_collate([windows[row] for row in rows.tolist()]))
            sums += torch.stack([total, count]).cpu()
        return float(sums[0] / sums[1].clamp(min=1))

    def _windows(self) -> Dataset[Any]:
        return cast(Dataset[Any], self.data.windows())

    def _optimise(self, network: nn.Module) -> None:
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        try:
            super()._optimise(network)
            held = self.held_out_loss(network)
        finally:
            network.to("cpu")
        if held is not None:
            uniform = math.log(cast(LanguageModel, network).vocabulary)
            tqdm.write(
                f"The target's loss on held-out text is {held:.3f} nats a token (uniform guesses: {uniform:.3f})",
                file=sys.stderr,
            )


def next_token_loss(network: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Cross entropy of every token given those before it, summed, and how many count.

    Args:
        network: a causal language model.
        batch: ``input_ids`` and ``attention_mask``, both ``[rows, positions]``.

    Returns:
        The sum over tokens whose mask is not 0, and their number; both scalars.
    """
    device = next(network.parameters()).device
    ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    logits = network(input_ids=ids, attention_mask=mask).logits[:, :-1]
    weights = (mask[:, 1:] * mask[:, :-1]).flatten().to(logits.dtype)
    each = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (each * weights).sum(), weights.sum()
