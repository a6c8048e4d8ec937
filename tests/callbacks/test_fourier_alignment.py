"""Alignment with Fourier planes: of components that are waves, of single numbers, and where it is kept."""

import json

import pytest
import torch

from spd_lightning import AttributionDecomposition, ModularAddition, ModularPairs, StochasticDecomposition, UsageError
from spd_lightning.analysis import NumberSide
from spd_lightning.callbacks import FourierAlignment
from spd_lightning.callbacks import fourier_alignment as module_of
from spd_lightning.functional import eigenspace_alignment, fourier_basis, fourier_planes, plane_invariance
from tests.methods.tiny import features, toy

P = 5


def _module(kind="bilinear", embedding=None, sites=None):
    torch.manual_seed(1)
    network = ModularAddition(P, kind, width=6, embedding=embedding)
    module = StochasticDecomposition(network, sites or {"left": 2 * P, "right": 2 * P, "output": P})
    module.setup("test")  # draws the start now, so that no trainer draws it over what follows
    return module


def _all_alive(monkeypatch, kept=None):
    """Lets the importances of the given components, or of all, be seen as above every threshold."""
    update = FourierAlignment.update

    def seen(self, trainer, module, step):
        for importance in step.importance.values():
            chosen = slice(None) if kept is None else kept
            importance.lower.zero_()
            importance.lower[..., chosen] = 1.0
        update(self, trainer, module, step)

    monkeypatch.setattr(FourierAlignment, "update", seen)


def _drawn(monkeypatch):
    """Arguments of every figure that is drawn."""
    calls, draw = [], module_of.fourier_spectra
    monkeypatch.setattr(
        module_of, "fourier_spectra", lambda *given, **named: calls.append(given) or draw(*given, **named)
    )
    return calls


def _read_vectors(module, rows):
    with torch.no_grad():
        module.model.components["left"].V.copy_(rows.T)


def test_single_numbers_and_waves_are_told_apart(run, monkeypatch):
    _all_alive(monkeypatch)
    module, waves = _module(), fourier_basis(P)[1:].float()
    rows = torch.cat([torch.eye(2 * P)[:6], torch.cat([waves, 3 * waves], 1)])
    _read_vectors(module, rows)

    scores = run(module, ModularPairs(P), FourierAlignment(draws=50)).scores

    assert scores["test/fourier/left/alignment"] == pytest.approx((6 * 2 / P + 4) / 10, rel=1e-4)
    largest = (waves.square().amax(1) * 9 / 10).sum().item()
    assert scores["test/fourier/left/single"] == pytest.approx((6 + largest) / 10, rel=1e-4)


def test_only_components_that_are_alive_count(run, monkeypatch, capsys):
    _all_alive(monkeypatch, kept=[2, 4])
    module = _module()
    _read_vectors(module, torch.cat([torch.eye(2 * P)[:3], torch.randn(2 * P - 3, 2 * P)]))
    side = NumberSide("read", torch.eye(2 * P), P)
    spectra = side.spectra(module.model.components["left"].V.detach().T[:, None])

    folder = run(module, ModularPairs(P), FourierAlignment(draws=50)).folder

    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    (row,) = [words for words in printed if words[:1] == ["left"]]
    assert row[1] == "2"
    assert float(row[2]) == pytest.approx(spectra.alignment[[2, 4]].mean().item(), abs=0.006)
    assert float(row[5]) == pytest.approx(spectra.single[[2, 4]].mean().item(), abs=0.006)
    document = json.loads((folder / "analysis" / "fourier_alignment.json").read_text())
    assert document["sites"]["left"]["alive"] == [2, 4]
    assert document["modulus"] == P
    assert document["scores"]["left"]["alignment"] == pytest.approx(spectra.alignment[[2, 4]].mean().item(), rel=1e-5)
    torch.testing.assert_close(
        torch.tensor(document["sites"]["left"]["components"]["shares"]), spectra.shares, atol=1e-4, rtol=0
    )


