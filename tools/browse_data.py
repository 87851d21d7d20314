"""Show what is in a chip folder: contact sheet, charts, one HTML page, footprints for QGIS."""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from rich.console import Console
from rich.table import Table

from geoseg_prithvi.data.chip_io import read_chip, read_label
from geoseg_prithvi.data.files import atomic_path, write_bytes
from geoseg_prithvi.data.index import index_metadata
from geoseg_prithvi.data.overview import Overview, read_overview, write_footprints
from geoseg_prithvi.errors import ConfigError, report_errors
from geoseg_prithvi.visualization import colorize, false_color
from geoseg_prithvi.visualization.contact_sheet import ChipStrip, draw_contact_sheet
from geoseg_prithvi.visualization.dataset_page import (
    build_page,
    class_chart,
    clear_chart,
    date_chart,
    footprint_chart,
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument('chips', type=Path, help='the chip folder')
    parser.add_argument('--out', type=Path, help='folder of the pictures (default: CHIPS/browse)')
    parser.add_argument('--num', type=int, default=24, help='chips on the contact sheet')
    parser.add_argument('--seed', type=int, default=0, help='of the choice of these chips')
    return parser.parse_args()


def strips(overview: Overview, root: Path, num: int, seed: int) -> list[ChipStrip]:
    """Read and render the chips of the contact sheet."""
    bands = index_metadata(overview.table)['bands']
    found = []
    for position in overview.sample(num, seed):
        row = overview.table.slice(position, 1).to_pylist()[0]
        pixels = read_chip(root / row['image'], overview.num_frames, bands=bands)
        pictures = [*false_color(pixels, overview.num_frames, bands=bands)]
        if row['label']:
            label = read_label(root / row['label'])
            pictures.append(colorize(label, overview.legend.colors))
        dates = '   '.join(
            f'{day} {sensor}' for day, sensor in zip(row['dates'], row['sensors'], strict=True)
        )
        found.append(ChipStrip(row['chip_id'], dates, row['split'], pictures))
    return found


def facts(overview: Overview) -> list[tuple[str, str]]:
    """Say the most important in words."""
    counts = ', '.join(
        f'{name} {(overview.splits == name).sum()}' for name in ('train', 'val', 'test')
    )
    size = index_metadata(overview.table)['chip_size']
    tiles = sorted(set(overview.table['tile'].to_pylist()) - {''})
    clear = overview.clear[~np.isnan(overview.clear)]
    shares = np.quantile(clear, (0.05, 0.5)) if clear.size else ()
    return [
        ('Chips', f'{len(overview)} ({counts})'),
        ('Size', f'{size} x {size} pixels, {overview.num_frames} frame(s)'),
        ('Tiles', f'{len(tiles)}: {", ".join(tiles[:12])}{", ..." if len(tiles) > 12 else ""}'),
        ('Dates', f'{overview.dates.min()} to {overview.dates.max()}'),
        (
            'Clear share of a frame, 5 % and 50 % quantile',
            ', '.join(f'{share:.0%}' for share in shares) or 'not known',
        ),
    ]


def print_overview(overview: Overview) -> None:
    """Print facts and class shares."""
    console = Console()
    for name, value in facts(overview):
        console.print(f'{name}: {value}', highlight=False, soft_wrap=True)
    table = Table('class')
    pixels = overview.split_pixels()
    for split in pixels:
        table.add_column(split, justify='right')
    for index, name in enumerate(overview.legend.names):
        table.add_row(name, *(f'{100 * p[index] / max(1, p.sum()):.2f} %' for p in pixels.values()))
    console.print(table)


@report_errors
def main() -> None:
    """Run the command."""
    args = parse_args()
    if args.num < 1:
        raise ConfigError(f'--num is at least 1, not {args.num}.')
    out = args.out or args.chips / 'browse'
    overview = read_overview(args.chips)
    pixels, legend = overview.split_pixels(), overview.legend
    title = f'{args.chips.absolute().name}: {len(overview)} chips'
    sheet = draw_contact_sheet(
        strips(overview, args.chips, args.num, args.seed),
        legend.names,
        legend.colors,
        title=f'{min(args.num, len(overview))} of {len(overview)} chips: false colour (NIR, red, '
        'green) of each date, and label',
    )
    charts = {
        'classes': class_chart(pixels, legend.names),
        'footprints': footprint_chart(overview.rings, overview.splits),
        'dates': date_chart(overview.dates),
        'clear': clear_chart(overview.clear),
    }
    with atomic_path(out / 'contact_sheet.png') as partial:
        Image.fromarray(sheet).save(partial, 'PNG')
    for name, chart in charts.items():
        FigureCanvasAgg(chart)
        with atomic_path(out / f'{name}.png') as partial:
            chart.savefig(partial, format='png', dpi=130)
    page = build_page(
        title, facts(overview), pixels, legend.names, legend.colors, list(charts.values()), sheet
    )
    write_bytes(out / 'index.html', page.encode())
    print_overview(overview)
    write_footprints(overview, out / 'footprints.gpkg')
    print(f'wrote {out}/index.html, its pictures and footprints.gpkg')


if __name__ == '__main__':
    main()
