"""A harvest on disk: gone on with where it was stopped, never put in the place of another."""

import json
import time
from pathlib import Path

from safetensors.torch import save_file

from spd_lightning.analysis.call_tally import HarvestOptions
from spd_lightning.analysis.end_rows import EndRows
from spd_lightning.analysis.harvest import Harvest, Tally
from spd_lightning.analysis.harvest_rows import Decode, rows
from spd_lightning.errors import UsageError
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.tensors import read_notes, read_safetensors
from spd_lightning.files.whole import check_free, is_file, written_whole
from spd_lightning.model import ComponentModel
from spd_lightning.runs.analysis_files import FOLDER, HARVEST, ROWS

PART = "harvest.part.safetensors"
FORMAT = 1
NOTE = "harvest"
"""The one note of the file: of several, the order would not be the same every time."""
INTERVAL_S = 60.0
"""Seconds between two savings of an unfinished harvest."""


def read_harvest(run: Path, model: ComponentModel) -> Harvest:
    """The finished harvest of a run.

    Args:
        run: the run directory.
        model: its decomposition.

    Raises:
        UsageError: if there is none, it is damaged, or it is of other weights.
    """
    path = run / FOLDER / HARVEST
    if not is_file(path):
        unfinished = ", begun but not finished" if is_file(run / FOLDER / PART) else ""
        raise UsageError(f"{str(run)!r} has no harvest{unfinished}; python -m spd_lightning.analysis harvest makes one")
    tally = _read(path)
    if tally.weights != fingerprint(model):
        raise UsageError(f"{str(path)!r} is of other weights than the run's components; move it away and harvest anew")
    return tally.result()


def _read(path: Path) -> Tally:
    tensors = read_safetensors(path, "harvest")
    try:
        notes = json.loads(read_notes(path)[NOTE])
        if notes["format"] != FORMAT:
            raise ValueError("another format")
        return Tally.of(notes, tensors)
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError):
        raise UsageError(f"{str(path)!r} is damaged, or no harvest that this version reads; move it away") from None


class HarvestFiles:
    """The files of a run's harvest.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        folder = run / FOLDER
        self.done, self.rows, self.part = folder / HARVEST, folder / ROWS, folder / PART
        self._saved = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether there is a finished harvest."""
        return is_file(self.done)

    def begun(self, model: ComponentModel, options: HarvestOptions) -> Tally | None:
        """What there is of a harvest: all of it, where it was stopped, or nothing.

        Args:
            model: the run's decomposition.
            options: what is harvested.

        Raises:
            UsageError: if there is a harvest of other weights or with other options, or a damaged one.
        """
        path = next((path for path in (self.done, self.part) if is_file(path)), None)
        if path is None:
            check_free(self.rows)
            return None
        tally = _read(path)
        if tally.weights != fingerprint(model):
            raise UsageError(f"{str(path)!r} is of other weights than the run's components; move it away")
        if tally.options != options:
            raise UsageError(
                f"{str(path)!r} was made with other options: {tally.options}; move it away, or repeat them"
            )
        return tally

    def save(self, tally: Tally) -> None:
        """Keep an unfinished harvest, if it is time to."""
        if time.monotonic() - self._saved >= INTERVAL_S:
            _write(tally, self.part)
            self._saved = time.monotonic()

    def finish(self, tally: Tally, decode: Decode | None = None, ends: EndRows | None = None) -> None:
        """Write the files of a harvest that is complete.

        Args:
            tally: the harvest.
            decode: gives the text of tokens; ``None`` where there is none.
            ends: what components read and write at the ends of the network.
        """
        _write(tally, self.part)  # by which rows without a harvest beside them are known as ours, if this is killed
        with written_whole(self.rows) as aside, aside.open("w", encoding="utf-8") as file:
            for row in rows(tally.result(), decode, ends):
                file.write(json.dumps(row) + "\n")
        _write(tally, self.done)
        self.clear()

    def clear(self) -> None:
        """Remove what was kept of an unfinished harvest."""
        self.part.unlink(missing_ok=True)


def _write(tally: Tally, path: Path) -> None:
    notes = {NOTE: json.dumps({"format": FORMAT, **tally.notes()})}
    with written_whole(path) as aside:
        save_file({name: tensor.contiguous().clone() for name, tensor in tally.tensors().items()}, aside, notes)
