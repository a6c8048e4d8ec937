"""Files from strangers run no code, take no memory, and end in one line or in finite numbers."""

import functools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spd_lightning import DecomposedModel
from spd_lightning.artefact.export import save_decomposition
from spd_lightning.cli.command import main
from spd_lightning.targets.cache import TargetCache
from tests.reliability import hostile_files, hostile_process
from tests.reliability.hostile_process import FORMS, fine, open_all

FLIPS = {"short": 20, "long": 200}


def _all_of(endings, name) -> list[str]:
    """A file as every loader names it."""
    found = [one for one in endings if one.endswith(f": {name}")]
    assert found
    return found


def _good_checkpoint() -> dict:
    module = hostile_process.module()
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


def test_crafted_torch_files(folder):
    hostile_files.crafted(folder)

    endings = open_all("checkpoint,rebuilt,start,weights,input", folder)

    fine(endings, refused=list(endings))
    assert "executed" not in {path.name for path in folder.rglob("*")} | set(os.listdir(folder.parent))
    assert not Path("/tmp/executed").exists()


@pytest.mark.parametrize("form", FORMS)
def test_damaged_checkpoints(form, folder):
    torch.save(_good_checkpoint(), folder / "good.ckpt")
    good = (folder / "good.ckpt").read_bytes()
    for name, content in hostile_files.damaged(good, FLIPS[form]):
        (folder / f"{name}.ckpt").write_bytes(content)

    endings = open_all("checkpoint,rebuilt,start", folder)

    fine(endings, refused=[name for name in endings if "cut" in name], loaded=_all_of(endings, "good.ckpt"))


def _named(**arguments) -> dict:
    content = _good_checkpoint()
    content["hyper_parameters"] |= arguments
    return content


def _without(name: str, **entries) -> dict:
    content = _good_checkpoint() | entries
    del content["hyper_parameters"][name]
    return content


def _per_site(function) -> dict:
    return {"class_path": "spd_lightning.PerSite", "init_args": {"function": function}}


TOUCH = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "executed"]}}
HARMFUL_NAMES = {
    "instantiator": lambda: _named(_instantiator="os.system"),
    "instantiator that is no text": lambda: _named(_instantiator=["os.system"]),
    "target": lambda: _named(target={"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "executed"]}}),
    "target to import": lambda: _named(target={"class_path": "sprung.Trap", "init_args": {}}),
    "target as text": lambda: _named(target="sprung.Trap"),
    "importance": lambda: _named(importance="os.kill"),
    "importance as class": lambda: _named(importance={"class_path": "os.kill"}),
    "site function": lambda: _named(importance=_per_site("sprung.Trap")),
    "site function as class": lambda: _named(importance=_per_site({"class_path": "sprung.Trap"})),
    "site function that runs": lambda: _named(importance=_per_site(TOUCH)),
    "call": lambda: _named(call={"class_path": "sprung.Trap"}),
    "argument that runs": lambda: _named(call={"class_path": "spd_lightning.AutomaticCall", "init_args": {"x": TOUCH}}),
    "kind": lambda: _named(kinds=["sprung.Trap"]),
    "kind that runs": lambda: _named(kinds=["subprocess.Popen"]),
    "optimization": lambda: _named(optimization={"class_path": "sprung.Trap"}),
    "optimization as text": lambda: _named(optimization="sprung.Trap"),
    "hyper-parameters of an earlier Lightning": lambda: _without("kinds", hparams={"kinds": ["sprung.Trap"]}),
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

    unread = list(HARMFUL_NAMES).index(
        "no state"
    )  # for the command line the config is the truth; it reads no hyper-parameters
    wrong = [f"rebuilt: {name}.ckpt" for name in HARMFUL_NAMES]
    wrong += [f"checkpoint: {name}.ckpt" for name in list(HARMFUL_NAMES)[unread:]]
    fine(endings, refused=wrong)
    assert not (folder / "executed").exists()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_damaged_weights(name, form, folder):
    state = {key: tensor.clone().contiguous() for key, tensor in hostile_process.network().state_dict().items()}
    good = folder / f"good{Path(name).suffix}"
    save_file(state, good) if good.suffix == ".safetensors" else torch.save(state, good)
    content = good.read_bytes()
    variants = dict(hostile_files.damaged(content, FLIPS[form]))
    if good.suffix == ".safetensors":
        variants |= dict(hostile_files.crafted_safetensors(content))
    for title, bad in variants.items():
        (folder / f"{title}{good.suffix}").write_bytes(bad)

    endings = open_all("weights", folder)
    fine(endings, refused=[name for name in endings if "cut" in name], loaded=_all_of(endings, good.name))


@pytest.mark.parametrize(
    "place", ["target", "importance", "importance.init_args.function", "call", "call.init_args.x", "target.init_args.x"]
)
@pytest.mark.parametrize("class_path", ["sprung.Trap", "subprocess.Popen"])
def test_artefacts_that_name_something_harmful(place, class_path, folder):
    (folder / "sprung.py").write_text("open('executed', 'w')\nclass Trap:\n    pass\n")
    _artefact(folder / "bad")
    config = json.loads((folder / "bad/config.json").read_text())
    *above, last = place.split(".")
    entry = functools.reduce(lambda inner, name: inner[name], above, config)
    entry[last] = {**TOUCH, "class_path": class_path}
    (folder / "bad/config.json").write_text(json.dumps(config))

    endings = open_all("artefact", folder)

    fine(endings, refused=["artefact: bad"])
    assert "which is no imported" in endings["artefact: bad"]
    assert not (folder / "executed").exists()


def _artefact(folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        save_decomposition(DecomposedModel(hostile_process.network(), {"linear*": 4}), folder)


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

    endings = open_all("artefact,start", folder)
    flipped = [name for name in endings if "components.safetensors-flip" in name]
    assert len(flipped) == 2 * FLIPS[form]
    fine(endings, refused=flipped, loaded=_all_of(endings, "good"))


@pytest.mark.parametrize("form", FORMS)
def test_damaged_caches_are_filled_anew(form, folder):
    good = folder / "good"
    TargetCache(good).get(hostile_process.DESCRIPTION, lambda: hostile_process.network().state_dict())
    (kept,) = good.rglob("*.safetensors")
    content = kept.read_bytes()
    variants = dict(hostile_files.damaged(content, FLIPS[form])) | dict(hostile_files.crafted_safetensors(content))
    for title, bad in variants.items():
        shutil.copytree(good, folder / title)
        (folder / title / kept.relative_to(good)).write_bytes(bad)

    endings = open_all("cache", folder)

    fine(endings, loaded=list(endings))


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
