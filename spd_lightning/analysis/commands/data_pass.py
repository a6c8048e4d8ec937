"""One pass over a run's data, which several processes may share."""

import os
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import torch

from spd_lightning.analysis.call_tally import HarvestOptions
from spd_lightning.analysis.commands.shared import on_device
from spd_lightning.analysis.commands.workers import Moved
from spd_lightning.analysis.harvest import decomposed, gather
from spd_lightning.analysis.harvest_files import HarvestFiles
from spd_lightning.analysis.harvest_tally import WHOLE, Share, Tally, shares
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.runs.reopened import Reopened, ScoredBatches

MOST_PROCESSES = 256


@dataclass(frozen=True)
class Place:
    """Which of several processes this is.

    Attributes:
        index: its number.
        count: how many there are.
        starts: whether it starts the others.
    """

    index: int
    count: int
    starts: bool


def place(processes: int) -> Place:
    """Which process this is, of those that ``--processes`` asks for or that ``torchrun`` has started.

    Raises:
        UsageError: for a number outside its range, or if both are given.
    """
    check_whole("--processes", processes, least=1, most=MOST_PROCESSES)
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return Place(0, processes, processes > 1)
    if processes > 1:
        raise UsageError(f"--processes {processes} and torchrun both start processes; leave one out")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world) <= MOST_PROCESSES):
        raise UsageError(
            f"harvest: RANK={rank!r} of WORLD_SIZE={world!r} is no place among at most {MOST_PROCESSES} processes; "
            "unset both"
        )
    return Place(int(rank), int(world), False)


@dataclass(frozen=True)
class DataPass:
    """What a run is harvested with.

    Attributes:
        found: the run.
        files: of its harvest, for as many processes as there are.
        chosen: what is harvested.
        device: where the network runs.
    """

    found: Reopened
    files: HarvestFiles
    chosen: HarvestOptions
    device: str

    @property
    def batches(self) -> ScoredBatches:
        """All of the data: the run's own limit keeps its test short."""
        return replace(self.found.batches, limit=None)

    @cached_property
    def shares(self) -> list[Share]:
        """The batches of every process.

        Raises:
            UsageError: if there are none.
        """
        if len(self.files.parts) == 1:
            return [WHOLE]
        known = self.batches.count()
        total = sum(1 for _ in islice(self.batches, self.chosen.batches)) if known is None else known
        if not total:
            raise UsageError("harvest: the data holds no batches")
        return shares(len(self.files.parts), min(total, self.chosen.batches or total))

    def steps(self, here: Place) -> int | None:
        """How many batches this process and those that it starts look at, if that is known."""
        first, stop = self.shares[here.index]
        if stop is None:
            return min(filter(None, (self.batches.count(), self.chosen.batches)), default=None)
        return self.shares[-1].stop if here.starts else stop - first

    def gather(self, index: int, moved: Moved) -> Tally | None:
        """Look at the share of a process, or go on where that was stopped; what was found is kept in its file.

        Args:
            index: of the process.
            moved: told of the batches that were looked at.

        Returns:
            What was added up; ``None`` if the harvest has been finished meanwhile.

        Raises:
            UsageError: as :meth:`HarvestFiles.begun` and :func:`spd_lightning.analysis.harvest.gather`.
        """
        model, share = decomposed(self.found.model), self.shares[index]
        tally = self.files.begun(model, self.chosen, index, share)
        if tally is None:
            if self.files.is_done and len(self.shares) > 1:  # another process has put all of them together meanwhile
                return None
            tally = Tally(model, self.chosen, getattr(self.found.tokenizer, "boundary", None), share)
        moved(max(tally.batches - share.first, 0))

        def after(tally: Tally) -> None:
            self.files.save(tally, index)
            moved(int(tally.batches > share.first))

        before = tally.batches
        gather(tally, model, on_device(model, self.batches, _device(self.device, index)), after)
        if tally.batches > before or not self.files.is_kept(index):
            self.files.keep(tally, index)
        return tally

    def joined(self) -> Tally | None:
        """All shares together; ``None`` as long as one is unfinished."""
        return self.files.joined(self.found.model, self.chosen, self.shares)


def _device(name: str, index: int) -> str:
    """Where the network of a process runs: of several GPUs each takes one, unless one is named."""
    count = torch.cuda.device_count() if name == "cuda" else 0
    return f"{name}:{index % count}" if count else name
