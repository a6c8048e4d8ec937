"""Tables of inputs and run directories from strangers end in one line, or in a page with every text escaped."""

import json

import pytest
import torch

from tests.reliability import hostile_files
from tests.reliability.hostile_process import FORMS, fine, open_all

INPUTS = {
    "good.csv": b"a,b,c\n1,2,3\n",
    "zero.csv": b"1,2,3\n\0,2,3\n",
    "zeros.csv": bytes(1000),
    "wide.csv": b"1," * 500_000 + b"1\n",
    "long_cell.csv": b"1,2," + b"9" * 200_000 + b"\n",
    "quote.csv": b'"1,2,3\n' * 30_000,
    "huge_number.csv": b"1,2,1e999\n",
    "huge_single.csv": b"1,2,1e39\n",
    "nan.csv": b"1,2,nan\n",
    "binary.csv": bytes(range(256)) * 20,
    "empty.csv": b"",
    "lines.csv": b"\n" * 10_000,
    "utf16.csv": "1,2,3\n".encode("utf-16"),
    "formula.csv": b"=cmd|' /C calc'!A0,2,3\n",
}


def test_tables_of_inputs(folder):
    for name, content in INPUTS.items():
        (folder / name).write_bytes(content)
    (folder / "folder.csv").mkdir()
    (folder / "device.csv").symlink_to("/dev/zero")
    torch.save(torch.ones(2, 3, dtype=torch.int64), folder / "whole.pt")
    torch.save(torch.ones(2, 3, dtype=torch.float64), folder / "double.pt")

    endings = open_all("input", folder)

    good = {f"input: {name}" for name in ("good.csv", "whole.pt", "double.pt")}
    fine(endings, loaded=good, refused=set(endings) - good)


RUN = {
    "scores": {"recovery/linear1/mmcs": 1.0, "recovery/linear1/mechanisms": 3, "l0/linear1": 1.0, "ablation/zero": 1.0},
    "settings": {"AblationCheck.distance": "mse", "MechanismRecovery.tolerances": [0.1]},
    "seed": 0,
    "steps": 5,
    "wall_time_s": 1.0,
    "peak_memory_mb": 2.0,
    "versions": {"spd_lightning": "1", "torch": "2"},
}
NAME = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("form", FORMS)
def test_reports_on_hostile_runs(form, folder):
    odd = list(hostile_files.odd_documents({**RUN, "scores": {**RUN["scores"], f"l0/{NAME}": 1.0}}))
    for number, (_, text) in enumerate(odd if form == "long" else odd[::6]):
        run = folder / f"{NAME} {number}"
        run.mkdir()
        (run / "metrics.json").write_text(text)
        (run / "config.yaml").write_text(f"model: {{target: '{NAME}', sites: {{'{NAME}': .nan}}}}\n")
    for name, config in {
        "explodes": "a: &a [x, x]\nb: &b [*a, *a]\nc: *b\n",
        "code": "!!python/object/apply:os.system ['touch executed']\n",
        "deep": "[" * 50_000,
        "binary": "\0" * 100,
    }.items():
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text(config)
        (folder / name / "metrics.json").write_text(json.dumps(RUN))
    (folder / "links").mkdir()
    (folder / "links" / "metrics.json").symlink_to("/etc/passwd")

    endings = open_all("report", folder)

    fine(endings, loaded=list(endings))
    assert not (folder / "executed").exists()
