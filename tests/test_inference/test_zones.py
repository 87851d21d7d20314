"""Hectares of each class in polygons."""

import csv
import json

import numpy as np
import pytest
import torch
from rasterio.warp import transform_geom

from geoseg_prithvi.errors import ConfigError, DataNotFoundError
from geoseg_prithvi.inference.scene import WGS84, SceneGrid
from geoseg_prithvi.inference.zones import read_zones, write_zones, zone_hectares

from .scenes import TRANSFORM, UTM10
from .test_writer import LEGEND, Block, write

LEFT, TOP = TRANSFORM.c, TRANSFORM.f


@pytest.fixture
def class_map(tmp_path):
    """700 rows of 40 px: class 0, from column 20 class 1, the last 100 rows without data."""
    scores = torch.zeros(3, 700, 40)
    scores[0, :, :20] = 1
    scores[1, :, 20:] = 1
    seen = torch.ones(700, 40, dtype=torch.bool)
    seen[600:] = False
    path = tmp_path / 'map.tif'
    write(path, [Block(0, scores, seen)], SceneGrid(UTM10, TRANSFORM, 40, 700))
    return path


def square(col, row, cols, rows):
    """A polygon around whole pixels."""
    x, y = LEFT + 30 * col, TOP - 30 * row
    right, bottom = x + 30 * cols, y - 30 * rows
    ring = [(x, y), (right, y), (right, bottom), (x, bottom), (x, y)]
    return dict(type='Polygon', coordinates=[ring])


SQUARES = {
    'west': square(0, 0, 10, 10),
    'both': square(15, 500, 10, 150),  # across chunks of rows, and into the part without data
    'beyond': square(38, -5, 10, 10),
    'outside': square(100, 0, 5, 5),
}
EXPECTED = np.array([[100, 0, 0, 0], [500, 500, 0, 500], [0, 10, 0, 0], [0, 0, 0, 0]]) * 0.09


def geojson(path, squares, crs=None):
    features = [
        dict(type='Feature', properties=dict(name=name), geometry=geometry)
        for name, geometry in squares.items()
    ]
    content = dict(type='FeatureCollection', features=features)
    if crs:
        content['crs'] = dict(type='name', properties=dict(name=crs))
    path.write_text(json.dumps(content))
    return path


def test_hectares_in_squares(tmp_path, class_map):
    zones = read_zones(geojson(tmp_path / 'z.geojson', SQUARES, 'urn:ogc:def:crs:EPSG::32610'))
    np.testing.assert_allclose(zone_hectares(class_map, zones, 3), EXPECTED)
    write_zones(tmp_path / 'z.csv', class_map, zones, LEGEND)
    with (tmp_path / 'z.csv').open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ['zone', 'a < b', 'forest', 'c', 'no data', 'total']
    assert rows[2] == ['both', '45.0000', '45.0000', '0.0000', '45.0000', '135.0000']


def test_zones_in_longitude_and_latitude(tmp_path, class_map):
    squares = {name: transform_geom(UTM10, WGS84, g) for name, g in SQUARES.items()}
    zones = read_zones(geojson(tmp_path / 'z.geojson', squares))
    assert zones[0].crs == WGS84
    np.testing.assert_allclose(zone_hectares(class_map, zones, 3), EXPECTED)


def test_geopackage(tmp_path, class_map):
    raw = pytest.importorskip('pyogrio.raw')
    source = geojson(tmp_path / 'z.geojson', SQUARES, 'urn:ogc:def:crs:EPSG::32610')
    meta, _, geometry, values = raw.read(source)
    raw.write(
        tmp_path / 'z.gpkg',
        geometry=geometry,
        field_data=values,
        fields=meta['fields'],
        geometry_type='Polygon',
        crs='EPSG:32610',
        driver='GPKG',
    )
    zones = read_zones(tmp_path / 'z.gpkg')
    assert [zone.name for zone in zones] == list(SQUARES)
    assert zones[0].crs == UTM10
    np.testing.assert_allclose(zone_hectares(class_map, zones, 3), EXPECTED)
    (tmp_path / 'bad.gpkg').write_bytes(b'nothing')
    with pytest.raises(ConfigError, match=r'bad\.gpkg cannot be read as a vector file'):
        read_zones(tmp_path / 'bad.gpkg')


def test_numbers_where_there_are_no_names(tmp_path):
    feature = dict(type='Feature', properties=None, geometry=SQUARES['west'])
    (tmp_path / 'z.json').write_text(json.dumps(feature))
    assert [zone.name for zone in read_zones(tmp_path / 'z.json')] == ['1']


def test_bad_zones(tmp_path):
    with pytest.raises(DataNotFoundError, match=r'zones .* do not exist'):
        read_zones(tmp_path / 'none.geojson')
    (tmp_path / 'a.geojson').write_text('{"type": "Feature"')
    with pytest.raises(ConfigError, match=r'a\.geojson is no valid GeoJSON'):
        read_zones(tmp_path / 'a.geojson')
    point = dict(type='Point', coordinates=[0, 0])
    with pytest.raises(ConfigError, match='holds no polygons'):
        read_zones(geojson(tmp_path / 'b.geojson', dict(a=point)))
