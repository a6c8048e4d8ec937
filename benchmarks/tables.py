"""The measurements as Markdown tables."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.breakdown import KINDS_OF_WORK, REST
from benchmarks.curves import BASE
from benchmarks.equality import EXAMPLES
from benchmarks.loops import KINDS
from benchmarks.step_time import KEEPING
from benchmarks.time_to_recovery import ML2R
from spd_lightning import Speed
from spd_lightning.methods.stochastic import STEPS_PER_TABLE_CHECK

Row = dict[str, Any]
NOT_MEASURED = "not measured"


def digits(value: float | None, unit: str = "") -> str:
    """Three significant digits, without exponent where that reads well."""
    if value is None:
        return NOT_MEASURED
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return f"{text.rstrip('.')}{unit}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows)]


def _by_kind(rows: Sequence[Row], case: dict[str, str]) -> dict[str, Row]:
    return {row["kind"]: row for row in rows if all(row[name] == value for name, value in case.items())}


def _timed(row: Row | None) -> str:
    if row is None:
        return NOT_MEASURED
    return f"{digits(row['median_ms'])} ({digits(row['q25_ms'])}-{digits(row['q75_ms'])}; {row['steps']})"


def equality(rows: list[Row]) -> list[str]:
    """Errors per form."""
    note = (
        "Each form's float32 step beside the step as the papers write it, computed in float64 on the same parameters "
        f"(after a few steps), {EXAMPLES} examples and noise. Relative errors: of the loss, and of the gradient of the "
        "parameter where it is largest (norm of the difference over norm of the gradient). Gate tables may be off by "
        f"{Speed().table_tolerance:.0e}."
    )
    lines = [
        [row["system"], row["kind"], f"{row['loss']:.1e}", f"{row['gradient']:.1e}", f"`{row['parameter']}`"]
        for row in rows
    ]
    return [note, "", *table(["system", "step", "loss", "gradient", "of"], lines)]


def step_time(rows: list[Row]) -> list[str]:
    """Times per step and the ratio, the GPU's in a line of its own."""
    cases = list(dict.fromkeys((row["system"], row["device"]) for row in rows))
    if not any(device == "cuda" for _, device in cases):
        cases += [("all", "cuda")]
    lines = [_step_time_line(rows, system, device) for system, device in cases]
    header = ["system", "device", *KINDS, "reference / fast", "examples", "merged", "table check", "system"]
    note = (
        "Milliseconds per step: median (first to third quartile; number of steps). A step is batch, objective, "
        "backward pass, optimiser and schedule. `reference` is the step as the papers write it "
        "(`benchmarks/reference_step.py`), `plain` the package's readable form, `uncompiled` its fast form in PyTorch "
        "alone, `fast` the default. The first two take whole batches (`examples`), the fast ones `merged` batches, "
        "which stand for as many. All forms of a system run in turn, each system in a process of its own; targets have "
        "random weights. A "
        f"table check is made every {STEPS_PER_TABLE_CHECK} steps and is not part of these times. "
        "`system` is the operating system's share of the processor time of reference / fast: it hands out memory "
        "anew in every step whose arrays are large."
    )
    return [note, "", *table(header, lines)]


def _step_time_line(rows: list[Row], system: str, device: str) -> list[str]:
    found = _by_kind(rows, {"system": system, "device": device})
    reference, fast = found.get("reference"), found.get("fast")
    ratio = None if reference is None or fast is None else reference["median_ms"] / fast["median_ms"]
    check = None if fast is None else fast["table_check_ms"]
    examples = [NOT_MEASURED if row is None else str(row["examples"]) for row in (reference, fast)]
    times = [_timed(found.get(kind)) for kind in KINDS]
    shares = [NOT_MEASURED if row is None else f"{100 * row['system_share']:.0f} %" for row in (reference, fast)]
    return [system, device, *times, digits(ratio), *examples, digits(check), " / ".join(shares if fast else shares[:1])]


def keeping(rows: list[Row]) -> list[str]:
    """Times and ratio where freed memory is kept."""
    settings = " ".join(f"{name}={value}" for name, value in KEEPING.items())
    note = (
        f"The same under `{settings}`: glibc then keeps the memory it is given back. The reference and the plain step "
        "gain most, since they write large arrays."
    )
    systems = dict.fromkeys(row["system"] for row in rows)
    lines = [_step_time_line(rows, system, "cpu")[:7] for system in systems]
    return [note, "", *table(["system", "device", *KINDS, "reference / fast"], lines)]


def memory(rows: list[Row]) -> list[str]:
    """Peaks per form."""
    lines = []
    for system in dict.fromkeys(row["system"] for row in rows):
        found = _by_kind(rows, {"system": system})
        lines.append([system, *(digits(found[kind]["peak_mb"]) for kind in KINDS if kind in found)])
    smallest = min(row["before_mb"] for row in rows)
    note = (
        "Largest resident memory of a process that takes three steps, in MB; with fast steps also of the check of "
        "their gate tables, as training makes it at its start. A process that has only imported the package and built "
        f"the smallest system has {digits(smallest)}."
    )
    return [note, "", *table(["system", *KINDS], lines)]


