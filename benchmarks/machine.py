"""What the machine can do, and how much of it a fast step uses."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import lightning
import torch
from tqdm import tqdm

import spd_lightning
from benchmarks import systems
from benchmarks.counting import count_step
from benchmarks.loops import Loop
from benchmarks.options import Options
from benchmarks.timing import in_turn
from spd_lightning.kernels import build

TRIAD_NUMBERS = 48 * 2**20
PRODUCT_SIZE = 3072
REPEATS = 7


def describe() -> dict[str, Any]:
    """Processor, threads, versions and date of a measurement."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "compiled_kernels": build().library is not None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "spd_lightning": spd_lightning.__version__,
        "date": date.today().isoformat(),
    }


def _processor() -> str:
    """Its name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def measure(options: Options) -> dict[str, Any]:
    """Memory bandwidth, multiply rate, and one row per system with the share of both that its fast step reaches."""
    limits = {"triad_bytes_per_s": triad(), "multiply_adds_per_s": product()}
    rows = [_share(name, limits, options) for name in tqdm(options.systems, desc="Shares of the machine")]
    return {**limits, "systems": rows}


def triad() -> float:
    """Bytes per second of ``a = b + 3 c`` on arrays far larger than any cache: two read, one written."""
    a, b, c = torch.zeros(3, TRIAD_NUMBERS).unbind()
    return 3 * 4 * TRIAD_NUMBERS / _median_seconds(lambda: torch.add(b, c, alpha=3.0, out=a))


def product() -> float:
    """Multiply-adds per second of a large float32 matrix product."""
    a, b, c = torch.rand(3, PRODUCT_SIZE, PRODUCT_SIZE).unbind()
    return float(PRODUCT_SIZE**3 / _median_seconds(lambda: torch.mm(a, b, out=c)))


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _share(name: str, limits: dict[str, float], options: Options) -> dict[str, Any]:
    """What the fast step of a system counts and takes, beside what the machine could do in that time."""
    loop = Loop(systems.read(name), "fast")
    blocks = in_turn({"fast": loop}, options.seconds / 2, options.least)
    seconds = statistics.median(step for _, block in blocks for step in block)
    counted = count_step(loop)
    return {
        "system": name,
        "median_ms": 1e3 * seconds,
        **counted,
        "share_of_product_rate": counted["multiply_adds"] / seconds / limits["multiply_adds_per_s"],
        "operand_bytes_over_triad": counted["operand_bytes"] / seconds / limits["triad_bytes_per_s"],
    }
