"""Models of Hugging Face as targets: the same function under the same names, from data alone."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch

from spd_lightning import DecomposedModel, HuggingFaceModel, KeywordCall, UsageError
from spd_lightning.files.describe import describe, rebuilt
from spd_lightning.files.fingerprint import fingerprint
from spd_lightning.model import check_wrapping
from tests.targets.hugging_face import FAMILIES, SITES, VOCABULARY, built, saved

CALL = {"inputs": ["input_ids", "attention_mask"], "weights": "attention_mask", "output": "logits"}


def _batch():
    ids = torch.randint(VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))
    mask = (torch.arange(7) < torch.tensor([7, 4, 6])[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_saved_model_and_can_be_taken_apart(family, tmp_path):
    target, original, batch = HuggingFaceModel(saved(family, tmp_path)), built(family), _batch()
    with torch.no_grad():
        torch.testing.assert_close(target(**batch).logits, original(**batch).logits)
    assert set(target.state_dict()) == set(original.state_dict())
    assert fingerprint(target) == fingerprint(original)

    model = DecomposedModel(target, SITES[family], call=KeywordCall(**CALL))
    check_wrapping(model, batch)
    clean = model.clean(batch)
    assert torch.equal(clean.weights.values, batch["attention_mask"])
    assert clean.output.shape == (3, 7, VOCABULARY)


def test_tied_weights_stay_one_when_it_is_moved_or_copied(tmp_path):
    target = HuggingFaceModel(saved("gpt2", tmp_path))
    for moved in (target.to(torch.float64), copy.deepcopy(target)):
        assert moved.lm_head.weight is moved.transformer.wte.weight
        assert moved._whole[0].lm_head is moved.lm_head
        assert moved(**_batch()).logits.dtype == torch.float64
    target.train()
    assert target._whole[0].training
    target.eval()
    assert not target._whole[0].training


def test_a_description_rebuilds_it_without_leave_to_download(tmp_path):
    target = HuggingFaceModel(saved("llama", tmp_path), dtype="bfloat16", attention="sdpa", allow_download=True)
    described = json.loads(json.dumps(describe(target)))
    again = rebuilt(described, torch.nn.Module, "target")

    assert "allow_download" not in described["init_args"]
    assert fingerprint(again) == fingerprint(target)
    assert next(again.parameters()).dtype == torch.bfloat16
    assert again.config._attn_implementation == "sdpa"


@pytest.fixture
def told(tmp_path):
    """Loads what must be refused. Returns the one line."""

    def refused(path=tmp_path, **options):
        with pytest.raises(UsageError, match=r"^target: ") as caught:
            HuggingFaceModel(str(path), **options)
        assert str(caught.value).isprintable()
        return str(caught.value)

    return refused


def test_what_is_no_model_is_told_in_one_line(told, tmp_path):
    assert "holds no config.json" in told()
    (tmp_path / "config.json").write_text("{")
    assert "holds no model that can be read as data" in told()
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}')
    (tmp_path / "own.py").write_text("raise SystemExit(3)")
    assert "holds no model that can be read as data" in told()
    assert "is no folder" in told("nobody/nothing")
    assert "set allow_download: true" in told("nobody/nothing")
    assert "dtype must be one of" in told(dtype="int8")
    assert "path must be text" in told("a\0b")


def test_weights_in_a_pickle_are_refused(told, tmp_path):
    saved("gpt2", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(built("gpt2").state_dict(), tmp_path / "pytorch_model.bin")

    assert "holds no model that can be read as data" in told()


def test_a_model_without_logits_is_refused_and_so_is_a_head_that_would_be_random(told, tmp_path):
    saved("bert", tmp_path, cls="BertModel")

    assert "holds BertModel, which has no logits of tokens" in told()
    assert "holds no weights for 'cls.predictions" in told(head="masked")
    saved("gpt2", tmp_path / "whole")
    assert HuggingFaceModel(str(tmp_path / "whole"), head="causal").head == "causal"


def test_a_missing_extra_is_told(told, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)

    assert told().endswith("needs transformers; in the clone: pip install -e '.[lm]'")


def test_weights_outside_of_modules_are_refused():
    from spd_lightning.targets.hugging_face import AdoptedModel

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(1))

    with pytest.raises(UsageError, match="a Odd holds weights outside of its modules"):
        AdoptedModel(Odd())


def test_nothing_is_asked_of_a_network(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *given: pytest.fail("it goes to the network"))
    HuggingFaceModel(saved("gpt2", tmp_path))
    with pytest.raises(UsageError):
        HuggingFaceModel("nobody/nothing")
    assert Path(tmp_path, "model.safetensors").exists()
