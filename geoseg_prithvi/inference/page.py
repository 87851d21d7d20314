"""A map as one HTML page that needs no network: image, prediction, confidence, label."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rasterio.windows import Window

from ..data.files import write_bytes
from ..data.granules import Grid, utm_epsg
from ..data.labels import LabelReader, find_labels, labels_over
from ..errors import ConfigError, OutputExistsError, SceneError
from ..lulc import IGNORE, IO_LULC, Legend
from ..visualization.composites import FALSE_COLOR, false_color
from .area import class_hectares
from .inputs import SceneOptions, find_scenes
from .scene import SceneGrid, open_raster
from .writer import SCALE, MapFiles, read_legend

#: Longest side of the layers in the page, in pixels.
MAX_SIDE = 2000
#: Rows that are read at once.
CHUNK = 512


def write_page(
    map_path: Path,
    page: Path,
    *,
    image: Path | None = None,
    label: Path | None = None,
    max_side: int = MAX_SIDE,
    overwrite: bool = False,
) -> None:
    """Write the page of a map.

    Args:
        map_path: A map of ``tools/predict.py``; the confidence beside it is shown too.
        page: The page, ``.html``.
        image: The scene: a folder of granules, of which those of the map's dates are taken, or a
            stacked raster with named bands.
        label: What to compare with: a raster of class indices on the map's grid, or a folder of
            10 m label maps, brought to the grid as for training.
        max_side: Larger maps are thinned to every second, third, ... pixel.
        overwrite: Replace an existing page.

    Raises:
        OutputExistsError: If the page is there.
        SceneError: If a file is unreadable or not on the map's grid.
        ConfigError: If ``max_side`` is not positive, or the map has no class names.
    """
    if page.exists() and not overwrite:
        raise OutputExistsError(
            f'{page} exists already; choose another name, or replace it with --overwrite.'
        )
    if max_side < 1:
        raise ConfigError(f'A side of {max_side} pixels shows nothing; choose 1 or more.')
    with open_raster(map_path) as raster:
        grid, tags = SceneGrid.of(raster), raster.tags()
    legend = read_legend(map_path)
    dates = [dt.date.fromisoformat(d) for d in tags.get('GEOSEG_DATES', '').split(',') if d]
    step = -(-max(grid.width, grid.height) // max_side)

    classes, counts = _classes(map_path, grid, step, len(legend))
    layers = {'prediction': classes}
    confidence = MapFiles(map_path).confidence
    if confidence.exists():
        layers['confidence'] = _confidence(confidence, grid, step)
    if label is not None:
        layers['label'] = _label(label, grid, step, legend, dates)
    data = dict(
        title=f'{map_path.stem}: land cover',
        about=_about(grid, tags),
        rows=classes.shape[0],
        columns=classes.shape[1],
        step=step,
        transform=list(grid.transform[:6]),
        degrees=grid.crs is not None and grid.crs.is_geographic,
        scale=SCALE,
        classes=_legend(counts, grid, legend),
        frames=[] if image is None else _frames(image, grid, step, dates),
        layers={name: _packed(values) for name, values in layers.items()},
    )
    # "</script>" in a name would end the data.
    text = json.dumps(data).replace('</', '<\\/')
    template = Path(__file__).with_name('page.html').read_text(encoding='utf-8')
    write_bytes(page, template.replace('__DATA__', text).encode())


def _chunks(height: int) -> Iterator[tuple[int, int]]:
    for row in range(0, height, CHUNK):
        yield row, min(CHUNK, height - row)


def _thinned(grid: SceneGrid, step: int, read: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Read every ``step``-th row and column of ``(..., rows, width)`` arrays."""
    parts = [
        read(row, rows)[..., -row % step :: step, ::step] for row, rows in _chunks(grid.height)
    ]
    return np.concatenate(parts, axis=-2)


