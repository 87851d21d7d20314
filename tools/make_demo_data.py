"""Make a small synthetic world: HLS granules, IO/Esri label maps, and one scene kept apart.

OUT/granules and OUT/labels are for chips; OUT/scene holds one more tile that no chip comes from.
"""

import argparse
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.windows import Window
from rich.progress import Progress

from geoseg_prithvi.data.frames import candidates, choose_frames, equal_windows
from geoseg_prithvi.data.granules import find_granules, tile_grid
from geoseg_prithvi.data.labels import LabelReader, find_labels, labels_over
from geoseg_prithvi.data.synthetic import DEFAULT_TILES, make_world
from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.hls import BANDS, fmask_clear
from geoseg_prithvi.lulc import IO_LULC
from geoseg_prithvi.visualization.panel import draw_panel


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('out', type=Path, help='the folder of the world')
    parser.add_argument('--tiles', nargs='+', default=list(DEFAULT_TILES), help='MGRS tiles')
    parser.add_argument('--scene', default='10SDJ', help="MGRS tile kept apart, '' for none")
    parser.add_argument('--years', nargs='+', type=int, default=[2022], help='calendar years')
    parser.add_argument('--dates', type=int, default=9, help='acquisitions a tile and year')
    parser.add_argument('--size', type=int, default=512, help='pixels along a tile, up to 3660')
    parser.add_argument('--seed', type=int, default=0, help='another seed is another world')
    parser.add_argument(
        '--preview', type=Path, metavar='PNG', help='also draw the clearest tile: dates, label'
    )
    return parser.parse_args()


def preview(world: Path, year: int, png: Path, side: int = 256) -> None:
    """Draw a corner of the clearest tile: the clearest date of each third of the year, the label.

    Args:
        world: The folder of the world.
        year: Which year.
        png: The picture.
        side: Pixels along the corner.
    """
    best = (-1.0, '', [])
    for tile, granules in find_granules(world / 'granules').items():
        clear = []
        for granule in granules:
            with rasterio.open(granule.path('Fmask')) as dataset:
                clear.append([fmask_clear(dataset.read(1)).mean()])
        windows = candidates([g.id for g in granules], equal_windows(3), year, tile)
        chosen = choose_frames(np.array(clear), windows)[0]
        best = max(best, (min(clear[i][0] for i in chosen), tile, [granules[i] for i in chosen]))
    _, tile, frames = best
    grid = tile_grid(frames)
    window = Window(0, 0, min(side, grid.width), min(side, grid.height))
    chip = []
    for frame in frames:
        for band in BANDS:
            with rasterio.open(frame.path(band)) as dataset:
                chip.append(dataset.read(1, window=window))
    maps = labels_over(find_labels(world / 'labels'), grid, year, tile)
    with LabelReader(maps, grid, IO_LULC) as reader:
        label, _ = reader.read(window)
    titles = [f'{frame.date} {frame.id.sensor}' for frame in frames]
    classes, palette = IO_LULC.names, IO_LULC.colors
    picture = draw_panel(np.stack(chip), {'label': label}, classes, palette, frame_titles=titles)
    png.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).quantize(64).save(png, optimize=True)


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    parts = [(args.out, args.tiles)]
    if args.scene:
        parts.append((args.out / 'scene', [args.scene]))
    with Progress() as bar:
        for out, tiles in parts:
            task = bar.add_task(f'granules in {out}')
            make_world(
                out,
                tiles,
                args.years,
                args.dates,
                args.size,
                args.seed,
                lambda done, total, task=task: bar.update(task, completed=done, total=total),
            )
    if args.preview:
        preview(args.out, args.years[0], args.preview)
        print(f'picture: {args.preview}')


if __name__ == '__main__':
    main()
