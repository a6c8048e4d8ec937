"""One run after the other in one process, none of which notices the others."""

import gc
import os
import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def isolated() -> Iterator[None]:
    """Put back afterwards what a run may change for the whole process, and free what it leaves in cycles.

    That is the state of generators, torch's switches, environment, import path and warning filters; and what
    ``torch.compile`` has learnt, since it gives up on a function after a number of variants.
    """
    generators = random.getstate(), np.random.get_state(), torch.get_rng_state()
    switches = _switches()
    environment, path = dict(os.environ), list(sys.path)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])
        torch.set_rng_state(generators[2])
        _set_switches(*switches)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        gc.collect()  # trainer, module and callbacks refer to each other


_Switches = tuple[torch.dtype, int, bool, bool, bool, bool, str]


def _switches() -> _Switches:
    return (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.get_float32_matmul_precision(),
    )


def _set_switches(
    dtype: torch.dtype, threads: int, deterministic: bool, warn_only: bool, cudnn: bool, benchmark: bool, matmul: str
) -> None:
    torch.set_default_dtype(dtype)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn, benchmark
    torch.set_float32_matmul_precision(matmul)
