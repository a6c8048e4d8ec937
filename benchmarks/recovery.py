"""Run shipped configs over seeds and write what was found to ``docs/results.md``.

    python benchmarks/recovery.py [--systems tms paper] [--seeds 0 1 2 3 4]

Each run is a process of its own, timed from start to exit. A finished run is not repeated; remove its folder under
``runs/results`` to run it again. The first run of a folder trains the target, the others find it in the cache.
Every number in the tables is read from a run's ``metrics.json`` or its ``process.json``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "results"


@dataclass(frozen=True)
class System:
    """A config, the name of its folder, and the seeds that are run by default."""

    name: str
    config: str
    seeds: tuple[int, ...]


SYSTEMS = {
    "tms": System("tms", "tms.yaml", (0, 1, 2, 3, 4)),
    "paper": System("paper_tms_5-2", "paper/tms_5-2.yaml", (0,)),
}
SITES = ("linear1", "linear2")


def folder_of(system: System, seed: int) -> Path:
    """Where a run keeps its files."""
    return RUNS / system.name / f"seed_{seed}"


def run(system: System, seed: int) -> None:
    """Run one seed as a user would, unless it is finished."""
    folder = folder_of(system, seed)
    if (folder / "process.json").is_file():
        return
    logger = {"save_dir": RUNS, "name": system.name, "version": f"seed_{seed}"}
    overrides = [f"--trainer.logger.init_args.{name}={value}" for name, value in logger.items()]
    command = [sys.executable, "-m", "spd_lightning", "fit", "--config", system.config, "--seed_everything", str(seed)]
    began = time.monotonic()
    environment = {**os.environ, "SPD_LIGHTNING_CACHE": str(RUNS / "cache")}
    print(f"{system.name}, seed {seed}", flush=True)
    subprocess.run([*command, *overrides], check=True, cwd=ROOT, env=environment)
    process = {"wall_s": round(time.monotonic() - began, 1)}
    (folder / "process.json").write_text(json.dumps(process) + "\n")


def read(system: System, seed: int) -> dict[str, Any] | None:
    """Metrics and process figures of a finished run."""
    folder = folder_of(system, seed)
    if not (folder / "process.json").is_file():
        return None
    return {
        "seed": seed,
        **json.loads((folder / "metrics.json").read_text()),
        **json.loads((folder / "process.json").read_text()),
    }


def cells(document: dict[str, Any]) -> list[str]:
    """One row of the table."""
    scores = document["scores"]

    def both(pattern: str, digits: int) -> str:
        values = [scores.get(pattern.format(site)) for site in SITES]  # an older run may lack a newer score
        return " / ".join("-" if value is None else f"{value:.{digits}f}" for value in values)

    return [
        str(document["seed"]),
        both("recovery/{}/mechanisms", 0),
        both("alive/{}", 0),
        both("recovery/{}/identity_error_0.2", 0),
        both("recovery/{}/identity_error_0.1", 0),
        both("recovery/{}/mmcs", 5),
        both("recovery/{}/ml2r", 4),
        both("recovery/{}/ml2r_alive", 4),
        both("l0/{}", 3),
        *(
            f"{scores[f'ablation/{name}']:.1e}"
            for name in ("unmasked", "ci_masked", "stochastic", "worst_case", "zero")
        ),
        f"{document['wall_s']:.0f}",
        f"{document['peak_memory_mb']:.0f}",
    ]


HEADER = [
    "seed",
    "mechanisms",
    "alive",
    "errors at 0.2",
    "errors at 0.1",
    "MMCS",
    "ML2R",
    "ML2R of alive",
    "L0",
    "unmasked",
    "ci masked",
    "stochastic",
    "worst case",
    "all zero",
    "wall s",
    "peak MB",
]


def recovered(document: dict[str, Any]) -> bool:
    """The acceptance rule, all of it, at both sites."""
    scores = document["scores"]
    return scores["ablation/unmasked"] <= 1e-5 and all(
        scores[f"recovery/{site}/identity_error_0.2"] == 0
        and scores[f"alive/{site}"] == scores[f"recovery/{site}/mechanisms"]
        and scores[f"recovery/{site}/mmcs"] >= 0.999
        and 0.97 <= scores[f"recovery/{site}/ml2r"] <= 1.03
        for site in SITES
    )


def spread(documents: list[dict[str, Any]], name: str) -> str:
    """Mean and standard deviation over seeds, as in the paper's Table 1."""
    values = [document["scores"][name] for document in documents]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} ± {deviation:.3f}"


def section(system: System, documents: list[dict[str, Any]]) -> str:
    """Table and summary of one config."""
    lines = [f"## `configs/{system.config}`", "", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    lines += ["| " + " | ".join(cells(document)) + " |" for document in documents]
    first = documents[0]
    chance = " / ".join(f"{first['scores'][f'recovery/{site}/chance_mmcs']:.3f}" for site in SITES)
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    lines += [
        "",
        f"{sum(map(recovered, documents))} of {len(documents)} seeds meet the acceptance rule. linear1 over seeds: "
        f"MMCS {spread(documents, 'recovery/linear1/mmcs')} (chance {chance}), "
        f"ML2R {spread(documents, 'recovery/linear1/ml2r')}; "
        "the paper's Table 1 reports MMCS 1.000 ± 0.000 and ML2R 0.993 ± 0.002.",
        "",
        f"{first['steps']} steps on {first['device']} ({first['machine']}, {os.cpu_count()} cores, "
        f"{platform.system()}); {versions}. "
        f"Settings: {', '.join(f'{name} {value}' for name, value in first['settings'].items())}.",
        "",
    ]
    return "\n".join(lines)


def report(systems: list[System]) -> str:
    """The whole document, from the runs that are finished."""
    lines = [
        "# Results",
        "",
        "Written by `make results` (`benchmarks/recovery.py`); nothing here is typed in. Values with a slash are "
        "linear1 / linear2. Distances are mean squared errors to the target's output on held-out data; the worst case "
        "is found anew for each batch by signed gradient ascent on sources shared by the batch. Wall time is that of "
        "the whole process. A dash marks a score that was added after the run.",
        "",
        "Acceptance rule: at both sites identity error 0 at tolerance 0.2, exactly as many components alive as the "
        "target has mechanisms, MMCS at least 0.999, ML2R within 0.97-1.03; unmasked error at most 1e-5.",
        "",
    ]
    for system in systems:
        seeds = sorted(int(path.name.removeprefix("seed_")) for path in (RUNS / system.name).glob("seed_*"))
        documents = [document for seed in seeds if (document := read(system, seed)) is not None]
        if documents:
            lines.append(section(system, documents))
    return "\n".join(lines)


def main() -> None:
    """Run, then write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["tms"])
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds, instead of each system's own")
    options = parser.parse_args()
    for name in options.systems:
        for seed in options.seeds or SYSTEMS[name].seeds:
            run(SYSTEMS[name], seed)
    (ROOT / "docs" / "results.md").write_text(report(list(SYSTEMS.values())))
    print(f"wrote {ROOT / 'docs' / 'results.md'}")


if __name__ == "__main__":
    main()
