"""A network with its data, as a proposal is made for them."""

from collections.abc import Iterator, Sequence
from collections.abc import Sized as HasLength
from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from spd_lightning.methods import Decomposition
from spd_lightning.model import Site, TargetCall
from spd_lightning.model.call import rows_of
from spd_lightning.notebook.examples import first_batch, told_of_data


@dataclass(frozen=True)
class Subject:
    """A network with its data.

    Attributes:
        target: the network, frozen and in eval mode.
        data: a data module, prepared.
        call: how a batch becomes the network's arguments.
        kinds: kinds of sites of your own.
        device: where it runs.
        seed: of the decomposition.
    """

    target: nn.Module
    data: LightningDataModule
    call: TargetCall
    kinds: Sequence[type[Site]]
    device: torch.device
    seed: int

    @property
    def sizeable(self) -> bool:
        """Whether the data lets its batches be chosen, as Lightning's own search for a batch size asks it."""
        return isinstance(getattr(self.data, "batch_size", None), int)

    @property
    def batch_size(self) -> int:
        """Examples of a training batch as it stands."""
        return int(self.data.batch_size) if self.sizeable else rows_of(self.first_batch()) or 0  # type: ignore[attr-defined]

    def use_batches_of(self, size: int) -> None:
        """Let training batches hold so many examples, where the data lets one."""
        if self.sizeable:
            self.data.batch_size = size  # type: ignore[attr-defined]

    @property
    def examples(self) -> int | None:
        """Examples to train on; ``None`` where there is no end of them, or the data does not say."""
        sets = getattr(self.data, "sets", None)
        held = sets.get("train") if isinstance(sets, dict) else None
        held = getattr(self.data.train_dataloader(), "dataset", None) if held is None else held
        return len(held) if isinstance(held, HasLength) else None

    def batches(self) -> Iterator[Any]:
        """Training batches, on the device.

        Raises:
            UsageError: for data that fail, and a batch without examples.
        """
        with told_of_data():
            for batch in self.data.train_dataloader():
                Decomposition.check_rows(batch)
                yield tree_map(lambda leaf: leaf.to(self.device) if isinstance(leaf, Tensor) else leaf, batch)

    def first_batch(self) -> Any:
        """The first of them.

        Raises:
            UsageError: as :meth:`batches`, and if there is none.
        """
        return first_batch(self.batches, "data", "training")
