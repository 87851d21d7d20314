"""Bring a study to its end: run what is not finished, in any number of sittings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import ConfigError
from .execute import Plan
from .launchers import Launcher
from .ledger import STARTED, Entry, Ledger, code_hash
from .runs import Run
from .status import duration, remaining_seconds, seconds_of
from .study import Study


class Sweep:
    """Hands the runs of a study to a launcher, in order, each when it can start.

    Args:
        study: The study.
        runs: All of its runs.
        ledger: Knows which are finished.
        launcher: Executes them.
        tools: The folder of train.py and test.py.
        console: Where progress is told.
    """

    def __init__(
        self,
        study: Study,
        runs: Sequence[Run],
        ledger: Ledger,
        launcher: Launcher,
        tools: Path,
        console: Console,
    ) -> None:
        self.study, self.runs, self.ledger = study, runs, ledger
        self.launcher, self.tools, self.console = launcher, tools, console
        self._by_name = {run.name: run for run in runs}
        self._entries: dict[str, Entry] = {}
        self.failed: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Execute all that is not finished.

        Returns:
            Why runs failed, by name; empty if the study is complete.
        """
        self._entries = {run.name: self.ledger.look(run, running=True) for run in self.runs}
        waiting = [run for run in self.runs if self._entries[run.name].state != 'done']
        for run in waiting:
            (self.ledger.folder(run) / STARTED).unlink(missing_ok=True)
        adopted = self.launcher.adopt([run.name for run in waiting])
        active = set(adopted)
        waiting = [run for run in waiting if run.name not in active]
        self._tell_start(adopted)
        try:
            with self._progress() as advance:
                while True:
                    waiting = self._submit(waiting, active)
                    advance(self._done(), self._left(waiting, active))
                    if not active:
                        break
                    for name, note in self.launcher.wait():
                        active.remove(name)
                        if not self._ended(name, note, waiting, active):
                            waiting.append(self._by_name[name])
        finally:
            self.launcher.close()
        return self.failed

    def _submit(self, waiting: list[Run], active: set[str]) -> list[Run]:
        """Start what can start; returns what must still wait.

        Raises:
            ConfigError: If the code of the package is no longer that of the finished runs.
        """
        if waiting and code_hash() != self.ledger.code:
            raise ConfigError(
                'The code of geoseg_prithvi was edited while the study ran, so its runs would not '
                'be of one kind; start again, best from a copy of the package that nobody edits.'
            )
        still = []
        for run in waiting:
            if run.init in self.failed:
                self._tell_failure(run.name, f'{run.init} failed, from which it starts.')
            elif not self.launcher.free() or (run.init and not self._is_done(run.init)):
                still.append(run)
            else:
                # Again: the pre-training it starts from may have ended since.
                entry = self._entries[run.name] = self.ledger.look(run)
                if entry.state != 'done':
                    self.launcher.submit(self._plan(run, entry))
                    active.add(run.name)
        return still

    def _plan(self, run: Run, entry: Entry) -> Plan:
        config = self.ledger.final_config(run)
        facts: dict[str, Any] = dict(name=run.name)
        if not run.is_pretraining:
            facts |= dict(
                experiment=run.experiment,
                fraction=run.fraction,
                seed=run.seed,
                num_chips=len(run.chip_ids),
                iterations=self.study.iterations,
                init=run.init,
            )
        return Plan(
            name=run.name,
            folder=self.ledger.folder(run),
            config=config.pretty_text,
            key=entry.key,
            facts=facts,
            test=not run.is_pretraining,
            tools=self.tools,
        )

    def _ended(
        self, name: str, note: dict[str, Any], waiting: Sequence[Run], active: set[str]
    ) -> bool:
        """Take note of a run that ended; ``False`` if it must be repeated."""
        if 'error' in note:
            self._tell_failure(name, note['error'], note.get('log'))
            return True
        entry = self._entries[name] = self.ledger.look(self._by_name[name])
        if entry.state != 'done':  # a job of an earlier `run`, with another config
            return False
        score = f'test mIoU {note["metrics"]["mIoU"]:.2f} %, ' if 'metrics' in note else ''
        left = self._left(waiting, active)
        self.console.print(
            f'{self._count()} {name}: {score}{duration(seconds_of(note))}'
            + (f'; about {duration(left)} left' if left else ''),
            highlight=False,
        )
        return True

    def _is_done(self, name: str) -> bool:
        return self._entries[name].state == 'done'

    def _done(self) -> int:
        return sum(entry.state == 'done' for entry in self._entries.values())

    def _count(self) -> str:
        total = len(self.runs)
        return f'[{self._done():{len(str(total))}}/{total}]'.replace('[', r'\[')

    def _left(self, waiting: Sequence[Run], active: set[str]) -> float | None:
        notes = {name: entry.note for name, entry in self._entries.items() if entry.state == 'done'}
        started = {self._by_name[name]: self.ledger.started(name) for name in active}
        return remaining_seconds(self.runs, notes, waiting, started, self.launcher.jobs)

    def _tell_start(self, adopted: Sequence[str]) -> None:
        self.console.print(
            f'{self.study.title}: {self._done()} of {len(self.runs)} runs are finished.'
        )
        reasons: dict[str, list[str]] = {}
        for name, entry in self._entries.items():
            if entry.state == 'stale':
                reasons.setdefault(' and '.join(entry.changed), []).append(name)
        for reason, names in reasons.items():
            self.console.print(
                f'{len(names)} finished run(s), such as {names[0]}, are repeated, because {reason} '
                'changed since.'
            )
        if adopted:
            self.console.print(f'{len(adopted)} job(s) of an earlier run are still in the queue.')

    def _tell_failure(self, name: str, error: str, log: str | None = None) -> None:
        self.failed[name] = error
        where = f' (log: {log})' if log else ''
        self.console.print(f'FAILED {name}: {error}{where}', style='red', markup=False)

    @contextlib.contextmanager
    def _progress(self) -> Iterator[Any]:
        bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn('{task.fields[left]}'),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        with bar:
            task = bar.add_task('runs', total=len(self.runs), left='')

            def advance(done: int, left: float | None) -> None:
                text = f'about {duration(left)} left' if left else ''
                bar.update(task, completed=done, left=text)

            yield advance