def _classes(
    path: Path, grid: SceneGrid, step: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    counts = np.empty((grid.height, num_classes), np.int64)
    with open_raster(path) as raster:

        def read(row: int, rows: int) -> np.ndarray:
            classes = raster.read(1, window=Window(0, row, grid.width, rows))
            for k in range(num_classes):
                counts[row : row + rows, k] = (classes == k).sum(axis=1)
            return classes

        return _thinned(grid, step, read), counts


def _confidence(path: Path, grid: SceneGrid, step: int) -> np.ndarray:
    with open_raster(path) as raster:
        _check_grid(path, SceneGrid.of(raster), grid)
        if 'confidence' not in raster.descriptions:
            return np.full((-(-grid.height // step), -(-grid.width // step)), IGNORE, np.uint8)
        band = raster.descriptions.index('confidence') + 1
        return _thinned(
            grid, step, lambda row, rows: raster.read(band, window=Window(0, row, grid.width, rows))
        )


def _label(
    path: Path, grid: SceneGrid, step: int, legend: Legend, dates: Sequence[dt.date]
) -> np.ndarray:
    if path.is_dir():
        if not dates:
            raise SceneError(f'The map names no dates, so its year in {path} is unknown.')
        utm = Grid(utm_epsg(grid.crs, 'The map'), grid.transform, grid.width, grid.height)
        maps = labels_over(find_labels(path), utm, dates[0].year, 'of the map')
        with LabelReader(maps, utm, IO_LULC if len(legend) == len(IO_LULC) else legend) as reader:
            return _thinned(
                grid, step, lambda row, rows: reader.read(Window(0, row, grid.width, rows))[0]
            )
    with open_raster(path) as raster:
        _check_grid(path, SceneGrid.of(raster), grid)
        if raster.dtypes[0] != 'uint8':
            raise SceneError(f'{path} holds {raster.dtypes[0]}, but class indices are uint8.')
        return _thinned(
            grid, step, lambda row, rows: raster.read(1, window=Window(0, row, grid.width, rows))
        )


def _frames(
    path: Path, grid: SceneGrid, step: int, dates: Sequence[dt.date]
) -> list[dict[str, str]]:
    scenes = find_scenes([path])
    if len(scenes) > 1:
        raise SceneError(f'{path} holds {len(scenes)} scenes; give the one of the map.')
    if not dates:
        raise SceneError('The map names no dates, so its frames are unknown; leave out --image.')
    scene = scenes[0].open(SceneOptions(len(dates), bands=FALSE_COLOR, dates=dates))
    _check_grid(path, scene.grid, grid)
    with scene:
        pixels = _thinned(grid, step, lambda row, rows: scene.read(row, row + rows).pixels)
    frames = []
    for i, picture in enumerate(false_color(pixels, len(dates), bands=FALSE_COLOR)):
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, 'png')
        sensor = f' ({scene.sensors[i]})' if scene.sensors else ''
        png = base64.b64encode(buffer.getvalue()).decode()
        frames.append(dict(name=f'{dates[i].isoformat()}{sensor}', png=png))
    return frames


def _check_grid(path: Path, found: SceneGrid, grid: SceneGrid) -> None:
    if found != grid:
        raise SceneError(
            f'{path} ({found.width} x {found.height} px) is not on the grid of the map '
            f'({grid.width} x {grid.height} px); give what the map was made of.'
        )


def _legend(counts: np.ndarray, grid: SceneGrid, legend: Legend) -> list[dict[str, Any]]:
    hectares = class_hectares(counts, grid)
    pixels = counts.sum(axis=0)
    total = max(int(pixels.sum()), 1)
    return [
        dict(
            name=name,
            color=list(color),
            hectares=None if hectares is None else round(float(hectares[k]), 4),
            share=int(pixels[k]) / total,
        )
        for k, (name, color) in enumerate(zip(legend.names, legend.colors, strict=True))
    ]


def _about(grid: SceneGrid, tags: dict[str, str]) -> str:
    epsg = None if grid.crs is None else grid.crs.to_epsg()
    parts = [
        f'{grid.width} x {grid.height} px',
        'no coordinate system' if grid.crs is None else f'EPSG:{epsg}' if epsg else 'own system',
        tags.get('GEOSEG_DATES', '').replace(',', ', '),
        tags.get('GEOSEG_MODEL', ''),
        tags.get('TIFFTAG_SOFTWARE', ''),
    ]
    return ' · '.join(part for part in parts if part)


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()
