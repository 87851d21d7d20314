"""Evaluate a checkpoint; the arguments are those of MMSegmentation's own tools/test.py."""

from __future__ import annotations

import argparse
import os
import sys

from mmengine.config import DictAction
from mmengine.runner import Runner

from geoseg_prithvi.engine.launch import load_run_config
from geoseg_prithvi.errors import report_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where the metrics go')
    parser.add_argument('--out', help='folder for the predictions as class-index PNG files')
    parser.add_argument('--show-dir', help='folder for the drawn samples')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='replace values of the config: key=value, key="[a,b]", nested.key=value',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='launcher'
    )
    parser.add_argument('--tta', action='store_true', help='average over flips')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@report_errors
def main() -> None:
    """Build the runner and test."""
    args = parse_args()
    cfg = load_run_config(
        args.config, work_dir=args.work_dir, options=args.cfg_options, launcher=args.launcher
    )
    cfg.load_from = args.checkpoint
    if args.show_dir:
        cfg.visualizer.save_dir = args.show_dir
        cfg.default_hooks.visualization.num_samples = sys.maxsize
    if args.tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
    if args.out:
        cfg.test_evaluator.update(output_dir=args.out)
    Runner.from_cfg(cfg).test()


if __name__ == '__main__':
    main()