def machine(found: Row) -> list[str]:
    """Limits and shares."""
    note = (
        f"Large-array triad: {digits(found['triad_bytes_per_s'] / 1e9)} GB/s (write-allocation not counted). Large "
        f"float32 matrix product: {digits(found['multiply_adds_per_s'] / 1e9)} billion multiply-adds per second. "
        "Multiply-adds count PyTorch's matrix products alone, not elementwise work and nothing inside compiled kernels "
        "(tables, interpolation, noise). Operand bytes count what every PyTorch operation is given and returns, and "
        "the arrays and tables that compiled kernels are given, each once per call. Operands that stay in a cache are "
        "counted too, so that the last column is no share of memory traffic and can exceed 100 %."
    )
    lines = [
        [
            row["system"],
            digits(row["median_ms"]),
            digits(row["multiply_adds"] / 1e6),
            digits(100 * row["share_of_product_rate"], " %"),
            digits(row["operand_bytes"] / 1e6),
            digits(100 * row["operand_bytes_over_triad"], " %"),
        ]
        for row in found["systems"]
    ]
    header = ["system", "fast step ms", "multiply-adds M", "of the product's rate", "operand MB", "of the triad's rate"]
    return [note, "", *table(header, lines)]


def breakdown(rows: list[Row]) -> list[str]:
    """Shares per kind of work."""
    kinds = [*KINDS_OF_WORK, REST]
    note = (
        "Share of a fast step's time that operations of a kind spend in themselves, by torch's profiler on the CPU, "
        "and the number of PyTorch operations in a step. Profiling adds to every operation, so that the last share "
        "looks larger than it is where there are many small ones."
    )
    lines = [
        [row["system"], str(row["operations"]), *(digits(100 * row[kind], " %") for kind in kinds)] for row in rows
    ]
    return [note, "", *table(["system", "operations", *kinds], lines)]


def curves(rows: list[Row]) -> list[str]:
    """Times over sizes."""
    lines = []
    for curve, size in dict.fromkeys((row["curve"], row["size"]) for row in rows):
        found = _by_kind(rows, {"curve": curve, "size": size})
        ratio = found["plain"]["median_ms"] / found["fast"]["median_ms"]
        lines.append([curve, str(size), _timed(found["plain"]), _timed(found["fast"]), digits(ratio)])
    note = f"Milliseconds per step as above; one size of `{BASE}` is changed at a time."
    return [note, "", *table(["size", "value", "plain", "fast", "plain / fast"], lines)]


def trainer_share(found: Row) -> list[str]:
    """The trainer beside the bare loop."""
    note = (
        f"`{found['system']}` from step {found['first_step']} to {found['last_step']}: the command line with its "
        "default callbacks and logging (checkpoints included, no validation) beside a bare loop of the same fast "
        f"steps, in milliseconds per step; the middle one of {len(found['repeats']['bare'])} processes each, which run "
        "alternately."
    )
    lines = [
        [name, digits(found[f"{name}_ms"]["trainer"]), digits(found[f"{name}_ms"]["bare"]), _percent(found, name)]
        for name in ("mean", "median")
    ]
    return [note, "", *table(["", "trainer", "bare loop", "trainer adds"], lines)]


def _percent(found: Row, name: str) -> str:
    return digits(100 * found[f"share_of_bare_{name}"], " %")


def time_to_recovery(rows: list[Row]) -> list[str]:
    """Seconds per seed."""
    note = (
        "Seconds of `fit --config tms.yaml` from the start of the process, with the trained target in the cache and "
        "the compiled kernels not: until a validation first shows no contradiction at tolerance 0.2 and ML2R within "
        f"{ML2R[0]}-{ML2R[1]} at both sites, and until the process ends. It is only seen when the run validates."
    )
    lines = [
        [
            str(row["seed"]),
            "never" if row["recovered_s"] is None else digits(row["recovered_s"]),
            "-" if row["step"] is None else str(row["step"]),
            "yes" if row["stays"] else "no",
            digits(row["process_s"]),
        ]
        for row in rows
    ]
    return [note, "", *table(["seed", "recovered", "at step", "in all later validations", "process"], lines)]


SECTIONS: dict[str, tuple[str, Callable[[Any], list[str]]]] = {
    "equality": ("Equality", equality),
    "step_time": ("Step time", step_time),
    "step_time_keeping": ("Step time, freed memory kept", keeping),
    "memory": ("Memory", memory),
    "machine": ("Share of the machine", machine),
    "breakdown": ("Where a fast step's time goes", breakdown),
    "curves": ("Step time over sizes", curves),
    "trainer_share": ("What the trainer adds", trainer_share),
    "time_to_recovery": ("Time to recovery", time_to_recovery),
}
