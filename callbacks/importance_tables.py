"""Importances of all components, row by row, kept to be looked at."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from spd_lightning.callbacks.evaluation import SEQUENCES, EvaluationCallback, has_probes, probes_of, tables_of
from spd_lightning.callbacks.publishing import MOST_KEPT, keep_arrays, run_folder, weights_of
from spd_lightning.errors import check_text, check_whole
from spd_lightning.functional import pattern_order
from spd_lightning.losses import Step, check_positive
from spd_lightning.methods import Decomposition
from spd_lightning.model import CausalImportance, ComponentModel
from spd_lightning.model.call import class_numbers
from spd_lightning.runs.analysis_files import FOLDER
from spd_lightning.targets import KnownMechanisms, OwnProbes

FORMAT = 1
MOST_OF_STEP = 1 << 22
"""Bytes of one validation's importances that are kept."""
MOST_STEPS, KEPT = 64, "importances.safetensors"


@dataclass(frozen=True)
class _Rows:
    """Importances ``[rows, C]`` by site call, with a label for each row."""

    tables: dict[str, Tensor]
    labels: list[str]


class ImportanceTables(EvaluationCallback):
    """Keeps importances for the Components tab of TensorBoard: a row per probe, or per position of a piece of data.

    Rows are the one-hot probes of the data; where the target has probes of its own, the positions of the first four;
    elsewhere the positions of the first example of a validation or test, or its first examples where they have no
    positions. Site calls with another number of positions than most are left out.

    ``analysis/importances.safetensors`` holds the last: ``values/CALL``, lower-leaky importances in half precision,
    ``[rows, C]``, and ``order/CALL``, the components as pictures order them: by the row that each matches best, one to
    one. Those of validations while training are in ``analysis/steps/step=N/`` too, where they fit into 4 MB; of
    more than 64 some are removed, so that the rest is spread over the run.

    Args:
        probe: magnitude of the one-hot probes.
        rows: positions or examples that are kept where there are no probes.
        tokens: name of the batch's entry that holds tokens, by which positions are called.
        every_n_validations: how often they are kept while training.
    """

    def __init__(
        self, probe: float = 0.75, rows: int = 128, tokens: str = "input_ids", every_n_validations: int = 1
    ) -> None:
        super().__init__(every_n_validations)
        self.probe = check_positive("probe", probe)
        check_whole("ImportanceTables: rows", rows, least=1)
        check_text("ImportanceTables: tokens", tokens)
        self.rows, self.tokens = rows, tokens

    def start(self, trainer: Trainer, module: Decomposition) -> None:
        """Nothing is seen yet."""
        self._seen: _Rows | None = None

    def update(self, trainer: Trainer, module: Decomposition, step: Step) -> None:
        """Take the first rows of the first batch, where there are no probes."""
        if self._seen is None and not has_probes(trainer, module):
            self._seen = self._of_data(step, getattr(trainer.datamodule, "tokenizer", None))  # type: ignore[attr-defined]

    def finish(self, trainer: Trainer, module: Decomposition, stage: str) -> None:
        """Write them on rank zero."""
        probed = has_probes(trainer, module)
        found = self._of_probes(trainer, module) if probed else self._seen
        weights = weights_of(trainer, module)
        if found is None or not trainer.is_global_zero:
            return
        about = {"format": FORMAT, "step": trainer.global_step, "rows": "probes" if probed else "positions"}
        notes = {"importances": json.dumps(about | {"row_labels": found.labels, "weights": weights})}
        arrays = _arrays(found.tables, module)
        keep_arrays(trainer, "importances", arrays, notes)
        if trainer.state.fn == "fit":
            keep_arrays(trainer, f"steps/step={trainer.global_step}/importances", arrays, notes, MOST_OF_STEP)
            _thin(run_folder(trainer))

    def _of_probes(self, trainer: Trainer, module: Decomposition) -> _Rows:
        own = isinstance(module.target, OwnProbes)
        probes = probes_of(trainer, module, self.probe)[: SEQUENCES if own else None]
        lower = _alike(module.model, module.model.importance_of(probes))
        shape = _shape(lower)
        places = torch.ones(shape).nonzero().tolist()
        if own:
            tokens = _whole_numbers(probes, shape)
            labels = [_place(place) + ("" if tokens is None else f": {tokens[tuple(place)]}") for place in places]
        else:
            labels = [_place(place).replace("example", "feature") for place in places]
        return _Rows({call: table.flatten(0, -2) for call, table in lower.items()}, labels)

    def _of_data(self, step: Step, tokenizer: Any) -> _Rows | None:
        lower = _alike(step.model, step.importance)
        weights, shape = step.weights_of(next(iter(lower.values()))), _shape(lower)
        places = (torch.ones(shape) if weights is None else (weights > 0).cpu()).nonzero()
        if len(shape) > 1:  # positions of the first example that has any
            places = places[places[:, 0] == places[:1, 0]]
        width = sum(table.shape[-1] for table in lower.values())
        places = places[: min(self.rows, max(MOST_KEPT // (2 * width), 1))]
        if not len(places):
            return None
        rows = {call: table[places.to(table.device).unbind(1)] for call, table in lower.items()}
        return _Rows(rows, _labels(places.tolist(), self._numbers(step, shape), tokenizer))

    def _numbers(self, step: Step, shape: torch.Size) -> Tensor | None:
        """The token at every position, or the class of every example, where the batch says."""
        if len(shape) == 1:
            return _whole_numbers(step.model.call.labels_of(step.batch), shape)
        batch = step.batch
        named = batch.get(self.tokens) if isinstance(batch, Mapping) else batch
        return _whole_numbers(named[0] if isinstance(named, list | tuple) and named else named, shape)


def _thin(run: Path | None) -> None:
    """Where there are too many validations, let go of the one that is missed least: its neighbours stand closest."""
    found = () if run is None else (run / FOLDER / "steps").glob(f"step=*/{KEPT}")
    named = ((path.parent.name.removeprefix("step="), path) for path in found)
    kept = {int(step): path for step, path in named if step.isdigit()}
    if len(kept) > MOST_STEPS:
        steps = sorted(kept)
        gaps = [after - before for before, after in zip(steps, steps[2:], strict=False)]
        kept[steps[1 + gaps.index(min(gaps))]].unlink()


def _arrays(tables: Mapping[str, Tensor], module: Decomposition) -> dict[str, Tensor]:
    known = module.target.known_mechanisms() if isinstance(module.target, KnownMechanisms) else {}
    arrays = {}
    for call, table in tables.items():
        kind = known[call].kind if call in known else None
        arrays[f"values/{call}"] = table.half()
        arrays[f"order/{call}"] = pattern_order(table.float(), kind).int()
    return arrays


def _alike(model: ComponentModel, found: Mapping[str, CausalImportance]) -> dict[str, Tensor]:
    """The different lower-leaky importances, of the site calls with as many examples and positions as most."""
    tables = {call: found[call].lower.detach() for call in tables_of(model, found).values()}
    (commonest, _), *_ = Counter(table.shape[:-1] for table in tables.values()).most_common(1)
    return {call: table for call, table in tables.items() if table.shape[:-1] == commonest}


def _shape(tables: Mapping[str, Tensor]) -> torch.Size:
    return next(iter(tables.values())).shape[:-1]


def _whole_numbers(found: Any, shape: torch.Size) -> Tensor | None:
    """A tensor of whole numbers of a shape, or nothing."""
    numbers = class_numbers(found)
    return None if numbers is None or numbers.shape != shape else numbers.cpu()


def _labels(places: list[list[int]], numbers: Tensor | None, tokenizer: Any) -> list[str]:
    """A text for each row: its token, its place, or its example and class."""
    if numbers is None:
        return [_place(place) for place in places]
    found = [int(numbers[tuple(place)]) for place in places]
    if len(places[0]) == 1:
        return [f"{_place(place)}, class {number}" for place, number in zip(places, found, strict=True)]
    return [str(number) if tokenizer is None else str(tokenizer.decode([number])) for number in found]


def _place(place: list[int]) -> str:
    """An example, and its position where it has some."""
    return f"example {place[0]}" + "".join(f", position {index}" for index in place[1:])
