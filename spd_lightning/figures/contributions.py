"""Which neuron serves which feature, in the target and in the components (Figures 6, 7, 10 and 11 of the SPD paper)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from spd_lightning.figures.style import (
    ACCENT,
    CATEGORIES,
    FAINT,
    MAIN,
    TICK_SIZE,
    Array,
    describe,
    largest,
    new_figure,
    say,
    to_arrays,
)
from spd_lightning.functional import pearson

MAX_FEATURES = 20
"""Features that can be drawn side by side with room for their labels."""

LABELLED = 0.5
"""A neuron is labelled if its contribution is at least this share of the target's largest one to the same feature."""

LABEL_HEIGHT = 0.045
"""Height of a neuron's label as a share of the axis."""

LAYERS_WIDE = 0.8
"""Share of a feature's column over which the layers are spread."""


def feature_contributions(
    target: Mapping[str, Tensor],
    components: Mapping[str, Tensor],
    chosen: Mapping[str, Tensor],
    n_features: int = 10,
) -> Figure:
    """Contribution of every neuron to the first features, the target above the components, on one scale.

    Layers stand side by side within a feature, each in its colour. Neurons that matter are labelled with their index,
    unless the label would lie on another one of the same column.

    Args:
        target: per reading site ``[n_features, d_mlp]``.
        components: per reading site those of the strongest component of each feature, same shape.
        chosen: per reading site the index of that component, ``[n_features]``; written under the lower panel.
        n_features: features drawn, at most `MAX_FEATURES`.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no site, shapes do not fit each other or ``n_features`` is out of range.
    """
    arrays = _checked(target, components)
    if not 1 <= n_features <= MAX_FEATURES:
        raise ValueError(f"n_features must be between 1 and {MAX_FEATURES}, got {n_features}")
    labels = _labels(chosen, {site: len(array) for site, (array, _) in arrays.items()})[:n_features]
    halves = [{site: pair[half][:n_features] for site, pair in arrays.items()} for half in (0, 1)]
    title = f"Neuron contributions, features 0 to {len(labels) - 1} of {len(next(iter(target.values())))}"
    width = float(np.clip(1.1 * len(labels), 7.6, 14.0))  # from 7.6 on, the second panel goes below the first
    figure, axes = new_figure(title, 2, width, 2.6)
    limits, bars = _limits([array for half in halves for array in half.values()]), _bars(halves[0])
    for panel, half in zip(axes, halves, strict=True):
        _draw_columns(panel, half, limits, bars)
    note = f"labelled: neurons of at least {LABELLED:g} of the target's largest contribution to the feature"
    describe(axes[0], "target", note, "feature", "contribution")
    below = "feature, and below it the component" + (" of each layer" if len(arrays) > 1 else "")
    describe(axes[1], "components", "of each layer the strongest one for the feature", below, "contribution")
    axes[1].set_xticks(range(len(labels)), labels)
    if len(arrays) > 1:
        marks = [_mark(color, site) for site, color in zip(arrays, _colors(len(arrays)), strict=True)]
        figure.legend(handles=marks, fontsize=TICK_SIZE, loc="outside right center")
    return say(figure, f"{title}, target above components; {_agreement(target, components)}")


def contribution_agreement(target: Mapping[str, Tensor], components: Mapping[str, Tensor]) -> Figure:
    """Contributions of the components against the target's, a mark per feature and neuron, one panel per layer.

    Args:
        target: per reading site ``[n_features, d_mlp]``.
        components: per reading site those of the strongest component of each feature, same shape.

    Returns:
        The figure; every panel states Pearson's correlation over its marks.

    Raises:
        ValueError: if there is no site or shapes do not fit each other.
    """
    arrays = _checked(target, components)
    # taller than wide: the layout places square panels right at once only where the width is what limits them
    figure, axes = new_figure("Neuron contributions, components against target", len(arrays), 3.2, 3.7)
    for panel, (site, (first, second)) in zip(axes, arrays.items(), strict=True):
        low, high = _limits([first, second])
        panel.plot([low, high], [low, high], color=ACCENT, linestyle="--", linewidth=1, zorder=0)
        panel.plot(first.ravel(), second.ravel(), "o", color=MAIN, alpha=0.4, markersize=3, markeredgewidth=0)
        panel.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        panel.locator_params(nbins=6)
        panel.grid(color="0.93", linewidth=0.6)
        size = f"{first.shape[0]} features x {first.shape[1]} neurons"
        note = f"Pearson r = {pearson(target[site], components[site]):.4f}\n{size}"
        describe(panel, site, note, "target", "strongest component")
    line = Line2D([], [], color=ACCENT, linestyle="--", linewidth=1, label="y = x")
    figure.legend(handles=[line], fontsize=TICK_SIZE, loc="outside lower center")
    return say(figure, _agreement(target, components))


