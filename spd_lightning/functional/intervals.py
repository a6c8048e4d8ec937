"""How far a share that was counted may be from the true one."""

import math

NORMAL = 1.959964
"""Standard deviations on either side that hold 95 % of a normal distribution."""


def wilson_interval(found: int, count: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share (Wilson 1927): the shares from which what was found is not surprising.

    Unlike the mean plus and minus its standard error, it stays within 0 and 1 and has a width where all or none was
    found.

    Args:
        found: how many.
        count: of how many, at least 1.

    Returns:
        Its lower and upper end.

    Raises:
        ValueError: if there are more found than counted, or none counted.
    """
    if not 0 <= found <= count or count < 1:
        raise ValueError(f"found must lie between 0 and count, and count be at least 1, got {found} of {count}")
    share, squared = found / count, NORMAL**2
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    half = NORMAL / (1 + squared / count) * math.sqrt(share * (1 - share) / count + squared / (4 * count**2))
    # at the ends the formula gives 0 and 1, too, but for rounding
    return middle - half if found else 0.0, middle + half if found < count else 1.0
