"""Bad input for any network: one line, exit code 2, nothing written."""

import re

import pytest
import torch
import yaml

from spd_lightning import DecomposedModel, ImportanceFunction, KeywordCall, UsageError
from spd_lightning.cli.command import main
from spd_lightning.model import check_wrapping
from tests.networks.misbehaving import MISBEHAVING
from tests.networks.models import decomposed
from tests.networks.zoo import ConvolutionalNetwork, FusedAttention, PooledHead, example


@pytest.mark.parametrize(
    ("sites", "told"),
    {
        "unknown part": ({"in_proj[w]": 3}, r"there is no part 'w'; the parts are \[q\], \[k\]"),
        "overlap of parts": ({"in_proj[q]": 3, "in_proj[4:12]": 3}, r"are the same rows of one module"),
        "part and whole": ({"in_proj": 3, "in_proj[k]": 3}, r"are the same rows of one module"),
        "twice": ({"in_*": 3, "*_proj": 3}, r"'in_proj' is matched by two patterns"),
        "out of range": ({"in_proj[20:30]": 3}, r"rows must lie within \[0:24\], got \[20:30\]"),
        "the wrong way": ({"in_proj[8:8]": 3}, r"rows must lie within"),
        "no numbers": ({"in_proj[a:b]": 3}, r"matches no module|rows are given as"),
        "nothing": ({"attention": 3}, r"pattern 'attention' matches no module of the target; its modules are"),
    }.values(),
)
def test_sites_that_do_not_exist(sites, told):
    with pytest.raises(UsageError, match=told):
        DecomposedModel(FusedAttention(), sites)


def test_a_grouped_convolution_is_refused_by_name():
    network = ConvolutionalNetwork()
    network.first = torch.nn.Conv2d(2, 4, 3, groups=2)
    with pytest.raises(UsageError, match=r"module 'first' is a convolution of 2 groups, which is 2 matrices"):
        DecomposedModel(network, {"first": 3})


def test_uneven_thirds_are_refused_with_the_rows_to_name():
    network = FusedAttention()
    network.in_proj = torch.nn.Linear(8, 20)
    with pytest.raises(UsageError, match=r"20 rows cannot be 3 equal parts; name the rows, such as \[0:6\]"):
        DecomposedModel(network, {"in_proj[q]": 3})


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ({"head": torch.ones(4)}, r"'head' has 5 components, got a mask of shape \[4\]"),
        ({"tail": torch.ones(5)}, r"there is no site 'tail'; the sites are up, down, head"),
        ({"head": "on"}, r"'head' must be a tensor, an array or a SiteMask, got a str"),
    ],
)
def test_masks_that_do_not_fit(masks, told):
    model = decomposed("pooled head")
    with pytest.raises(UsageError, match=told):
        model.masked(example("pooled head"), masks)


class TooFew(ImportanceFunction):
    """Forgets a component."""

    def reset(self, generator):
        pass

    def forward(self, inner, features):
        return {call: activations[..., 1:] for call, activations in inner.items()}


class ForgetsASite(TooFew):
    """Forgets a site."""

    def forward(self, inner, features):
        return dict(list(inner.items())[1:])


@pytest.mark.parametrize("cls", [TooFew, ForgetsASite])
def test_too_few_logits(cls):
    model = DecomposedModel(PooledHead(), {"*": 5}, importance=cls)
    with pytest.raises(UsageError, match=rf"{cls.__name__} must give logits of shape \[4, 5, 5\] for 'up', got"):
        model.importance_of(example("pooled head"))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"inputs": ["ids"]}, r"inputs or weights name 'ids', but the batch holds 'input_ids'"),
        (
            {"inputs": ["input_ids", "attention_mask"], "output": "hidden"},
            r"output is 'hidden', but the target returns",
        ),
    ],
)
def test_calls_that_do_not_fit(call, told):
    model = DecomposedModel(decomposed("padded dictionary").target, {"*": 3}, call=KeywordCall(**call))
    with pytest.raises(UsageError, match=told):
        check_wrapping(model, example("padded dictionary"))


@pytest.mark.parametrize("cls", [cls for cls in MISBEHAVING if cls.__name__ in ("DrawsAtRandom", "BypassesItsModule")])
def test_the_command_line_refuses_before_the_first_step(cls, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    config = {
        "trainer": {"max_steps": 3, "val_check_interval": 3, "enable_progress_bar": False, "callbacks": []},
        "model": {"target": {"class_path": f"{cls.__module__}.{cls.__name__}"}, "sites": {"first": 3, "second": 3}},
        "data": {
            "class_path": "DatasetBatches",
            "init_args": {"train": {"class_path": "tests.data.examples.Examples", "init_args": {"width": 6}}},
        },
    }
    config["data"]["init_args"]["batch_size"] = 10
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", "bad.yaml"])
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert stopped.value.code == 2
    assert len(lines) == 1
    assert re.search(MISBEHAVING[cls], lines[0])
    assert not list(tmp_path.rglob("*.ckpt"))
