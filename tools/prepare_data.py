"""Cut HLS granules and annual land-cover maps into chips with an index.

With --unlabelled the label maps are left out (prepare_data.py --unlabelled GRANULES OUT): chips for
self-supervised pre-training.
"""

import argparse
import os

from geoseg_prithvi.data.chips import ChipOptions
from geoseg_prithvi.data.frames import SeasonWindow, equal_windows
from geoseg_prithvi.data.prepare import prepare
from geoseg_prithvi.data.splits import SplitOptions
from geoseg_prithvi.data.summary import print_summary
from geoseg_prithvi.errors import ConfigError, report_errors
from geoseg_prithvi.hls import PIXEL_SIZE


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('granules', help='folder of HLS V2.0 granules, at any depth')
    parser.add_argument(
        'labels', nargs='?', help='folder of IO/Esri annual maps, e.g. 10S-2022.tif'
    )
    parser.add_argument('out', help='the chip folder')
    parser.add_argument('--unlabelled', action='store_true', help='chips without labels')
    chips = parser.add_argument_group('chips')
    chips.add_argument('--chip-size', type=int, default=224, help='pixels along the side')
    chips.add_argument('--stride', type=int, help='pixels between chips (default: the chip size)')
    chips.add_argument('--frames', type=int, default=3, help='dates a chip')
    chips.add_argument(
        '--windows',
        nargs='+',
        metavar='MM-DD:MM-DD',
        help='season window of each frame (default: the year in equal parts)',
    )
    chips.add_argument(
        '--year', type=int, nargs='+', help='(default: all with granules and labels)'
    )
    chips.add_argument('--min-clear', type=float, default=0.7, help='clear share of each frame')
    chips.add_argument('--min-valid', type=float, default=0.9, help='share of pixels with data')
    chips.add_argument(
        '--min-purity',
        type=float,
        default=0.0,
        help='ignore pixels whose class has a smaller share of their 10 m cells',
    )
    chips.add_argument(
        '--mask-clouds',
        action='store_true',
        help='write what Fmask calls cloud, shadow or next to a cloud as nodata',
    )
    splits = parser.add_argument_group('splits')
    splits.add_argument(
        '--split-ratio',
        type=float,
        nargs=3,
        default=[0.7, 0.15, 0.15],
        metavar=('TRAIN', 'VAL', 'TEST'),
        help='shares of the chips',
    )
    splits.add_argument('--val-tiles', nargs='+', default=[], help='MGRS tiles held out for val')
    splits.add_argument('--test-tiles', nargs='+', default=[], help='MGRS tiles held out for test')
    splits.add_argument(
        '--block-size', type=float, help='metres along a block (default: three chips)'
    )
    splits.add_argument(
        '--buffer', type=float, default=0.0, help='metres between chips of different splits'
    )
    splits.add_argument('--seed', type=int, default=0, help='of the division into splits')
    run = parser.add_argument_group('run')
    run.add_argument('--workers', type=int, default=os.cpu_count(), help='processes of 2 GB')
    run.add_argument('--scheduler', metavar='ADDRESS', help='dask scheduler to use instead')
    run.add_argument(
        '--strict', action='store_true', help='a damaged granule is an error, not left out'
    )
    run.add_argument(
        '--overwrite', action='store_true', help='cut anew if OUT was cut with other options'
    )
    # Intermixed, so that options may stand between the folders, of which there are two or three.
    args = parser.parse_intermixed_args()
    if args.unlabelled and args.labels is not None:
        parser.error('--unlabelled takes no folder of label maps')
    if not args.unlabelled and args.labels is None:
        parser.error('the folder of label maps is missing; for chips without, give --unlabelled')
    return args


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    if args.windows:
        windows = tuple(SeasonWindow.parse(text) for text in args.windows)
        if len(windows) != args.frames:
            raise ConfigError(
                f'--windows names {len(windows)} season windows but --frames is {args.frames}; '
                'give one window a frame.'
            )
    else:
        windows = equal_windows(args.frames)
    chips = ChipOptions(
        windows=windows,
        chip_size=args.chip_size,
        stride=args.stride,
        min_clear=args.min_clear,
        min_valid=args.min_valid,
        min_purity=args.min_purity,
        mask_clouds=args.mask_clouds,
    )
    splits = SplitOptions(
        block_size=args.block_size or 3 * args.chip_size * PIXEL_SIZE,
        ratio=tuple(args.split_ratio),
        val_tiles=tuple(tile.removeprefix('T') for tile in args.val_tiles),
        test_tiles=tuple(tile.removeprefix('T') for tile in args.test_tiles),
        buffer=args.buffer,
        seed=args.seed,
    )
    outcome = prepare(
        args.granules,
        args.labels,
        args.out,
        chips,
        splits,
        years=args.year,
        workers=args.workers,
        scheduler=args.scheduler,
        strict=args.strict,
        overwrite=args.overwrite,
    )
    print_summary(outcome, args.out)


if __name__ == '__main__':
    main()
