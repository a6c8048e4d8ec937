"""A harvest on disk: gone on with where it was stopped, never put in the place of another."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from spd_lightning.analysis.call_tally import HarvestOptions
from spd_lightning.analysis.harvest import Harvest, Tally
from spd_lightning.analysis.places import NO_TOKEN, Places
from spd_lightning.analysis.token_statistics import TokenCounts, TokenReading
from spd_lightning.errors import UsageError
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.files.tensors import read_notes, read_safetensors
from spd_lightning.files.whole import check_free, is_file, written_whole
from spd_lightning.model import ComponentModel

FOLDER = "analysis"
NAME, WINDOWS_NAME, PART_NAME = "harvest.safetensors", "harvest.jsonl", "harvest.part.safetensors"
FORMAT = 1
NOTE = "harvest"
"""The one note of the file: of several, the order would not be the same every time."""
INTERVAL_S = 60.0
"""Seconds between two savings of an unfinished harvest."""
SHOWN_TOKENS = 5
Decode = Callable[[Sequence[int]], str]


def read_harvest(run: Path, model: ComponentModel) -> Harvest:
    """The finished harvest of a run.

    Args:
        run: the run directory.
        model: its decomposition.

    Raises:
        UsageError: if there is none, it is damaged, or it is of other weights.
    """
    path = run / FOLDER / NAME
    if not is_file(path):
        unfinished = ", begun but not finished" if is_file(run / FOLDER / PART_NAME) else ""
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
        self.done, self.windows, self.part = folder / NAME, folder / WINDOWS_NAME, folder / PART_NAME
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
            check_free(self.windows)
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

    def finish(self, tally: Tally, decode: Decode | None) -> None:
        """Write the files of a harvest that is complete.

        Args:
            tally: the harvest.
            decode: gives the text of tokens; ``None`` where there is none.
        """
        with written_whole(self.windows) as aside, aside.open("w", encoding="utf-8") as file:
            for row in rows(tally.result(), decode):
                file.write(json.dumps(row) + "\n")
        _write(tally, self.done)
        self.part.unlink(missing_ok=True)


def _write(tally: Tally, path: Path) -> None:
    notes = {NOTE: json.dumps({"format": FORMAT, **tally.notes()})}
    with written_whole(path) as aside:
        save_file({name: tensor.contiguous().clone() for name, tensor in tally.tensors().items()}, aside, notes)


def rows(found: Harvest, decode: Decode | None = None) -> Iterator[dict[str, Any]]:
    """One row of plain data for every component of every site call that is important anywhere.

    Args:
        found: the harvest.
        decode: gives the text of tokens.
    """
    for call, one in found.calls.items():
        tokens = {
            side: counts.best(SHOWN_TOKENS)
            for side, counts in (("on", one.on), ("before", one.before))
            if isinstance(counts, TokenCounts)
        }
        starts = one.places.components.bincount(minlength=len(one.firings)).cumsum(0).tolist()
        for component in one.firings.nonzero()[:, 0].tolist():
            first = starts[component - 1] if component else 0
            yield {
                "call": call,
                "component": component,
                "firings": int(one.firings[component]),
                "density": _short(one.density[component]),
                "mean_importance": _short(one.mean_importance[component]),
                "positive": _short(one.positive[component]),
                "rms_inner": _short(one.rms_inner[component]),
                **{side: list(_tokens(best, component, decode)) for side, best in tokens.items()},
                "places": [_place(one.places, index, decode) for index in range(first, starts[component])],
            }


def _tokens(best: Sequence[TokenReading], component: int, decode: Decode | None) -> Iterator[dict[str, Any]]:
    for reading in best:
        token = int(reading.tokens[component])
        if token >= 0:
            shares = {name: _short(getattr(reading, name)[component]) for name in ("precision", "recall", "pmi")}
            yield {"token": token, **({} if decode is None else {"text": decode([token])}), **shares}


def _place(places: Places, index: int, decode: Decode | None) -> dict[str, Any]:
    found = {name: int(getattr(places, f"{name}s")[index]) for name in ("example", "document", "position")}
    strength = {"inner": _short(places.inner[index]), "importance": _short(places.importance[index])}
    tokens = places.tokens[index].tolist()
    if not tokens:
        return found | strength
    there = [at for at, token in enumerate(tokens) if token != NO_TOKEN]
    shown: dict[str, Any] = {
        "tokens": [tokens[at] for at in there],
        "importances": [_short(places.importances[index, at]) for at in there],
    }
    if decode is not None:
        middle = len(tokens) // 2
        parts = {"left": there[: there.index(middle)], "token": [middle], "right": there[there.index(middle) + 1 :]}
        shown |= {name: decode([tokens[at] for at in part]) for name, part in parts.items()}
    return found | strength | shown


def _short(number: Any) -> float:
    """A number with the digits that anybody reads."""
    return float(f"{float(number):.4g}")
