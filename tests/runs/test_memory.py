import subprocess
import sys

import numpy as np

from spd_lightning.runs.memory import peak_memory

GROWN = 300 * 2**20


def test_the_peak_grows_with_what_is_held_and_stays():
    before = peak_memory()
    held = np.ones(2 * before + GROWN, dtype=np.uint8)
    grown = peak_memory()
    assert grown > before + GROWN
    del held
    assert peak_memory() > grown - 2**24  # the system counts in batches


def test_a_child_does_not_count_its_parent():
    held = np.ones(GROWN, dtype=np.uint8)
    command = [sys.executable, "-c", "from spd_lightning.runs.memory import peak_memory; print(peak_memory())"]
    small = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert peak_memory() > len(held)
    bare = [sys.executable, "-c", f"import numpy as np; a = np.ones({2 * GROWN}, dtype=np.uint8); " + command[-1]]
    assert small < int(subprocess.run(bare, capture_output=True, text=True, check=True).stdout)
