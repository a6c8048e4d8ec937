"""Which components of a language model can be named by a token?"""

import json
import sys
from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.distributed import all_gather_object, get_world_size, is_initialized

from spd_lightning.analysis import TokenCounts, TokenReading
from spd_lightning.callbacks.evaluation import EvaluationCallback, tables_of
from spd_lightning.callbacks.publishing import run_folder, tensorboard
from spd_lightning.errors import UsageError, check_text, check_whole
from spd_lightning.files.whole import written_whole
from spd_lightning.functional import ALIVE_THRESHOLD
from spd_lightning.losses import Step, check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model.call import IGNORED

Side = Literal["on", "before"]
WORDS = {"on": "on the token", "before": "before the token"}


class TokenReadings(EvaluationCallback):
    """Says for every component which token it goes with best, and prints those that a token names best.

    A component may be important *on* a token or *before* one. For each the token with the highest F1 is taken:
    precision is the share of the component's positions that have the token, recall the share of the token's positions
    on which the component is important. The list is printed after a test and shown in TensorBoard's TEXT tab; readings
    of all components go to ``analysis/token_readings.json``.

    A reading is a correlation on held-out text. That a component fires on a token does not say what it does there.

    Args:
        tokens: name of the batch's entry that holds the tokens, ``[rows, positions]``.
        threshold: importance above which a component counts as important.
        shown: how many are printed.
        fewest: positions on which a component has to be important to be printed.
        every_n_validations: how often readings are taken while training.

    Raises:
        UsageError: for a value outside its range, and for batches without that entry.
    """

    def __init__(
        self,
        tokens: str = "input_ids",
        threshold: float = ALIVE_THRESHOLD,
        shown: int = 12,
        fewest: int = 10,
        every_n_validations: int = 5,
    ) -> None:
        super().__init__(every_n_validations)
        check_text("TokenReadings: tokens", tokens)
        self.tokens = tokens
        self.threshold = check_positive("threshold", threshold, allow_zero=True)
        check_whole("TokenReadings: shown", shown, least=1)
        check_whole("TokenReadings: fewest", fewest, least=1)
        self.shown, self.fewest = shown, fewest
        self._printed = ""

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Nothing is counted yet."""
        self._counts: dict[tuple[str, Side], TokenCounts] = {}
        self._printed = ""

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Count one batch; sites without a row of importances per token are passed over."""
        tokens = step.batch.get(self.tokens) if isinstance(step.batch, Mapping) else None
        if not isinstance(tokens, Tensor):
            raise UsageError(f"TokenReadings: batches have no entry {self.tokens!r}; name the one that holds tokens")
        labels = step.model.call.labels_of(step.batch)
        for title, call in tables_of(module.model, step.importance).items():
            fires = step.importance[call].lower > self.threshold
            if fires.shape[:-1] != tokens.shape:
                continue
            self._count(title, "on", step, fires, tokens)
            if labels is not None and labels.shape == tokens.shape:
                self._count(title, "before", step, fires, labels)

    def _count(self, title: str, side: Side, step: Step, fires: Tensor, tokens: Tensor) -> None:
        fires, tokens = step.counted(fires), step.counted(tokens[..., None])[..., 0]
        fires, tokens = fires.reshape(-1, fires.shape[-1]), tokens.flatten()
        known = tokens != IGNORED
        counts = self._counts.setdefault((title, side), TokenCounts(fires.shape[-1]))
        counts.update(fires[known], tokens[known])

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Put together what all processes counted; write and show it on rank zero."""
        counts = _over_processes(self._counts)
        if not trainer.is_global_zero or not counts:
            return
        readings = {key: (some.positions, some.reading()) for key, some in counts.items()}
        rows = _rows(readings, trainer)
        folder, logger = run_folder(trainer), tensorboard(trainer)
        named = [row for row in rows if row["firings"] >= self.fewest][: self.shown]
        self._printed = _said(named)
        if folder is not None:
            with written_whole(folder / "analysis" / "token_readings.json") as aside:
                aside.write_text(json.dumps({"threshold": self.threshold, "readings": rows}, indent=1) + "\n")
        if logger is not None and self._printed:
            text = "    " + self._printed.replace("\n", "\n    ")
            logger.experiment.add_text("token readings", text, trainer.global_step)

    def on_test_end(self, trainer: Trainer, pl_module: Decomposition) -> None:  # type: ignore[override]
        """Print the list, after the scores."""
        if self._printed:
            sys.stdout.write(f"\n{self._printed}\n")


def _over_processes(counts: dict[tuple[str, Side], TokenCounts]) -> dict[tuple[str, Side], TokenCounts]:
    if not is_initialized():
        return counts
    gathered: list[Any] = [None] * get_world_size()
    all_gather_object(gathered, counts)
    first, *others = gathered
    for other in others:
        for key, some in other.items():
            if key in first:
                first[key].add(some)
            else:
                first[key] = some
    return dict(first)


def _rows(readings: Mapping[tuple[str, Side], tuple[int, TokenReading]], trainer: Trainer) -> list[dict[str, Any]]:
    """A row for every component that was important anywhere, with the better of its two sides.

    The best come first, of equally good ones those with more to show for it.
    """
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for (site, side), (positions, reading) in readings.items():
        f1 = reading.f1
        for component in torch.nonzero(reading.tokens >= 0)[:, 0].tolist():
            if f1[component] <= best.get((site, component), {"f1": -1})["f1"]:
                continue
            best[site, component] = {
                "site": site,
                "component": component,
                "side": side,
                "token": int(reading.tokens[component]),
                "text": _text(trainer, int(reading.tokens[component])),
                "firings": int(reading.firings[component]),
                "density": int(reading.firings[component]) / positions,
                "precision": round(float(reading.precision[component]), 4),
                "recall": round(float(reading.recall[component]), 4),
                "f1": float(f1[component]),
            }
    rows = sorted(best.values(), key=lambda row: (-row["f1"], -row["firings"], row["site"], row["component"]))
    return [{**row, "f1": round(row["f1"], 4)} for row in rows]


def _text(trainer: Trainer, token: int) -> str:
    tokenizer = getattr(trainer.datamodule, "tokenizer", None)  # type: ignore[attr-defined]
    return str(token) if tokenizer is None else str(tokenizer.decode([token]))


def _said(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    names = [f"{row['site']}:{row['component']}" for row in rows]
    width = max(map(len, names))
    lines = [
        f"  {name:{width}}  {WORDS[row['side']]} {row['text']!r}: {row['precision']:.0%} of its {row['firings']} "
        f"positions, {row['recall']:.0%} of the token's"
        for name, row in zip(names, rows, strict=True)
    ]
    return "\n".join(["components that a token names best", *lines])
