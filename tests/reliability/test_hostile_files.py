"""Files from strangers run no code, take no memory, and end in one line or in finite numbers."""

import ctypes
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spd_lightning import DecomposedModel
from spd_lightning.cli import main
from spd_lightning.export import save_decomposition
from spd_lightning.files import cache_folder
from spd_lightning.kernels import build
from spd_lightning.targets.cache import TargetCache
from tests.reliability import hostile_files
from tests.reliability.hostile_files import MEMORY, open_all

FLIPS = {"short": 20, "long": 200}
FORMS = ["short", pytest.param("long", marks=pytest.mark.reliability)]


def _fine(endings, *, refused=(), loaded=()) -> None:
    """Every ending is allowed, the memory was kept, and some files ended as they must."""
    assert endings.pop("peak") < MEMORY
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

    _fine(endings, refused=[name for name in endings if name != "peak"])
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
    state = {key: tensor.clone() for key, tensor in hostile_files.network().state_dict().items()}
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

    _fine(endings, loaded=[name for name in endings if name != "peak"])


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
    _fine(endings, loaded=good, refused=set(endings) - good - {"peak"})


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

    _fine(endings, loaded=[name for name in endings if name != "peak"])
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


needs_a_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")
PLANT = '__attribute__((constructor)) static void plant(void) { fclose(fopen(MARK, "w")); }'
BUILD = (
    "import sys\nfrom spd_lightning.kernels import build\n"
    "built = build()\nsys.stdout.write(f'{built.library is not None}|{built.reason}')\n"
)


def _planted(path: Path, mark: Path) -> None:
    source = path.with_suffix(".c")
    source.write_text(f'#include <stdio.h>\n#define MARK "{mark}"\n{PLANT}\n')
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))))
    subprocess.run([compiler, "-shared", "-fPIC", str(source), "-o", str(path)], check=True)
    source.unlink()


def _built_elsewhere(cache: Path) -> str:
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "SPD_LIGHTNING_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BUILD]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300).stdout


@needs_a_compiler
def test_a_library_that_others_could_have_written_is_not_loaded(folder, monkeypatch):
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(folder / "cache"))
    assert isinstance(build.__wrapped__().library, ctypes.CDLL)
    (kept,) = cache_folder().rglob("*.so")
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    mark = folder / "executed"

    _planted(kept, mark)
    kept.chmod(0o666)
    assert _built_elsewhere(folder / "cache") == "True|"  # built anew
    assert not mark.exists()

    _planted(folder / "elsewhere.so", mark)
    kept.unlink()
    kept.symlink_to(folder / "elsewhere.so")
    assert _built_elsewhere(folder / "cache") == "True|"
    assert not mark.exists()

    kept.parent.chmod(0o777)
    library, reason = _built_elsewhere(folder / "cache").split("|")
    assert library == "False"
    assert "others may write in" in reason

    kept.parent.chmod(0o700)
    _planted(kept, mark)  # this user's own doing: the trap itself works
    _built_elsewhere(folder / "cache")
    assert mark.exists()
