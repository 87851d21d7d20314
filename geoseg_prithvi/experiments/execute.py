"""One run of a study, from nothing to its note: the stock training tool, then the stock test tool.

What a run does is the same on every machine and launcher; only where it happens differs.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import json
import math
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mmengine
import torch

from ..data.files import write_bytes
from ..engine.launch import latest_checkpoint
from ..errors import sentence
from ..version import __version__
from .ledger import DONE, FAILED, STARTED, code_hash, write_note

#: Starts a command with its output in a file, and returns its exit code.
Call = Callable[[Sequence[str], Path, Mapping[str, str]], int]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that is needed to execute a run, on this machine or another that sees the same disk.

    Attributes:
        name: Name of the run.
        folder: Its folder.
        config: Text of its config.
        key: Goes into its note, see :mod:`.ledger`.
        facts: Goes into its note: experiment, label, fraction, seed and so on.
        test: Whether the best checkpoint is tested (not in a pre-training).
        tools: The folder of train.py and test.py.
    """

    name: str
    folder: Path
    config: str
    key: dict[str, str]
    facts: dict[str, Any]
    test: bool
    tools: Path


class RunFailedError(Exception):
    """A command of a run did not end well."""


def execute(plan: Plan, env: Mapping[str, str] | None = None, call: Call | None = None) -> dict:
    """Train and test a run, anew, and leave a note of how it ended.

    What an earlier, interrupted or stale run left in the folder is removed first.

    Args:
        plan: The run.
        env: Added to the environment.
        call: Starts the commands; :func:`run_command` if not given.

    Returns:
        The note; it has ``error`` if the run failed.
    """
    folder, environment = plan.folder, {**os.environ, **(env or {})}
    for note in (DONE, FAILED):  # first: a half removed folder must not pass for a finished run
        (folder / note).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    note: dict[str, Any] = dict(
        key=plan.key,
        **plan.facts,
        commands=[],
        seconds={},
        host=platform.node(),
        versions=dict(
            geoseg_prithvi=__version__,
            torch=torch.__version__,
            mmengine=mmengine.__version__,
            python=platform.python_version(),
        ),
        threads=environment.get('OMP_NUM_THREADS'),
    )
    write_note(folder / STARTED, dict(name=plan.name, time=time.time(), host=note['host']))
    config = folder / 'config.py'
    write_bytes(config, plan.config.encode())
    run = functools.partial(_run, plan, note, environment, call or run_command)
    try:
        run('train', [str(config), '--work-dir', str(folder)])
        if plan.test:
            best = _only(folder, 'best_mIoU_iter_*.pth')
            run('test', [str(config), str(best), '--work-dir', str(folder / 'test')])
            note |= dict(
                checkpoint=best.name,
                best_iteration=int(best.stem.rpartition('_')[2]),
                metrics=_test_metrics(folder),
                curve=_validation_curve(folder),
            )
        else:
            newest = latest_checkpoint(folder)
            if newest is None:
                raise RunFailedError(f'{folder} has no iter_*.pth, so nothing can start from it.')
            note |= dict(checkpoint=Path(newest).name)
        if code_hash() != plan.key['code']:
            raise RunFailedError('The code of geoseg_prithvi was edited while it ran')
    except (RunFailedError, OSError, ValueError) as error:
        note |= dict(error=sentence(error))
        write_note(folder / FAILED, note)
        return note
    write_note(folder / DONE, note)
    return note


def run_command(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    *,
    fds: Sequence[int] = (),
    started: Callable[[subprocess.Popen], None] | None = None,
) -> int:
    """Run a command, in a session of its own, that does not outlive this process.

    Args:
        command: Program and arguments.
        log: Where its output and errors go.
        env: Its environment.
        fds: File descriptors that it inherits.
        started: Told of the process.

    Returns:
        Its exit code; that of a killed process is negative.
    """
    with log.open('wb') as output:
        process = subprocess.Popen(  # noqa: S603 the study's own command, no shell
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=dict(env),
            pass_fds=fds,
            start_new_session=True,
            preexec_fn=functools.partial(_die_with, os.getpid()),
        )
    if started:
        started(process)
    return process.wait()


def stop(process: subprocess.Popen) -> None:
    """Kill a process of :func:`run_command` and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# Loaded here: between fork and exec nothing should be imported.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == 'linux' else None
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, even by SIGKILL; Linux only.

    Elsewhere the study's lock, which the processes inherit, keeps a second ``run`` waiting.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _run(
    plan: Plan,
    note: dict[str, Any],
    env: Mapping[str, str],
    call: Call,
    tool: str,
    arguments: list[str],
) -> None:
    """Run a tool; its command and seconds are noted.

    Raises:
        RunFailedError: If it does not end with exit code 0.
    """
    command = [sys.executable, str(plan.tools / f'{tool}.py'), *arguments]
    log = plan.folder / f'{tool}.log'
    note['commands'].append(shlex.join(command))
    begin = time.monotonic()
    code = call(command, log, env)
    note['seconds'][tool] = round(time.monotonic() - begin, 1)
    if code:
        note |= dict(exit_code=code, log=str(log))
        how = (
            f'killed by {signal.Signals(-code).name}'
            if code < 0
            else f'exit code {code}: {_last_line(log)}'
        )
        raise RunFailedError(f'tools/{tool}.py ended with {how}')


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors='replace').splitlines()]
    lines = [line for line in lines if line]
    told = [line for line in lines if line.startswith('error: ')]
    return (told or lines or ['no output'])[-1]


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise RunFailedError(f'{folder} holds {len(found)} files {pattern}, and not one.')
    return found[0]


def _test_metrics(folder: Path) -> dict[str, float]:
    """The scores on the test chips in percent, as mmengine's logger hook writes them."""
    scores = json.loads(_only(folder / 'test', '*/*.json').read_text())
    return {name: value for name, value in scores.items() if not name.endswith('time')}


def _validation_curve(folder: Path) -> list[tuple[int, float]]:
    """Iteration and mIoU in percent of each validation."""
    lines = _only(folder, '*/vis_data/scalars.json').read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if 'mIoU' in row]
    return [(row['step'], row['mIoU']) for row in rows if not math.isnan(row['mIoU'])]
