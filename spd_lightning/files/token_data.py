"""What a recipe asks of text that was turned into files of tokens, whoever reads them."""

from abc import ABC, abstractmethod

from torch import nn
from torch.utils.data import Dataset


class TokenData(ABC):
    """Windows of tokens to train on and to hold out, such as :class:`spd_lightning.TextTokens`."""

    @abstractmethod
    def windows(self, held: bool = False) -> Dataset | None:  # type: ignore[type-arg] # see DatasetBatches
        """The windows to train on, or those that are held out; ``None`` where nothing is.

        Each is a mapping of ``input_ids`` and ``attention_mask``, both ``[length]``.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of all that the windows depend on."""

    @abstractmethod
    def check_fits(self, network: nn.Module) -> None:
        """Raise a :class:`UsageError` for a network with too few tokens or positions."""
