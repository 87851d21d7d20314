"""Evaluate a checkpoint; the arguments are those of MMSegmentation's own tools/test.py.

A published model (.safetensors, also hf://owner/repo/file) is config and checkpoint in one. Where
the evaluator is LULCMetric, the expected calibration error is measured too, with the temperature of
tools/calibrate.py if the checkpoint has one.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys

from mmengine.config import Config, DictAction
from mmengine.runner import CheckpointLoader, Runner

from geoseg_prithvi.engine.launch import load_run_config
from geoseg_prithvi.errors import ConfigError, report_errors
from geoseg_prithvi.inference import ensemble  # noqa: F401  registers SegEnsemble
from geoseg_prithvi.inference.segmentor import load_state
from geoseg_prithvi.models import is_published, read_published


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or a published model')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; none for a published model')
    parser.add_argument(
        '--ensemble',
        nargs='+',
        default=[],
        metavar='CHECKPOINT',
        help='more checkpoints of the config, or published models: average over all',
    )
    parser.add_argument(
        '--area', help='CSV of tools/predict.py --area: report accuracy weighted by mapped area too'
    )
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


def prepare_metrics(cfg: Config, args: argparse.Namespace, temperature: float) -> None:
    """Tell LULCMetric the temperature and the mapped area."""
    evaluators = (
        cfg.test_evaluator if isinstance(cfg.test_evaluator, list) else [cfg.test_evaluator]
    )
    metrics = [evaluator for evaluator in evaluators if evaluator.get('type') == 'LULCMetric']
    if args.area and not metrics:
        raise ConfigError('--area wants the evaluator LULCMetric; the config has another one.')
    for metric in metrics:
        if args.area:
            metric.area = args.area
        if not args.tta:  # its samples carry the logits of one view only
            metric.setdefault('temperature', temperature)


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
    paths = [args.checkpoint, *args.ensemble]
    saved = [CheckpointLoader.load_checkpoint(path, map_location='cpu') for path in paths]
    temperatures = [(one.get('meta') or {}).get('temperature', 1.0) for one in saved]
    if args.ensemble:
        members = [
            read_published(path)[0].model if is_published(path) else copy.deepcopy(cfg.model)
            for path in paths
        ]
        cfg.model = dict(type='SegEnsemble', members=members, temperatures=temperatures)
    prepare_metrics(cfg, args, 1.0 if args.ensemble else temperatures[0])
    if args.tta:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
    if args.out:
        cfg.test_evaluator.update(output_dir=args.out)
    runner = Runner.from_cfg(cfg)
    model = runner.model
    while hasattr(model, 'module'):  # distributed, test-time augmentation
        model = model.module
    for one, member, path in zip(saved, getattr(model, 'members', [model]), paths, strict=True):
        load_state(member, one.get('state_dict', one), path)
    runner.test()


if __name__ == '__main__':
    main()
