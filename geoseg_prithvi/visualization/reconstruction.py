"""What a masked autoencoder was shown and what it made of it, on one picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..hls import BANDS, FILL
from ..layout import fold_time
from .composites import FALSE_COLOR, false_color
from .panel import DPI, SIDE

ROWS = ('original', 'masked', 'reconstructed')


def draw_reconstruction(
    original: np.ndarray,
    reconstructed: np.ndarray,
    hidden: np.ndarray,
    *,
    frame_titles: Sequence[str],
    bands: Sequence[str] = BANDS,
    composite: Sequence[str] = FALSE_COLOR,
    title: str = '',
) -> np.ndarray:
    """Draw each frame in false colour: as it is, as the model saw it, and as the model fills it in.

    All pictures share one stretch. The reconstruction shows the visible patches as they are:
    no loss ever taught the model to repeat them.

    Args:
        original: ``(C, T, H, W)`` in any unit; pixels that are 0 in all bands are nodata.
        reconstructed: ``(C, T, H, W)`` in the same unit.
        hidden: ``(T, H, W)``, 1 where the model was not shown the pixel.
        frame_titles: A title for each of the T frames, such as its date.
        bands: Names of the C bands.
        composite: The three bands shown as red, green and blue.
        title: Heading of the whole picture.

    Returns:
        ``(height, width, 3)`` uint8 RGB.

    Raises:
        ConfigError: If ``composite`` asks for a band that is not among ``bands``.
    """
    covered = hidden.astype(bool)[None]
    known = np.where((original != 0).any(axis=0), original, FILL)
    filled = np.where(covered, reconstructed, known)
    # (C, T, H, W) three times -> (C, 3*T, H, W)
    stacked = np.concatenate([known, np.where(covered, FILL, known), filled], axis=1)
    pictures = false_color(fold_time(stacked), stacked.shape[1], bands=bands, composite=composite)

    columns, aspect = len(frame_titles), original.shape[-2] / original.shape[-1]
    size = (SIDE * columns + 0.3, len(ROWS) * SIDE * aspect + 0.7)
    figure = Figure(figsize=size, dpi=DPI, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0, hspace=0)
    axes = figure.subplots(len(ROWS), columns, squeeze=False)
    for axis, picture in zip(axes.ravel(), pictures, strict=True):
        axis.imshow(picture, interpolation='nearest')
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color('0.6')
    for axis, name in zip(axes[0], frame_titles, strict=True):
        axis.set_title(name, fontsize=10)
    for axis, name in zip(axes[:, 0], ROWS, strict=True):
        axis.set_ylabel(name, fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11, fontweight='bold')
    figure.supxlabel(
        f'{", ".join(composite)} as red, green, blue; chequered: masked, or no data', fontsize=9
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
