"""What a sweep varies, told to each of its runs."""

from lightning.pytorch import Callback

from spd_lightning.errors import UsageError


class SweptValues(Callback):
    """Carries a run's place in a sweep; the final report logs it among the hyper-parameters.

    Those of the module alone would not do: a sweep may vary the trainer or the data, and TensorBoard draws parallel
    coordinates of single numbers only. A sweep adds this callback to its runs.

    Args:
        values: the swept values, by short name.
    """

    def __init__(self, values: dict[str, bool | int | float | str]) -> None:
        if not isinstance(values, dict):
            raise UsageError(f"SweptValues: values must be a mapping, got {values!r}")
        self.values = values
