"""The area to fetch, and the MGRS tiles that show it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import mgrs
import numpy as np
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.transform import Affine, from_bounds, xy
from rasterio.warp import transform, transform_bounds, transform_geom

from ...errors import ConfigError, DataNotFoundError
from ...hls import PIXEL_SIZE, TILE_SIZE

#: Metres along a tile, and of the 100 km square that it begins with.
TILE_LENGTH = TILE_SIZE * PIXEL_SIZE
SQUARE = 100_000.0
#: Points along the area on which the tiles that cover it are found.
LATTICE = 128

Bounds = tuple[float, float, float, float]

_TILE = re.compile(r'T?(\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})$')


@dataclasses.dataclass(frozen=True)
class Area:
    """Ground to fetch.

    Attributes:
        bounds: ``(west, south, east, north)`` in degrees; one box a tile if tiles were asked for.
        geometry: GeoJSON (Multi)Polygon in degrees; ``None`` if tiles were asked for.
        tiles: MGRS tiles that were asked for, without the leading ``T``.
    """

    bounds: tuple[Bounds, ...]
    geometry: dict[str, Any] | None = None
    tiles: tuple[str, ...] = ()

    @classmethod
    def from_bbox(cls, west: float, south: float, east: float, north: float) -> Area:
        """Make an area of a box in degrees.

        Raises:
            ConfigError: If it is no box on the globe, or crosses the antimeridian.
        """
        _check_bounds((west, south, east, north), '--bbox')
        # Points along the edges: parallels are curves in UTM.
        x, y = np.linspace(west, east, 33).tolist(), np.linspace(south, north, 33).tolist()
        ring = [
            *((lon, south) for lon in x),
            *((east, lat) for lat in y[1:]),
            *((lon, north) for lon in x[-2::-1]),
            *((west, lat) for lat in y[-2::-1]),
        ]
        geometry = dict(type='Polygon', coordinates=[[list(point) for point in ring]])
        return cls(((west, south, east, north),), geometry)

    @classmethod
    def from_tiles(cls, names: Iterable[str]) -> Area:
        """Make an area of whole tiles, e.g. ``10SEG`` or ``T10SEG``.

        Raises:
            ConfigError: If one is no MGRS tile.
        """
        tiles = tuple(dict.fromkeys(_tile_name(name) for name in names))
        return cls(tuple(tile_core(tile) for tile in tiles), tiles=tiles)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Area:
        """Read an area from a GeoJSON file: all polygons in it together.

        Raises:
            DataNotFoundError: If there is no such file.
            ConfigError: If it holds no polygon in degrees, or crosses the antimeridian.
        """
        try:
            document = json.loads(Path(path).read_text(encoding='utf-8'))
        except FileNotFoundError:
            raise DataNotFoundError(f'There is no file {path}; give a GeoJSON file.') from None
        except (OSError, ValueError) as error:
            raise ConfigError(
                f'{path} is no GeoJSON file ({error}); export the area as GeoJSON.'
            ) from None
        try:
            polygons = [[_ring(ring) for ring in polygon] for polygon in _polygons(document)]
            points = [point for polygon in polygons for point in polygon[0]]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f'{path} is no valid GeoJSON ({type(error).__name__}: {error}); export the area '
                'as GeoJSON.'
            ) from None
        if not points:
            raise ConfigError(f'{path} holds no polygon; draw the area as a polygon.')
        (west, south), (east, north) = np.min(points, axis=0), np.max(points, axis=0)
        bounds = tuple(float(value) for value in (west, south, east, north))
        _check_bounds(bounds, str(path))
        return cls((bounds,), dict(type='MultiPolygon', coordinates=polygons))

    @property
    def key(self) -> str:
        """The area as text, for caches."""
        return json.dumps([self.bounds, self.geometry, self.tiles])

    def mask(self, crs: CRS, affine: Affine, height: int, width: int) -> np.ndarray:
        """Say which pixels of a grid show the area, ``(height, width)`` boolean."""
        if self.geometry is None:
            return np.ones((height, width), bool)
        shape = transform_geom('EPSG:4326', crs, self.geometry)
        return geometry_mask([shape], (height, width), affine, all_touched=True, invert=True)

    def bounds_in(self, crs: CRS) -> Bounds | None:
        """Return the bounds of the area in another coordinate system; None for whole tiles."""
        if self.geometry is None:
            return None
        return transform_bounds('EPSG:4326', crs, *self.bounds[0])

    def covering(self, available: Collection[str]) -> tuple[str, ...]:
        """Choose tiles that show all of the area that can be shown, as few as possible.

        Neighbouring tiles overlap, so that an area often touches more tiles than it needs.

        Args:
            available: Tiles that have granules.

        Returns:
            The tiles, sorted.
        """
        if self.tiles:
            return tuple(tile for tile in self.tiles if tile in available)
        box = self.bounds[0]
        lattice = from_bounds(*box, LATTICE, LATTICE)
        rows, columns = np.nonzero(self.mask(CRS.from_epsg(4326), lattice, LATTICE, LATTICE))
        lon, lat = (np.asarray(v) for v in xy(lattice, rows, columns))  # of the centres
        shown = {tile: _inside(tile, lon, lat) for tile in sorted(available)}
        left = np.ones(len(lon), bool)
        chosen = []
        while shown and (best := max(shown, key=lambda tile: (shown[tile] & left).sum())):
            inside = shown.pop(best) & left
            if not inside.any():
                break
            chosen.append(best)
            left &= ~inside
        return tuple(sorted(chosen))


def tile_square(tile: str) -> tuple[int, float, float]:
    """Return the EPSG code and the upper left corner of an HLS tile, metres.

    Tiles are those of Sentinel-2: they begin on the 100 km square of MGRS, moved outwards to a
    multiple of 60 m. HLS keeps southern tiles in the northern zone with negative northings.

    Raises:
        ConfigError: If ``tile`` is no MGRS tile.
    """
    try:
        with warnings.catch_warnings():
            # Squares that reach into the next latitude band.
            warnings.simplefilter('ignore')
            zone, hemisphere, easting, northing = mgrs.MGRS().MGRSToUTM(f'{tile}0000000000')
    except mgrs.core.MGRSError:
        raise ConfigError(
            f'There is no MGRS tile {tile}; write it like 10SEG (zone, latitude band, column, row).'
        ) from None
    left = easting // SQUARE * SQUARE
    bottom = northing // SQUARE * SQUARE - (1e7 if hemisphere == 'S' else 0)
    return 32600 + zone, left // 60 * 60, -(-(bottom + SQUARE) // 60) * 60


def tile_core(tile: str) -> Bounds:
    """Return the bounds in degrees of the ground that no neighbour in the zone shows.

    A search in it finds the granules of the tile, and not those of its eight neighbours.
    """
    epsg, left, top = tile_square(tile)
    overlap = TILE_LENGTH - SQUARE
    inner = (left + overlap, top - SQUARE, left + SQUARE, top - overlap)
    return transform_bounds(CRS.from_epsg(epsg), 'EPSG:4326', *inner)


def _inside(tile: str, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Say which points a tile shows."""
    epsg, left, top = tile_square(tile)
    x, y = (np.array(v) for v in transform('EPSG:4326', CRS.from_epsg(epsg), lon, lat))
    return (left <= x) & (x < left + TILE_LENGTH) & (top - TILE_LENGTH < y) & (y <= top)


