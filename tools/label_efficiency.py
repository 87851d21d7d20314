"""A label-efficiency study in one resumable command: run, status, report.

STUDY is a study file such as configs/studies/demo.py. `run` goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from mmengine.config import DictAction
from rich.console import Console

from geoseg_prithvi.errors import ConfigError, report_errors
from geoseg_prithvi.experiments.launchers import LocalLauncher, SlurmLauncher, default_jobs
from geoseg_prithvi.experiments.ledger import Ledger
from geoseg_prithvi.experiments.results import write_results
from geoseg_prithvi.experiments.runs import Run, expand
from geoseg_prithvi.experiments.status import print_status
from geoseg_prithvi.experiments.study import Study, load_study
from geoseg_prithvi.experiments.sweep import Sweep

TOOLS = Path(__file__).resolve().parent
CONSOLE = Console(soft_wrap=True)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='command')

    def add(name: str, call: Callable[..., None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument('study', help='study file')
        command.add_argument('--work-dir', help='where the runs go; in place of that of the file')
        command.set_defaults(call=call)
        return command

    run = add('run', run_study, 'Execute every run that is not finished.')
    run.add_argument(
        '--jobs', type=int, help='runs at a time; by default one a GPU, or one; on Slurm all'
    )
    run.add_argument(
        '--launcher', choices=['local', 'slurm'], default='local', help='where the runs happen'
    )
    run.add_argument(
        '--slurm',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='parameters of submitit: slurm_partition=gpu timeout_min=240 gpus_per_node=1 ...',
    )
    add('status', show_status, 'Show how far the study is, what failed, and the time left.')
    report = add('report', write_report, 'Write tables, figures and a page of what is finished.')
    report.add_argument('--out', type=Path, help='folder of the report; default WORK_DIR/report')
    report.add_argument('--show-seeds', action='store_true', help='draw a point for each seed')
    return parser.parse_args()


def run_study(args: argparse.Namespace, study: Study, runs: list[Run], ledger: Ledger) -> None:
    """Execute what is not finished; exit code 1 if a run failed."""
    slurm = args.launcher == 'slurm'
    if args.slurm and not slurm:
        raise ConfigError('--slurm is for --launcher slurm; give both or none.')
    jobs = args.jobs
    if jobs is None:
        jobs = len(runs) if slurm else default_jobs()
    if jobs < 1:
        raise ConfigError(f'--jobs must be at least 1, but is {jobs}.')
    with ledger.lock(jobs) as lock:
        launcher = (
            SlurmLauncher(study.work_dir, jobs, args.slurm) if slurm else LocalLauncher(jobs, lock)
        )
        failed = Sweep(study, runs, ledger, launcher, TOOLS, CONSOLE).run()
    if failed:
        CONSOLE.print(f'{len(failed)} of {len(runs)} runs failed: {", ".join(failed)}.')
        sys.exit(1)
    CONSOLE.print(f'All {len(runs)} runs are finished; write the report with: report {study.path}')


def show_status(args: argparse.Namespace, study: Study, runs: list[Run], ledger: Ledger) -> None:
    """Print the table of the runs."""
    print_status(study, runs, ledger, CONSOLE)


def write_report(args: argparse.Namespace, study: Study, runs: list[Run], ledger: Ledger) -> None:
    """Write results.csv, curves.csv and the report made of them."""
    from geoseg_prithvi.experiments import study_report

    out = args.out or study.work_dir / 'report'
    results, curves, unfinished = write_results(study, runs, ledger, out)
    if unfinished:
        CONSOLE.print(f'{unfinished} runs are not finished and are left out.')
    files = study_report.write_report(
        results,
        curves,
        out,
        title=study.title,
        baseline=study.baseline,
        show_seeds=args.show_seeds,
    )
    for path in (results, curves, *files):
        CONSOLE.print(f'wrote {path}', highlight=False)


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    study = load_study(args.study, args.work_dir)
    runs = expand(study)
    args.call(args, study, runs, Ledger(study.work_dir, runs))


if __name__ == '__main__':
    main()
