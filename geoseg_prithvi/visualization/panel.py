"""One sample on one picture: its dates in false colour, the label, the prediction, the legend."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..hls import BANDS
from .composites import CHEQUER, FALSE_COLOR, colorize, false_color

#: Side of one picture of the panel in inches, and dots per inch.
SIDE, DPI = 2.6, 120


def legend_patches(classes: Sequence[str], palette: Sequence[Sequence[int]]) -> list[Patch]:
    """Make the entries of a matplotlib legend, outlined so that near-white classes show."""
    return [
        Patch(facecolor=np.array(color) / 255, edgecolor='0.35', linewidth=0.6, label=name)
        for name, color in zip(classes, palette, strict=True)
    ]


def draw_panel(
    chip: np.ndarray,
    maps: dict[str, np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    *,
    frame_titles: Sequence[str],
    bands: Sequence[str] = BANDS,
    composite: Sequence[str] = FALSE_COLOR,
    title: str = '',
) -> np.ndarray:
    """Draw the frames of a chip and class maps side by side over one legend.

    Args:
        chip: ``(T*C, H, W)``, time-major, in the units of the file.
        maps: Title -> ``(H, W)`` class indices, such as label and prediction.
        classes: Names of the K classes.
        palette: ``(R, G, B)`` of each class, 0..255.
        frame_titles: A title for each of the T frames, such as its date.
        bands: Names of the C bands.
        composite: The three bands shown as red, green and blue.
        title: Heading of the whole panel.

    Returns:
        ``(height, width, 3)`` uint8 RGB.

    Raises:
        ConfigError: If ``composite`` asks for a band that is not among ``bands``.
    """
    frames = false_color(chip, len(frame_titles), bands=bands, composite=composite)
    pictures = [*zip(frame_titles, frames, strict=True)]
    pictures += [(name, colorize(classes_map, palette)) for name, classes_map in maps.items()]

    columns = len(pictures)
    aspect = chip.shape[-2] / chip.shape[-1]
    width = SIDE * columns
    entries = legend_patches(classes, palette)
    grey = np.mean(CHEQUER[:2]) / 255
    entries.append(
        Patch(facecolor=(grey,) * 3, edgecolor='0.35', linewidth=0.6, hatch='xx', label='no data')
    )
    # An entry of the legend is about 1.5 inches wide.
    legend_rows = math.ceil(len(entries) / max(1, width // 1.5))
    height = SIDE * aspect + 0.8 + 0.22 * legend_rows

    figure = Figure(figsize=(width, height), layout='constrained')
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(DPI)
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0, hspace=0)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis, (name, picture) in zip(axes, pictures, strict=True):
        axis.imshow(picture, interpolation='nearest')
        axis.set_title(name, fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color('0.6')
    if title:
        figure.suptitle(title, fontsize=11, fontweight='bold')
    figure.legend(
        handles=entries,
        loc='outside lower center',
        ncols=math.ceil(len(entries) / legend_rows),
        title=f'frames: {", ".join(composite)} as red, green, blue',
        title_fontsize=9,
        fontsize=9,
        frameon=False,
        handlelength=1.3,
        columnspacing=1.2,
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
