"""Evaluate a checkpoint; the arguments are those of MMSegmentation's own tools/test.py.

A published model (.safetensors, also hf://owner/repo/file) is config and checkpoint in one.
"""

from __future__ import annotations

import argparse
import os
import sys

from mmengine.config import DictAction
from mmengine.runner import CheckpointLoader, Runner

from geoseg_prithvi.engine.launch import load_run_config
from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.inference.segmentor import load_state
from geoseg_prithvi.models import is_published, read_published


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or a published model')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; none for a published model')
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
    if args.checkpoint is None:
        if not is_published(args.config):
            parser.error('the checkpoint is missing; only a published .safetensors needs none')
        args.checkpoint = args.config
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@report_errors
def main() -> None:
    """Build the runner and test."""
    args = parse_args()
    cfg = load_run_config(
        read_published(args.config)[0] if is_published(args.config) else args.config,
        work_dir=args.work_dir,
        options=args.cfg_options,
        launcher=args.launcher,
    )
    # Strictly, below: the runner's own way of loading passes over what does not fit.
    cfg.load_from = None
    if args.show_dir:
        cfg.visualizer.save_dir = args.show_dir
        cfg.default_hooks.visualization.num_samples = sys.maxsize
    if args.tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
    if args.out:
        cfg.test_evaluator.update(output_dir=args.out)
    saved = CheckpointLoader.load_checkpoint(args.checkpoint, map_location='cpu')
    runner = Runner.from_cfg(cfg)
    model = runner.model
    while hasattr(model, 'module'):  # distributed, test-time augmentation
        model = model.module
    load_state(model, saved.get('state_dict', saved), args.checkpoint)
    runner.test()


if __name__ == '__main__':
    main()
