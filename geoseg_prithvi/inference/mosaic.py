"""One seamless map of the maps of neighbouring tiles."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from ..data.files import write_bytes
from ..errors import ConfigError, SceneError
from ..lulc import IGNORE, Legend
from .area import write_area
from .describe import draw_map
from .job import MapJob
from .scene import SceneGrid, open_raster
from .writer import SCALE, MapFiles, layer_names, read_legend, write_map, writing

logger = logging.getLogger(__name__)

#: How tiles join where they overlap: the first with data, or their probabilities blended.
MODES = ('first', 'blend')
#: Rows of the mosaic in memory at once.
CHUNK = 512
#: Part of a pixel by which tiles may miss the common grid.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Tile:
    """A map on the grid of the mosaic.

    Attributes:
        path: The map.
        window: The part of the mosaic that it covers.
        aligned: Whether its pixels are pixels of the mosaic; else they are resampled, nearest.
    """

    path: Path
    window: Window
    aligned: bool


def make_mosaic(
    maps: Sequence[Path], out: Path, *, mode: str = 'first', area: bool = False, overwrite: bool
) -> MapFiles:
    """Join maps into one, as a virtual raster and as a Cloud-Optimised GeoTIFF.

    The mosaic lies on the grid of the first map; maps of another UTM zone are brought to it by
    nearest neighbour. Where tiles overlap, ``first`` takes the first map that has data; ``blend``
    adds their class probabilities, weighted with the distance from the edge of the tile, so that
    one passes into the other. The virtual raster always shows the first, and leaves out what is
    not on the grid.

    Args:
        maps: Maps of ``tools/predict.py``, with ``--probabilities`` for ``blend``.
        out: The mosaic, ``.tif``; the virtual raster is ``.vrt`` beside it.
        mode: One of :data:`MODES`.
        area: Whether to write hectares of each class.
        overwrite: Replace an existing mosaic.

    Returns:
        The names of the files.

    Raises:
        OutputExistsError: If the mosaic is there.
        OutputWriteError: If it cannot be written.
        SceneError: If the maps have no coordinate system or different classes.
        ConfigError: If ``blend`` finds no probabilities.
    """
    files = MapFiles(out)
    files.check_free(overwrite)
    legend = _common_legend(maps)
    grid, tiles = mosaic_grid(maps)
    if mode == 'blend':
        for path in maps:
            _probability_bands(path, legend)
    job = MapJob(files, dict(maps=[str(p) for p in maps]), [], (1, grid.height, grid.width))
    job.start()
    try:
        join = _blend if mode == 'blend' else _first
        for row in range(0, grid.height, CHUNK):
            piece = Window(0, row, grid.width, min(CHUNK, grid.height - row))
            classes = join(tiles, grid, piece, legend)
            with writing(files.map):
                job.rows.write(row, classes[None])

        def extras(work: Path, counts: np.ndarray) -> None:
            if area:
                write_area(work / files.area.name, counts, grid, legend)
            title = f'{out.stem}   {len(maps)} maps'
            draw_map(work / files.map.name, work / files.picture.name, legend, title)
            vrt = out.with_suffix('.vrt')
            for tile in tiles:
                if not tile.aligned:
                    logger.warning(
                        '%s is not on the grid of the others, so %s lacks it.', tile.path, vrt
                    )
            virtual = _virtual_raster([t for t in tiles if t.aligned], grid, legend, out.parent)
            write_bytes(vrt, virtual.encode())

        tags = {
            'GEOSEG_LEGEND': legend.name,
            'GEOSEG_MOSAIC': ','.join(path.name for path in maps),
            'GEOSEG_MOSAIC_MODE': mode,
        }
        write_map(files, job.folder, job.rows, grid, legend, tags=tags, extras=extras)
    finally:
        job.discard()
    return files


def mosaic_grid(maps: Sequence[Path]) -> tuple[SceneGrid, list[Tile]]:
    """Return the grid that holds all maps, and their places in it.

    Raises:
        SceneError: If a map has no coordinate system or is not north-up.
    """
    grids = []
    for path in maps:
        with open_raster(path) as raster:
            grids.append(SceneGrid.of(raster))
        if grids[-1].crs is None or grids[-1].transform.b or grids[-1].transform.d:
            raise SceneError(f'{path} has no coordinate system or is turned; mosaics need both.')
    first = grids[0]
    t = first.transform
    boxes = []  # column, row, end column, end row, in pixels of the first map
    for grid in grids:
        left, bottom, right, top = _bounds(grid)
        if grid.crs != first.crs:
            left, bottom, right, top = transform_bounds(
                grid.crs, first.crs, left, bottom, right, top
            )
        xs, ys = (np.array([left, right]) - t.c) / t.a, (np.array([top, bottom]) - t.f) / t.e
        boxes.append((xs[0], ys[0], xs[1], ys[1]))
    aligned = [
        grid.crs == first.crs
        and (grid.transform.a, grid.transform.e) == (t.a, t.e)
        and all(abs(value - round(value)) < TOLERANCE for value in box)
        for grid, box in zip(grids, boxes, strict=True)
    ]
    whole = [
        (
            math.floor(box[0] + TOLERANCE),
            math.floor(box[1] + TOLERANCE),
            math.ceil(box[2] - TOLERANCE),
            math.ceil(box[3] - TOLERANCE),
        )
        for box in boxes
    ]
    left, top = min(box[0] for box in whole), min(box[1] for box in whole)
    right, bottom = max(box[2] for box in whole), max(box[3] for box in whole)
    transform = Affine(t.a, 0, t.c + left * t.a, 0, t.e, t.f + top * t.e)
    tiles = [
        Tile(path, Window(box[0] - left, box[1] - top, box[2] - box[0], box[3] - box[1]), fits)
        for path, box, fits in zip(maps, whole, aligned, strict=True)
    ]
    return SceneGrid(first.crs, transform, right - left, bottom - top), tiles


def _bounds(grid: SceneGrid) -> tuple[float, float, float, float]:
    t = grid.transform
    return t.c, t.f + t.e * grid.height, t.c + t.a * grid.width, t.f


def _common_legend(maps: Sequence[Path]) -> Legend:
    legend = read_legend(maps[0])
    for path in maps[1:]:
        other = read_legend(path)
        if other.names != legend.names:
            raise SceneError(
                f'{path} and {maps[0]} have different classes; join maps of one model.'
            )
    return legend


def _probability_bands(path: Path, legend: Legend) -> list[int]:
    confidence = MapFiles(path).confidence
    wanted = layer_names(['probabilities'], legend)
    if confidence.exists():
        with open_raster(confidence) as raster:
            if set(wanted) <= set(raster.descriptions):
                return [raster.descriptions.index(name) + 1 for name in wanted]
    raise ConfigError(
        f'{path} comes without class probabilities, so it cannot be blended; predict with '
        '--probabilities, or use --mosaic first.'
    )


def _overlap(tile: Tile, piece: Window) -> tuple[slice, slice] | None:
    """Rows and columns of a piece of the mosaic that a tile covers."""
    top = max(tile.window.row_off, piece.row_off)
    bottom = min(tile.window.row_off + tile.window.height, piece.row_off + piece.height)
    if bottom <= top:
        return None
    first = tile.window.col_off
    return (
        slice(top - piece.row_off, bottom - piece.row_off),
        slice(first, first + tile.window.width),
    )


@contextlib.contextmanager
def _on_mosaic(tile: Tile, path: Path, grid: SceneGrid) -> Iterator[rasterio.DatasetReader]:
    """Open a file of a tile on the pixels of the mosaic that the tile covers."""
    with open_raster(path) as raster:
        if tile.aligned:
            yield raster
            return
        t = grid.transform
        x, y = t.c + t.a * tile.window.col_off, t.f + t.e * tile.window.row_off
        with WarpedVRT(
            raster,
            crs=CRS(grid.crs),
            transform=Affine(t.a, 0, x, 0, t.e, y),
            width=tile.window.width,
            height=tile.window.height,
            resampling=Resampling.nearest,
            nodata=IGNORE,
        ) as warped:
            yield warped


def _part(tile: Tile, rows: slice, piece: Window) -> Window:
    """The window of a tile that lies at ``rows`` of a piece of the mosaic."""
    top = rows.start + piece.row_off - tile.window.row_off
    return Window(0, top, tile.window.width, rows.stop - rows.start)


def _first(tiles: Sequence[Tile], grid: SceneGrid, piece: Window, legend: Legend) -> np.ndarray:
    result = np.full((piece.height, piece.width), IGNORE, np.uint8)
    for tile in tiles:
        where = _overlap(tile, piece)
        if where is not None:
            with _on_mosaic(tile, tile.path, grid) as raster:
                classes = raster.read(1, window=_part(tile, where[0], piece))
            target = result[where]
            target[...] = np.where(target == IGNORE, classes, target)
    return result


def _blend(tiles: Sequence[Tile], grid: SceneGrid, piece: Window, legend: Legend) -> np.ndarray:
    total = np.zeros((len(legend), piece.height, piece.width), np.float32)
    for tile in tiles:
        where = _overlap(tile, piece)
        if where is not None:
            bands = _probability_bands(tile.path, legend)
            part = _part(tile, where[0], piece)
            with _on_mosaic(tile, MapFiles(tile.path).confidence, grid) as raster:
                values = raster.read(bands, window=part)
            seen = values[0] != IGNORE
            weight = _distance_to_edge(tile.window, part) * seen / np.float32(SCALE)
            total[(slice(None), *where)] += values * weight
    classes = total.argmax(axis=0).astype(np.uint8)
    classes[total.max(axis=0) <= 0] = IGNORE
    return classes


def _distance_to_edge(tile: Window, part: Window) -> np.ndarray:
    """Pixels to the nearest edge of the tile, ``(rows, columns)`` of a part of it, at least 1/2."""
    rows = np.arange(part.row_off, part.row_off + part.height, dtype=np.float32) + 0.5
    cols = np.arange(part.width, dtype=np.float32) + 0.5
    down = np.minimum(rows, tile.height - rows)
    across = np.minimum(cols, tile.width - cols)
    return np.minimum(down[:, None], across)


def _virtual_raster(tiles: Sequence[Tile], grid: SceneGrid, legend: Legend, folder: Path) -> str:
    """Describe the mosaic of aligned maps for GDAL; later sources lie on top, so the first last."""
    transform = ', '.join(repr(value) for value in grid.transform.to_gdal())
    colors = {k: (*color, 255) for k, color in enumerate(legend.colors)}
    entries = ''.join(
        '<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*colors.get(k, (0, 0, 0, 0)))
        for k in range(256)
    )
    names = ''.join(f'<Category>{escape(name)}</Category>' for name in legend.names)
    sources = ''.join(
        '    <ComplexSource>'
        f'<SourceFilename relativeToVRT="1">{escape(_relative(tile.path, folder))}</SourceFilename>'
        '<SourceBand>1</SourceBand>'
        f'<SrcRect xOff="0" yOff="0" xSize="{tile.window.width}" ySize="{tile.window.height}"/>'
        f'<DstRect xOff="{tile.window.col_off}" yOff="{tile.window.row_off}" '
        f'xSize="{tile.window.width}" ySize="{tile.window.height}"/>'
        f'<NODATA>{IGNORE}</NODATA></ComplexSource>\n'
        for tile in reversed(tiles)
    )
    return (
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">\n'
        f'  <SRS>{escape(CRS(grid.crs).to_wkt())}</SRS>\n'
        f'  <GeoTransform>{transform}</GeoTransform>\n'
        '  <VRTRasterBand dataType="Byte" band="1">\n'
        f'    <NoDataValue>{IGNORE}</NoDataValue>\n'
        '    <ColorInterp>Palette</ColorInterp>\n'
        f'    <ColorTable>{entries}</ColorTable>\n'
        f'    <CategoryNames>{names}</CategoryNames>\n'
        f'{sources}  </VRTRasterBand>\n</VRTDataset>\n'
    )


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.resolve(), folder.resolve())
