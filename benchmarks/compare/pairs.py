"""What is compared with what: systems by both methods, and each method's most delicate numbers."""

from dataclasses import dataclass

from benchmarks.reproduce.systems import SYSTEMS, Published, System

PREFIX = "apd_"
_TABLE_1 = "Table 1 of the SPD paper"


@dataclass(frozen=True)
class Pair:
    """One system by both methods.

    Attributes:
        spd: by SPD.
        apd: by APD.
    """

    spd: System
    apd: System


@dataclass(frozen=True)
class Knob:
    """A number that is swept around its shipped value.

    Attributes:
        method: ``SPD`` or ``APD``.
        words: what it is.
        sweep: name of the sweep's file, and of its folder.
        key: its dotted key.
        default: its shipped value.
    """

    method: str
    words: str
    sweep: str
    key: str
    default: float


def _apd(name: str, seeds: tuple[int, ...], step_ms: float, published: Published) -> System:
    return System(PREFIX + name, f"apd/{name}.yaml", seeds, step_ms, {}, published, name)


PAIRS = (
    Pair(SYSTEMS["tms_5-2"], _apd("tms_5-2", (0, 1, 2), 5.0, Published(_TABLE_1, (0.998, 0.000), (0.893, 0.004)))),
    Pair(SYSTEMS["tms_40-10"], _apd("tms_40-10", (0,), 90.0, Published(_TABLE_1, (0.996, 0.003), (0.935, 0.001)))),
    Pair(SYSTEMS["residual_mlp_1"], _apd("residual_mlp_1", (0,), 140.0, Published("figures of the APD paper"))),
    Pair(SYSTEMS["residual_mlp_2"], _apd("residual_mlp_2", (0,), 300.0, Published("figures of the APD paper"))),
)
"""All pairs, small systems first."""

KNOBS = (
    Knob("SPD", "importance coefficient", "importance_tms_5-2", "model.losses.importance.coefficient", 2.4e-3),
    Knob("APD", "k", "apd_k_tms_5-2", "model.k", 0.211),
    Knob("APD", "simplicity coefficient", "apd_simplicity_tms_5-2", "model.losses.simplicity.coefficient", 0.7),
)
"""Of the 5-2 toy model: the same number of runs for each."""
