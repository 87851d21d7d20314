"""Train a segmentor; the arguments are those of MMSegmentation's own tools/train.py."""

from __future__ import annotations

import argparse
import os

from mmengine.config import DictAction
from mmengine.runner import Runner

from geoseg_prithvi.engine.launch import latest_checkpoint, load_run_config
from geoseg_prithvi.errors import report_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume', action='store_true', help='go on from the latest checkpoint in the work dir'
    )
    parser.add_argument(
        '--amp', action='store_true', help='bfloat16 autocast even where it is only emulated'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='replace values of the config: key=value, key="[a,b]", nested.key=value',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='launcher'
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@report_errors
def main() -> None:
    """Build the runner and train."""
    args = parse_args()
    cfg = load_run_config(
        args.config, work_dir=args.work_dir, options=args.cfg_options, launcher=args.launcher
    )
    if args.resume and (newest := latest_checkpoint(cfg.work_dir)):
        cfg.update(resume=True, load_from=newest)
    if args.amp:
        cfg.optim_wrapper.update(type='BFloat16OptimWrapper', enabled=True)
    Runner.from_cfg(cfg).train()


if __name__ == '__main__':
    main()
