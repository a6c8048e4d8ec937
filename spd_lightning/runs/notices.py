"""Notices of other libraries that are expected here."""

import logging
import warnings


def silence_notices() -> None:
    """Silence notices that do not help here: each is expected, or concerns another library."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        r".*in eval mode at the start of training.*",  # the frozen target stays in eval mode
        r".*isinstance\(treespec, LeafSpec\).*",  # lightning 2.6 on torch 2.13
        r"The dirpath has changed from .*",  # a moved run directory, or an evaluation in a folder of its own
        r"Checkpoint directory .* exists and is not empty.*",  # a resumed run continues in its directory
        r".*does not have many workers.*",  # batches are made in place
        r"Total length of `list` across ranks is zero.*",  # a run without validation data
        r"It is recommended to use `self\.log\(.*sync_dist=True.*",  # what is logged is summed over processes before
        r"LightningCLI's args parameter.*",  # names of configs are resolved before parsing
    ):
        warnings.filterwarnings("ignore", message)