def test_the_target_itself_stands_beside(run, monkeypatch):
    _all_alive(monkeypatch)
    module = _module(embedding=3, sites={"embed": 4, "left": 4, "output": 4})

    result = run(module, ModularPairs(P), FourierAlignment(draws=100))

    target = module.target
    for name, known in target.fourier_sites().items():
        if name == "right":
            assert f"test/fourier/{name}/alignment" not in result.scores, "it is not decomposed"
            continue
        side = NumberSide(known.side, known.numbers, P)
        weight = target.get_submodule(name).weight.detach()
        neurons = side.spectra(side.of_neurons(weight.T if name == "embed" else weight))
        aligned, single = side.chance(1, 100)
        assert result.scores[f"test/fourier/{name}/alignment_neurons"] == pytest.approx(
            neurons.alignment.mean().item(), rel=1e-5
        )
        assert result.scores[f"test/fourier/{name}/single_neurons"] == pytest.approx(
            neurons.single.mean().item(), rel=1e-5
        )
        assert result.scores[f"test/fourier/{name}/alignment_chance"] == pytest.approx(aligned)
        assert result.scores[f"test/fourier/{name}/single_chance"] == pytest.approx(single)
    matrices, planes = target.answer_matrices(), fourier_planes(P, 2)
    assert result.scores["test/fourier/answers/invariance"] == pytest.approx(
        plane_invariance(matrices, planes), rel=1e-5
    )
    assert result.scores["test/fourier/answers/eigenvectors"] == pytest.approx(
        eigenspace_alignment(matrices, planes), rel=1e-5
    )


def test_of_a_relu_network_there_are_no_answer_matrices(run):
    module = _module("relu", sites={"hidden": 4, "output": 4})

    scores = run(module, ModularPairs(P), FourierAlignment(draws=20)).scores

    assert "test/fourier/hidden/alignment_chance" in scores
    assert not [name for name in scores if "answers" in name]


def test_the_older_method_is_scored_by_its_matrices(run):
    torch.manual_seed(1)
    module = AttributionDecomposition(ModularAddition(P, width=6), ["left", "output"], n_components=3, k=3.0, rank=2)

    scores = run(module, ModularPairs(P), FourierAlignment(draws=50)).scores

    parts = module.model.components["output"]
    matrices = torch.einsum("icm,cmo->cio", parts.V, parts.U).detach()
    inside = torch.stack([(matrices @ plane.float()).square().sum((1, 2)) for plane in fourier_planes(P)], 1)
    expected = (inside / matrices.square().sum((1, 2))[:, None]).amax(1).mean().item()
    assert scores["test/fourier/output/alignment"] == pytest.approx(expected, rel=1e-4)


def test_rows_are_drawn_by_frequency(run, monkeypatch):
    _all_alive(monkeypatch)
    drawn = _drawn(monkeypatch)
    module, waves = _module(sites={"left": 4}), fourier_basis(P)[1:].float()
    _read_vectors(module, torch.cat([waves[[2, 0, 3, 1]], waves[[2, 0, 3, 1]]], 1))

    folder = run(module, ModularPairs(P), FourierAlignment(draws=50)).folder

    spectra, shown, notes = drawn[0]
    assert [row % 2 for row in shown["left: components"]] == [1, 1, 0, 0], "frequency 1 first"
    assert notes["left: components"].startswith("4 of 4: 1.00 in the best plane, chance 0.")
    assert shown["left: neurons of the target"]
    assert list(spectra) == ["left: components", "left: neurons of the target"]
    assert (folder / "figures" / "test_fourier_spectra.png").exists()


def test_a_target_without_numbers_is_refused(run):
    with pytest.raises(UsageError, match="FourierAlignment: a ToyModelOfSuperposition states no numbers"):
        run(toy(), features(), FourierAlignment())


def test_data_of_another_modulus_is_named(run):
    with pytest.raises(UsageError, match=r"modulus is 5, but its input holds [56]; give the data the same modulus"):
        run(_module(), ModularPairs(7), FourierAlignment())


@pytest.mark.parametrize("arguments", [{"draws": 0}, {"threshold": -1.0}, {"every_n_validations": 0}])
def test_nonsense_is_refused(arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        FourierAlignment(**arguments)
