"""An edited network on the disk, with the report beside it."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spd_lightning.analysis.edit_effect import EditReport
from spd_lightning.analysis.edit_outcomes import Outcome
from spd_lightning.analysis.editing import Edit
from spd_lightning.analysis.result_files import number_or_none
from spd_lightning.files.whole import folder_written_whole
from spd_lightning.targets.originals import write_original

REPORT_NAME = "edit.json"


def save_edited(
    network: nn.Module, folder: str | Path, report: EditReport | None = None, tokenizer: Any = None
) -> None:
    """Write an edited network into a new folder, so that it loads without this package.

    A model of ``transformers`` becomes a folder for its ``from_pretrained``, any other network a state dict in
    ``model.safetensors``, both under the names that the modules had originally. The folder appears with all of its
    files, or not at all.

    Args:
        network: what :func:`spd_lightning.analysis.edited` gave.
        folder: a name that is free.
        report: goes into ``edit.json``.
        tokenizer: of the text that the network reads, written where the network brings none of its own; has a method
            ``write(folder)``. Ignored for what is no model of ``transformers``.

    Raises:
        UsageError: if the name is taken, or the disk refuses.
    """
    with folder_written_whole(Path(folder)) as aside:
        write_original(network, aside)
        if tokenizer is not None and (aside / "config.json").exists() and not list(aside.glob("tokenizer*")):
            tokenizer.write(aside)
        if report is not None:
            (aside / REPORT_NAME).write_text(json.dumps(as_json(report), indent=1) + "\n")


def as_json(report: EditReport) -> dict[str, Any]:
    """A report as plain data; what is not a number is ``null``."""
    return {
        "edits": [_edit(edit) for edit in report.edits],
        "distance": report.distance,
        "threshold": report.threshold,
        "positions": report.positions,
        "share_where_important": report.share,
        "size": report.size,
        "relative_size": {name: number_or_none(size) for name, size in report.relative_size.items()},
        "fitted": report.fitted,
        "edited": {name: number_or_none(value[0].item()) for name, value in _columns(report.edited).items()},
        "controls": {kind: _spread(outcome) for kind, outcome in report.controls.items()},
    }


def _edit(edit: Edit) -> dict[str, Any]:
    towards = edit.towards.tolist() if isinstance(edit.towards, Tensor) else edit.towards
    return {"site": edit.site, "component": edit.component, "factor": edit.factor, "towards": towards}


def _columns(outcome: Outcome) -> dict[str, Tensor]:
    return {name: getattr(outcome, name) for name in ("effect", "elsewhere", "loss_effect", "loss_elsewhere")}


def _spread(outcome: Outcome) -> dict[str, Any]:
    """Mean and standard deviation over draws, and every draw."""
    return {
        name: {
            "mean": number_or_none(values.mean().item()),
            "std": number_or_none(values.std(correction=0).item()),
            "draws": [number_or_none(value) for value in values.tolist()],
        }
        for name, values in _columns(outcome).items()
    }
