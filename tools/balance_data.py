"""Choose training chips: a balanced set of M, a label-efficiency subset, or weights for a loss."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from geoseg_prithvi.data.balance import (
    effective_number_weights,
    median_frequency_weights,
    nested_subset,
)
from geoseg_prithvi.data.selection import select_balanced
from geoseg_prithvi.data.selection_report import mix_table, plot_class_mix
from geoseg_prithvi.data.subset_manifest import (
    SUBSET_FOLDER,
    read_chip_table,
    subset_path,
    write_subset,
)
from geoseg_prithvi.errors import OutputExistsError, report_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True, metavar='command')

    def add(name: str, run: Callable[..., None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument('chips', help='chip folder that tools/prepare_data.py wrote')
        command.add_argument('--split', default='train', help='split to choose from')
        command.set_defaults(run=run)
        return command

    select = add('select', run_select, 'Choose exactly --count chips, as balanced as can be.')
    select.add_argument('--count', type=int, required=True, help='chips to choose')
    select.add_argument(
        '--target', type=float, nargs='+', help='wanted share per class, any scale; equal if absent'
    )
    select.add_argument('--min-per-tile', type=int, default=0, help='at least so many of each tile')
    subset = add('subset', run_subset, 'Choose a nested subset with the shares of the full set.')
    subset.add_argument('--fraction', type=float, required=True, help='share of the chips')
    subset.add_argument('--seed', type=int, required=True, help='which of the possible subsets')
    for command in (select, subset):
        command.add_argument(
            '--out', type=Path, help=f'the manifest (.json); default in CHIPS/{SUBSET_FOLDER}'
        )
        command.add_argument('--overwrite', action='store_true', help='replace what is there')
    add('class-weights', run_class_weights, 'Print class weights for a loss in the config.')
    return parser.parse_args()


def run_select(args: argparse.Namespace) -> None:
    """Choose the most balanced chips; print the mix before and after."""
    name = f'{args.split}_balanced_{args.count}.json'
    out = _output(args, Path(args.chips) / SUBSET_FOLDER / name)
    table = read_chip_table(args.chips, args.split)
    chosen = select_balanced(
        table.class_pixels,
        args.count,
        target=args.target,
        tiles=np.array(table.tiles),
        min_per_tile=args.min_per_tile,
    )
    origin = dict(
        method='balanced',
        min_per_tile=args.min_per_tile,
        kl=chosen.kl,
        kl_before=chosen.kl_before,
        kl_bound=chosen.bound,
    )
    write_subset(out, table, chosen.indices, **origin)
    title = f'{args.count} of {len(table.chip_ids)} chips'
    plot_class_mix(
        out.with_suffix('.png'),
        table.classes,
        chosen.mix_before,
        chosen.mix,
        chosen.target,
        title=title,
    )
    mixes = dict(before=chosen.mix_before, after=chosen.mix, wanted=chosen.target)
    print(mix_table(table.classes, mixes) + '  (% of an average chip)')
    tiles = len({table.tiles[i] for i in chosen.indices}), len(set(table.tiles))
    print(f'{title}, from {tiles[0]} of {tiles[1]} tiles')
    print(
        f'KL from the wanted mix (nats): {chosen.kl_before:.5f} before, {chosen.kl:.5f} after; '
        f'bound from the relaxation {chosen.bound:.5f}, gap {chosen.gap:.1e}'
    )
    _done(out)


def run_subset(args: argparse.Namespace) -> None:
    """Choose the subset of a fraction and seed; print its shares."""
    out = _output(args, subset_path(args.chips, args.fraction, args.seed, args.split))
    table = read_chip_table(args.chips, args.split)
    indices = nested_subset(table.class_pixels, args.fraction, args.seed)
    write_subset(out, table, indices, fraction=args.fraction, seed=args.seed)
    pixels = table.class_pixels
    mixes = {
        'all': pixels.sum(axis=0) / pixels.sum(),
        'subset': pixels[indices].sum(axis=0) / pixels[indices].sum(),
    }
    print(mix_table(table.classes, mixes) + '  (% of the labelled pixels)')
    print(f'{len(indices)} of {len(table.chip_ids)} chips')
    _done(out)


def run_class_weights(args: argparse.Namespace) -> None:
    """Print the weights as lines for a config."""
    table = read_chip_table(args.chips, args.split)
    print(f'# {", ".join(table.classes)}')
    for name, weights in (
        ('median frequency', median_frequency_weights(table.class_pixels)),
        ('effective number', effective_number_weights(table.class_pixels)),
    ):
        values = ', '.join(f'{weight:.4g}' for weight in weights)
        print(f'class_weight = [{values}]  # {name}')


def _output(args: argparse.Namespace, default: Path) -> Path:
    out = args.out or default
    if out.suffix != '.json':
        out = out.with_name(f'{out.name}.json')
    if out.exists() and not args.overwrite:
        raise OutputExistsError(f'{out} is there already; give --overwrite to replace it.')
    return out


def _done(out: Path) -> None:
    print(f"wrote {out}; in the config: train_dataloader = dict(dataset=dict(subset='{out}'))")


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    args.run(args)


if __name__ == '__main__':
    main()
