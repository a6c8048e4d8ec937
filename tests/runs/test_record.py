"""Run directories read back."""

import json

import pytest

from spd_lightning.runs.record import read_record

METRICS = {"scores": {"alive/a": 3.0}, "seed": 4, "versions": {"spd_lightning": "0.0.1"}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text("seed_everything: 4\n")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    return tmp_path


def test_a_finished_run_gives_scores_and_config(folder):
    record = read_record(folder)

    assert (record.state, record.problem) == ("finished", "")
    assert record.scores == {"alive/a": 3.0}
    assert record.config == {"seed_everything": 4}
    assert record.shortfalls == ["no mechanisms were scored"]
    assert record.other_version == "0.0.1"


def test_a_folder_that_is_not_there_or_empty_is_absent(tmp_path):
    assert read_record(tmp_path / "none").state == "absent"
    assert read_record(tmp_path).state == "absent"


def test_a_run_without_final_scores_was_started(folder):
    (folder / "metrics.json").unlink()
    assert (read_record(folder).state, read_record(folder).checkpoint) == ("started", None)

    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    assert read_record(folder).checkpoint == folder / "checkpoints" / "last.ckpt"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.json", "{", "Expecting property name"),
        ("metrics.json", "[]", "metrics.json holds no mapping"),
        ("metrics.json", '{"scores": {"a": "high"}}', "holds no scores"),
        ("metrics.json", '{"scores": {}, "versions": 3}', "names its versions wrongly"),
        ("config.yaml", "a: [", "while parsing a flow"),
        ("config.yaml", "- 1", "config.yaml holds no mapping"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(folder, name, content, said):
    (folder / name).write_text(content)

    record = read_record(folder)

    assert record.state == "damaged"
    assert said in record.problem
    assert "\n" not in record.problem


def test_bytes_that_are_no_text_are_damage_too(folder):
    (folder / "metrics.json").write_bytes(b"\xff\xfe\x00")

    assert read_record(folder).state == "damaged"


def test_files_without_a_config_are_damage(folder):
    (folder / "config.yaml").unlink()

    assert (read_record(folder).state, read_record(folder).problem) == ("damaged", "config.yaml is missing")


def test_the_pictures_of_the_test_come_before_those_of_training(folder):
    (folder / "figures").mkdir()
    for name in ("val_b.png", "test_b.png", "test_a.png"):
        (folder / "figures" / name).write_bytes(b"")
    assert [path.name for path in read_record(folder).figures] == ["test_a.png", "test_b.png"]

    for path in folder.glob("figures/test_*"):
        path.unlink()
    assert [path.name for path in read_record(folder).figures] == ["val_b.png"]
