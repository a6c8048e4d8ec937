"""Let OpenMP threads wait briefly and then sleep. To be imported before torch.

The networks here are small and their threads wait for each other often. If they spin without limit, as they do by
default, a second busy process makes a step up to seventy times slower; if they sleep at once, every step takes twice as
long. GNU's OpenMP, which torch brings along on Linux, takes the number of turns before it sleeps from this variable.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
