"""Turn a fine-tuned checkpoint of hls-foundation-os into one that loads strictly here."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmseg.registry import MODELS

import geoseg_prithvi  # noqa: F401  (registers the components)
from geoseg_prithvi.engine.launch import load_run_config
from geoseg_prithvi.errors import OutputExistsError, report_errors
from geoseg_prithvi.models import load_hls_foundation
from geoseg_prithvi.models.conversion import save_converted


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the same model here, e.g. of burn scars')
    parser.add_argument('checkpoint', help='their .pth file, or hf://owner/repo/file')
    parser.add_argument('out', type=Path, help='the .pth file to write')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT')
    return parser.parse_args()


@report_errors
def main() -> None:
    """Convert and report."""
    args = parse_args()
    if args.out.exists() and not args.overwrite:
        raise OutputExistsError(f'{args.out} is there already; give --overwrite to replace it.')
    cfg = load_run_config(args.config)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    report, dataset_meta = load_hls_foundation(model, args.checkpoint)
    save_converted(model, dataset_meta, args.out)
    print(report)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