def _agreement(target: Mapping[str, Tensor], components: Mapping[str, Tensor]) -> str:
    return "; ".join(f"{site}: Pearson r {pearson(target[site], components[site]):.4f}" for site in target)


def _checked(target: Mapping[str, Tensor], components: Mapping[str, Tensor]) -> dict[str, tuple[Array, Array]]:
    """Arrays of target and components per site, once they fit."""
    first = to_arrays("target", target, "n_features", "d_mlp")
    second = to_arrays("components", components, "n_features", "d_mlp")
    shapes = [{site: list(array.shape) for site, array in arrays.items()} for arrays in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"target and components must have the same sites and shapes, got {shapes[0]} and {shapes[1]}")
    if len({len(array) for array in first.values()}) > 1:
        raise ValueError(f"every site must have the same features, got {shapes[0]}")
    return {site: (first[site], second[site]) for site in first}


def _labels(chosen: Mapping[str, Tensor], sizes: Mapping[str, int]) -> list[str]:
    """Per feature its index, and below it the chosen component of every site."""
    for site, n_features in sizes.items():
        if site not in chosen or chosen[site].shape != (n_features,):
            shape = list(chosen[site].shape) if site in chosen else None
            raise ValueError(f"chosen[{site!r}] must have shape [{n_features}], got {shape}")
    columns = [chosen[site].tolist() for site in sizes]
    return ["\n".join(map(str, rows)) for rows in zip(range(len(columns[0])), *columns, strict=True)]


def _limits(arrays: Sequence[Array]) -> tuple[float, float]:
    """Ends of an axis that holds 0 and every finite value, with some room."""
    finite = np.concatenate([[0.0], *(array[np.isfinite(array)] for array in arrays)])
    room = 0.06 * largest(arrays)
    return float(finite.min() - room), float(finite.max() + room)


def _bars(arrays: Mapping[str, Array]) -> list[float]:
    """Per feature the contribution from which on neurons are labelled."""
    return [LABELLED * largest(rows) for rows in zip(*arrays.values(), strict=True)]


def _colors(n_sites: int) -> list[str]:
    return [CATEGORIES[index % len(CATEGORIES)] for index in range(n_sites)]


def _mark(color: str, label: str) -> Line2D:
    return Line2D([], [], color=color, linestyle="", marker="o", markersize=4, label=label)


def _draw_columns(axes: Axes, arrays: Mapping[str, Array], limits: tuple[float, float], bars: Sequence[float]) -> None:
    """A column of marks per feature and layer."""
    axes.set(xlim=(-0.5, len(bars) - 0.5), ylim=limits, xticks=range(len(bars)))
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    for border in range(1, len(bars)):
        axes.axvline(border - 0.5, color="0.93", linewidth=0.8, zorder=0)
    places = LAYERS_WIDE * ((np.arange(len(arrays)) + 0.5) / len(arrays) - 0.5)
    apart = LABEL_HEIGHT * (limits[1] - limits[0])
    for place, color, array in zip(places, _colors(len(arrays)), arrays.values(), strict=True):
        for feature, (values, bar) in enumerate(zip(array, bars, strict=True)):
            x = feature + place
            axes.plot(np.full(len(values), x), values, "o", color=color, alpha=0.6, markersize=3.5, markeredgewidth=0)
            for neuron in _labelled(values, bar, apart):
                text = str(neuron), (x, values[neuron]), (3, 0)
                axes.annotate(*text, textcoords="offset points", va="center", fontsize=6.5)


def _labelled(values: Array, bar: float, apart: float) -> list[int]:
    """Neurons that reach the bar, by decreasing contribution, without those whose label would lie on one before."""
    kept: list[int] = []
    for neuron in np.argsort(-np.abs(values), kind="stable").tolist():
        value = values[neuron]
        free = all(abs(value - values[other]) >= apart for other in kept)
        if np.isfinite(value) and abs(value) >= bar and free:
            kept.append(neuron)
    return kept
