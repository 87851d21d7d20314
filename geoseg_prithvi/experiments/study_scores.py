"""The numbers of a label-efficiency study: tables of runs in, means, sigmas and differences out.

Sigma is always the sample standard deviation over the seeds (``ddof=1``). It says how far one more
training would fall from the mean; it is not the uncertainty of the mean, and it does not hold what
another choice of test chips would change.
"""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
from scipy import stats

from ..errors import DataNotFoundError, ResultsError

#: Coverage of the intervals of paired differences.
CONFIDENCE = 0.95

_KEYS = ('experiment', 'label', 'fraction', 'seed')
_CLASS_PREFIX = 'IoU/'


@dataclasses.dataclass(frozen=True)
class StudyScores:
    """All finished runs, as arrays over E experiments, F fractions and S seeds.

    Attributes:
        experiments: E names, in the order of the table.
        labels: E names for people.
        fractions: F shares of the training chips, descending.
        chips: F numbers of training chips, ``'64'``, or ``'63-65'`` where runs differ.
        seeds: S seeds, ascending.
        classes: K names.
        metrics: ``mIoU`` and what else the table has -> ``(E, F, S)`` percent; nan where a run is
            missing or the score is not defined.
        class_iou: ``(E, F, S, K)`` percent, nan likewise.
    """

    experiments: tuple[str, ...]
    labels: tuple[str, ...]
    fractions: tuple[float, ...]
    chips: tuple[str, ...]
    seeds: tuple[int, ...]
    classes: tuple[str, ...]
    metrics: dict[str, np.ndarray]
    class_iou: np.ndarray

    @property
    def num_runs(self) -> int:
        """Number of finished runs."""
        return int(np.isfinite(self.metrics['mIoU']).sum())


@dataclasses.dataclass(frozen=True)
class Summary:
    """Mean and spread over seeds.

    Attributes:
        mean: nan where no seed has a score.
        sigma: Sample standard deviation; nan where fewer than two seeds have one.
        n: int64, seeds that count.
    """

    mean: np.ndarray
    sigma: np.ndarray
    n: np.ndarray


@dataclasses.dataclass(frozen=True)
class Difference:
    """mIoU of an experiment minus that of the baseline, over the seeds that both have.

    Attributes:
        experiment: Name.
        label: Name for people.
        fraction: Share of the training chips.
        n: Pairs.
        mean: Points of mIoU (percent); nan without pairs.
        low: Lower end of the 95 % interval of the mean; nan with fewer than two pairs.
        high: Its upper end.
    """

    experiment: str
    label: str
    fraction: float
    n: int
    mean: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclasses.dataclass(frozen=True)
class Curve:
    """Validation mIoU of one experiment at one fraction.

    Attributes:
        iterations: ``(I,)`` training iterations, ascending.
        summary: Over seeds, arrays of shape ``(I,)``.
    """

    iterations: np.ndarray
    summary: Summary


def summarize(values: np.ndarray) -> Summary:
    """Mean and sample standard deviation over the last axis, leaving out nan."""
    known = np.isfinite(values)
    n = known.sum(axis=-1)
    total = np.where(known, values, 0).sum(axis=-1)
    mean = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
    off = np.where(known, values - mean[..., None], 0)
    variance = np.divide((off**2).sum(axis=-1), n - 1, out=np.full(n.shape, np.nan), where=n > 1)
    return Summary(mean, np.sqrt(variance), n)


