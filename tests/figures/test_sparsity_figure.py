import pytest

from spd_lightning.figures import sparsity_curve

POINTS = {"0": (90.0, 1.2), "0.1": (40.0, 1.3), "0.9": (3.0, 5.5)}


def test_marks_stand_at_l0_and_loss_and_carry_their_threshold(render):
    figure = sparsity_curve(POINTS, {"everything ablated": 8.0, "the target itself": 1.1}, "cross entropy")
    render(figure)
    (axes,) = figure.axes
    assert list(axes.lines[0].get_xdata()) == [90.0, 40.0, 3.0]
    assert list(axes.lines[0].get_ydata()) == [1.2, 1.3, 5.5]
    assert [text.get_text() for text in axes.texts] == ["0", "0.1", "0.9"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["everything ablated 8", "the target itself 1.1"]
    assert axes.get_ylabel() == "cross entropy"
    assert figure.get_label().startswith("above 0 L0 90 cross entropy 1.2; above 0.1 L0 40 ")


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_diverged_loss_is_left_blank(value, render):
    figure = sparsity_curve({"0": (5.0, value), "0.5": (1.0, 2.0)}, {"everything ablated": 3.0}, "kl")
    render(figure)
    assert "0.5" in [text.get_text() for text in figure.axes[0].texts]


def test_refuses_no_point():
    with pytest.raises(ValueError, match=r"^points must not be empty, got \{\}$"):
        sparsity_curve({}, {}, "kl")
