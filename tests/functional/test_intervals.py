"""The interval of a share, beside values worked out by hand."""

import math

import pytest

from spd_lightning.functional import wilson_interval


@pytest.mark.parametrize(
    ("found", "count", "low", "high"),
    [
        # z squared is 3.84146. All of n: n / (n + z²) to 1, and the mirror image for none.
        (3, 3, 3 / 6.84146, 1.0),
        (0, 3, 0.0, 3.84146 / 6.84146),
        (100, 100, 100 / 103.84146, 1.0),
        # Half of 4: 1/2 plus and minus z / (1 + z² / 4) * sqrt(1/16 + z² / 64) = 0.3500
        (2, 4, 0.1500, 0.8500),
        # 99 of 100: middle (0.99 + 0.0192073) / 1.0384146 = 0.971873, half 1.887455 * sqrt(0.0099 / 100 + 9.60365e-5)
        (99, 100, 0.945513, 0.998233),
    ],
)
def test_values_by_hand(found, count, low, high):
    assert wilson_interval(found, count) == pytest.approx((low, high), abs=1e-4)


def test_the_ends_are_shares_that_would_not_be_surprised():
    for end in wilson_interval(57, 200):
        assert abs(57 / 200 - end) / math.sqrt(end * (1 - end) / 200) == pytest.approx(1.96, abs=1e-3)


@pytest.mark.parametrize(("found", "count"), [(1, 0), (0, 0), (4, 3), (-1, 3)])
def test_refuses_what_is_no_share(found, count):
    with pytest.raises(ValueError, match="found must lie between 0 and count"):
        wilson_interval(found, count)