def _tile_name(name: str) -> str:
    match = _TILE.match(name.upper())
    if match is None:
        raise ConfigError(
            f'{name!r} is no MGRS tile; write it like 10SEG (zone, latitude band, column, row).'
        )
    tile_square(match[1])
    return match[1]


def _polygons(node: dict[str, Any]) -> Iterable[Sequence[Any]]:
    """Yield the coordinates of every polygon of a GeoJSON object."""
    kind = node['type']
    if kind == 'FeatureCollection':
        for feature in node['features']:
            yield from _polygons(feature)
    elif kind == 'Feature':
        yield from _polygons(node['geometry'])
    elif kind == 'GeometryCollection':
        for geometry in node['geometries']:
            yield from _polygons(geometry)
    elif kind == 'Polygon':
        yield node['coordinates']
    elif kind == 'MultiPolygon':
        yield from node['coordinates']


def _ring(points: Sequence[Sequence[float]]) -> list[list[float]]:
    """Check a ring and drop its heights; GDAL crashes on what is no ring."""
    ring = [[float(x), float(y)] for x, y, *_ in points]
    if len(ring) < 4 or ring[0] != ring[-1]:
        raise ValueError('a polygon is not closed')
    return ring


def _check_bounds(bounds: Sequence[float], source: str) -> None:
    west, south, east, north = bounds
    if not (np.isfinite(bounds).all() and -90 <= south < north <= 90):
        raise ConfigError(
            f'{source} spans {south:g} to {north:g} degrees north; give degrees, '
            'west south east north.'
        )
    if west >= east or west < -180 or east > 180:
        raise ConfigError(
            f'{source} spans {west:g} to {east:g} degrees east, across the antimeridian or off the '
            'globe; give degrees from -180 to 180, and split an area there in two.'
        )
