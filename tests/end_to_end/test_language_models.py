"""Language models from a folder or trained on text, each taken apart from a config of a dozen lines."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel
from spd_lightning.cli.command import main
from spd_lightning.cli.shipped import shipped_configs
from tests.data.texts import folder_of
from tests.targets.hugging_face import FAMILIES, SITES, saved

TRAINED_HERE = """
trainer: {max_steps: 2, val_check_interval: 2, callbacks: [{class_path: ExportDecomposition}]}
model:
  target:
    class_path: LanguageModel
    init_args: {vocabulary: 300, length: 16, width: 16, layers: 1, heads: 2}
  recipe:
    class_path: LanguageModelTraining
    init_args:
      data: &text {class_path: TextTokens, init_args: {sources: [texts], vocabulary: 300, length: 16, batch_size: 4}}
      steps: 3
  sites: {"transformer.h.*.mlp.c_*": 4}
data: *text
"""
FROM_A_FOLDER = """
trainer: {max_steps: 4, val_check_interval: 2, callbacks+: CALLBACKS}
model:
  target: {class_path: HuggingFaceModel, init_args: {path: model}}
  call:
    class_path: KeywordCall
    init_args: {inputs: [input_ids, attention_mask], weights: attention_mask, output: logits}
  sites: SITES
  losses:
    faithfulness: {class_path: Faithfulness}
    stochastic: {class_path: Reconstruction, init_args: {distance: kl, routing: subset}}
    importance: {class_path: ImportanceMinimality, init_args: {coefficient: 1.0e-3}}
