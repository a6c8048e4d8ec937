"""Files from strangers run no code, take no memory, and end in one line or in finite numbers."""

import contextlib
import json
import os
import shutil
import stat
import subprocess
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spd_lightning import DecomposedModel
from spd_lightning.cli import main
from spd_lightning.export import save_decomposition
from spd_lightning.kernels import build
from spd_lightning.targets.cache import TargetCache
from tests.reliability import hostile_files
from tests.reliability.hostile_files import open_all

FLIPS = {"short": 20, "long": 200}
FORMS = ["short", pytest.param("long", marks=pytest.mark.reliability)]


def _fine(endings, *, refused=(), loaded=()) -> None:
    """Every ending is allowed, and some files ended as they must."""
    bad = {name: end for name, end in endings.items() if end != "loaded" and not end.startswith("refused: ")}
    assert not bad
    assert not [name for name in refused if endings[name] == "loaded"]
    assert not {name: endings[name] for name in loaded if endings[name] != "loaded"}


def _all_of(endings, name) -> list[str]:
    """A file as every loader names it."""
    found = [one for one in endings if one.endswith(f": {name}")]
    assert found
    return found


def _good_checkpoint() -> dict:
    module = hostile_files.module()
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.6",
        "epoch": 0,
        "global_step": 3,
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    module.on_save_checkpoint(content)
    return content


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder for files, which is the working directory of whoever opens them."""
    inner = tmp_path / "files"
    inner.mkdir()
    monkeypatch.chdir(inner)
    return inner


def test_crafted_torch_files(folder):
    hostile_files.crafted(folder)

    endings = open_all("checkpoint,rebuilt,weights,input", folder)

    _fine(endings, refused=list(endings))
    assert "executed" not in {path.name for path in folder.rglob("*")} | set(os.listdir(folder.parent))
    assert not Path("/tmp/executed").exists()


@pytest.mark.parametrize("form", FORMS)
def test_damaged_checkpoints(form, folder):
    torch.save(_good_checkpoint(), folder / "good.ckpt")
    good = (folder / "good.ckpt").read_bytes()
    for name, content in hostile_files.damaged(good, FLIPS[form]):
        (folder / f"{name}.ckpt").write_bytes(content)

    endings = open_all("checkpoint,rebuilt", folder)

    _fine(endings, refused=[name for name in endings if "cut" in name], loaded=_all_of(endings, "good.ckpt"))


def _named(**arguments) -> dict:
    content = _good_checkpoint()
    content["hyper_parameters"] |= arguments
    return content


HARMFUL_NAMES = {
    "instantiator": lambda: _named(_instantiator="os.system"),
    "instantiator that is no text": lambda: _named(_instantiator=["os.system"]),
    "target": lambda: _named(target={"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "executed"]}}),
    "target to import": lambda: _named(target={"class_path": "sprung.Trap", "init_args": {}}),
    "target as text": lambda: _named(target="sprung.Trap"),
    "ci_fn": lambda: _named(ci_fn="os.kill"),
    "ci_fn as class": lambda: _named(ci_fn={"class_path": "os.kill"}),
    "recipe": lambda: _named(recipe={"class_path": "sprung.Trap"}),
    "loss": lambda: _named(losses={"a": {"class_path": "sprung.Trap"}}),
    "gigantic target": lambda: _named(
        target={
            "class_path": "spd_lightning.ToyModelOfSuperposition",
            "init_args": {"n_features": 10**6, "n_hidden": 10**5},
        }
    ),
    "gigantic sites": lambda: _named(sites={"linear*": 10**9}),
    "hyper-parameters": lambda: {**_good_checkpoint(), "hyper_parameters": [1]},
    "no state": lambda: {k: v for k, v in _good_checkpoint().items() if k != "state_dict"},
    "list for a state": lambda: {**_good_checkpoint(), "state_dict": [1, 2]},
    "numbers for a state": lambda: {**_good_checkpoint(), "state_dict": {"model": 5}},
    "version": lambda: {**_good_checkpoint(), "pytorch-lightning_version": "many"},
    "step": lambda: {**_good_checkpoint(), "global_step": "many"},
    "nan": lambda: {**_good_checkpoint(), "state_dict": {"x": torch.tensor(float("nan"))}},
}


def test_checkpoints_that_name_something_harmful(folder):
    (folder / "sprung.py").write_text("open('executed', 'w')\nclass Trap:\n    pass\n")  # the folder is on the path
    for name, make in HARMFUL_NAMES.items():
        torch.save(make(), folder / f"{name}.ckpt")

    endings = open_all("checkpoint,rebuilt", folder)

    unread = 12  # for the command line the config is the truth; it reads no hyper-parameters
    wrong = [f"rebuilt: {name}.ckpt" for name in HARMFUL_NAMES]
    wrong += [f"checkpoint: {name}.ckpt" for name in list(HARMFUL_NAMES)[unread:]]
    _fine(endings, refused=wrong)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_damaged_weights(name, form, folder):
    state = {key: tensor.clone().contiguous() for key, tensor in hostile_files.network().state_dict().items()}
    good = folder / f"good{Path(name).suffix}"
    save_file(state, good) if good.suffix == ".safetensors" else torch.save(state, good)
    content = good.read_bytes()
    variants = dict(hostile_files.damaged(content, FLIPS[form]))
    if good.suffix == ".safetensors":
        variants |= dict(hostile_files.crafted_safetensors(content))
    for title, bad in variants.items():
        (folder / f"{title}{good.suffix}").write_bytes(bad)

    endings = open_all("weights", folder)
    _fine(endings, refused=[name for name in endings if "cut" in name], loaded=_all_of(endings, good.name))


def _artefact(folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        save_decomposition(DecomposedModel(hostile_files.network(), {"linear*": 4}), folder)


@pytest.mark.parametrize("form", FORMS)
def test_damaged_artefacts(form, folder):
    good = folder / "good"
    _artefact(good)
    for name in ("components.safetensors", "config.json"):
        content = (good / name).read_bytes()
        variants = dict(hostile_files.damaged(content, FLIPS[form]))
        if name == "config.json":
            odd = list(hostile_files.odd_documents(json.loads(content)))
            odd = odd if form == "long" else odd[::8]
            variants |= {title: text.encode() for title, text in odd}
        else:
            variants |= dict(hostile_files.crafted_safetensors(content))
        for title, bad in variants.items():
            shutil.copytree(good, folder / f"{name}-{title}"[:120])
            (folder / f"{name}-{title}"[:120] / name).write_bytes(bad)

    endings = open_all("artefact", folder)
    flipped = [name for name in endings if "components.safetensors-flip" in name]
    assert len(flipped) == FLIPS[form]
    _fine(endings, refused=flipped, loaded=_all_of(endings, "good"))


@pytest.mark.parametrize("form", FORMS)
def test_damaged_caches_are_filled_anew(form, folder):
    good = folder / "good"
    TargetCache(good).get(hostile_files.DESCRIPTION, lambda: hostile_files.network().state_dict())
    (kept,) = good.rglob("*.safetensors")
    content = kept.read_bytes()
    variants = dict(hostile_files.damaged(content, FLIPS[form])) | dict(hostile_files.crafted_safetensors(content))
    for title, bad in variants.items():
        shutil.copytree(good, folder / title)
        (folder / title / kept.relative_to(good)).write_bytes(bad)

    endings = open_all("cache", folder)

    _fine(endings, loaded=list(endings))


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
    _fine(endings, loaded=good, refused=set(endings) - good)


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

    _fine(endings, loaded=list(endings))
    assert not (folder / "executed").exists()


def test_the_command_line_says_it_in_one_line(folder, capsys, monkeypatch):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(folder.parent / "cache"))
    hostile_files.crafted(folder, ".ckpt")
    for name in ("payload", "zip_bomb", "bytearray_bomb", "meta", "nested", "noise", "pipe", "loop", "deep_state"):
        with pytest.raises(SystemExit) as stopped:
            main(["test", "--config", "tms.yaml", "--ckpt_path", f"{name}.ckpt"])
        said = capsys.readouterr().err
        assert stopped.value.code == 2, name
        assert said.startswith("error: "), name
        assert said.count("\n") == 1, said
        assert f"{name}.ckpt" in said or "checkpoint" in said
    assert not (folder / "executed").exists()
    assert not (folder / "runs").exists()


COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), "")
PLANT = '__attribute__((constructor)) static void plant(void) { fclose(fopen("%s", "w")); }'


def _planted(path: Path, mark: Path) -> None:
    """A library that leaves a mark when it is loaded."""
    path.unlink(missing_ok=True)
    source = path.with_suffix(".c")
    source.write_text(f"#include <stdio.h>\n{PLANT % mark}\n")
    subprocess.run([COMPILER, "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    path.chmod(0o644)
    source.unlink()


def _built(folder: Path) -> str:
    """Whether there is a library, and why not, in a process that has loaded none before."""
    answer = folder / "built.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork among threads; see open_all
        child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            built = build.__wrapped__()
            answer.write_text(f"{built.library is not None}|{built.reason}")
        os._exit(0)
    os.waitpid(child, 0)
    return answer.read_text()


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
def test_a_library_that_others_could_have_written_is_not_loaded(folder, monkeypatch):
    script = folder / "quick"
    script.write_text(f'#!/bin/sh\nexec {COMPILER} "$@" -O0\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(folder / "cache"))
    mark = folder / "executed"
    assert _built(folder) == "True|"
    (kept,) = (folder / "cache").rglob("*.so")
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700

    _planted(kept, mark)
    kept.chmod(0o666)
    assert _built(folder) == "True|"  # built anew
    _planted(folder / "elsewhere.so", mark)
    kept.unlink()
    kept.symlink_to(folder / "elsewhere.so")
    assert _built(folder) == "True|"
    kept.parent.chmod(0o777)
    library, reason = _built(folder).split("|")
    assert library == "False"
    assert "others may write in" in reason
    assert not mark.exists()

    kept.parent.chmod(0o700)
    _planted(kept, mark)  # this user's own doing: the trap works
    _built(folder)
    assert mark.exists()
