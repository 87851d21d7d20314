"""Many chips on one picture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .panel import DPI, legend_patches

#: Colour of each split (P. Tol's high-contrast scheme, safe for colour-blind readers).
SPLIT_COLORS = {'train': '#004488', 'val': '#ddaa33', 'test': '#bb5566'}
#: Inches along one picture of a chip, and pixels between two.
SIDE, GAP = 1.35, 4


@dataclasses.dataclass(frozen=True)
class ChipStrip:
    """The pictures of one chip, side by side.

    Attributes:
        title: For example its name.
        subtitle: For example its dates.
        split: Colours the title.
        pictures: Each ``(H, W, 3)`` uint8: the frames, then the label.
    """

    title: str
    subtitle: str
    split: str
    pictures: Sequence[np.ndarray]


def draw_contact_sheet(
    strips: Sequence[ChipStrip],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    *,
    title: str = '',
) -> np.ndarray:
    """Draw chips in rows over one legend.

    Args:
        strips: The chips, at least one, all with equally many pictures.
        classes: Names of the K classes.
        palette: ``(R, G, B)`` of each class, 0..255.
        title: Heading.

    Returns:
        ``(height, width, 3)`` uint8 RGB.
    """
    pictures = len(strips[0].pictures)
    columns = min(len(strips), max(1, round(8 / pictures)))
    rows = math.ceil(len(strips) / columns)
    width = columns * pictures * SIDE + 0.4
    entries = legend_patches(classes, palette)
    legend_columns = max(1, int(width // 1.7))
    legend_rows = math.ceil(len(entries) / legend_columns)
    height = rows * (SIDE + 0.42) + 0.6 + 0.2 * legend_rows
    figure = Figure(figsize=(width, height), layout='constrained', dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.03, wspace=0, hspace=0)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis('off')
    for axis, strip in zip(axes, strips, strict=False):
        axis.imshow(_side_by_side(strip.pictures), interpolation='antialiased')
        color = SPLIT_COLORS.get(strip.split, 'black')
        axis.set_title(
            f'{strip.title} · {strip.split}\n', fontsize=7.5, color=color, fontweight='bold', pad=3
        )
        axis.text(
            0.5, 1.015, strip.subtitle, transform=axis.transAxes, ha='center', va='bottom',
            fontsize=6.5, color='0.3',
        )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=10, fontweight='bold')
    figure.legend(
        handles=entries,
        loc='outside lower center',
        ncols=legend_columns,
        fontsize=8,
        frameon=False,
        handlelength=1.3,
        columnspacing=1.2,
    )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Join pictures with a white gap, ``(H, n*W + gaps, 3)``."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, gap)]
    return np.concatenate(parts[:-1], axis=1)
