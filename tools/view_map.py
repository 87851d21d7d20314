"""Write a map as one HTML page that needs no network.

False-colour frames by date, prediction, confidence and label on top of each other, with swipe,
opacity, a legend with areas, and the class under the pointer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.inference.page import MAX_SIDE, write_page


@report_errors
def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('map', type=Path, help='a map of tools/predict.py')
    parser.add_argument('--out', type=Path, help='the page (map.html beside the map)')
    parser.add_argument(
        '--image', type=Path, help='the scene: folder of granules, or stacked raster'
    )
    parser.add_argument(
        '--label', type=Path, help='class raster on the same grid, or folder of 10 m label maps'
    )
    parser.add_argument(
        '--max-side', type=int, default=MAX_SIDE, help='pixels of the longer side (%(default)s)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace an existing page')
    args = parser.parse_args()
    page = args.out or args.map.with_suffix('.html')
    write_page(
        args.map,
        page,
        image=args.image,
        label=args.label,
        max_side=args.max_side,
        overwrite=args.overwrite,
    )
    print(page)


if __name__ == '__main__':
    main()
