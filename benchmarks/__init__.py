"""How fast a training step is, what it needs, and whether the fast one computes the same.

    python -m benchmarks [step_time memory ...] [--systems tms paper/tms_5-2 ...] [--quick]

``benchmarks.reproduce`` and ``benchmarks.seeds`` stand apart: they ask what training finds, the others what it costs.
"""

import spd_lightning  # noqa: F401 (first: it sets how threads wait, which must happen before torch is imported)
