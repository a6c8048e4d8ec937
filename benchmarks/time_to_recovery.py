"""How long a user waits until our toy-model recipe has found the mechanisms, from the start of the process."""

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import systems
from benchmarks.options import Options
from benchmarks.processes import run
from spd_lightning.files.whole import CACHE_VARIABLE, cache_folder

SYSTEM = "tms"
SITES = ("linear1", "linear2")
CONTRADICTIONS, ML2R = "identity_contradictions_0.2", (0.97, 1.03)


def recovered(scores: dict[str, float]) -> bool:
    """The rule: at both sites no contradiction at tolerance 0.2 and ML2R within 0.97 to 1.03."""
    return all(
        scores[f"val/recovery/{site}/{CONTRADICTIONS}"] == 0
        and ML2R[0] <= scores[f"val/recovery/{site}/ml2r"] <= ML2R[1]
        for site in SITES
    )


def measure(options: Options) -> list[dict[str, Any]]:
    """One row per seed: seconds until a validation first shows recovery, its step, and seconds until the process ends.

    The trained target is in the cache, the compiled kernels are not. Recovery is only seen where the config validates.
    """
    systems.train_target(SYSTEM)
    return [_seed(seed) for seed in tqdm(options.seeds, desc="Time to recovery")]


def _seed(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder, lines = Path(name), Path(name) / "scores.jsonl"
        shutil.copytree(cache_folder() / "targets", folder / "cache" / "targets")
        arguments = {
            "seed_everything": seed,
            "trainer.logger.init_args.save_dir": folder / "runs",
            "trainer.callbacks+": "benchmarks.clocks.ScoreClock",
            "trainer.callbacks.init_args.path": lines,
        }
        command = ["spd_lightning", "fit", f"--config={SYSTEM}.yaml", *(f"--{k}={v}" for k, v in arguments.items())]
        began = time.time()
        run(command, {CACHE_VARIABLE: str(folder / "cache")})
        row = {"seed": seed, "process_s": time.time() - began}
        validations = [json.loads(line) for line in lines.read_text().splitlines()]
    return row | _first(validations, began)


def _first(validations: list[dict[str, Any]], began: float) -> dict[str, Any]:
    """The first validation that shows recovery, and whether all later ones do; nothing where none does."""
    shown = [recovered(validation["scores"]) for validation in validations]
    if not any(shown):
        return {"recovered_s": None, "step": None, "stays": False}
    index = shown.index(True)
    first = validations[index]
    return {"recovered_s": first["time"] - began, "step": first["step"], "stays": all(shown[index:])}
