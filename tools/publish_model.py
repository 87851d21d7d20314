"""Write a trained model as one small file that needs no other, and push it to the hub."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from mmengine.config import DictAction

from geoseg_prithvi.engine.launch import load_run_config
from geoseg_prithvi.errors import ConfigError, DataNotFoundError, OutputExistsError, report_errors
from geoseg_prithvi.experiments.publish import collect, model_card, push
from geoseg_prithvi.models import write_published


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='training checkpoint')
    parser.add_argument('config', help='config that it was trained with')
    parser.add_argument('out', type=Path, help='the .safetensors file to write')
    parser.add_argument(
        '--metrics', type=Path, help='JSON of scores (else the last validation of the training)'
    )
    parser.add_argument(
        '--data-card', type=Path, help='Markdown about the data (else drawn from the chips)'
    )
    parser.add_argument('--push', metavar='OWNER/REPO', help='repository on the hub')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='replace values of the config'
    )
    return parser.parse_args()


def read_text(path: Path) -> str:
    """Read a file that an option names."""
    if not path.is_file():
        raise DataNotFoundError(f'{path} is not there; give the right path or leave it out.')
    return path.read_text()


def read_metrics(path: Path) -> dict[str, float]:
    """Read scores by name, as tools/test.py writes them."""
    try:
        scores = json.loads(read_text(path))
        return {str(key): float(value) for key, value in scores.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f'{path} is no JSON of names and numbers ({error}).') from error


@report_errors
def main() -> None:
    """Collect, write and push."""
    args = parse_args()
    if args.out.exists() and not args.overwrite:
        raise OutputExistsError(f'{args.out} is there already; give --overwrite to replace it.')
    cfg, state, meta = collect(
        load_run_config(args.config, options=args.cfg_options),
        args.checkpoint,
        metrics=args.metrics and read_metrics(args.metrics),
        data_card=args.data_card and read_text(args.data_card),
    )
    write_published(args.out, cfg, state, meta)
    print(f'written: {args.out} ({args.out.stat().st_size / 2**20:.1f} MB)')
    card = model_card(args.out.name, cfg, meta, args.push)
    if args.push:
        print(f'pushed: {push(args.out, card, args.push)}')


if __name__ == '__main__':
    main()
