"""Measurements in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

import torch

from benchmarks.options import ROOT


def run(module: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a module with as many threads as here; nothing of it is shown unless it fails.

    Args:
        module: its name and arguments, as after ``python -m``.
        environment: variables to set.

    Returns:
        What it printed.

    Raises:
        RuntimeError: if it fails, with the end of what it wrote to the error stream.
    """
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    variables = {**os.environ, **threads, **(environment or {})}
    command = [sys.executable, "-m", *module]
    done = subprocess.run(command, check=False, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(module)} failed:\n{done.stderr[-2000:]}")
    return done.stdout
