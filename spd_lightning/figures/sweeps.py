"""What a setting does to the result: runs side by side."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy
from torch import Tensor

from spd_lightning.figures.style import (
    ACCENT,
    LABEL_SIZE,
    MAIN,
    MAX_WIDTH,
    SEQUENTIAL,
    TICK_SIZE,
    Array,
    add_color_bar,
    describe,
    draw_table,
    label_ticks,
    new_figure,
    to_arrays,
)
from spd_lightning.functional import wilson_interval

MANY = 50
"""Counts above this get a logarithmic axis, linear up to 10."""
FULL = 1e5
"""Whole numbers from this on are written in short, too."""
_SHARES = "recovered / runs above each value, bars: 95 % intervals"


_COUNTED = {
    "contradictions": ("contradictions of the pattern", ACCENT, "s", -2.5),
    "alive": ("components alive", MAIN, "o", 2.5),
}


class Outcome(NamedTuple):
    """How one run ended, over all its sites: ``contradictions`` are of the expected pattern of importances."""

    recovered: bool
    contradictions: int
    alive: int
    mechanisms: int


def sweep_sensitivity(
    setting: str, outcomes: Mapping[float, Sequence[Outcome]], default: float | None = None
) -> Figure:
    """Share of recovered runs over a setting, and beside it the contradictions and components alive of every run.

    The setting's axis is logarithmic if its values are positive and span more than a decade.

    Args:
        setting: what is varied, for axis and headline.
        outcomes: per value the runs made with it, such as one per seed.
        default: value to mark by a line.

    Returns:
        The figure: the share on the left, the counts on the right.

    Raises:
        ValueError: if there is no value, or one without a run.
    """
    if not outcomes or not all(outcomes.values()):
        raise ValueError(f"outcomes must hold at least one run per value, got {dict(outcomes)}")
    values = np.array(sorted(outcomes), dtype=np.float64)
    runs = [list(outcomes[value]) for value in sorted(outcomes)]
    figure, axes = new_figure(f"Recovery over {setting}", 2, 5.4, 3.2)
    _draw_shares(axes[0], values, [(sum(run.recovered for run in group), len(group)) for group in runs])
    _draw_counts(axes[1], values, runs)
    for panel in axes:
        _scale(panel, values, default)
    describe(axes[0], "recovered runs", _SHARES, setting, "share of runs")
    describe(axes[1], "per run, over all sites", "lines: means", setting, "count")
    figure.legend(*axes[1].get_legend_handles_labels(), fontsize=TICK_SIZE, loc="outside lower center", ncols=6)
    return figure


def recovery_shares(setting: str, counts: Mapping[float, tuple[int, int]], default: float | None = None) -> Figure:
    """Share of recovered runs over a setting, with 95 % confidence intervals (Wilson).

    The setting's axis is logarithmic if its values are positive and span more than a decade.

    Args:
        setting: what is varied, for axis and headline.
        counts: per value how many runs recovered, and of how many.
        default: value to mark by a line.

    Returns:
        The figure, of one panel.

    Raises:
        ValueError: if there is no value, or one without a run.
    """
    if not counts or not all(count for _, count in counts.values()):
        raise ValueError(f"counts must hold at least one run per value, got {dict(counts)}")
    values = np.array(sorted(counts), dtype=np.float64)
    figure, axes = new_figure(f"Recovery over {setting}", 1, 4.6, 2.8)
    _draw_shares(axes[0], values, [counts[value] for value in sorted(counts)])
    _scale(axes[0], values, default)
    describe(axes[0], "", _SHARES, setting, "share of runs")
    if default is not None:
        figure.legend(*axes[0].get_legend_handles_labels(), fontsize=TICK_SIZE, loc="outside lower center")
    return figure


def _draw_shares(axes: Axes, values: Array, counts: Sequence[tuple[int, int]]) -> None:
    """One mark per value with its interval and the two numbers behind it."""
    shares = [found / count for found, count in counts]
    axes.plot(values, shares, "o-", color=MAIN, markersize=6, linewidth=1.4)
    axes.vlines(values, *zip(*(wilson_interval(*pair) for pair in counts), strict=True), color=MAIN, alpha=0.35, lw=5)
    for value, share, (found, count) in zip(values, shares, counts, strict=True):
        text = f"{found}/{count}"
        label = axes.annotate(text, (value, share), (0, 8), textcoords="offset points", ha="center", fontsize=TICK_SIZE)
        label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes.set_ylim(-0.05, 1.15)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _draw_counts(axes: Axes, values: Array, runs: Sequence[Sequence[Outcome]]) -> None:
    """Contradictions and components alive, one faint mark per run, and what a right decomposition has alive."""
    for name, (label, color, mark, shift) in _COUNTED.items():
        counts = [[float(getattr(run, name)) for run in group] for group in runs]
        figure = cast(Figure, axes.figure)  # get_figure(root=True) needs matplotlib 3.10
        aside = offset_copy(axes.transData, figure, x=shift, units="points")  # equal counts of both kinds show
        for value, group in zip(values, counts, strict=True):
            places = np.full(len(group), value)
            axes.plot(places, group, mark, color=color, alpha=0.45, markersize=5, transform=aside)
        axes.plot(values, [np.mean(group) for group in counts], "-", color=color, linewidth=1.4, label=label)
    mechanisms = sorted({run.mechanisms for group in runs for run in group})
    for count in mechanisms:
        axes.axhline(count, color="0.4", linestyle="--", linewidth=1, zorder=0, label=f"{count} mechanisms")
    _scale_counts(axes, max(max(run.contradictions, run.alive, run.mechanisms) for group in runs for run in group))
    axes.grid(axis="y", color="0.9", linewidth=0.6)


def _scale_counts(axes: Axes, most: int) -> None:
    if most > MANY:
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(-1, 2 * most)
        ticks = [0, 5, 10, *(10**power for power in range(2, 9) if 10**power <= 2 * most)]
        axes.set_yticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
    else:
        axes.set_ylim(-0.05 * max(most, 1), 1.15 * max(most, 1))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def _scale(axes: Axes, values: Array, default: float | None) -> None:
    """A scale for the setting, its values as ticks as far as there is room, and the default as a line."""
    marked = [*values, *([] if default is None else [default])]
    places, ends = values, np.array([min(marked), max(marked)])
    if min(marked) > 0 and max(marked) > 10 * min(marked):
        axes.set_xscale("log")
        axes.minorticks_off()
        places, ends = np.log10(values), np.log10(ends)
    room = (ends[1] - ends[0]) / 9
    shown: list[int] = []
    for index, place in enumerate(places):
        if not shown or place - places[shown[-1]] >= 0.99 * room:
            shown.append(index)
    axes.set_xticks(values[shown], [_tick(value) for value in values[shown].tolist()])
    if default is not None:
        axes.axvline(default, color="0.4", linestyle=":", linewidth=1.4, zorder=0, label=f"default {default:g}")


def _tick(value: float) -> str:
    """A value in short; numbers of examples or components in full."""
    return f"{value:.0f}" if value.is_integer() and value < FULL else f"{value:.3g}"


def importance_comparison(
    setting: str, tables: Mapping[str, Mapping[str, Tensor]], max_components: int | None = None, max_columns: int = 12
) -> Figure:
    """Importances on single-feature probes, one column per run, one row per site (Figure 8 of the SPD paper).

    Columns of the tables that are left out are idle where the figure's headline says so: it names the largest of them.

    Args:
        setting: what differs between the runs.
        tables: by the run's label, per site ``[n_probes, C]``, columns in the order to draw.
        max_components: table columns drawn per site; by default a quarter more than there are probes, at least 20.
        max_columns: runs drawn; of more, evenly spaced ones.

    Returns:
        The figure; its last axes is the colour bar.

    Raises:
        ValueError: if there is no run, or one without a site.
    """
    if not tables:
        raise ValueError(f"tables must not be empty, got {tables!r}")
    arrays = {label: to_arrays(f"tables[{label!r}]", sites, "n_probes", "C") for label, sites in tables.items()}
    drawn = _evenly(list(arrays), max_columns)
    sites = list(dict.fromkeys(site for label in drawn for site in arrays[label]))
    rows = max(array.shape[0] for label in drawn for array in arrays[label].values())
    max_components = max(20, rows + rows // 4) if max_components is None else max_components
    width = float(np.clip(MAX_WIDTH / len(drawn) - 0.45, 0.8, 3.2))
    title = _comparison_title(setting, arrays, drawn, max_components)
    figure, axes = new_figure(title, len(sites) * len(drawn), width, float(np.clip(0.16 * rows, 1.7, 4)), len(drawn))
    for position, panel in enumerate(axes):
        site, label = sites[position // len(drawn)], drawn[position % len(drawn)]
        _draw_site(panel, arrays[label].get(site, np.zeros((0, 0)))[:, :max_components], width)
        first_row, first_column = position < len(drawn), label == drawn[0]
        describe(panel, label if first_row else "", "", "", f"{site}\nprobed feature" if first_column else "")
    figure.supxlabel("component (column)", fontsize=LABEL_SIZE)
    add_color_bar(figure, axes, SEQUENTIAL, (0, 1), "importance")
    return figure


def _evenly(labels: list[str], most: int) -> list[str]:
    """All labels, or at most that many of them, from first to last."""
    if len(labels) <= most:
        return labels
    return [labels[index] for index in np.linspace(0, len(labels) - 1, most).round().astype(int)]


def _comparison_title(
    setting: str, arrays: Mapping[str, Mapping[str, Array]], drawn: Sequence[str], max_components: int
) -> str:
    title = f"Importance on single-feature probes by {setting}"
    rest = [array[:, max_components:] for label in drawn for array in arrays[label].values()]
    most = max(float(array.max(initial=0)) for array in rest)
    notes = [f"first {max_components} columns, the rest at most {most:.2g}"] if any(r.size for r in rest) else []
    notes += [f"{len(drawn)} of {len(arrays)} runs"] if len(drawn) < len(arrays) else []
    return f"{title}\n({'; '.join(notes)})" if notes else title


def _draw_site(axes: Axes, array: Array, width: float) -> None:
    draw_table(axes, array, SEQUENTIAL, (0, 1))
    if array.size:
        label_ticks(axes.xaxis, range(array.shape[1]), max(1, int(width / 0.28)))