data: {class_path: TextTokens, init_args: {sources: [texts], vocabulary: 300, length: 8, batch_size: 4}}
"""
CALLBACKS = [
    {"class_path": "Checkpoints", "init_args": {"every_n_train_steps": 2, "save_top_k": -1}},
    {"class_path": "AblationCheck", "init_args": {"adversary_steps": 2, "ladder": [2]}},
]
"""Less than a user would have, for the sake of time; checkpoints on the way, to resume from."""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with some text and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPD_LIGHTNING_CACHE", str(tmp_path / "cache"))
    folder_of(tmp_path / "texts")
    return tmp_path


def _fit(text, *options):
    Path("lm.yaml").write_text(text)
    cli = main(["fit", "--config", "lm.yaml", "--trainer.enable_progress_bar=false", *options])
    return Path(cli.trainer.log_dir).absolute()


def _config(family):
    assert len(FROM_A_FOLDER.strip().splitlines()) <= 12
    return FROM_A_FOLDER.replace("SITES", json.dumps(SITES[family])).replace("CALLBACKS", json.dumps(CALLBACKS))


@pytest.mark.parametrize(
    "family", [name if name == "gpt2" else pytest.param(name, marks=pytest.mark.reliability) for name in FAMILIES]
)
def test_a_model_from_a_folder(family, folder):
    saved(family, folder / "model")
    run = _fit(_config(family))

    model = DecomposedModel.from_pretrained(run)
    assert all(parts.V.isfinite().all() for parts in model.components.values())
    assert json.loads((run / "metrics.json").read_text())["verdict"]
    assert (run / "report.html").exists()
    whole = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    (run / "checkpoints/last.ckpt").unlink()
    main(["fit", "--config", "lm.yaml", "--ckpt_path", str(next((run / "checkpoints").glob("*step=2*.ckpt")))])
    resumed = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert all(torch.equal(tensor, resumed["state_dict"][name]) for name, tensor in whole["state_dict"].items())
    main(["predict", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--output", "importances.pt"])
    predicted = torch.load("importances.pt", weights_only=True)
    assert set(predicted) == set(model.site_names)


def test_a_model_that_is_trained_on_the_same_text(folder, capsys):
    run = _fit(TRAINED_HERE)
    capsys.readouterr()
    again = _fit(TRAINED_HERE)

    assert run != again
    assert "loss on held-out text" not in capsys.readouterr().err
    assert len(list((folder / "cache/targets").glob("*.safetensors"))) == 1
    assert len(list((folder / "cache/tokens").glob("*.bin"))) == 1
    assert DecomposedModel.from_pretrained(run).target.length == 16


TWO_STEPS = {"max_steps": 2, "val_check_interval": 2, "limit_val_batches": 1, "limit_test_batches": 1}
FEW_TOKENS = {"sources": ["texts"], "tokenizer": None, "vocabulary": 300, "length": 8, "batch_size": 4}


@pytest.mark.parametrize(("name", "components"), [("simple_stories", 7104), ("pile", 38912)])
def test_the_published_runs_start_on_a_model_of_ones_own(name, components, folder):
    """Two steps with the published terms; sizes that a small model has, and few components."""
    published = yaml.safe_load((shipped_configs() / "lm" / f"{name}.yaml").read_text())["model"]["sites"]
    layers = {"simple_stories": 2, "pile": 4}[name]
    of_a_layer = [count * len(site.partition("[")[2].partition("]")[0] or "x") for site, count in published.items()]
    assert layers * sum(of_a_layer) == components

    saved("llama", folder / "model")
    small = {
        "trainer": TWO_STEPS,
        "model": {
            "sites": dict.fromkeys(published, 3),
            "importance": {"class_path": "SiteTransformer", "init_args": {"width": 8, "blocks": 1, "heads": 2}},
            "warmup": {"steps": 2},
        },
        "data": {"class_path": "TextTokens", "init_args": FEW_TOKENS},
    }
    Path("small.yaml").write_text(yaml.safe_dump(small))
    Path("published.yaml").write_text((shipped_configs() / "lm" / f"{name}.yaml").read_text())
    cli = main(["fit", "--config", "published.yaml", "--config", "small.yaml", "--trainer.enable_progress_bar=false"])
    scores = json.loads((Path(cli.trainer.log_dir) / "metrics.json").read_text())["scores"]
    assert "task/cross_entropy/target" in scores
    assert cli.trainer.lightning_module.terms()["adversary"].state()["pushes"] == 6


def _neo(folder):
    from transformers import GPTNeoConfig, GPTNeoForCausalLM

    sizes = {"hidden_size": 8, "num_layers": 4, "num_heads": 2, "max_position_embeddings": 16}
    kinds = [[["global", "local"], 2]]
    config = GPTNeoConfig(vocab_size=320, attention_types=kinds, bos_token_id=0, eos_token_id=0, **sizes)
    GPTNeoForCausalLM(config).save_pretrained(folder)


@pytest.mark.parametrize(("name", "count"), [("gpt2_matrix", 768), ("tiny_stories_matrix", 100)])
def test_the_runs_on_one_matrix_start_on_a_model_of_ones_own(name, count, folder):
    shipped = yaml.safe_load((shipped_configs() / "lm" / f"{name}.yaml").read_text())
    ((site, components),) = shipped["model"]["sites"].items()
    assert components == count
    if name == "gpt2_matrix":
        saved("gpt2", folder / "model")
    else:
        _neo(folder / "model")
    small = {
        "trainer": TWO_STEPS,
        "model": {"sites": {site: 3}, "warmup": {"steps": 2}},
        "data": {"class_path": "TextTokens", "init_args": FEW_TOKENS},
    }
    Path("small.yaml").write_text(yaml.safe_dump(small))
    Path("published.yaml").write_text((shipped_configs() / "lm" / f"{name}.yaml").read_text())
    cli = main(["fit", "--config", "published.yaml", "--config", "small.yaml", "--trainer.enable_progress_bar=false"])
    run = Path(cli.trainer.log_dir)
    assert "task/cross_entropy/target" in json.loads((run / "metrics.json").read_text())["scores"]
    assert (run / "analysis/token_readings.json").exists()


REFUSED = {
    "no file": ("--data.sources=[nowhere]", "matches no file"),
    "not UTF-8": ("--data.sources=[latin.txt]", "byte 1 of 'latin.txt' is not UTF-8"),
    "no text": ("--data.sources=[empty.txt]", "sources hold no text"),
    "little text": ("--data.sources=[a.txt,b.txt]", "less than one window of length 16"),
    "no tokenizer": ("--data.tokenizer=nowhere --data.vocabulary=null", "'nowhere' is no file or folder"),
    "large vocabulary": ("--data.vocabulary=400", "tokens, but the target's vocabulary 300"),
    "long windows": ("--data.length=17", "length is 17, but the target has 16 positions"),
    "a data set by name": ("--data.dataset=owner/name", "set allow_download: true"),
    "a model by name": (
        "--model.recipe=null --model.target=HuggingFaceModel --model.target.path=owner/name",
        "set allow_download: true",
    ),
    "another network's recipe": (
        "--model.target=MLP --model.target.widths=[3,3] --model.sites={fc1: 3}",
        "LanguageModelTraining trains a LanguageModel",
    ),
}


OFTEN = ("not UTF-8", "large vocabulary", "a model by name")
"""Told by every run of the tests, the others by `make reliability`; below the command line all of them always are."""


@pytest.mark.parametrize(
    "case", [case if case in OFTEN else pytest.param(case, marks=pytest.mark.reliability) for case in REFUSED]
)
def test_what_cannot_be_used_is_told_in_one_line(case, folder, capsys):
    options, told = REFUSED[case]
    Path("latin.txt").write_bytes(b"a\xff")
    Path("empty.txt").touch()
    Path("a.txt").write_text("x")
    Path("b.txt").write_text("y")
    with pytest.raises(SystemExit) as stopped:
        _fit(TRAINED_HERE, *[f"--{option}" for option in options.removeprefix("--").split(" --")])
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]

    assert stopped.value.code == 2
    assert len(errors) == 1
    assert told in errors[0]
    assert not Path("runs").exists()


def test_the_shipped_config_trains_on_the_text_it_is_taken_apart_on():
    shipped = yaml.safe_load((shipped_configs() / "lm/python.yaml").read_text())

    assert shipped["model"]["recipe"]["init_args"]["data"] == shipped["data"]
    target, data = shipped["model"]["target"]["init_args"], shipped["data"]["init_args"]
    assert (target["vocabulary"], target["length"]) == (data["vocabulary"], data["length"])
