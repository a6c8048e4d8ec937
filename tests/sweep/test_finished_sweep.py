"""What a sweep leaves behind."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from tests.sweep.conftest import COEFFICIENT, GRID

NAMES = [
    f"importance.coefficient={coefficient},seed_everything={seed}" for coefficient in ("1e-3", "1e-1") for seed in "01"
]


def _rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_plan_runs_table_and_pictures(finished):
    assert finished.code == 0
    assert sorted(path.name for path in finished.folder.iterdir() if path.is_dir()) == sorted([*NAMES, "figures"])
    for name in NAMES:
        assert (finished.folder / name / "components.safetensors").is_file()
    plan = yaml.safe_load((finished.folder / "sweep.yaml").read_text())
    assert (plan["name"], plan["over"][0]["seed_everything"]) == ("done", [0, 1])
    assert plan["config"] == [str(finished.folder.parents[2] / "tiny.yaml")]


def test_each_run_has_its_values(finished):
    for name, coefficient, seed in zip(NAMES, (1e-3, 1e-3, 1e-1, 1e-1), (0, 1, 0, 1), strict=True):
        config = yaml.safe_load((finished.folder / name / "config.yaml").read_text())
        assert config["model"]["losses"]["importance"]["init_args"]["coefficient"] == coefficient
        assert config["seed_everything"] == seed


def test_the_table_repeats_the_runs_own_numbers(finished):
    rows = _rows(finished.folder)

    assert [row["run"] for row in rows] == NAMES
    assert [(row[COEFFICIENT], row["seed_everything"]) for row in rows[1:3]] == [("1e-3", "1"), ("1e-1", "0")]
    for row in rows:
        document = json.loads((finished.folder / row["run"] / "metrics.json").read_text())
        assert (row["state"], row["problem"], row["steps"]) == ("finished", "", "6")
        assert {name: float(row[name]) for name in document["scores"]} == document["scores"]
        assert float(row["wall_time_s"]) == document["wall_time_s"]
        assert float(row["process_peak_memory_mb"]) == document["peak_memory_mb"]
        assert row["recovered"] == "0"
        assert "linear1: " in row["shortfalls"]
        assert Path(row["folder"]).name == row["run"]


def test_tensorboard_has_the_swept_values_as_numbers_beside_the_scores(finished):
    for name, coefficient, seed in zip(NAMES, (1e-3, 1e-3, 1e-1, 1e-1), (0, 1, 0, 1), strict=True):
        events = EventAccumulator(str(finished.folder / name)).Reload()
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        parameters = metadata.parse_session_start_info_plugin_data(content).hparams
        assert parameters["importance.coefficient"].number_value == coefficient
        assert parameters["seed_everything"].WhichOneof("kind") == "number_value"
        assert parameters["seed_everything"].number_value == seed
        assert {"headline/l0", "val/recovery/linear1/mmcs"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("name", ["sensitivity", "importance_tables"])
def test_pictures_are_pictures(name, finished):
    with Image.open(finished.folder / "figures" / f"{name}.png") as picture:
        assert min(picture.size) > 200
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


def test_a_run_in_a_sweep_equals_the_same_run_alone(finished, tmp_path, place):
    alone = [sys.executable, "-m", "spd_lightning", "fit", "--config", str(place / "tiny.yaml")]
    alone += [f"--{COEFFICIENT}=1e-1", "--seed_everything=1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run(alone, cwd=tmp_path, env=environment, check=True, capture_output=True)

    folders = [finished.folder / NAMES[-1], tmp_path / "runs/tiny/version_0"]
    ours, theirs = (torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in folders)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = (json.loads((folder / "metrics.json").read_text())["scores"] for folder in folders)
    assert ours == theirs


def test_nothing_stays_in_the_process(finished):
    before, after = finished.leftovers

    assert after == before
    assert after[0] == 0


def test_the_plan_is_a_sweep_file_and_what_is_done_is_not_done_again(sweep, copy):
    times = {path: path.stat().st_mtime_ns for name in NAMES for path in (copy / name).rglob("*")}

    result = sweep("--sweep", str(copy / "sweep.yaml"), config=False)

    assert result.code == 0
    assert "4 of 4 runs are finished" in result.out
    assert {path: path.stat().st_mtime_ns for name in NAMES for path in (copy / name).rglob("*")} == times


def test_new_points_are_added_and_done_beside_a_damaged_run(sweep, copy):
    text = (copy / "sweep.yaml").read_text()
    _damage(copy / NAMES[0])

    result = sweep("--over", "seed_everything=1,2", f"{COEFFICIENT}=0.1", "--name", "done")

    assert result.code == 1
    assert [row["state"] for row in _rows(copy)] == ["damaged", *["finished"] * 4]
    assert [row["run"] for row in _rows(copy)] == [*NAMES, "importance.coefficient=0.1,seed_everything=2"]
    assert (copy / "sweep.yaml").read_text() == text + f"- {COEFFICIENT}: [0.1]\n  seed_everything: [1, 2]\n"


def _damage(run):
    (run / "metrics.json").write_text("{")


def _other_version(run):
    document = json.loads((run / "metrics.json").read_text())
    document["versions"]["spd_lightning"] = "0.0.1"
    (run / "metrics.json").write_text(json.dumps(document))


def _other_value(run):
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("coefficient: 0.1", "coefficient: 0.2"))


def _other_value_of_a_run_to_continue(run):
    (run / "metrics.json").unlink()
    _other_value(run)


def test_runs_that_do_not_fit_are_left_untouched(sweep, copy):
    changes = {
        _damage: ("damaged", "Expecting property name"),
        _other_version: ("other version", "made by version 0.0.1"),
        _other_value: ("other config", f"its config.yaml has {COEFFICIENT} 0.2, the sweep 0.1"),
        _other_value_of_a_run_to_continue: ("other config", f"its config.yaml has {COEFFICIENT} 0.2, the sweep 0.1"),
    }
    for name, change in zip(NAMES, changes, strict=True):
        change(copy / name)
    before = {path: path.read_bytes() for name in NAMES for path in (copy / name).rglob("*") if path.is_file()}

    result = sweep(*GRID, "--name", "done")

    assert result.code == 1
    after = {path: path.read_bytes() for name in NAMES for path in (copy / name).rglob("*") if path.is_file()}
    assert after == before
    for row, (state, problem) in zip(_rows(copy), changes.values(), strict=True):
        assert row["state"] == state
        assert problem in row["problem"]
        assert row["recovered"] == row["steps"] == ""
        (line,) = (line for line in result.err.splitlines() if line.startswith(row["run"]))
        assert f"{row['run']}: left untouched, {row['problem']}" == line
