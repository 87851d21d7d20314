"""Import public chips of other tasks (crops, burn scars) into a chip folder."""

import argparse
import os

from geoseg_prithvi.data.import_chips import LAYOUTS, import_chips
from geoseg_prithvi.data.legends import LEGENDS, load_legend
from geoseg_prithvi.data.splits import SplitOptions
from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.hls import PIXEL_SIZE


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('source', help='folder of *_merged.tif and *.mask.tif, at any depth')
    parser.add_argument('out', help='the chip folder')
    parser.add_argument(
        '--layout',
        required=True,
        choices=LAYOUTS,
        help='three-dates: 18 bands, all of the first date first; single-date: 6 bands',
    )
    parser.add_argument(
        '--legend',
        required=True,
        help=f'the classes of the masks: {", ".join(LEGENDS)}, or a JSON file',
    )
    parser.add_argument(
        '--dates',
        nargs='+',
        metavar='DATE',
        help='a CSV such as chips_df.csv, or one YYYY-MM-DD a frame; (default: from the names)',
    )
    parser.add_argument(
        '--sensor', choices=('L30', 'S30'), default='S30', help='where the name does not say it'
    )
    parser.add_argument('--scale', type=float, help='(default: 1 for integers, 10000 for floats)')
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        '--split', choices=('train', 'val', 'test'), help='of all chips (default: from the folders)'
    )
    where.add_argument(
        '--split-ratio',
        type=float,
        nargs=3,
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='divide the chips anew by place',
    )
    parser.add_argument('--block-size', type=float, help='metres (default: three chips of 224)')
    parser.add_argument('--seed', type=int, default=0, help='of the division into splits')
    parser.add_argument('--workers', type=int, default=os.cpu_count(), help='chips at a time')
    parser.add_argument('--overwrite', action='store_true', help='replace the chips in OUT')
    return parser.parse_args()


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    dates = args.dates
    if dates and len(dates) == 1 and dates[0].lower().endswith('.csv'):
        dates = dates[0]
    options = None
    if args.split_ratio:
        block_size = args.block_size or 3 * 224 * PIXEL_SIZE
        options = SplitOptions(block_size, tuple(args.split_ratio), seed=args.seed)
    rows = import_chips(
        args.source,
        args.out,
        layout=args.layout,
        legend=load_legend(args.legend),
        dates=dates,
        sensor=args.sensor,
        split=args.split,
        split_options=options,
        scale=args.scale,
        workers=args.workers,
        overwrite=args.overwrite,
    )
    counts = {
        split: sum(row['split'] == split for row in rows) for split in ('train', 'val', 'test')
    }
    listing = ', '.join(f'{split} {count}' for split, count in counts.items())
    print(f'{len(rows)} chips in {args.out} ({listing}); num_frames={LAYOUTS[args.layout]}')


if __name__ == '__main__':
    main()
