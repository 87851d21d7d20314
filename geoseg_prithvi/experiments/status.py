"""How far a study is: a table of its runs, and the time that is left."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .ledger import Entry, Ledger
from .runs import Run
from .study import Study


def print_status(study: Study, runs: Sequence[Run], ledger: Ledger, console: Console) -> None:
    """Print where all runs of a study stand, and which failed and why."""
    owner = ledger.owner()
    entries = {run.name: ledger.look(run, running=owner is not None) for run in runs}
    table = Table(title=f'{study.title}: finished runs and their mean test mIoU (%)')
    table.add_column('')
    for fraction in study.fractions:
        table.add_column(f'{100 * fraction:g} %', justify='right')
    for experiment in study.experiments:
        cells = [
            _cell([entries[r.name] for r in runs if _at(r, experiment.name, fraction)])
            for fraction in study.fractions
        ]
        table.add_row(experiment.label, *cells)
    console.print(table)
    for run in runs:
        if run.is_pretraining:
            console.print(f'{run.name}: {entries[run.name].state}')
    _print_totals(runs, entries, ledger, owner, console)
    for name, entry in entries.items():
        if entry.state == 'failed':
            log = f' (log: {entry.note["log"]})' if 'log' in entry.note else ''
            console.print(f'failed: {name}: {entry.note["error"]}{log}', markup=False)
        if entry.state == 'stale':
            console.print(f'stale: {name}: {" and ".join(entry.changed)} changed', markup=False)


def _at(run: Run, experiment: str, fraction: float) -> bool:
    return run.experiment == experiment and run.fraction == fraction


def _cell(entries: Sequence[Entry]) -> str:
    states = [entry.state for entry in entries]
    text = f'{states.count("done")}/{len(states)}'
    scores = [entry.note['metrics']['mIoU'] for entry in entries if entry.state == 'done']
    if scores:
        text += f'  {statistics.fmean(scores):.2f}'
    for state in ('running', 'failed', 'stale'):
        if state in states:
            text += f'\n{states.count(state)} {state}'
    return text


def _print_totals(
    runs: Sequence[Run],
    entries: Mapping[str, Entry],
    ledger: Ledger,
    owner: Mapping[str, Any] | None,
    console: Console,
) -> None:
    states = [entry.state for entry in entries.values()]
    counts = ', '.join(
        f'{states.count(state)} {state}'
        for state in ('done', 'running', 'failed', 'stale', 'missing')
        if state in states
    )
    jobs = (owner or {}).get('jobs', 1)
    left = remaining_seconds(
        runs,
        {name: entry.note for name, entry in entries.items() if entry.state == 'done'},
        [run for run in runs if entries[run.name].state not in ('done', 'running')],
        {run: ledger.started(run.name) for run in runs if entries[run.name].state == 'running'},
        jobs,
    )
    who = 'a run is at work' if owner is not None else 'no run is at work'
    rest = f'; about {duration(left)} left with {jobs} at a time' if left else ''
    console.print(f'{len(runs)} runs: {counts}; {who}{rest}.', highlight=False)


def remaining_seconds(
    runs: Iterable[Run],
    notes: Mapping[str, Mapping[str, Any]],
    waiting: Sequence[Run],
    started: Mapping[Run, float],
    jobs: int,
) -> float | None:
    """Estimate how long a study still takes, from the finished runs of the same experiment.

    Runs of an experiment take as long for every share of the data: they have equal iterations.

    Args:
        runs: All runs.
        notes: Notes of the finished ones by name.
        waiting: Runs that have not begun.
        started: Unix time at which others began.
        jobs: How many go on at a time.

    Returns:
        Seconds; ``None`` if no run is finished that tells.
    """
    known: dict[str, list[float]] = {}
    for run in runs:
        if run.name in notes and not run.is_pretraining:
            known.setdefault(run.experiment, []).append(seconds_of(notes[run.name]))
    if not known:
        return None
    overall = statistics.fmean(s for some in known.values() for s in some)

    def expected(run: Run) -> float:
        return statistics.fmean(known.get(run.experiment, [overall]))

    now = time.time()
    total = sum(map(expected, waiting))
    total += sum(max(expected(run) - (now - begin), 0.0) for run, begin in started.items())
    return total / max(min(jobs, len(waiting) + len(started)), 1)


def seconds_of(note: Mapping[str, Any]) -> float:
    """Seconds that a finished run took."""
    return sum(note['seconds'].values())


def duration(seconds: float) -> str:
    """Words for a time: ``45 s``, ``12 min``, ``2 h 05 min``."""
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 90 else f'{minutes // 60} h {minutes % 60:02d} min'
