"""The figures of a label-efficiency study.

Every experiment has a colour, a marker, a line style and a hatch of its own, so that the figures
can be read in grey and by colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Transform, offset_copy

from .study_scores import Curve, StudyScores, summarize

#: Okabe and Ito's colours for all kinds of colour vision (jfly.uni-koeln.de/color), without the
#: yellow, which is too light for lines on white.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#000000', '#CC79A7', '#56B4E9', '#E69F00')
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')
_LINES = ('-', '--', '-.', (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (3, 3)))
_HATCHES = ('', '//', '..', 'xx', '\\\\', '++', 'oo', '--')
#: Opacity of the one-sigma band.
_BAND = 0.18


def label_efficiency_figure(scores: StudyScores, *, show_seeds: bool) -> Figure:
    """Draw test mIoU against the share of the training data: mean and one-sigma band.

    Args:
        scores: All runs.
        show_seeds: Draw a small point for each run too.
    """
    figure = Figure(figsize=(7.2, 5.2), layout='constrained')
    axis = figure.subplots()
    percent = 100 * np.array(scores.fractions)
    log = _is_even_on_log(percent)
    alone = len(percent) == 1
    mious = scores.metrics['mIoU']
    for e, label in enumerate(scores.labels):
        runs = mious[e]
        summary = summarize(runs)
        there = summary.n > 0
        # Single points beside each other, or one model would hide the other.
        points = (e - (len(scores.labels) - 1) / 2) * (30 if alone else 5)
        _line(
            axis, e, label, percent[there], summary.mean[there], summary.sigma[there],
            points=points if alone else None,
        )  # fmt: skip
        if show_seeds:
            axis.plot(
                np.broadcast_to(percent[:, None], runs.shape).ravel(), runs.ravel(),
                _MARKERS[e % len(_MARKERS)], color=_color(e), markersize=3.4,
                markerfacecolor='white', markeredgewidth=0.8, zorder=4,
                transform=_shifted(axis, points + 9 if alone else points),
            )  # fmt: skip
    if log:
        axis.set_xscale('log', base=2)
    # What is drawn shifted does not move the limits.
    spread = summarize(mious)
    low = np.nanmin([*mious.ravel(), *(spread.mean - spread.sigma).ravel()])
    high = np.nanmax([*mious.ravel(), *(spread.mean + spread.sigma).ravel()])
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(max(low - margin, 0), high + margin)
    if alone:
        axis.set_xlim(0.9 * percent[0], 1.1 * percent[0])
    axis.xaxis.set_minor_locator(NullLocator())
    ticks = [f'{p:.4g} %\n{n} chips' for p, n in zip(percent, scores.chips, strict=True)]
    crowded = len(percent) > 1 and _least_gap(np.log(percent) if log else percent) < 0.11
    if crowded:
        ticks = [tick.replace('\n', ': ') for tick in ticks]
    axis.set_xticks(percent, ticks, rotation=90 if crowded else 0)
    axis.set_xlabel(f'Share of the training data{" (logarithmic)" if log else ""}')
    axis.set_ylabel('Test mIoU (%)')
    _finish(figure, axis)
    return figure


def learning_figure(scores: StudyScores, curves: Mapping[tuple[int, int], Curve]) -> Figure:
    """Draw validation mIoU against iterations: mean and one-sigma band, a panel for each fraction.

    Args:
        scores: Names, fractions and numbers of chips.
        curves: As of :func:`.study_scores.read_curves`; not empty.
    """
    shown = [f for f in range(len(scores.fractions)) if any(place[1] == f for place in curves)]
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.4 * columns + 0.6, 3.0 * rows + 1.0), layout='constrained')
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.ravel()[len(shown) :]:
        axis.set_visible(False)
    for axis, f in zip(axes.ravel(), shown, strict=False):
        for e, label in enumerate(scores.labels):
            curve = curves.get((e, f))
            if curve is None:
                continue
            summary = curve.summary
            _line(axis, e, label, curve.iterations, summary.mean, summary.sigma, size=4.5)
        axis.set_title(
            f'{100 * scores.fractions[f]:.4g} % of the training data ({scores.chips[f]} chips)',
            fontsize=10,
        )
        _tidy(axis)
        # Also above an empty place of the grid.
        axis.tick_params(labelbottom=f in shown[-columns:])
        axis.set_xlim(left=0)
    axes[0, 0].set_ylim(bottom=max(axes[0, 0].get_ylim()[0], 0))
    figure.supxlabel('Training iterations', fontsize=10)
    figure.supylabel('Validation mIoU (%)', fontsize=10)
    # Not every panel has every experiment.
    handles = {
        text: handle
        for axis in axes.ravel()
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    order = [label for label in scores.labels if label in handles]
    _legend(figure, [handles[label] for label in order], order)
    return figure


def class_figure(scores: StudyScores, fraction: int = 0) -> Figure:
    """Draw IoU of each class and experiment as bars with one sigma, at one fraction.

    Args:
        scores: All runs; with classes.
        fraction: Position of the fraction.
    """
    E, K = len(scores.labels), len(scores.classes)
    figure = Figure(figsize=(max(6.0, 1.2 + K * (0.3 + 0.16 * E)), 4.6), layout='constrained')
    axis = figure.subplots()
    width = 0.84 / E
    for e, label in enumerate(scores.labels):
        summary = summarize(scores.class_iou[e, fraction].T)
        x = np.arange(K) + (e - (E - 1) / 2) * width
        axis.bar(
            x, summary.mean, 0.92 * width, color=_tint(e), edgecolor=_color(e), linewidth=0.9,
            hatch=_HATCHES[e % len(_HATCHES)], label=label,
        )  # fmt: skip
        there = np.isfinite(summary.sigma)
        axis.errorbar(
            x[there], summary.mean[there], summary.sigma[there],
            fmt='none', ecolor='0.1', elinewidth=1, capsize=1.8,
        )  # fmt: skip
        for place in x[summary.n == 0]:
            axis.text(place, 1, 'n/a', rotation=90, ha='center', va='bottom', fontsize=6.5)
    axis.set_xticks(range(K), scores.classes, rotation=25, ha='right', rotation_mode='anchor')
    axis.tick_params(axis='x', length=0)
    axis.set_xlim(-0.6, K - 0.4)
    axis.set_ylim(bottom=0)
    axis.set_ylabel('Test IoU (%)')
    axis.set_title(
        f'{100 * scores.fractions[fraction]:.4g} % of the training data '
        f'({scores.chips[fraction]} chips)',
        fontsize=10,
    )
    _finish(figure, axis, x_grid=False)
    return figure


def _line(
    axis: Axes,
    e: int,
    label: str,
    x: np.ndarray,
    mean: np.ndarray,
    sigma: np.ndarray,
    *,
    size: float = 6.5,
    points: float | None = None,
) -> None:
    """Draw a mean line with its band; or, so many ``points`` aside, a single mean with a bar."""
    color = _color(e)
    transform = axis.transData if points is None else _shifted(axis, points)
    axis.plot(
        x, mean, color=color, linestyle=_LINES[e % len(_LINES)], linewidth=1.8,
        marker=_MARKERS[e % len(_MARKERS)], markersize=size, markeredgecolor='white',
        markeredgewidth=0.6, label=label, zorder=3, transform=transform,
    )  # fmt: skip
    if points is None:
        axis.fill_between(x, mean - sigma, mean + sigma, color=color, alpha=_BAND, linewidth=0)
    else:
        axis.errorbar(x, mean, sigma, fmt='none', ecolor=color, capsize=3, transform=transform)


def _shifted(axis: Axes, points: float) -> Transform:
    return offset_copy(axis.transData, axis.figure, x=points, units='points')


def _color(e: int) -> str:
    return _COLORS[e % len(_COLORS)]


def _tint(e: int) -> tuple[float, ...]:
    """The colour of experiment ``e``, paler: hatches and error bars must stand out from it."""
    return tuple(0.45 * channel + 0.55 for channel in to_rgb(_color(e)))


def _least_gap(x: np.ndarray) -> float:
    """Smallest distance of neighbours as a share of the whole."""
    x = np.sort(x)
    return float(np.diff(x).min() / (x[-1] - x[0]))


def _is_even_on_log(percent: np.ndarray) -> bool:
    """Whether a logarithmic axis parts the ticks better than a linear one."""
    return len(percent) > 1 and _least_gap(np.log(percent)) >= _least_gap(percent)


def _tidy(axis: Axes, *, x_grid: bool = True) -> None:
    axis.spines[['top', 'right']].set_visible(False)
    axis.grid(axis='both' if x_grid else 'y', color='0.9', linewidth=0.7)
    axis.set_axisbelow(True)


def _finish(figure: Figure, axis: Axes, *, x_grid: bool = True) -> None:
    _tidy(axis, x_grid=x_grid)
    _legend(figure, *axis.get_legend_handles_labels())


def _legend(figure: Figure, handles: list, labels: list[str]) -> None:
    # Long dashes must show in the legend too.
    figure.legend(
        handles, labels, loc='outside upper left', frameon=False, fontsize=9, handlelength=3.6,
        ncols=_legend_columns(labels, figure.get_figwidth()),
    )  # fmt: skip


def _legend_columns(labels: list[str], inches: float) -> int:
    """Columns that fit: 9 pt letters are about 0.075 inches wide, a handle about 0.7."""
    return int(np.clip(inches / (0.075 * max(map(len, labels)) + 0.7), 1, 4))
