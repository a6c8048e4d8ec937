"""Sources that stay from step to step, and what they belong to."""

from typing import Any, Literal

import torch
from torch import Tensor

from spd_lightning.errors import UsageError
from spd_lightning.functional import AdamRates, AscentMoments, adam_ascent
from spd_lightning.losses.sharing import processes, rows_of_all, sum_over_processes
from spd_lightning.losses.sources import first_row_channels, random_channels
from spd_lightning.losses.step import Step

Scope = Literal["row", "position", "component", "pool"]
Channels = dict[str, Tensor]


class KeptSources:
    """Sources in [0, 1] of every table of importances, the delta component's last, with Adam's moments.

    Args:
        scope: what has sources of its own: ``"row"``, every row and position of a batch, ``[B, ..., C]``;
            ``"position"``, every position, for all rows, ``[1, ..., C]``; ``"component"`` alone, ``[1, C]``; or a
            ``"pool"`` of vectors, ``[K, C]``, of which every row draws one at each step.
        pool: number of vectors of a pool.
    """

    def __init__(self, scope: Scope, pool: int) -> None:
        self.scope, self.pool = scope, pool
        self.values: Channels = {}
        self.moments = AscentMoments({}, {}, 0)
        self._loaded: dict[str, Any] | None = None

    def start(self, step: Step) -> None:
        """Draw the sources at the first step, or take those of a checkpoint.

        Raises:
            UsageError: if the batch's positions do not fit the sources.
        """
        if self._loaded is not None:
            self._take_loaded(step)
        if not self.values:
            self.values = self._fresh(step)
            zeros = [{table: torch.zeros_like(source) for table, source in self.values.items()} for _ in range(2)]
            self.moments = AscentMoments(zeros[0], zeros[1], 0)
        for table in step.tables if self.scope in ("row", "position") else ():
            self._check_shape(step, table)

    def leaves(self) -> Channels:
        """The sources; where gradients are taken, as leaves that collect them."""
        wanted = torch.is_grad_enabled()
        return {table: source.detach().requires_grad_(wanted) for table, source in self.values.items()}

    def spread(self, step: Step, leaves: Channels) -> Channels:
        """Sources as masks need them, ``[..., C]`` broadcastable to the importances of their table.

        Args:
            step: the batch.
            leaves: as :meth:`leaves` gives them.
        """
        return {table: self._spread(step, step.importance[table].lower, leaf) for table, leaf in leaves.items()}

    def push(self, gradients: Channels, rates: AdamRates, shared: bool) -> None:
        """One ascent.

        Args:
            gradients: of the mean over the rows here, by table.
            rates: of Adam.
            shared: whether processes share the batch; the gradient is then that of the mean over all of it.
        """
        if shared:  # a row is on one process alone
            sums = gradients if self.scope == "row" else {name: sum_over_processes(g) for name, g in gradients.items()}
            gradients = {table: gradient / processes() for table, gradient in sums.items()}
        self.values, self.moments = adam_ascent(self.values, gradients, self.moments, rates)

    def state(self) -> dict[str, Any] | None:
        """Sources and moments of the whole batch, on the CPU; ``None`` before the first step. Every process asks."""
        if not self.values:
            return self._loaded
        parts = {"sources": self.values, "first": self.moments.first, "second": self.moments.second}
        whole = rows_of_all(parts) if self.scope == "row" else parts
        kept = {name: {table: part.cpu() for table, part in own.items()} for name, own in whole.items()}
        return kept | {"pushes": self.moments.pushes}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the sources of a checkpoint, whatever the number of processes was."""
        self._loaded, self.values = dict(state), {}

    def _fresh(self, step: Step) -> Channels:
        generator = step.noise.generator("start")
        if self.scope == "row":
            return random_channels(step, "uniform", generator)
        first = first_row_channels(step, generator)
        if self.scope == "position":
            return {table: channels[:1].clone() for table, channels in first.items()}
        rows = self.pool if self.scope == "pool" else 1
        streams = {table: step.noise.generator("vectors", table) for table in first}
        return {
            table: torch.rand(rows, c.shape[-1], generator=streams[table], dtype=c.dtype, device=c.device)
            for table, c in first.items()
        }

    def _spread(self, step: Step, lower: Tensor, leaf: Tensor) -> Tensor:
        rows, ones = len(lower), [1] * (lower.dim() - 2)
        match self.scope:
            case "row":
                return leaf[:rows]
            case "position":
                return leaf
            case "component":
                return leaf.reshape(1, *ones, -1)
        return leaf[self._picked(step, rows)].reshape(rows, *ones, -1)

    def _picked(self, step: Step, rows: int) -> Tensor:
        """Which vector of the pool each row draws, ``[rows]``."""
        generator, share = step.noise.generator("picked"), step.noise.share
        total, first = (rows, 0) if share is None else (share.total, share.first)
        every = torch.randint(self.pool, (total,), generator=generator, device=generator.device)
        return every[first : first + rows]

    def _check_shape(self, step: Step, table: str) -> None:
        wanted, kept = step.importance[table].lower.shape, self.values[table].shape
        if wanted[1:-1] != kept[1:-1] or (self.scope == "row" and wanted[0] > kept[0]):
            raise UsageError(
                f"PersistentAdversary: scope {self.scope!r} needs batches of one shape, but positions of {table!r} are "
                f"now {list(wanted[:-1])} and were {list(kept[:-1])}; make batches even, or set scope: component"
            )

    def _take_loaded(self, step: Step) -> None:
        assert self._loaded is not None
        loaded, self._loaded = self._loaded, None
        own = {
            name: {table: self._own_rows(step, table, loaded[name][table]) for table in step.tables}
            for name in ("sources", "first", "second")
        }
        self.values = own["sources"]
        self.moments = AscentMoments(own["first"], own["second"], int(loaded["pushes"]))

    def _own_rows(self, step: Step, table: str, whole: Tensor) -> Tensor:
        lower, share = step.importance[table].lower, step.noise.share
        if self.scope == "row" and share is not None:
            whole = whole[share.first : share.first + len(lower)]
        return whole.to(lower)
