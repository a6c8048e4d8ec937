"""How a training step is computed: plainly, or fast and equal."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from spd_lightning.errors import UsageError, check_choice, check_flag, check_whole
from spd_lightning.kernels import build, table_error
from spd_lightning.losses import check_positive
from spd_lightning.model import FastForm, FastOptions

StepKind = Literal["fast", "plain"]
FIRST_NODES = 65
MIN_NODES = 8
MAX_NODES = 2049
"""Beyond this many nodes a gate is evaluated exactly instead."""


@dataclass(frozen=True)
class Speed:
    """How a training step is computed. Both kinds follow the same formulas; evaluation is always plain.

    Args:
        step: ``fast`` or ``plain``, the readable form.
        compile: whether the fast step uses kernels built with the machine's C compiler (CPU, float32); without a
            compiler it falls back to the same formulas in PyTorch and says so once.
        table_nodes: nodes per component of the table that per-component gates are read from; 0 evaluates them exactly,
            ``null`` takes as many as the tolerance needs. A given number that is too small is refused at the start.
        table_tolerance: largest error of a table, in logits and slopes, relative where those exceed 1. Looked at every
            500 steps; a table that exceeds it by then gets twice the nodes.
    """

    step: StepKind = "fast"
    compile: bool = True
    table_nodes: int | None = None
    table_tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_choice("speed.step", self.step, get_args(StepKind))
        check_flag("speed.compile", self.compile)
        if self.table_nodes is not None:
            check_whole("speed.table_nodes", self.table_nodes, most=None)
        if self.table_nodes not in (None, 0) and not MIN_NODES <= self.table_nodes <= MAX_NODES:
            raise UsageError(
                f"speed.table_nodes must be 0 or lie in [{MIN_NODES}, {MAX_NODES}], got {self.table_nodes}"
            )
        check_positive("speed.table_tolerance", self.table_tolerance)

    def notice(self) -> str | None:
        """One line if compiled kernels are wanted and cannot be had, otherwise ``None``."""
        if self.step == "plain" or not self.compile or build().library is not None:
            return None
        return f"notice: the step runs without compiled kernels, since {build().reason}; the same formulas, slower"


class Tables:
    """The node count in use, raised when the gates need more.

    Args:
        speed: the configured count and tolerance.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self.nodes = FIRST_NODES if speed.table_nodes is None else speed.table_nodes

    @property
    def options(self) -> FastOptions:
        """For the next step."""
        return FastOptions(self.nodes, self.speed.compile and build().library is not None)

    def check(self, fast: FastForm, at_start: bool) -> str | None:
        """Measure the tables of one batch; raise the node count where they exceed the tolerance.

        Args:
            fast: the batch's fast form.
            at_start: whether a configured count that is too small is refused instead.

        Returns:
            One line if no table is fine enough any more.

        Raises:
            UsageError: if the configured count is too small at the start.
        """
        before = self.nodes
        while self.nodes and self._error(fast) > self.speed.table_tolerance:
            self.nodes = 2 * self.nodes - 1 if 2 * self.nodes - 1 <= MAX_NODES else 0
        if at_start and self.nodes != before and self.speed.table_nodes is not None:
            raise UsageError(
                f"speed.table_nodes: {before} nodes exceed speed.table_tolerance ({self.speed.table_tolerance:.1e}); "
                f"raise speed.table_nodes to {self.nodes or '0 (exact gates)'}, or leave it out to have it chosen"
            )
        return "notice: no gate table is fine enough, gates are now exact" if before and not self.nodes else None

    def _error(self, fast: FastForm) -> float:
        gates = {call: fast.tabulated_gate(call) for call in fast.calls}
        errors = [table_error(fast.inner(call), gate, self.nodes) for call, gate in gates.items() if gate is not None]
        return torch.stack(errors).max().item() if errors else 0.0
