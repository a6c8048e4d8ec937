"""The importances that runs keep: whose rows, in which order, at which steps."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from spd_lightning import (
    AttributionDecomposition,
    DecomposedModel,
    LanguageModel,
    ResidualMLP,
    SharedMLP,
    StochasticDecomposition,
    TextTokens,
    UsageError,
)
from spd_lightning.callbacks import (
    ComponentActivity,
    ExportDecomposition,
    ImportanceDistribution,
    ImportanceTables,
    importance_tables,
    publishing,
)
from spd_lightning.data import DatasetBatches, InductionSequences
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.model import KeywordCall, PerSite, PositionalCall
from spd_lightning.targets import HandMadeInduction
from tests.callbacks.perfect import Rows, Unprobed, perfect_decomposition
from tests.data.texts import folder_of, word_tokenizer
from tests.methods.tiny import expected_notices, features, fit, make_trainer, toy

VALIDATED = {"val_check_interval": 2, "limit_val_batches": None}


def _notes(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["importances"])


def _kept(folder):
    path = folder / "analysis/importances.safetensors"
    return load_file(path), _notes(path)


def test_rows_are_the_probes_and_columns_in_the_order_that_matches(perfect, examples, run):
    with torch.no_grad():  # components 0 and 2 change places
        for parts in perfect.model.components.values():
            parts.V[:, [0, 2]] = parts.V[:, [2, 0]]

    kept, notes = _kept(run(perfect, Rows(examples), ImportanceTables(probe=0.25)).folder)

    expected = torch.tensor([[0, 0, 0.5, 0], [0, 0.5, 0, 0], [0.5, 0, 0, 0]])  # the gate gives twice what is read
    assert kept["values/linear1"].dtype == torch.float16
    torch.testing.assert_close(kept["values/linear1"].float(), expected)
    assert kept["order/linear1"].dtype == torch.int32
    assert kept["order/linear1"].tolist() == [2, 1, 0, 3]
    assert set(kept) == {f"{part}/{site}" for part in ("values", "order") for site in ("linear1", "linear2")}
    assert notes["rows"] == "probes"
    assert notes["row_labels"] == ["feature 0", "feature 1", "feature 2"]
    assert (notes["format"], notes["step"]) == (1, 0)


def test_without_probes_rows_are_the_first_examples(perfect, examples, run):
    kept, notes = _kept(run(perfect, Unprobed(examples), ImportanceTables(rows=5)).folder)

    expected = perfect.model.importance_of(examples[0][:5])
    torch.testing.assert_close(kept["values/linear1"], expected["linear1"].lower.half())
    assert notes["rows"] == "positions"
    assert notes["row_labels"] == [f"example {row}" for row in range(5)]


def test_examples_are_called_by_their_class(perfect, run):
    rows, classes = torch.rand(3, 3), torch.tensor([2, 0, 1])

    _, notes = _kept(run(perfect, Unprobed([(rows, classes)]), ImportanceTables()).folder)

    assert notes["row_labels"] == ["example 0, class 2", "example 1, class 0", "example 2, class 1"]


def test_a_target_s_own_probes_are_taken_position_by_position(tmp_path, run):
    module = StochasticDecomposition(HandMadeInduction(4, 5), {"layers.*.q": 3}, call=PositionalCall(labels=1))
    sequences = InductionSequences(4, 5, size=8)

    folder = run(module, DatasetBatches(sequences, val=sequences, batch_size=4), ImportanceTables()).folder

    kept, notes = _kept(folder)
    probes = module.target.probes()[:4]
    expected = module.model.importance_of(probes)["layers.1.q"].lower.reshape(-1, 3)
    torch.testing.assert_close(kept["values/layers.1.q"], expected.half())
    assert notes["row_labels"] == [
        f"example {row}, position {position}: {int(probes[row, position])}" for row in range(4) for position in range(5)
    ]


@pytest.fixture
def language(tmp_path):
    """A small language model, and text whose first window ends in padding."""
    torch.manual_seed(0)
    call = KeywordCall(["input_ids", "attention_mask"], weights="attention_mask", output="logits")
    module = StochasticDecomposition(
        LanguageModel(vocabulary=130, length=12, width=8, layers=1, heads=2),
        {"transformer.h.0.mlp.c_fc": 3},
        call=call,
        importance=lambda shapes: PerSite(shapes, lambda *sizes: SharedMLP(*sizes, hidden=[4])),
    )
    tokenizer = word_tokenizer(tmp_path / "tokenizer")
    text = TextTokens([folder_of(tmp_path / "texts")], tokenizer=tokenizer, length=12, val_fraction=0.4, batch_size=4)
    return module, text


def test_rows_of_a_language_model_are_the_tokens_of_its_first_window(language, tmp_path):
    module, text = language
    trainer = make_trainer(tmp_path / "run", callbacks=[ImportanceTables()], limit_test_batches=1)
    with expected_notices():
        trainer.test(module, text, verbose=False)

    kept, notes = _kept(tmp_path / "run")
    window = next(iter(text.test_dataloader()))
    there = window["attention_mask"][0] > 0
    assert notes["row_labels"] == [text.tokenizer.decode([int(t)]) for t in window["input_ids"][0][there]]
    lower = module.model.importance_of(window)["transformer.h.0.mlp.c_fc"].lower[0][there]
    torch.testing.assert_close(kept["values/transformer.h.0.mlp.c_fc"], lower.half(), atol=1e-3, rtol=1e-3)


def test_padding_before_the_first_token_is_no_row(run):
    perfect = perfect_decomposition([1.0, 1.0, 1.0], call=KeywordCall(["x"], weights="attention_mask"))
    batch = {"x": torch.rand(2, 3, 3), "attention_mask": torch.tensor([[0, 0, 0], [0, 1, 1]])}

    kept, notes = _kept(run(perfect, Unprobed([batch]), ImportanceTables()).folder)

    assert notes["row_labels"] == ["example 1, position 1", "example 1, position 2"]
    expected = perfect.model.importance_of(batch)["linear1"].lower[1, 1:]
    torch.testing.assert_close(kept["values/linear1"], expected.half())


def test_components_that_span_all_sites_have_one_table(run):
    module = AttributionDecomposition(ResidualMLP(3, d_mlp=2, d_embed=5), ["layers.*.mlp_*"], 4, 1.0)

    kept, _ = _kept(run(module, Rows([torch.rand(4, 3)]), ImportanceTables()).folder)

    assert set(kept) == {"values/layers.0.mlp_in", "order/layers.0.mlp_in"}
    assert kept["values/layers.0.mlp_in"].amax(1).tolist() == [1.0] * 3


def test_every_validation_is_kept_and_the_last_test_stands_in_front(tmp_path):
    watching = [ImportanceTables(), ComponentActivity(), ExportDecomposition()]
    module = toy()

    trainer = fit(module, features(), tmp_path, callbacks=watching, **VALIDATED)

    steps = tmp_path / "analysis/steps"
    assert sorted(path.name for path in steps.iterdir()) == ["step=2", "step=4"]
    for step in (2, 4):
        folder = steps / f"step={step}"
        assert sorted(path.name for path in folder.iterdir()) == ["density.safetensors", "importances.safetensors"]
        assert _notes(folder / "importances.safetensors")["step"] == step
        assert _notes(folder / "importances.safetensors")["weights"] is None
    last = load_file(steps / "step=4/importances.safetensors")
    assert torch.equal(_kept(tmp_path)[0]["values/linear1"], last["values/linear1"])
    with expected_notices():
        trainer.test(module, datamodule=features(), verbose=False)

    assert len(list(steps.iterdir())) == 2
    assert _kept(tmp_path)[1]["weights"] == fingerprint(DecomposedModel.from_pretrained(tmp_path))


def test_a_validation_s_densities_are_shares_of_its_examples(tmp_path):
    module, data = toy(), features()

    fit(module, data, tmp_path, callbacks=[ComponentActivity(threshold=0.3)], max_steps=2, **VALIDATED)

    kept = load_file(tmp_path / "analysis/steps/step=2/density.safetensors")
    rows = torch.cat(list(data.val_dataloader()))
    lower = module.model.importance_of(rows)["linear1"].lower
    torch.testing.assert_close(kept["linear1"], (lower > 0.3).float().mean(0))
    with safe_open(tmp_path / "analysis/density.safetensors", "pt") as file:
        assert file.metadata() == {"threshold": "0.3", "step": "2"}


def test_steps_too_large_keep_densities_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(importance_tables, "MOST_OF_STEP", 100)

    fit(toy(), features(), tmp_path, callbacks=[ImportanceTables(), ComponentActivity()], **VALIDATED)

    assert {path.name for path in tmp_path.rglob("analysis/steps/*/*")} == {"density.safetensors"}
    assert (tmp_path / "analysis/importances.safetensors").is_file()


def test_many_validations_are_thinned_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(importance_tables, "MOST_STEPS", 4)
    often = {"val_check_interval": 1, "limit_val_batches": 1}

    fit(toy(), features(), tmp_path, callbacks=[ImportanceTables(), ComponentActivity()], max_steps=10, **often)

    kept = {path.parent.name for path in tmp_path.rglob("steps/*/importances.safetensors")}
    assert kept == {"step=1", "step=5", "step=8", "step=10"}
    assert len(list(tmp_path.rglob("steps/*/density.safetensors"))) == 10


def test_what_is_too_large_is_not_kept_at_all(perfect, examples, run, monkeypatch):
    monkeypatch.setattr(publishing.keep_arrays, "__defaults__", (None, 10))

    folder = run(perfect, Rows(examples), ImportanceTables(), ImportanceDistribution()).folder

    assert not (folder / "analysis").exists()
    assert (folder / "figures/test_importance_spectrum.png").is_file()


def test_a_picture_s_arrays_lie_under_its_name(perfect, examples, run):
    folder = run(perfect, Unprobed(examples), ImportanceDistribution(bins=4)).folder

    counts = load_file(folder / "analysis/pictures/test_importance_histogram.safetensors")
    lower = perfect.model.importance_of(torch.cat(examples))["linear1"].lower
    expected = [int(((lower >= at / 4) & (lower < (at + 1) / 4)).sum()) for at in range(3)]
    assert counts["linear1"][:3].tolist() == expected
    assert counts["linear1"].sum() == lower.numel()
    means = load_file(folder / "analysis/pictures/test_importance_spectrum.safetensors")
    torch.testing.assert_close(means["linear1"], lower.mean(0))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probe": 0.0}, "probe must be"),
        ({"rows": 0}, "ImportanceTables: rows must be"),
        ({"tokens": 3}, "ImportanceTables: tokens must be"),
    ],
)
def test_wrong_values_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        ImportanceTables(**wrong)
