"""Hectares of each class within polygons."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.features import bounds as geometry_bounds
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from rasterio.warp import transform_geom
from rasterio.windows import Window, from_bounds

from ..errors import ConfigError, DataNotFoundError, SceneError
from ..lulc import IGNORE, Legend
from .area import pixel_hectares
from .scene import WGS84, SceneGrid

#: Properties that may name a zone, in this order.
NAME_FIELDS = ('name', 'NAME', 'Name', 'id', 'ID')
#: Rows of the map that are read at once.
CHUNK = 512


@dataclasses.dataclass(frozen=True)
class Zone:
    """A polygon, or several that belong together.

    Attributes:
        name: From its properties, or its number counted from 1.
        geometry: GeoJSON geometry.
        crs: Its coordinate system.
    """

    name: str
    geometry: dict[str, Any]
    crs: CRS


def read_zones(path: Path) -> list[Zone]:
    """Read the polygons of a GeoJSON, or with pyogrio of a GeoPackage or any other vector file.

    Raises:
        DataNotFoundError: If there is no such file.
        ConfigError: If it cannot be read or holds no polygons.
    """
    if not path.is_file():
        raise DataNotFoundError(f'The zones {path} do not exist; give a GeoPackage or GeoJSON.')
    plain = path.suffix.lower() in ('.geojson', '.json')
    try:
        content = json.loads(path.read_bytes() if plain else _as_geojson(path))
        features = content['features'] if content['type'] == 'FeatureCollection' else [content]
        # RFC 7946 knows only WGS 84; GDAL writes other systems as GeoJSON 2008 did.
        crs_name = (content.get('crs') or {}).get('properties', {}).get('name')
        crs = WGS84 if crs_name is None else CRS.from_user_input(crs_name)
        zones = []
        for number, feature in enumerate(features, start=1):
            geometry, properties = feature['geometry'], feature.get('properties') or {}
            if geometry is not None and geometry['type'] in ('Polygon', 'MultiPolygon'):
                named = (properties[f] for f in NAME_FIELDS if properties.get(f) is not None)
                zones.append(Zone(str(next(named, number)), geometry, crs))
    except (ValueError, KeyError, TypeError, AttributeError, CRSError) as error:
        raise ConfigError(f'{path} is no valid GeoJSON ({error}).') from error
    if not zones:
        raise ConfigError(f'{path} holds no polygons; give areas, not points or lines.')
    return zones


def _as_geojson(path: Path) -> bytes:
    """Let GDAL turn a vector file into GeoJSON."""
    try:
        from pyogrio import errors, raw
    except ImportError:
        raise ConfigError(
            f"Reading {path} needs pyogrio; run: pip install 'geoseg_prithvi[data]', or give the "
            'zones as GeoJSON.'
        ) from None
    try:
        meta, _, geometry, values = raw.read(path, force_2d=True)
    except (errors.DataSourceError, errors.DataLayerError) as error:
        raise ConfigError(f'{path} cannot be read as a vector file ({error}).') from error
    if geometry is None:
        return b'{"type": "FeatureCollection", "features": []}'
    kept = [i for i, name in enumerate(meta['fields']) if name in NAME_FIELDS]
    buffer = io.BytesIO()
    raw.write(
        buffer,
        geometry=geometry,
        field_data=[values[i] for i in kept],
        fields=np.array([meta['fields'][i] for i in kept], dtype=object),
        geometry_type=meta['geometry_type'],
        crs=meta['crs'],
        driver='GeoJSON',
    )
    return buffer.getvalue()


def zone_hectares(map_path: Path, zones: Sequence[Zone], num_classes: int) -> np.ndarray:
    """Return ``(zones, K + 1)`` hectares of each class and of what has no data in the map.

    A pixel belongs to a zone if its centre does. Zones may overlap; what lies outside the map does
    not count.

    Raises:
        SceneError: If the map has no coordinate system.
    """
    with rasterio.open(map_path) as raster:
        grid = SceneGrid.of(raster)
        areas = pixel_hectares(grid)
        if areas is None:
            raise SceneError(
                f'{map_path} has no coordinate system, so no zone can be found in it; leave out '
                '--zones.'
            )
        result = np.zeros((len(zones), num_classes + 1))
        for found, zone in zip(result, zones, strict=True):
            geometry = transform_geom(zone.crs, grid.crs, zone.geometry)
            for window in _windows(geometry, grid):
                classes = raster.read(1, window=window)
                inside = geometry_mask(
                    [geometry],
                    out_shape=classes.shape,
                    transform=_shifted(grid.transform, window),
                    invert=True,
                )
                rows = areas[window.row_off : window.row_off + window.height]
                for k, value in enumerate([*range(num_classes), IGNORE]):
                    found[k] += rows @ (inside & (classes == value)).sum(axis=1)
    return result


def _windows(geometry: dict[str, Any], grid: SceneGrid) -> list[Window]:
    """Cut the part of the map around a geometry into pieces of at most :data:`CHUNK` rows."""
    t = grid.transform
    if t.b or t.d:
        around = Window(0, 0, grid.width, grid.height)
    else:
        left, bottom, right, top = geometry_bounds(geometry)
        if t.e > 0:
            bottom, top = top, bottom
        around = from_bounds(left, bottom, right, top, t)
    first, last = max(0, int(around.row_off)), around.row_off + around.height
    left_col, right_col = max(0, int(around.col_off)), around.col_off + around.width
    last, right_col = min(grid.height, int(last) + 1), min(grid.width, int(right_col) + 1)
    if last <= first or right_col <= left_col:
        return []
    return [
        Window(left_col, row, right_col - left_col, min(CHUNK, last - row))
        for row in range(first, last, CHUNK)
    ]


def _shifted(t: Affine, window: Window) -> Affine:
    """The transform of a window."""
    col, row = window.col_off, window.row_off
    return Affine(t.a, t.b, t.c + t.a * col + t.b * row, t.d, t.e, t.f + t.d * col + t.e * row)


def write_zones(path: Path, map_path: Path, zones: Sequence[Zone], legend: Legend) -> None:
    """Write one row a zone: hectares of each class, of what has no data, and of all."""
    hectares = zone_hectares(map_path, zones, len(legend))
    with path.open('w', newline='', encoding='utf-8') as file:
        table = csv.writer(file)
        table.writerow(['zone', *legend.names, 'no data', 'total'])
        for zone, row in zip(zones, hectares, strict=True):
            table.writerow([zone.name, *(f'{value:.4f}' for value in [*row, row.sum()])])
