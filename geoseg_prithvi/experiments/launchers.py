"""Where the runs of a study happen: slots on this machine, or jobs of a Slurm cluster."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ..errors import ConfigError, ExtraNotInstalledError, sentence
from .execute import Plan, execute, run_command, stop
from .ledger import FAILED, read_note, write_note

#: Seconds between two looks at what is under way.
_LOOK = 1.0
#: The same for a cluster, whose controller others need too.
_LOOK_AT_QUEUE = 5.0
#: Seconds after which a job that left the queue will bring no result any more; files may come late
#: from other nodes.
_GRACE = 60.0
#: Which job of the cluster works at which run.
JOBS = 'jobs.json'


def default_jobs() -> int:
    """Runs at a time on this machine: one a GPU, or one."""
    return max(torch.cuda.device_count(), 1)


class Launcher(Protocol):
    """Executes plans side by side."""

    jobs: int

    def adopt(self, names: Sequence[str]) -> list[str]:
        """Take over what an earlier ``run`` has left running; gives its names."""

    def free(self) -> bool:
        """Whether another plan can be submitted."""

    def submit(self, plan: Plan) -> None:
        """Start a plan, without waiting for it."""

    def wait(self) -> list[tuple[str, dict[str, Any]]]:
        """Wait a moment; gives names and notes of the runs that ended."""

    def close(self) -> None:
        """End; what cannot go on without this process is killed."""


class LocalLauncher:
    """Runs ``jobs`` processes at a time on this machine.

    On a machine with GPUs slot i sees one of them, in turn; on one without, the cores are shared
    out by ``OMP_NUM_THREADS``. Values of the user's environment are respected.

    Args:
        jobs: Slots.
        lock: File descriptor that the processes inherit, so that the study's folder stays locked
            while any of them lives.
    """

    def __init__(self, jobs: int, lock: int | None = None) -> None:
        self.jobs = jobs
        self._envs = _slot_environments(self.jobs)
        self._fds = () if lock is None else (lock,)
        self._slots = list(range(self.jobs))
        self._pool = concurrent.futures.ThreadPoolExecutor(self.jobs)
        self._active: dict[concurrent.futures.Future, tuple[str, int]] = {}
        self._processes: set[subprocess.Popen] = set()
        self._guard, self._closed = threading.Lock(), False

    def adopt(self, names: Sequence[str]) -> list[str]:
        """Nothing: processes of an earlier ``run`` ended with it."""
        return []

    def free(self) -> bool:
        """Whether a slot is free."""
        return bool(self._slots)

    def submit(self, plan: Plan) -> None:
        """Start a plan in a free slot."""
        slot = self._slots.pop(0)
        future = self._pool.submit(execute, plan, self._envs[slot], self._call)
        self._active[future] = (plan.name, slot)

    def wait(self) -> list[tuple[str, dict[str, Any]]]:
        """Wait until a run ends, but not for long."""
        ended, _ = concurrent.futures.wait(
            self._active, timeout=_LOOK, return_when=concurrent.futures.FIRST_COMPLETED
        )
        found = []
        for future in ended:
            name, slot = self._active.pop(future)
            self._slots.append(slot)
            found.append((name, future.result()))
        return found

    def close(self) -> None:
        """Kill what runs."""
        with self._guard:
            self._closed = True
            for process in self._processes:
                stop(process)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _call(self, command: Sequence[str], log: Path, env: Mapping[str, str]) -> int:
        code = run_command(command, log, env, fds=self._fds, started=self._started)
        with self._guard:
            if self._closed:  # Not a failure of the run: it is to leave no note.
                raise concurrent.futures.CancelledError
            self._processes = {p for p in self._processes if p.returncode is None}
        return code

    def _started(self, process: subprocess.Popen) -> None:
        with self._guard:
            self._processes.add(process)
            if self._closed:
                stop(process)


class SlurmLauncher:
    """Submits each run as a job through submitit; jobs go on when this process ends.

    Args:
        work_dir: Folder of the study, on a disk that all nodes see.
        jobs: At most so many jobs are in the queue at a time.
        options: Parameters of submitit, such as ``slurm_partition``, ``timeout_min``,
            ``gpus_per_node``, ``cpus_per_task``, ``mem_gb``. ``cluster='local'`` starts the jobs
            on this machine, to try out a study without Slurm.

    Raises:
        ExtraNotInstalledError: If submitit is not installed.
        ConfigError: If there is no Slurm here, or an option is unknown.
    """

    def __init__(self, work_dir: Path, jobs: int, options: Mapping[str, Any] | None = None) -> None:
        try:
            import submitit
        except ImportError as error:
            raise ExtraNotInstalledError(
                "--launcher slurm needs submitit; run: pip install 'geoseg_prithvi[study]'."
            ) from error
        options = dict(options or {})
        cluster = options.pop('cluster', 'slurm')
        if cluster == 'slurm' and shutil.which('srun') is None:
            raise ConfigError(
                '--launcher slurm finds no srun on this machine; run it on a login node of the '
                'cluster, or use --launcher local.'
            )
        self.jobs = jobs
        self._folder = work_dir / 'slurm'
        self._list = work_dir / JOBS
        self._executor = submitit.AutoExecutor(folder=self._folder, cluster=cluster)
        self._job_class = type(self._executor._executor).job_class
        self._active: dict[str, tuple[Any, Path]] = {}
        self._on_slurm = cluster == 'slurm'
        self._last_seen: dict[str, float] = {}
        try:
            self._executor.update_parameters(**options)
        except (NameError, TypeError, ValueError) as error:
            raise ConfigError(f'--slurm: {sentence(error).splitlines()[0]}') from error

    def adopt(self, names: Sequence[str]) -> list[str]:
        """Wait for the jobs of an earlier ``run`` that are still in the queue."""
        noted = read_note(self._list) or {}
        jobs = {n: self._job_class(self._folder, i) for n, i in noted.items() if n in names}
        alive = self._alive(list(jobs.values()))
        self._active = {n: (job, self._list.parent / n) for n, job in jobs.items() if job in alive}
        return list(self._active)

    def _alive(self, jobs: Sequence[Any]) -> list[Any]:
        """Return the jobs that wait or run.

        submitit asks sacct, which knows nothing on a cluster without accounting; squeue does.
        """
        if not self._on_slurm:
            return [job for job in jobs if job.state in ('PENDING', 'RUNNING')]
        squeue = shutil.which('squeue') or 'squeue'
        queue = subprocess.run(  # noqa: S603
            [squeue, '--me', '--noheader', '--format=%A'], capture_output=True, text=True
        )
        # A controller that does not answer says nothing about the jobs.
        ids = queue.stdout.split()
        return [job for job in jobs if queue.returncode or job.job_id in ids]

    def free(self) -> bool:
        """Whether one more job may be in the queue."""
        return len(self._active) < self.jobs

    def submit(self, plan: Plan) -> None:
        """Put a job into the queue."""
        self._executor.update_parameters(name=plan.name.replace('/', '-'))
        job = self._executor.submit(execute, plan)
        self._active[plan.name] = (job, plan.folder)
        write_note(self._list, {name: job.job_id for name, (job, _) in self._active.items()})

    def wait(self) -> list[tuple[str, dict[str, Any]]]:
        """Look which jobs have ended."""
        time.sleep(_LOOK_AT_QUEUE if self._on_slurm else _LOOK)
        unfinished = [job for job, _ in self._active.values() if not job.done()]
        now = time.monotonic()
        self._last_seen |= {job.job_id: now for job in self._alive(unfinished)}
        still = [j for j in unfinished if now - self._last_seen.setdefault(j.job_id, now) < _GRACE]
        ended = [name for name, (job, _) in self._active.items() if job not in still]
        return [(name, self._result(*self._active.pop(name))) for name in ended]

    def _result(self, job: Any, folder: Path) -> dict[str, Any]:
        if job.done() and job.exception() is None:
            return job.result()
        # The job did not live to write its note: out of time or memory, cancelled, node lost.
        note = dict(
            (read_note(folder / FAILED) or {}),
            error=f'job {job.job_id} ended without a result ({job.state})',
            log=str(job.paths.stderr),
        )
        return note

    def close(self) -> None:
        """Leave the jobs to the cluster; the next ``run`` takes them over."""


def _slot_environments(jobs: int) -> list[dict[str, str]]:
    threads = os.environ.get('OMP_NUM_THREADS') or str(max(_cores() // jobs, 1))
    gpus = torch.cuda.device_count()
    seen = os.environ.get('CUDA_VISIBLE_DEVICES')
    devices = seen.split(',')[:gpus] if seen else [str(i) for i in range(gpus)]
    return [
        {'OMP_NUM_THREADS': threads}
        | ({'CUDA_VISIBLE_DEVICES': devices[slot % gpus]} if gpus else {})
        for slot in range(jobs)
    ]


def _cores() -> int:
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
