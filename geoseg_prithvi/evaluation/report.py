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

from ..errors import DataNotFoundError, ResultsError
from .area_accuracy import Z95, AreaAccuracy, MappedArea
from .bootstrap import FEW_BLOCKS, Intervals
from .confusion import Scores, mean_score

#: More classes than this, and the numbers in the cells cannot be read any more.
MAX_ANNOTATED_CLASSES = 20

POLICY = (
    'nan: not defined, and left out of the mean (IoU and F1 of a class neither labelled nor '
    'predicted, precision of one never predicted, recall of one never labelled).'
)


AREA_NOTE = (
    'Weighted by the mapped area (Olofsson et al. 2014). "±" is 1.96 standard errors of a '
    'stratified random sample of single pixels; pixels of chips lie together, so it is too small '
    'for them.'
)


def score_rows(
    scores: Scores, classes: Sequence[str], intervals: Intervals | None = None
) -> tuple[list[str], list[list[str]]]:
    """Format the scores per class and their mean.

    Args:
        scores: The scores of K classes.
        classes: Their K names.
        intervals: Adds a column with the 95 % interval of the IoU.

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
    header = ['Class', 'IoU', 'F1', 'Precision', 'Recall', 'Pixels']
    if intervals is not None:
        header.insert(2, '95 % interval')
        ends = [*intervals.iou.T, intervals.miou]
        for row, (low, high) in zip(rows, ends, strict=True):
            row.insert(2, f'{100 * low:.2f} - {100 * high:.2f}')
    return header, rows


def interval_note(intervals: Intervals, by_block: bool) -> str:
    """Say what was resampled.

    Args:
        intervals: The intervals.
        by_block: Whether the blocks are those of the index, or single images.
    """
    what = 'blocks of ground' if by_block else 'images (the samples name no block)'
    if intervals.blocks < 2:
        return f'No 95 % interval: there is one of the {what} only.'
    few = ' So few make it too short.' if intervals.blocks < FEW_BLOCKS else ''
    return f'95 % interval: bootstrap over {intervals.blocks} {what}.{few}'


def write_scores_csv(
    scores: Scores, intervals: Intervals, classes: Sequence[str], path: str | Path
) -> None:
    """Write scores per class and their means as CSV, in percent; the columns name them."""
    columns = (scores.iou, *intervals.iou, scores.f1, scores.precision, scores.recall)
    rows = [
        [name, *(float(100 * column[k]) for column in columns), int(scores.support[k])]
        for k, name in enumerate(classes)
    ]
    others = (scores.f1, scores.precision, scores.recall)
    means = [mean_score(scores.iou), *intervals.miou, *map(mean_score, others)]
    rows.append(['mean / sum', *(float(100 * v) for v in means), int(scores.support.sum())])
    head = ['class', 'iou', 'iou_low', 'iou_high', 'f1', 'precision', 'recall', 'pixels']
    _write_csv([head, *rows], path)


def area_rows(
    found: AreaAccuracy,
    mapped: MappedArea,
    classes: Sequence[str],
    blocks: np.ndarray | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Format accuracy and area that are weighted by the mapped area.

    Args:
        found: The estimates.
        mapped: The mapped area.
        classes: K names.
        blocks: ``(2, K)`` interval of the area over blocks of ground; adds a column.

    Returns:
        The header and K + 1 rows; the last one holds the sums and the overall accuracy.
    """
    unit = mapped.unit
    header = ['Class', f'Mapped ({unit})', f'Adjusted ({unit})', "User's (%)", "Producer's (%)"]
    rows = [
        [
            name,
            f'{mapped.values[k]:,.0f}',
            _plus_minus(found.area[k], found.area_se[k], ',.0f'),
            _plus_minus(100 * found.users[k], 100 * found.users_se[k], '.1f'),
            _plus_minus(100 * found.producers[k], 100 * found.producers_se[k], '.1f'),
        ]
        for k, name in enumerate(classes)
    ]
    total = f'{mapped.values.sum():,.0f}'
    overall = _plus_minus(100 * found.overall, 100 * found.overall_se, '.1f')
    rows.append(['all / overall', total, total, overall, ''])
    if blocks is not None:
        header.append(f'Adjusted, 95 % over blocks ({unit})')
        for row, (low, high) in zip(rows, blocks.T, strict=False):
            row.append(f'{low:,.0f} - {high:,.0f}')
        rows[-1].append('')
    return header, rows


def write_area_csv(
    found: AreaAccuracy,
    mapped: MappedArea,
    classes: Sequence[str],
    path: str | Path,
    blocks: np.ndarray | None = None,
) -> None:
    """Write what :func:`area_rows` formats, as CSV with standard errors; shares from 0 to 1."""
    columns = {
        'mapped_area': mapped.values,
        'area': found.area,
        'area_se': found.area_se,
        'users_accuracy': found.users,
        'users_accuracy_se': found.users_se,
        'producers_accuracy': found.producers,
        'producers_accuracy_se': found.producers_se,
    }
    if blocks is not None:
        columns |= {'area_low_blocks': blocks[0], 'area_high_blocks': blocks[1]}
    rows: list[list] = [['class', 'unit', *columns, 'overall_accuracy', 'overall_accuracy_se']]
    for k, name in enumerate(classes):
        rows.append([name, mapped.unit, *(float(column[k]) for column in columns.values()), '', ''])
    blank = [''] * len(columns)
    rows.append(['all', mapped.unit, *blank, found.overall, found.overall_se])
    _write_csv(rows, path)


def _plus_minus(value: float, error: float, form: str) -> str:
    return f'{value:{form}} ± {Z95 * error:{form}}'


def read_confusion_csv(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """Read what :func:`write_confusion_csv` wrote: ``(K, K)`` int64 counts, and K names.

    Raises:
        DataNotFoundError: If there is no such file.
        ResultsError: If it is no square table of counts.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFoundError(f'{path} does not exist; tools/test.py writes such a file.')
    try:
        with path.open(newline='', encoding='utf-8') as file:
            head, *rows = csv.reader(file)
        classes = head[1:]
        matrix = np.array([row[1:] for row in rows]).astype(np.int64)
        if matrix.shape != (len(classes), len(classes)) or [row[0] for row in rows] != classes:
            raise ValueError('not square')
    except (ValueError, IndexError) as error:
        raise ResultsError(
            f'{path} is no confusion matrix with a row and a column for each class; give the '
            'confusion_*.csv that tools/test.py wrote.'
        ) from error
    return matrix, classes


def write_confusion_csv(matrix: np.ndarray, classes: Sequence[str], path: str | Path) -> None:
    """Write ``(K, K)`` counts as CSV: a row per label, a column per prediction, with names."""
    rows = ([name, *row] for name, row in zip(classes, matrix.tolist(), strict=True))
    _write_csv([['label \\ prediction', *classes], *rows], path)


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
    write_file(Path(path), png.getvalue())


def _write_csv(rows: Sequence[Sequence], path: str | Path) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows(rows)
    write_file(Path(path), text.getvalue().encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    part.write_bytes(content)
    part.replace(path)
