"""The page about attention circuits: its example runs on a small decomposition of the same form."""

import re
from pathlib import Path

import pytest
import torch

from spd_lightning import DecomposedModel
from spd_lightning.targets import AttentionOnly

PAGE = (Path(__file__).parents[2] / "docs/attention-circuits.md").read_text()


@torch.no_grad()
def _written_names():
    """A head that looks at the third token and lowers it by 3, one that looks at the first and raises it by 5."""
    target = AttentionOnly(11, 4, 44, n_layers=1, heads=2)
    for parameter in target.parameters():
        parameter.zero_()
    target.embed.weight[:, :11] = torch.eye(11)
    target.unembed.weight[:, 11:22] = torch.eye(11)
    layer, sharp = target.layers[0], 1e3
    target.positions.zero_()
    target.positions[:, 40:] = torch.eye(4)
    for head, (place, effect) in enumerate([(2, -3.0), (0, 5.0)]):
        first = 22 * head
        layer.q.weight[first, 43] = layer.k.weight[first, 40 + place] = sharp
        layer.v.weight[first : first + 11, :11] = torch.eye(11)
        layer.o.weight[11:22, first : first + 11] = effect * torch.eye(11)
    return target


def test_the_example_says_what_heads_add(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    DecomposedModel(_written_names(), {"layers.*.q": 2}).save_pretrained(Path("runs/names/version_0"))
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    exec(compile(block, "docs/attention-circuits.md", "exec"), {})

    said = [re.findall(r"[+-]?\d\.\d+", line) for line in capsys.readouterr().out.splitlines()]
    (lowered_once, lowered_again, without_lowering), (once, again, without_raising) = (map(float, one) for one in said)
    assert (lowered_once, lowered_again) == (0, -3)  # the third token is the one that is repeated
    assert once + again == pytest.approx(5, abs=0.11)  # the first token is either
    assert once == pytest.approx(5 * without_lowering, abs=0.06)  # as often as the first is the answer
    assert without_raising < 0.2
