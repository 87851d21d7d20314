"""A class mix for people: a table and a plot of before and after."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .files import write_bytes


def mix_table(classes: Sequence[str], mixes: Mapping[str, np.ndarray]) -> str:
    """Format mixes side by side, in percent.

    Args:
        classes: K names.
        mixes: Heading -> ``(K,)`` shares.

    Returns:
        A header and K lines.
    """
    names = max(len(name) for name in ('class', *classes))
    width = {heading: max(len(heading), 7) for heading in mixes}
    lines = [f'{"class":{names}}' + ''.join(f'  {h:>{width[h]}}' for h in mixes)]
    for k, name in enumerate(classes):
        cells = ''.join(f'  {100 * mix[k]:{width[h]}.2f}' for h, mix in mixes.items())
        lines.append(f'{name:{names}}{cells}')
    return '\n'.join(lines)


def plot_class_mix(
    path: str | os.PathLike[str],
    classes: Sequence[str],
    before: np.ndarray,
    after: np.ndarray,
    target: np.ndarray,
    *,
    title: str = '',
) -> None:
    """Draw the mix before and after, and the wanted one, as PNG.

    Args:
        path: The file to write.
        classes: K names.
        before: ``(K,)`` shares of all chips.
        after: ``(K,)`` shares of the chosen chips.
        target: ``(K,)`` wanted shares.
        title: Heading of the picture.
    """
    rows = np.arange(len(classes))
    figure = Figure(figsize=(7, 1.2 + 0.45 * len(classes)), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.barh(rows - 0.2, 100 * before, 0.38, color='0.75', label='all chips')
    axes.barh(rows + 0.2, 100 * after, 0.38, color='#2166ac', label='chosen')
    axes.vlines(100 * target, rows - 0.42, rows + 0.42, color='black', label='wanted')
    axes.set_yticks(rows, classes)
    axes.invert_yaxis()
    axes.set(xlabel='% of an average chip', title=title)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format='png', dpi=120)
    write_bytes(path, png.getvalue())