def read_scores(path: Path) -> StudyScores:
    """Read ``results.csv``.

    Raises:
        DataNotFoundError: If it does not exist or has no run.
        ResultsError: If a column is missing, a cell is no number, or a run stands in it twice.
    """
    rows = _read_rows(path, (*_KEYS, 'num_chips', 'mIoU'))
    if not any(np.isfinite(_number(path, row, 'mIoU')) for row in rows):
        raise DataNotFoundError(f'{path} has no run with a score; finish some before the report.')
    names = [name for name in rows[0] if name in ('mIoU', 'mF1', 'aAcc')]
    columns = [name for name in rows[0] if name.startswith(_CLASS_PREFIX)]
    labels = {row['experiment']: row['label'] for row in rows}
    experiments = tuple(labels)
    fractions = tuple(sorted({_number(path, row, 'fraction') for row in rows}, reverse=True))
    seeds = tuple(sorted({int(_number(path, row, 'seed')) for row in rows}))
    table = np.full(
        (len(experiments), len(fractions), len(seeds), len(names) + len(columns)), np.nan
    )
    chips: list[set[int]] = [set() for _ in fractions]
    seen = set()
    for row in rows:
        place = (
            experiments.index(row['experiment']),
            fractions.index(_number(path, row, 'fraction')),
            seeds.index(int(_number(path, row, 'seed'))),
        )
        if place in seen:
            raise ResultsError(
                f'{path} has {row["experiment"]} at {row["fraction"]} with seed {row["seed"]} '
                'twice; write it again.'
            )
        seen.add(place)
        table[place] = [_number(path, row, name) for name in (*names, *columns)]
        chips[place[1]].add(int(_number(path, row, 'num_chips')))
    return StudyScores(
        experiments=experiments,
        labels=tuple(labels.values()),
        fractions=fractions,
        chips=tuple(
            f'{min(some)}' if len(some) == 1 else f'{min(some)}-{max(some)}' for some in chips
        ),
        seeds=seeds,
        classes=tuple(name.removeprefix(_CLASS_PREFIX) for name in columns),
        metrics={name: table[..., i] for i, name in enumerate(names)},
        class_iou=table[..., len(names) :],
    )


def read_curves(path: Path, scores: StudyScores) -> dict[tuple[int, int], Curve]:
    """Read ``curves.csv`` for the experiments and fractions of ``scores``.

    Returns:
        ``(experiment, fraction)`` as positions in ``scores`` -> its curve; without those that were
        never validated.

    Raises:
        DataNotFoundError: If the file does not exist.
        ResultsError: If a column is missing or a cell is no number.
    """
    found: dict[tuple[int, int], dict[int, list[float]]] = {}
    for row in _read_rows(path, (*_KEYS, 'iteration', 'mIoU')):
        fraction = _number(path, row, 'fraction')
        if row['experiment'] not in scores.experiments or fraction not in scores.fractions:
            raise ResultsError(
                f'{path} has {row["experiment"]} at {row["fraction"]}, which results.csv lacks; '
                'write both again.'
            )
        place = (scores.experiments.index(row['experiment']), scores.fractions.index(fraction))
        values = found.setdefault(place, {})
        iteration = int(_number(path, row, 'iteration'))
        values.setdefault(iteration, []).append(_number(path, row, 'mIoU'))
    curves = {}
    for place, values in found.items():
        iterations = sorted(values)
        most = max(map(len, values.values()))
        table = np.full((len(iterations), most), np.nan)
        for i, iteration in enumerate(iterations):
            table[i, : len(values[iteration])] = values[iteration]
        curves[place] = Curve(np.array(iterations), summarize(table))
    return curves


def paired_differences(scores: StudyScores, baseline: str) -> list[Difference]:
    """Compare every other experiment with ``baseline``, seed by seed, at each fraction.

    Runs of one seed share their subset of the training chips, so what an easy subset gives to both
    cancels. The interval is Student's t over the differences: with 5 seeds it is 2.78 standard
    errors wide on either side. It is of one comparison; many at once are not corrected for.

    Args:
        scores: All runs.
        baseline: Name of an experiment in ``scores``.

    Returns:
        By experiment, then fraction, in the order of ``scores``; only where there is a pair.
    """
    base = scores.experiments.index(baseline)
    mious = scores.metrics['mIoU']
    found = []
    for e, experiment in enumerate(scores.experiments):
        if e == base:
            continue
        summary = summarize(mious[e] - mious[base])
        for f, fraction in enumerate(scores.fractions):
            n, mean = int(summary.n[f]), float(summary.mean[f])
            if not n:
                continue
            half = float('nan')
            if n > 1:
                quantile = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
                half = float(quantile * summary.sigma[f] / np.sqrt(n))
            found.append(
                Difference(
                    experiment, scores.labels[e], fraction, n, mean, mean - half, mean + half
                )
            )
    return found


def _read_rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataNotFoundError(
            f'{path} does not exist; write it with tools/label_efficiency.py report.'
        )
    with path.open(newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise ResultsError(
                f'{path} lacks the column {missing[0]!r}; write it again with '
                'tools/label_efficiency.py report.'
            )
        return list(reader)


def _number(path: Path, row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise ResultsError(
            f'{path}: {column} of {row["experiment"]} (seed {row["seed"]}) is {row[column]!r}, '
            'which is no number; write it again.'
        ) from None
