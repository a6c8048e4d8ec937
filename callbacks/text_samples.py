"""What does the language model write, and what does it write on components?"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from spd_lightning.callbacks.evaluation import EvaluationCallback
from spd_lightning.callbacks.publishing import run_folder, tensorboard
from spd_lightning.errors import UsageError, check_list, check_text, check_whole
from spd_lightning.files.whole import written_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import check_positive
from spd_lightning.methods import Decomposition

Writer = Callable[[Tensor], Tensor]
"""Logits ``[1, positions, vocabulary]`` of tokens ``[1, positions]``."""


class TextSamples(EvaluationCallback):
    """Lets the target, all components together, and the important components alone continue the same text.

    Each draws with the same random numbers, so that differences are the network's. The text is in TensorBoard's TEXT
    tab, the target's own from the beginning of training, and in ``analysis/text_samples.txt``.

    Args:
        prompts: beginnings of texts.
        tokens: how many are written after each.
        temperature: divides the logits before a token is drawn.
        rounding_threshold: importance above which a component is kept.
        every_n_validations: how often text is written while training.

    Raises:
        UsageError: for a value outside its range, and for data without a tokenizer.
    """

    def __init__(
        self,
        prompts: list[str],
        tokens: int = 60,
        temperature: float = 0.7,
        rounding_threshold: float = ALIVE_THRESHOLD,
        every_n_validations: int = 5,
    ) -> None:
        super().__init__(every_n_validations)
        check_list("TextSamples: prompts", prompts)
        for prompt in prompts:
            check_text("TextSamples: prompts: each", prompt)
        check_whole("TextSamples: tokens", tokens, least=1)
        self.prompts, self.tokens = list(prompts), tokens
        self.temperature = check_positive("temperature", temperature)
        self.rounding_threshold = check_positive("rounding_threshold", rounding_threshold, allow_zero=True)

    def on_fit_start(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Show what the target writes before anything is taken apart; refuse data without a tokenizer."""
        self._tokenizer(trainer)
        logger = tensorboard(trainer)
        if trainer.is_global_zero and logger is not None and trainer.ckpt_path is None:
            texts = self._written(trainer, pl_module, {"the target": lambda ids: _target(pl_module, ids)})
            logger.experiment.add_text("text samples", _indented(texts), 0)

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Let all three write; every process runs the network, rank zero shows what came out."""
        writers: dict[str, Writer] = {
            "the target": lambda ids: _target(module, ids),
            "all components": lambda ids: module.model(_batch(ids)),
            f"components above {self.rounding_threshold:g} alone": lambda ids: self._rounded(module, ids),
        }
        texts = self._written(trainer, module, writers)
        folder, logger = run_folder(trainer), tensorboard(trainer)
        if logger is not None and trainer.is_global_zero:
            logger.experiment.add_text("text samples", _indented(texts), trainer.global_step)
        if folder is not None:
            with written_whole(folder / "analysis" / "text_samples.txt") as aside:
                aside.write_text(texts, encoding="utf-8")

    def _rounded(self, module: Decomposition, ids: Tensor) -> Tensor:
        importance = module.model.importance_of(_batch(ids))
        kept = {call: (ci.lower > self.rounding_threshold).to(ci.lower.dtype) for call, ci in importance.items()}
        return module.model.masked(_batch(ids), kept).output

    @torch.no_grad()
    def _written(self, trainer: Trainer, module: Decomposition, writers: Mapping[str, Writer]) -> str:
        tokenizer, parts = self._tokenizer(trainer), []
        longest = getattr(trainer.datamodule, "length", 1024)  # type: ignore[attr-defined]
        for prompt in self.prompts:
            (start,) = tokenizer.encode([prompt])
            for name, logits_of in writers.items():
                ids = torch.tensor([[int(token) for token in start]], device=module.device)
                text = tokenizer.decode(continued(logits_of, ids, self.tokens, self.temperature, longest)[0].tolist())
                parts.append(f"--- {name}, after {prompt!r}\n{text}\n")
        return "\n".join(parts)

    def _tokenizer(self, trainer: Trainer) -> Any:
        tokenizer = getattr(trainer.datamodule, "tokenizer", None)  # type: ignore[attr-defined]
        if tokenizer is None:
            raise UsageError("TextSamples needs data with a tokenizer, such as TextTokens; remove it from callbacks")
        return tokenizer


def continued(logits_of: Writer, ids: Tensor, count: int, temperature: float, longest: int) -> Tensor:
    """Tokens with some more drawn after them.

    Args:
        logits_of: the network.
        ids: tokens to begin with, ``[1, positions]``.
        count: how many are added.
        temperature: divides the logits.
        longest: of a text that is longer the network sees so many tokens at its end.

    Returns:
        ``[1, positions + count]``.
    """
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        odds = (logits_of(ids[:, -longest:])[0, -1].float().cpu() / temperature).softmax(-1)
        drawn = torch.multinomial(odds, 1, generator=generator)
        ids = torch.cat([ids, drawn.to(ids)[None]], 1)
    return ids


def _batch(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _target(module: Decomposition, ids: Tensor) -> Tensor:
    output: Tensor = module.model(_batch(ids), ablated={})
    return output


def _indented(text: str) -> str:
    return "    " + text.replace("\n", "\n    ")
