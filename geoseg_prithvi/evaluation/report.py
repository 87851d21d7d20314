"""A confusion matrix for people: the table of scores per class, a CSV file and a picture."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .confusion import Scores, mean_score

#: More classes than this, and the numbers in the cells cannot be read any more.
MAX_ANNOTATED_CLASSES = 20

POLICY = (
    'nan: not defined, and left out of the mean (IoU and F1 of a class neither labelled nor '
    'predicted, precision of one never predicted, recall of one never labelled).'
)


def score_rows(scores: Scores, classes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Format the scores per class and their mean.

    Args:
        scores: The scores of K classes.
        classes: Their K names.

    Returns:
        The header, and K + 1 rows: name, IoU, F1, precision and recall in percent, and labelled
        pixels. The last row holds the means and the sum of the pixels.
    """
    columns = (scores.iou, scores.f1, scores.precision, scores.recall)
    rows = [
        [name, *(f'{100 * column[k]:.2f}' for column in columns), f'{scores.support[k]:,}']
        for k, name in enumerate(classes)
    ]
    means = [f'{100 * mean_score(column):.2f}' for column in columns]
    rows.append(['mean / sum', *means, f'{scores.support.sum():,}'])
    return ['Class', 'IoU', 'F1', 'Precision', 'Recall', 'Pixels'], rows


def write_confusion_csv(matrix: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Write ``(K, K)`` counts as CSV: a row per label, a column per prediction, with names."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(['label \\ prediction', *classes])
    writer.writerows([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
    _write(Path(path), text.getvalue().encode())


def plot_confusion(
    matrix: np.ndarray, classes: Sequence[str], path: str | Path, *, title: str = ''
) -> None:
    """Draw ``(K, K)`` counts as PNG, each row in percent of its labelled pixels.

    Args:
        matrix: Counts, rows labels, columns predictions. A row without labels stays blank.
        classes: K names.
        path: The file to write.
        title: Heading of the picture.
    """
    size = len(classes)
    labelled = matrix.sum(axis=1, keepdims=True)
    share = np.divide(
        100.0 * matrix, labelled, out=np.full(matrix.shape, np.nan), where=labelled > 0
    )
    side = min(3.5 + 0.55 * size, 20)
    figure = Figure(figsize=(side + 0.8, side), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor('0.93')
    image = axes.imshow(share, cmap='Blues', vmin=0, vmax=100)
    axes.set_xticks(range(size), classes, rotation=45, ha='right', rotation_mode='anchor')
    counts = [f'{c} ({n:,})' for c, n in zip(classes, labelled[:, 0], strict=True)]
    axes.set_yticks(range(size), counts)
    axes.set(xlabel='Prediction', ylabel='Label (pixels)', title=title)
    axes.spines[:].set_visible(False)
    # White gaps between the cells.
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(which='minor', color='white', linewidth=1.5)
    axes.tick_params(which='both', length=0)
    if size <= MAX_ANNOTATED_CLASSES:
        for (row, column), value in np.ndenumerate(share):
            if matrix[row, column]:
                text = f'{value:.0f}' if value >= 0.5 else '<1'
                color = 'white' if value > 55 else '0.15'
                axes.text(column, row, text, ha='center', va='center', fontsize=9, color=color)
    figure.colorbar(image, ax=axes, label='% of the labelled pixels of the class', shrink=0.8)
    png = io.BytesIO()
    figure.savefig(png, format='png', dpi=120, bbox_inches='tight')
    _write(Path(path), png.getvalue())


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    part.write_bytes(content)
    part.replace(path)
