"""All pairs of numbers modulo a prime, to take a network apart that adds them."""

from torch.utils.data import TensorDataset

from spd_lightning.data.dataset_batches import NumberedBatches
from spd_lightning.errors import UsageError, check_whole
from spd_lightning.functional import is_odd_prime, number_pairs


class ModularPairs(NumberedBatches):
    """Batches of pairs of numbers and their sum, which is used for scores alone; training and evaluation see all pairs.

    Args:
        modulus: an odd prime, that of the target.
        batch_size: pairs per step, over all processes; ``None`` for all of them.
        val_batch_size: largest number of pairs per batch of evaluation, over all processes.
        shuffle: whether training draws an order; else every pass is in that of the addition table.
        seed: seeds the orders; ``None`` takes the decomposition's seed.

    Raises:
        UsageError: for another modulus, or for a size that is below 1 or beyond the number of pairs.
    """

    def __init__(
        self,
        modulus: int = 23,
        batch_size: int | None = None,
        val_batch_size: int = 4096,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        check_whole("data: modulus", modulus)
        if not is_odd_prime(modulus):
            raise UsageError(f"data: modulus must be an odd prime such as 23 or 47, got {modulus}")
        super().__init__(modulus**2 if batch_size is None else batch_size, val_batch_size, 0, shuffle, seed)
        self.modulus = modulus
        everything = TensorDataset(*number_pairs(modulus))
        self.sets = self.checked(dict.fromkeys(("train", "val", "test", "predict"), everything))
