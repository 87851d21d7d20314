"""Whether a model is right as often as it says: expected calibration error, and a temperature.

Both after Guo et al. 2017, "On calibration of modern neural networks" (ICML): 15 bins of equal
width, and one number T that divides the logits before the softmax. It changes no prediction.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.optimize import brentq
from torch import Tensor

from ..errors import ConfigError, LabelError
from .report import write_file

#: Bins of confidence, as in Guo et al. 2017.
BINS = 15
#: Temperatures that are searched.
LOWEST, HIGHEST = 0.05, 20.0


def confidence_bins(logits: Tensor, label: Tensor, ignore_index: int) -> np.ndarray:
    """Count pixels by their confidence.

    Args:
        logits: ``(K, ...)``, already divided by the temperature.
        label: ``(...)`` class indices.
        ignore_index: Label of the pixels that do not count.

    Returns:
        ``(BINS, 3)`` float64: pixels, sum of their confidence, right ones among them. Sums of
        these are those of several images.

    Raises:
        ConfigError: If there is one channel only.
    """
    if len(logits) < 2:
        raise ConfigError(
            'Calibration wants a channel for each class, but the decode head has a single one; '
            'set out_channels=num_classes there.'
        )
    confidence, prediction = logits.float().softmax(dim=0).max(dim=0)
    counted = label != ignore_index
    confidence = confidence[counted].cpu().double().numpy()
    right = (prediction == label)[counted].cpu().numpy()
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    columns = (None, confidence, right)
    return np.stack([np.bincount(place, w, minlength=BINS) for w in columns], axis=1).astype(float)


def expected_calibration_error(bins: np.ndarray) -> float:
    """Mean distance of confidence and accuracy, weighted by pixels; nan without pixels.

    Args:
        bins: As of :func:`confidence_bins`.

    Returns:
        A share between 0 and 1.
    """
    total = bins[:, 0].sum()
    return float(np.abs(bins[:, 1] - bins[:, 2]).sum() / total) if total else float('nan')


def fit_temperature(logits: Tensor, label: Tensor) -> float:
    """Return the T that minimises the negative log-likelihood.

    In 1 / T the likelihood is convex, so the zero of its derivative is the one minimum.

    Args:
        logits: ``(N, K)`` of pixels, not scaled.
        label: ``(N,)`` class indices, all of them classes.

    Returns:
        Between :data:`LOWEST` and :data:`HIGHEST`.

    Raises:
        LabelError: If there is no pixel.
    """
    if not len(label):
        raise LabelError('No pixel of the validation chips has a label; nothing can be fitted.')
    # The largest first: then nothing overflows, and the derivative does not change.
    logits = logits.double() - logits.double().max(dim=1, keepdim=True).values
    own = logits.gather(1, label.long()[:, None]).mean()

    def slope(beta: float) -> float:
        expected = (logits * (logits * beta).softmax(dim=1)).sum(dim=1).mean()
        return float(expected - own)

    low, high = 1 / HIGHEST, 1 / LOWEST
    if slope(low) >= 0:  # worse than a guess: flat is best
        return HIGHEST
    if slope(high) <= 0:  # nothing is wrong: the sharper the better
        return LOWEST
    return 1 / brentq(slope, low, high, xtol=1e-6)


def negative_log_likelihood(logits: Tensor, label: Tensor) -> float:
    """Mean over pixels, in nats; shapes as of :func:`fit_temperature`."""
    return float(torch.nn.functional.cross_entropy(logits.double(), label.long()))


def plot_reliability(bins: dict[str, np.ndarray], path: str | Path, *, title: str = '') -> None:
    """Draw accuracy against confidence as PNG.

    Args:
        bins: Name -> as of :func:`confidence_bins`; one or two.
        path: The file.
        title: Heading.
    """
    figure = Figure(figsize=(4.6, 5.4), layout='constrained')
    FigureCanvasAgg(figure)
    axes, share = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 100], [0, 100], color='0.6', linewidth=1, label='as sure as right')
    edges = np.linspace(0, 100, BINS + 1)
    looks = zip(('#0072B2', '#D55E00'), ('-', '--'), ('o', 's'), strict=True)
    for (name, values), (color, line, marker) in zip(bins.items(), looks, strict=False):
        full = values[values[:, 0] > 0]
        error = 100 * expected_calibration_error(values)
        axes.plot(
            100 * full[:, 1] / full[:, 0], 100 * full[:, 2] / full[:, 0],
            color=color, linestyle=line, marker=marker, markersize=4.5,
            label=f'{name}: ECE {error:.2f} %',
        )  # fmt: skip
        percent = 100 * values[:, 0] / max(values[:, 0].sum(), 1)
        share.stairs(percent, edges, color=color, linestyle=line, linewidth=1.3)
    axes.set(xlim=(0, 100), ylim=(0, 100), ylabel='Right (% of the pixels)', title=title)
    figure.legend(frameon=False, loc='outside upper left', fontsize=9)
    share.set(xlabel='Confidence (%)', ylabel='Pixels (%)')
    for axis in (axes, share):
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(color='0.92', linewidth=0.7)
    png = io.BytesIO()
    figure.savefig(png, format='png', dpi=120)
    write_file(Path(path), png.getvalue())
