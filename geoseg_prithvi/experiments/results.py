"""What came out of a study, as two tables that depend on nothing but the finished runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.files import write_bytes
from ..errors import DataNotFoundError
from .ledger import Ledger
from .runs import Run
from .study import Study

RESULTS, CURVES = 'results.csv', 'curves.csv'
_MEANS = ('mIoU', 'mF1', 'aAcc')


def write_results(
    study: Study, runs: Sequence[Run], ledger: Ledger, out_dir: Path
) -> tuple[Path, Path, int]:
    """Write ``results.csv`` and ``curves.csv`` of the finished runs.

    ``results.csv`` has a row a run: scores on the test chips of the checkpoint that was best on
    validation, in percent, with all digits. ``curves.csv`` has a row a validation. Both are sorted
    by experiment (in the order of the study file), fraction (largest first) and seed, and hold
    neither times nor paths.

    Returns:
        The two files, and the number of runs that are not finished.

    Raises:
        DataNotFoundError: If no run is finished.
        OutputWriteError: If the disk does not take the files.
    """
    order = [experiment.name for experiment in study.experiments]
    tested = sorted(
        (run for run in runs if not run.is_pretraining),
        key=lambda run: (order.index(run.experiment), -run.fraction, run.seed),
    )
    entries = [(run, ledger.look(run)) for run in tested]
    done = [(run, entry.note) for run, entry in entries if entry.state == 'done']
    if not done:
        raise DataNotFoundError(
            f'No run of {study.path} is finished in {study.work_dir}; start it with '
            f'tools/label_efficiency.py run {study.path}.'
        )
    # Every score per class that any run has, in the order of the classes.
    per_class = list(
        dict.fromkeys(
            name for _, note in done for name in note['metrics'] if name.startswith('IoU/')
        )
    )
    means = [name for name in _MEANS if any(name in note['metrics'] for _, note in done)]
    results: list[list[Any]] = [
        ['experiment', 'label', 'fraction', 'num_chips', 'seed', 'iterations', *means, *per_class]
    ]
    curves: list[list[Any]] = [['experiment', 'label', 'fraction', 'seed', 'iteration', 'mIoU']]
    for run, note in done:
        start = [run.experiment, run.label, run.fraction]
        scores = [note['metrics'].get(name, float('nan')) for name in (*means, *per_class)]
        results.append([*start, note['num_chips'], run.seed, note['iterations'], *scores])
        curves += [[*start, run.seed, iteration, score] for iteration, score in note['curve']]
    return (
        _write_csv(out_dir / RESULTS, results),
        _write_csv(out_dir / CURVES, curves),
        len(entries) - len(done),
    )


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    text = io.StringIO()
    # csv writes floats with repr: the shortest digits that give the same number back.
    csv.writer(text, lineterminator='\n').writerows(rows)
    write_bytes(path, text.getvalue().encode())
    return path
