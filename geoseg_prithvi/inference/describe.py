"""What a map says of itself: tags, a STAC item, a picture with its legend."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rasterio.enums import Resampling
from rasterio.transform import xy
from rasterio.warp import transform_geom

from ..lulc import IGNORE, Legend
from ..version import __version__
from ..visualization.composites import colorize
from ..visualization.panel import legend_patches
from .scene import WGS84, Scene, SceneGrid
from .writer import SCALE, MapFiles

#: Longest side of the picture's map in pixels.
PICTURE_SIDE = 1600
STAC_EXTENSIONS = (
    'https://stac-extensions.github.io/projection/v2.0.0/schema.json',
    'https://stac-extensions.github.io/classification/v2.0.0/schema.json',
    'https://stac-extensions.github.io/processing/v1.2.0/schema.json',
)
COG_TYPE = 'image/tiff; application=geotiff; profile=cloud-optimized'


def scene_tags(scene: Scene) -> dict[str, str]:
    """Tags that tell the frames of a map."""
    tags = {'GEOSEG_SCENE': Path(scene.name).name}
    if scene.dates:
        tags['GEOSEG_DATES'] = ','.join(day.isoformat() for day in scene.dates)
    if scene.sensors:
        tags['GEOSEG_SENSORS'] = ','.join(scene.sensors)
    return tags


def stac_item(
    files: MapFiles,
    grid: SceneGrid,
    legend: Legend,
    dates: Sequence[dt.date],
    tags: Mapping[str, str],
    present: Sequence[Path],
) -> dict[str, Any]:
    """Describe a map as a STAC 1.0 item with links relative to it.

    Args:
        files: Names of the map and of what lies beside it.
        grid: The grid of the map.
        legend: Its classes.
        dates: Dates of the frames.
        tags: Tags of the map, taken over as properties.
        present: Which of ``files`` there are.
    """
    properties: dict[str, Any] = {
        'datetime': None,
        'proj:shape': [grid.height, grid.width],
        'proj:transform': list(grid.transform[:6]),
        'processing:software': {'geoseg_prithvi': __version__},
        **{
            key.lower().replace('geoseg_', 'geoseg:'): value
            for key, value in tags.items()
            if key.startswith('GEOSEG_')
        },
    }
    if dates:
        properties['start_datetime'] = f'{min(dates).isoformat()}T00:00:00Z'
        properties['end_datetime'] = f'{max(dates).isoformat()}T23:59:59Z'
        if min(dates) == max(dates):
            properties['datetime'] = properties['start_datetime']
    item: dict[str, Any] = {
        'type': 'Feature',
        'stac_version': '1.0.0',
        'stac_extensions': list(STAC_EXTENSIONS),
        'id': files.map.stem,
        'geometry': None,
        'properties': properties,
        'links': [],
        'assets': {
            'map': {
                'href': f'./{files.map.name}',
                'type': COG_TYPE,
                'title': 'Land cover',
                'roles': ['data'],
                'classification:classes': [
                    {'value': k, 'name': name, 'color_hint': '{:02X}{:02X}{:02X}'.format(*color)}
                    for k, (name, color) in enumerate(zip(legend.names, legend.colors, strict=True))
                ]
                + [{'value': IGNORE, 'name': 'no data', 'nodata': True}],
            },
        },
    }
    if grid.crs is not None:
        epsg = grid.crs.to_epsg()
        properties['proj:code'] = None if epsg is None else f'EPSG:{epsg}'
        if epsg is None:
            properties['proj:wkt2'] = grid.crs.to_wkt()
        item['geometry'], item['bbox'] = footprint(grid)
    kinds = {
        'confidence': (files.confidence, COG_TYPE, ['data']),
        'thumbnail': (files.picture, 'image/png', ['thumbnail']),
        'area': (files.area, 'text/csv', ['metadata']),
        'zones': (files.zones, 'text/csv', ['metadata']),
    }
    for name, (path, kind, roles) in kinds.items():
        if path in present:
            item['assets'][name] = {'href': f'./{path.name}', 'type': kind, 'roles': roles}
    return item


def footprint(grid: SceneGrid) -> tuple[dict[str, Any], list[float]]:
    """Return the outline of a grid in longitude and latitude, as GeoJSON, and its box."""
    w, h = grid.width, grid.height
    xs, ys = xy(grid.transform, [0, h, h, 0, 0], [0, 0, w, w, 0], offset='ul')
    corners = list(zip(map(float, xs), map(float, ys), strict=True))
    outline = transform_geom(grid.crs, WGS84, dict(type='Polygon', coordinates=[corners]))
    points = np.array(outline['coordinates'][0])
    west, south = points.min(axis=0)
    east, north = points.max(axis=0)
    return outline, [float(west), float(south), float(east), float(north)]


def draw_map(
    map_path: Path, picture: Path, legend: Legend, title: str, confidence: Path | None = None
) -> None:
    """Draw a map beside the legend of its classes with their shares, and its confidence if given.

    Args:
        map_path: The map.
        picture: The PNG to write.
        legend: Its classes.
        title: Above the map.
        confidence: ``map_confidence.tif``, whose first band is the confidence.
    """
    classes = _shrunk(map_path)
    counts = np.bincount(classes.ravel(), minlength=256)[: len(legend)]
    total = max(int(counts.sum()), 1)
    labels = [
        f'{name}  {count / total:.1%}' for name, count in zip(legend.names, counts, strict=True)
    ]
    panels = 1 + (confidence is not None)
    height = 6 * min(max(classes.shape[0] / classes.shape[1], 0.5), 2)
    figure = Figure(figsize=(6 * panels + 2.4, height + 0.4), layout='constrained', dpi=150)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    axes[0].imshow(colorize(classes, legend.colors), interpolation='nearest')
    axes[0].set_title(title, fontsize=10)
    if confidence is not None:
        values = _shrunk(confidence).astype(np.float32)
        values[values == IGNORE] = np.nan
        drawn = axes[1].imshow(values / SCALE, vmin=0, vmax=1, interpolation='nearest')
        axes[1].set_title('confidence: probability of the class', fontsize=10)
        figure.colorbar(drawn, ax=axes[1], orientation='horizontal', aspect=40, pad=0.02)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_color('0.6')
    figure.legend(
        handles=legend_patches(labels, legend.colors),
        loc='outside right upper',
        fontsize=9,
        frameon=False,
        handlelength=1.3,
    )
    # Without the name of the library and its version, so that equal maps give equal pictures.
    canvas.print_png(picture, metadata={'Software': None})


def _shrunk(path: Path) -> np.ndarray:
    """Read the first band, its longest side shrunk to :data:`PICTURE_SIDE`."""
    with rasterio.open(path) as raster:
        shrink = max(1.0, max(raster.height, raster.width) / PICTURE_SIDE)
        shape = (max(1, round(raster.height / shrink)), max(1, round(raster.width / shrink)))
        return raster.read(1, out_shape=shape, resampling=Resampling.nearest)
