"""Download HLS granules and annual land-cover maps for an area and a year."""

import argparse
from pathlib import Path

from geoseg_prithvi.data.frames import SeasonWindow, equal_windows
from geoseg_prithvi.errors import report_errors


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        '--bbox',
        type=float,
        nargs=4,
        metavar=('WEST', 'SOUTH', 'EAST', 'NORTH'),
        help='the area in degrees',
    )
    where.add_argument('--tiles', nargs='+', metavar='TILE', help='whole MGRS tiles, e.g. 10SEG')
    where.add_argument('--aoi', metavar='FILE', help='the area as GeoJSON polygons')
    parser.add_argument('--year', type=int, required=True, help='of images and labels')
    parser.add_argument(
        '--windows',
        nargs='+',
        metavar='MM-DD:MM-DD',
        help='season window of each frame, as for prepare_data.py (default: the year in three)',
    )
    parser.add_argument(
        '--source',
        default='lpdaac',
        help='lpdaac (needs an Earthdata login), planetary-computer, or the URL of a STAC API',
    )
    parser.add_argument(
        '--label-source',
        help="where the labels come from, or 'none' (default: the source; Planetary Computer for "
        'lpdaac)',
    )
    parser.add_argument('--out', type=Path, required=True, help='the folder')
    choice = parser.add_argument_group('choice of granules')
    choice.add_argument('--max-granules', type=int, default=3, help='most of a tile and window')
    choice.add_argument(
        '--min-clear',
        type=float,
        default=0.5,
        help='share of the area that those of a tile and window must show',
    )
    choice.add_argument(
        '--probe',
        type=int,
        default=20,
        help='granules of a tile and window whose Fmask is looked at over the area; 0: go by the '
        'cloud cover of the whole granule',
    )
    run = parser.add_argument_group('run')
    run.add_argument('--dry-run', action='store_true', help='only say what and how many bytes')
    run.add_argument('--workers', type=int, default=8, help='files at a time')
    run.add_argument(
        '--cache-days', type=float, default=7.0, help='ask catalogues again after so many days'
    )
    return parser.parse_args()


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    # Here, so that a missing library gives one clear sentence.
    from geoseg_prithvi.data.download.area import Area
    from geoseg_prithvi.data.download.plan import Request, fetch_plan, make_plan, print_plan

    if args.bbox:
        area = Area.from_bbox(*args.bbox)
    elif args.tiles:
        area = Area.from_tiles(args.tiles)
    else:
        area = Area.from_file(args.aoi)
    windows = (
        tuple(SeasonWindow.parse(text) for text in args.windows)
        if args.windows
        else equal_windows(3)
    )
    request = Request(
        area=area,
        year=args.year,
        windows=windows,
        source=args.source,
        label_source=args.label_source,
        max_granules=args.max_granules,
        min_clear=args.min_clear,
        probe=args.probe,
    )
    plan = make_plan(request, args.out, workers=args.workers, cache_days=args.cache_days)
    print_plan(plan)
    if args.dry_run:
        return
    fetch_plan(plan, args.out, args.workers)
    print(f'done; now run: tools/prepare_data.py {args.out}/granules {args.out}/labels CHIPS')


if __name__ == '__main__':
    main()
