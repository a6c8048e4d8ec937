"""Let idle OpenMP threads sleep. To be imported before torch.

The networks here are small. If another process keeps a core busy, threads that spin while they wait for each other make
a step up to seventy times slower; sleeping ones cost nothing measurable.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
