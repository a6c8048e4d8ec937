"""What is said on the command line while nothing is wrong."""

import sys

from lightning.pytorch.utilities import rank_zero_only


@rank_zero_only
def tell(line: str) -> None:
    """Write a line to stderr, by one of several processes that run the same command."""
    sys.stderr.write(f"{line}\n")
