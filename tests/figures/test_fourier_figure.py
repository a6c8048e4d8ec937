import numpy as np
import pytest
import torch

from spd_lightning.figures import fourier_spectra

SPECTRA = {"left: components": torch.rand(30, 12), "left: neurons": torch.rand(64, 12)}
SHOWN = {"left: components": [4, 2, 29], "left: neurons": range(64)}


def test_rows_are_those_asked_for_in_their_order(render, images):
    figure = fourier_spectra(SPECTRA, SHOWN, {"left: components": "3 of 30"}, columns=1)
    render(figure)
    first, second = images(figure)
    np.testing.assert_allclose(first.get_array(), SPECTRA["left: components"][[4, 2, 29]].double())
    np.testing.assert_allclose(second.get_array(), SPECTRA["left: neurons"].double())
    assert first.get_clim() == second.get_clim() == (0, 1)
    assert [label.get_text() for label in first.axes.get_yticklabels()] == ["4", "2", "29"]
    assert first.axes.get_title() == "left: components\n3 of 30"
    assert figure.get_label() == "left: components: 3 of 30; left: neurons: "


@pytest.mark.parametrize("modulus", [3, 97])
def test_renders_at_every_size_and_without_a_row(modulus, render):
    spectra = {f"site {number}": torch.rand(5, (modulus + 1) // 2) for number in range(4)}
    figure = fourier_spectra(spectra, {"site 0": [], "site 1": range(5)}, {}, columns=2)
    render(figure)
    assert figure.axes[0].texts[0].get_text() == "nothing to show"


def test_refuses_what_is_not_there():
    with pytest.raises(ValueError, match=r"^spectra must not be empty, got \{\}$"):
        fourier_spectra({}, {}, {})
    with pytest.raises(ValueError, match=r"shown\['a'\] must hold components below 3, got \[3\]"):
        fourier_spectra({"a": torch.zeros(3, 3)}, {"a": [3]}, {})
