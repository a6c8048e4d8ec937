"""Where the time of a fast step goes, by kind of work."""

from typing import Any

from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from benchmarks import systems
from benchmarks.loops import Loop
from benchmarks.options import Options

STEPS, WARM_UP = 5, 3
KINDS_OF_WORK = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::matmul", "aten::linear"),
    "gates": ("_TabulatedGates", "_ReadTable"),
    "masks": ("_MaskedInner",),
    "penalty": ("_PowerSums",),
    "optimiser": ("Optimizer", "aten::_fused_adam", "aten::_foreach"),
}
REST = "other operations and the host"


def measure(options: Options) -> list[dict[str, Any]]:
    """One row per system: shares of a fast step's time by kind of work, and the number of operations in it.

    Time that an operation spends in itself, by torch's profiler, on the CPU. Profiling adds to every operation's time:
    where there are many small ones, the rest looks larger than it is.
    """
    return [_row(name) for name in tqdm(options.systems, desc="Breakdown")]


def _row(name: str) -> dict[str, Any]:
    loop = Loop(systems.read(name), "fast")
    for _ in range(WARM_UP):
        loop.step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            loop.step()
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = dict.fromkeys([*KINDS_OF_WORK, REST], 0.0)
    for event in events:
        shares[_kind(event.key)] += event.self_cpu_time_total / total
    operations = sum(event.count for event in events if event.key.startswith("aten::")) / STEPS
    return {"system": name, "operations": round(operations), **shares}


def _kind(key: str) -> str:
    return next((kind for kind, names in KINDS_OF_WORK.items() if key.startswith(names)), REST)
