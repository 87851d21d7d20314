"""Make a model as sure as it is right: fit a temperature on the validation chips.

Writes the checkpoint again with the temperature in it, and a reliability plot beside it. Maps and
their confidence are then made with it; no prediction changes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mmengine.config import DictAction

from geoseg_prithvi.engine.launch import load_run_config
from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.experiments.calibrate import calibrate
from geoseg_prithvi.models import fetch_checkpoint, is_published, read_published


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or a published model')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; none for a published model')
    parser.add_argument('out', type=Path, help='the checkpoint to write')
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    parser.add_argument('--device', default=device, help='cpu, cuda or cuda:N (%(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace an existing file')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='replace values of the config'
    )
    args = parser.parse_args()
    if args.checkpoint is None:
        if not is_published(args.config):
            parser.error('the checkpoint is missing; only a published .safetensors needs none')
        args.checkpoint = args.config
    return args


@report_errors
def main() -> None:
    """Fit, write, and say what changed."""
    args = parse_args()
    published = is_published(args.config)
    cfg = load_run_config(
        read_published(args.config)[0] if published else args.config, options=args.cfg_options
    )
    found = calibrate(
        cfg,
        fetch_checkpoint(args.checkpoint),
        args.out,
        device=args.device,
        overwrite=args.overwrite,
    )
    print(f'temperature {found.temperature:.4f} from {found.pixels:,} validation pixels')
    print(f'expected calibration error {100 * found.ece[0]:.2f} % -> {100 * found.ece[1]:.2f} %')
    print(f'negative log-likelihood    {found.nll[0]:.4f} -> {found.nll[1]:.4f}')
    if found.at_the_limit:
        print('The temperature is at the limit of the search; the model may be of no use.')
    print(f'wrote {args.out} and {args.out.with_suffix(".png")}')


if __name__ == '__main__':
    main()
