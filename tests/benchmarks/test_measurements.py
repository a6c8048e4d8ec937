"""The scripts measure what they say, in small."""

import json

import pytest
import torch

from benchmarks import counting, machine, recipe_cost, report, systems
from benchmarks.__main__ import PARTS
from benchmarks.curves import CURVES
from benchmarks.loops import KINDS, Loop
from benchmarks.options import parse
from benchmarks.tables import SECTIONS
from benchmarks.timing import in_turn, summary


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_the_step_lowers_the_loss(kind):
    config = systems.read("tms")
    config["data"]["init_args"]["batch_size"] = 256
    config["model"]["optimization"] = {"lr": 0.01}
    loop = Loop(config, kind)
    losses = torch.stack([loop.step() for _ in range(30)])
    assert losses[-5:].mean() < 0.8 * losses[:5].mean()


def test_loops_take_turns_and_all_their_steps():
    loops = {kind: Loop(systems.read("tms"), kind) for kind in ("plain", "fast")}
    blocks = list(in_turn(loops, seconds=0.0, least=4))
    assert [name for name, _ in blocks] == ["plain", "fast"] * 4
    assert all(seconds > 0 for _, block in blocks for seconds in block)


def test_summary():
    assert summary([0.003, 0.001, 0.002]) == pytest.approx({"steps": 3, "median_ms": 2, "q25_ms": 1.5, "q75_ms": 2.5})
    assert summary([0.001])["q75_ms"] == pytest.approx(1)


def _moved(work):
    with counting.OperandBytes() as moved:
        work()
    return moved.total


def test_operand_bytes():
    a, b = torch.ones(3, 4), torch.ones(4, 5)
    assert _moved(lambda: a @ b) == 4 * (12 + 20 + 15)
    assert _moved(lambda: a + a[0]) == 4 * (12 + 4 + 12)
    assert _moved(lambda: a.add_(1)) == 4 * (12 + 12)
    assert _moved(lambda: a.T) == 0
    assert _moved(lambda: a[:, :1].expand(3, 9) + 1) == 4 * (3 + 27)
    assert _moved(lambda: torch.empty(7)) == 0


def test_matrix_products_of_a_step_are_counted():
    loop = Loop(systems.read("paper/tms_5-2"), "fast")
    rows, C = 928, 20
    # at least: every site's inner activations and masked output, forward, in both reconstruction terms
    assert counting.count_step(loop)["multiply_adds"] > 2 * 2 * rows * C * (5 + 2) / 2


@pytest.mark.parametrize("curve", CURVES)
def test_curves_change_what_they_name(curve):
    change, sizes = CURVES[curve]
    config = systems.read("paper/tms_40-10-id")
    change(config, sizes[0])
    system = systems.build(config)
    model = system.module.model
    found = {
        "components per site": model.components["linear1"].n_components,
        "batch size": system.data.batch_size,
        "hidden width of the gates": model.importance_function.functions["linear1"].hidden[0],
        "sites": len(model.site_names),
    }
    assert found[curve] == sizes[0]


def test_every_part_has_a_section():
    assert set(PARTS) == set(SECTIONS)


def test_results_are_written_and_read_again(tmp_path):
    options = parse(["--quick", "--systems", "tms", "--output", str(tmp_path)], list(PARTS))
    found = PARTS["step_time"](options)
    part = {"machine": machine.describe(), "took_s": 1.0, "quick": True, "found": found}
    report.write({"step_time": part}, options.output)
    assert report.load(tmp_path)["step_time"]["found"] == json.loads(json.dumps(found))
    document = (tmp_path / "results.md").read_text()
    assert "| tms | cpu |" in document
    assert "A trial" in document
    assert (tmp_path / "step_time.png").stat().st_size > 1000
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert any(line.startswith("step_time,tms,cpu,fast,,,,median_ms,") for line in lines)


def test_the_cost_of_the_recipe_is_a_ratio_of_medians(monkeypatch):
    taken = {"own": iter([0.01, 0.5, 0.02]), "default.yaml": iter([0.05, 0.04, 0.04])}

    def stepped(configs, steps, **settings):
        step = next(taken[configs[-1] if len(configs) > 1 else "own"])
        return [7.0 + step * index for index in range(steps)]

    monkeypatch.setattr(recipe_cost, "stepped", stepped)
    assert recipe_cost.row("tms", 5, 3) == ["tms", "20.0 ms", "40.0 ms", "2.0", "6000, 4000", "1.3"]
