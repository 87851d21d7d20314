"""Where a tile is cut into chips, so that neighbouring tiles yield each piece of ground once.

MGRS tiles overlap their neighbours by about 4.9 km on each side. Tiles are taken in a fixed order,
and a cell that overlaps one of an earlier tile is left out, also across the border of two UTM
zones. This looks at nothing but the grids, so it is the same in every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rasterio.crs import CRS
from rasterio.warp import transform
from scipy.spatial import cKDTree

from ..errors import ConfigError
from .granules import Grid

#: Mean radius of the Earth in metres (IUGG); for distances between neighbours only.
EARTH_RADIUS = 6_371_009.0
#: Overlaps narrower than this, in pixels, are rounding.
TOLERANCE = 1e-3


def cell_offsets(length: int, size: int, stride: int) -> range:
    """Return the first pixels of the cells along one side; what is left over is not used.

    For 3660 pixels, size and stride 224: 16 cells, from 0 to 3360.
    """
    return range(0, length - size + 1, stride)


def plan_cells(grids: Mapping[str, Grid], size: int, stride: int) -> dict[str, np.ndarray]:
    """Decide which cells of each tile become chips.

    Args:
        grids: Tile -> grid, in the order of precedence on shared ground.
        size: Pixels along the side of a chip.
        stride: Pixels from one chip to the next.

    Returns:
        Tile -> ``(rows, columns)`` boolean.

    Raises:
        ConfigError: If a tile is smaller than a chip.
    """
    kept: dict[str, np.ndarray] = {}
    names = list(grids)
    neighbours = _neighbours(list(grids.values()))
    for number, name in enumerate(names):
        grid = grids[name]
        rows = cell_offsets(grid.height, size, stride)
        columns = cell_offsets(grid.width, size, stride)
        if not rows or not columns:
            raise ConfigError(
                f'Tile {name} has {grid.width} x {grid.height} pixels, less than one chip of '
                f'{size}; choose a smaller --chip-size.'
            )
        free = np.ones((len(rows), len(columns)), bool)
        for other in sorted(neighbours[number]):
            if other < number:
                earlier = names[other]
                free &= ~_covered(grid, rows, columns, grids[earlier], kept[earlier], size, stride)
        kept[name] = free
    return kept


def to_sphere(lon: Sequence[float], lat: Sequence[float]) -> np.ndarray:
    """Return points ``(N, 3)`` in metres on a sphere, for distances that know no antimeridian."""
    lon, lat = np.radians(lon), np.radians(lat)
    directions = [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)]
    return EARTH_RADIUS * np.stack(directions, axis=-1)


def box_in(crs: CRS, boxes: np.ndarray, target: CRS) -> np.ndarray:
    """Return the boxes around rectangles in another coordinate system.

    Args:
        crs: Coordinate system of ``boxes``.
        boxes: ``(N, 4)`` minx, miny, maxx, maxy.
        target: The other coordinate system.

    Returns:
        ``(N, 4)``. The corners decide: over a chip, a side bends by less than a metre.
    """
    if crs == target:
        return boxes
    xs = boxes[:, [0, 0, 2, 2]]
    ys = boxes[:, [1, 3, 1, 3]]
    xs, ys = (np.reshape(a, (-1, 4)) for a in transform(crs, target, xs.ravel(), ys.ravel()))
    return np.stack([xs.min(1), ys.min(1), xs.max(1), ys.max(1)], axis=1)


def _neighbours(grids: Sequence[Grid]) -> list[set[int]]:
    """Return for each tile those whose circumscribed circles meet its own."""
    centres, radii = [], []
    for grid in grids:
        minx, miny, maxx, maxy = grid.bounds()
        lon, lat = transform(grid.crs, 'EPSG:4326', [(minx + maxx) / 2], [(miny + maxy) / 2])
        centres.append(to_sphere(lon, lat)[0])
        radii.append(np.hypot(maxx - minx, maxy - miny) / 2)
    pairs = cKDTree(centres).query_pairs(2.1 * max(radii))
    found: list[set[int]] = [set() for _ in grids]
    for one, other in pairs:
        found[one].add(other)
        found[other].add(one)
    return found


def _covered(
    grid: Grid,
    rows: range,
    columns: range,
    other: Grid,
    kept: np.ndarray,
    size: int,
    stride: int,
) -> np.ndarray:
    """Say which cells of ``grid`` overlap a kept cell of ``other``; ``(rows, columns)`` boolean."""
    pixel = grid.transform.a
    minx = grid.transform.c + pixel * np.asarray(columns)
    maxy = grid.transform.f - pixel * np.asarray(rows)
    maxy, minx = np.meshgrid(maxy, minx, indexing='ij')
    side = size * pixel
    boxes = np.stack([minx, maxy - side, minx + side, maxy], axis=-1).reshape(-1, 4)
    boxes = box_in(grid.crs, boxes, other.crs)

    # In pixels of the other tile, then as ranges of its cells.
    x0 = (boxes[:, 0] - other.transform.c) / other.transform.a
    x1 = (boxes[:, 2] - other.transform.c) / other.transform.a
    y0 = (other.transform.f - boxes[:, 3]) / other.transform.a
    y1 = (other.transform.f - boxes[:, 1]) / other.transform.a
    top, bottom = _cells_met(y0, y1, size, stride, kept.shape[0])
    left, right = _cells_met(x0, x1, size, stride, kept.shape[1])
    # Summed-area table: kept cells in [top, bottom) x [left, right).
    table = np.pad(kept.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    met = table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left]
    return ((met > 0) & (top < bottom) & (left < right)).reshape(len(rows), len(columns))


def _cells_met(
    first: np.ndarray, last: np.ndarray, size: int, stride: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells ``[begin, end)`` that overlap the spans ``(first, last)`` of pixels.

    Cell k spans ``(k * stride, k * stride + size)``.
    """
    begin = np.floor((first + TOLERANCE - size) / stride).astype(np.int64) + 1
    end = np.ceil((last - TOLERANCE) / stride).astype(np.int64)
    return begin.clip(0, count), end.clip(0, count)
