"""Run directories written by hand, and systems that go with them."""

import json
from pathlib import Path

import yaml

from benchmarks.reproduce.systems import Published, System
from benchmarks.seeds.runs import EntryRuns, TableRun
from spd_lightning.files.version import library_version
from spd_lightning.runs.planned import PlannedRun
from spd_lightning.sweep.grid import SEED
from spd_lightning.sweep.plan import SweepPlan
from spd_lightning.sweep.runs import SweptRun

CONFIG = {
    "trainer": {"max_steps": 100},
    "model": {
        "target": {"class_path": "ToyModelOfSuperposition", "init_args": {"n_features": 5}},
        "sites": {"linear*": 40},
    },
    "data": {"class_path": "SparseFeatures", "init_args": {"batch_size": 16}},
}
SETTINGS = {"ComponentActivity.threshold": 0.1, "AblationCheck.adversary_steps": 20}
SETTINGS |= {"AblationCheck.adversary_step_size": 0.1}


KEY = "model.losses.importance.coefficient"


def site_scores(site, alive=5.0, ml2r=1.0, contradictions=0.0, mmcs=1.0) -> dict[str, float]:
    recovery = {"mechanisms": 5.0, "mmcs": mmcs}
    recovery |= {f"identity_contradictions_{tolerance}": contradictions for tolerance in (0.1, 0.2)}
    recovery |= {"chance_mmcs": 0.995, "ml2r": ml2r, "ml2r_alive": ml2r}
    return {f"l0/{site}": 0.25, f"alive/{site}": alive} | {f"recovery/{site}/{k}": v for k, v in recovery.items()}


def residual_scores(pearson=0.9995) -> dict[str, float]:
    reading = {
        "mechanisms": 100.0,
        "identity_contradictions_0.1": 0.0,
        "identity_contradictions_0.2": 0.0,
        "pearson": pearson,
    }
    writing = {"mechanisms": 50.0, "dense_contradictions_0.1": 1.0, "dense_contradictions_0.2": 0.0}
    sites = {"layers.0.mlp_in": (100.0, reading), "layers.0.mlp_out": (50.0, writing)}
    scores = {"ablation/unmasked": 1e-9}
    for site, (alive, recovery) in sites.items():
        scores |= {f"alive/{site}": alive, f"l0/{site}": 1.5}
        scores |= {f"recovery/{site}/{name}": value for name, value in recovery.items()}
    return scores


def scores_of(**changes) -> dict[str, float]:
    ablation = {"unmasked": 1e-9, "ci_masked": 2e-4, "worst_case": 3e-4, "zero": 1.5e-2}
    return site_scores("linear1", **changes) | {f"ablation/{name}": value for name, value in ablation.items()}


def write_run(folder: Path, seed: int, scores=None, config=None, version=None, wall_s=20.0) -> Path:
    """A run directory ``folder/seed_N``; a finished one if there are scores."""
    run = folder / f"seed_{seed}"
    (run / "figures").mkdir(parents=True)
    resolved = yaml.safe_load(yaml.safe_dump(config or CONFIG)) | {"seed_everything": seed}
    resolved["model"]["target"]["class_path"] = "spd_lightning.ToyModelOfSuperposition"
    (run / "config.yaml").write_text(yaml.safe_dump(resolved))
    if scores is not None:
        versions = {"spd_lightning": version or library_version(), "torch": "2.9"}
        metrics = {"scores": scores, "settings": SETTINGS, "seed": seed, "steps": 100, "peak_memory_mb": 500.4}
        metrics |= {"device": "cpu", "machine": "x86_64, 1 threads", "versions": versions}
        (run / "metrics.json").write_text(json.dumps(metrics))
        parts = [{"started": "2025-01-01T00:00:00+00:00", "wall_s": wall_s, "jobs": 2, "threads": 1}]
        (run / "process.json").write_text(json.dumps({"wall_s": wall_s, "parts": parts}))
    return run


def make_system(folder: Path, name="tms_5-2", seeds=(0, 1), config=None, **options) -> System:
    """A system whose config is a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config or CONFIG))
    published = Published("Table 1", (1.0, 0.0), (0.993, 0.002), 1.0)
    return System(name, str(path), seeds, 1.0, {"linear*": 5, "*.mlp_out": 50}, published, **options)


def made(folder, seeds, key="", value="") -> list[TableRun]:
    """Runs of one point of a table, in ``folder/seed_N``."""
    entry = SweepPlan(("tms.yaml",), name="tms")
    return [
        TableRun(
            entry,
            SweptRun(
                f"seed_{seed}",
                {**({key: value} if key else {}), SEED: str(seed)},
                CONFIG,
                PlannedRun(folder / f"seed_{seed}", entry.configs),
                (),
            ),
        )
        for seed in seeds
    ]


def entry(name, runs, default=None) -> EntryRuns:
    return EntryRuns(SweepPlan(("tms.yaml",), name=name), default or {}, runs)


def written_values(folder: Path) -> EntryRuns:
    """Three values, three seeds: 3 of 3, 1 of 2 with one to do, none of 1, which failed."""
    for value, alive in (("1e-3", (5, 5, 5)), ("1e-2", (5, 9)), ("1e-1", ())):
        for seed, count in enumerate(alive):
            write_run(folder / "runs" / value, seed, scores_of(alive=float(count)), wall_s=10.0 + 10 * seed)
    (folder / "runs/1e-1").mkdir()
    (folder / "runs/1e-1/seed_0.log").write_text("error: it broke | badly\n")
    return three_values(folder)


def three_values(folder: Path) -> EntryRuns:
    runs = [run for value in ("1e-3", "1e-2", "1e-1") for run in made(folder / "runs" / value, [0, 1, 2], KEY, value)]
    return entry("tms", runs, {"model": {"losses": {"importance": {"init_args": {"coefficient": 0.01}}}}})
