"""One progress bar over all runs."""

import sys
import time
from collections.abc import Sequence

from tqdm import tqdm

from benchmarks.reproduce.child import Making
from benchmarks.reproduce.job import Job
from spd_lightning.report import rows


class Bar:
    """Shows the share of the expected time that is behind us, and what is running.

    Args:
        runs: all that are to be made.
    """

    def __init__(self, runs: Sequence[Job]) -> None:
        self._behind, self._recovered, self._failed, self._missed = 0.0, 0, 0, 0
        self._pause, self._shown = (1.0, 0.0) if sys.stderr.isatty() else (60.0, 0.0)
        self._total = max(sum(run.expected_s for run in runs), 1e-9)
        form = "{percentage:3.0f}%|{bar:20}| {elapsed}<{remaining}{postfix}"
        self._bar = tqdm(total=self._total, bar_format=form, disable=not runs, mininterval=0)

    def show(self, children: Sequence[Making]) -> None:
        """Bring the bar up to date, from time to time."""
        if time.monotonic() - self._shown < self._pause:
            return
        self._shown = time.monotonic()
        steps = {child: min(child.step, child.run.steps) for child in children}
        now = sum(child.run.expected_s * step / child.run.steps for child, step in steps.items())
        self._bar.n = min(self._behind + now, self._total)
        words = [f"{child.run.name} {step}/{child.run.steps}" for child, step in steps.items()]
        words += [f"recovered {self._recovered}", f"not {self._missed}", f"failed {self._failed}"]
        self._bar.set_postfix_str(", ".join(words), refresh=True)

    def finished(self, run: Job, seconds: float, failure: str) -> None:
        """One run is over: say so in a line of its own."""
        self._behind, self._shown = self._behind + run.expected_s, 0.0
        if failure:
            self._failed += 1
            self.say(f"{run.name}: failed: {failure}")
            return
        missing = rows.missing(run.record.scores)
        self._missed, self._recovered = self._missed + bool(missing), self._recovered + (not missing)
        verdict = f"not recovered: {'; '.join(missing)}" if missing else "recovered"
        self.say(f"{run.name}: {verdict} ({seconds:.0f} s)")

    def say(self, line: str) -> None:
        """A line above the bar."""
        self._bar.write(line, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()
