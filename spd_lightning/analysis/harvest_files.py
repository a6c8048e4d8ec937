"""A harvest on disk: gone on with where it was stopped, never put in the place of another."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from spd_lightning.analysis.call_tally import HarvestOptions
from spd_lightning.analysis.end_rows import EndRows
from spd_lightning.analysis.harvest_rows import Decode, rows
from spd_lightning.analysis.harvest_tally import WHOLE, Harvest, Share, Tally
from spd_lightning.errors import UsageError
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.tensors import read_notes, read_safetensors
from spd_lightning.files.whole import check_free, is_file, written_whole
from spd_lightning.model import ComponentModel
from spd_lightning.runs.analysis_files import FOLDER, HARVEST, ROWS

PART = "harvest.part.safetensors"
_PART = re.compile(r"harvest\.part(?:-\d+-of-(\d+))?\.safetensors")
FORMAT = 2
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
        unfinished = ", begun but not finished" if _parts(run / FOLDER) else ""
        raise UsageError(f"{str(run)!r} has no harvest{unfinished}; python -m spd_lightning.analysis harvest makes one")
    tally = _read(path)
    if tally.weights != fingerprint(model):
        raise UsageError(f"{str(path)!r} is of other weights than the run's components; move it away and harvest anew")
    return tally.result()


class HarvestFiles:
    """The files of a run's harvest, and of the share of every process while it is unfinished.

    Args:
        run: the run directory.
        processes: how many processes share the data.
    """

    def __init__(self, run: Path, processes: int = 1) -> None:
        folder = run / FOLDER
        self.done, self.rows = folder / HARVEST, folder / ROWS
        self.parts = [folder / name for name in part_names(processes)]
        self._saved = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether there is a finished harvest."""
        return is_file(self.done)

    def finished(self, model: ComponentModel, options: HarvestOptions) -> Tally | None:
        """The finished harvest, if there is one.

        Args:
            model: the run's decomposition.
            options: what is harvested.

        Raises:
            UsageError: if there is a harvest of other weights or with other options, or a damaged one; if one was
                begun by another number of processes; or if there are rows that no harvest has written.
        """
        begun = _parts(self.done.parent)
        if self.is_done:
            return _checked(self.done, model, options)
        for path, processes in begun.items():
            if path not in self.parts:
                raise UsageError(
                    f"{str(path)!r} was begun with another number of processes; give {processes}, or move it away"
                )
        if not begun:
            check_free(self.rows)
        return None

    def begun(self, model: ComponentModel, options: HarvestOptions, index: int, share: Share) -> Tally | None:
        """What there is of a share: where it was stopped, or nothing.

        Args:
            model: the run's decomposition.
            options: what is harvested.
            index: number of the process.
            share: its share.

        Raises:
            UsageError: if it is of other weights, with other options, of another share, or damaged.
        """
        path = self.parts[index]
        return self._of_share(path, model, options, share) if is_file(path) else None

    def _of_share(self, path: Path, model: ComponentModel, options: HarvestOptions, share: Share) -> Tally:
        tally = _checked(path, model, options)
        if tally.share != share:
            raise UsageError(
                f"{str(path)!r} is of batches {list(tally.share)}, not {list(share)}: the data has changed, or the "
                "file's name; move it away"
            )
        return tally

    def is_kept(self, index: int) -> bool:
        """Whether anything is kept of a share."""
        return is_file(self.parts[index])

    def save(self, tally: Tally, index: int) -> None:
        """Keep an unfinished harvest, if it is time to."""
        if time.monotonic() - self._saved >= INTERVAL_S:
            self.keep(tally, index)

    def keep(self, tally: Tally, index: int) -> None:
        """Keep what there is of a share."""
        _write(tally, self.parts[index])
        self._saved = time.monotonic()

    def joined(self, model: ComponentModel, options: HarvestOptions, among: Sequence[Share]) -> Tally | None:
        """All shares together, as one process would have added them up; ``None`` as long as one is unfinished.

        Args:
            model: the run's decomposition.
            options: what is harvested.
            among: the shares.

        Raises:
            UsageError: as :meth:`begun`.
        """
        if not all(map(_is_whole, self.parts, among)):
            return None
        tallies = (self._of_share(path, model, options, share) for path, share in zip(self.parts, among, strict=True))
        whole = next(tallies)
        for tally in tallies:
            whole.add(tally)
        whole.share = WHOLE
        return whole

    def finish(self, tally: Tally, decode: Decode | None = None, ends: EndRows | None = None) -> None:
        """Write the files of a harvest that is complete; what was kept of its shares is removed last.

        Args:
            tally: the harvest.
            decode: gives the text of tokens; ``None`` where there is none.
            ends: what components read and write at the ends of the network.
        """
        with written_whole(self.rows) as aside, aside.open("w", encoding="utf-8") as file:
            for row in rows(tally.result(), decode, ends):
                file.write(json.dumps(row) + "\n")
        _write(tally, self.done)
        self.clear()

    def clear(self) -> None:
        """Remove what was kept of an unfinished harvest."""
        for path in _parts(self.done.parent):
            path.unlink(missing_ok=True)


def part_names(processes: int) -> list[str]:
    """Names of the files that processes keep their shares in."""
    if processes == 1:
        return [PART]
    return [f"harvest.part-{index}-of-{processes}.safetensors" for index in range(1, processes + 1)]


def _parts(folder: Path) -> dict[Path, int]:
    """Shares that are kept there, and the number of processes of each."""
    matches = {path: _PART.fullmatch(path.name) for path in sorted(folder.glob("harvest.part*")) if is_file(path)}
    return {path: int(match[1] or 1) for path, match in matches.items() if match}


def _is_whole(path: Path, share: Share) -> bool:
    """Whether a share has been gone through to its end."""
    if not is_file(path):
        return False
    try:
        return bool(json.loads(read_notes(path)[NOTE])["batches"] == share.stop)
    except (KeyError, ValueError, TypeError):
        raise _damaged(path) from None


def _read(path: Path) -> Tally:
    tensors = read_safetensors(path, "harvest")
    try:
        notes = json.loads(read_notes(path)[NOTE])
        if notes["format"] != FORMAT:
            raise ValueError("another format")
        return Tally.of(notes, tensors)
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError):
        raise _damaged(path) from None


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{str(path)!r} is damaged, or no harvest that this version reads; move it away")


def _checked(path: Path, model: ComponentModel, options: HarvestOptions) -> Tally:
    tally = _read(path)
    if tally.weights != fingerprint(model):
        raise UsageError(f"{str(path)!r} is of other weights than the run's components; move it away")
    if tally.options != options:
        raise UsageError(f"{str(path)!r} was made with other options: {tally.options}; move it away, or repeat them")
    return tally


def _write(tally: Tally, path: Path) -> None:
    notes = {NOTE: json.dumps({"format": FORMAT, **tally.notes()})}
    with written_whole(path) as aside:
        save_file({name: tensor.contiguous().clone() for name, tensor in tally.tensors().items()}, aside, notes)
