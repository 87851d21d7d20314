"""Areas, and the tiles that show them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

pytest.importorskip('mgrs')

import geoseg_prithvi
from geoseg_prithvi.data.download.area import Area, tile_core, tile_square
from geoseg_prithvi.data.synthetic import DEFAULT_TILES, tile_origin
from geoseg_prithvi.errors import ConfigError, DataNotFoundError

SQUARE = [[-122.5, 37.5], [-122.4, 37.5], [-122.4, 37.6], [-122.5, 37.6], [-122.5, 37.5]]


@pytest.mark.parametrize(
    ('tile', 'expected'),
    [
        ('10SEG', (32610, 499980.0, 4200000.0)),
        ('10SEF', (32610, 499980.0, 4100040.0)),
        # The south: in the northern zone, with negative northings (ULY of 23KPQ is 7500040).
        ('23KPQ', (32623, 600000.0, 7500040.0 - 1e7)),
    ],
)
def test_tile_square(tile, expected):
    assert tile_square(tile) == expected


@pytest.mark.parametrize('tile', DEFAULT_TILES)
def test_tile_square_agrees_with_the_synthetic_world(tile):
    assert tile_square(tile) == tile_origin(tile)


def test_core_of_a_tile_is_not_in_its_neighbours():
    names = ('10SEG', '10SFG', '10SEH', '10SEF', '10SFH', '10SFF')
    west, south, east, north = tile_core('10SEG')
    x, y = (west + east) / 2, (south + north) / 2
    box = Area.from_bbox(x - 0.3, y - 0.3, x + 0.3, y + 0.3)
    assert box.covering(names) == ('10SEG',)


def test_covering_takes_no_more_tiles_than_needed():
    names = ('10SEG', '10SFG', '10SEH', '10SFH', '10SEF', '10SFF')
    assert Area.from_bbox(-122.1, 37.5, -122.0, 37.6).covering(names) == ('10SEG',)
    around = Area.from_bbox(-122.5, 37.2, -121.5, 38.2)
    assert around.covering(names) == ('10SEG', '10SEH', '10SFG', '10SFH')
    assert around.covering(('10SEG',)) == ('10SEG',)
    assert around.covering(('33UVP',)) == ()
    garden = Area.from_bbox(-122.1, 37.5, -122.0999, 37.5001)
    assert garden.covering(names) == ('10SEG',)


def test_bbox_mask_is_in_the_right_place():
    area = Area.from_bbox(-123.0, 37.5, -122.5, 37.9)
    _, left, top = tile_square('10SEG')
    mask = area.mask(CRS.from_epsg(32610), from_origin(left, top, 300, 300), 366, 366)
    rows, columns = np.nonzero(mask)
    # 37.9 degrees north is 4194750 m, 37.5 is 4150360 m; 0.5 degrees of longitude are 44 km.
    assert abs(rows.min() - (4_200_000 - 4_194_800) / 300) <= 2
    assert abs(rows.max() - (4_200_000 - 4_150_360) / 300) <= 2
    assert columns.min() == 0
    assert abs(columns.max() - 44_190 / 300) <= 2


@pytest.mark.parametrize(
    'document',
    [
        dict(type='Polygon', coordinates=[SQUARE]),
        dict(type='MultiPolygon', coordinates=[[SQUARE]]),
        dict(
            type='FeatureCollection',
            features=[
                dict(
                    type='Feature',
                    properties={},
                    geometry=dict(type='Polygon', coordinates=[SQUARE]),
                )
            ],
        ),
    ],
)
def test_geojson(tmp_path, document):
    path = tmp_path / 'area.geojson'
    path.write_text(json.dumps(document))
    area = Area.from_file(path)
    assert area.bounds == ((-122.5, 37.5, -122.4, 37.6),)
    assert area.covering(('10SEG', '10SFG')) == ('10SEG',)


def test_tiles():
    area = Area.from_tiles(['T10SEG', '10sfg', '10SEG'])
    assert area.tiles == ('10SEG', '10SFG')
    assert len(area.bounds) == 2
    assert area.key != Area.from_tiles(['10SEG']).key


@pytest.mark.parametrize('name', ['10SVG', '61SEG', '10ZEG', 'EG', 'Berlin', '10SEGX'])
def test_unknown_tile(name):
    with pytest.raises(ConfigError, match='MGRS tile'):
        Area.from_tiles([name])


def test_antimeridian(tmp_path):
    with pytest.raises(ConfigError, match=r'170 to -170 degrees east, across the antimeridian'):
        Area.from_bbox(170, -20, -170, -10)
    with pytest.raises(ConfigError, match='split an area there in two'):
        Area.from_bbox(170, -20, 190, -10)
    ring = [[179, 0], [181, 0], [181, 1], [179, 0]]
    path = tmp_path / 'fiji.geojson'
    path.write_text(json.dumps(dict(type='Polygon', coordinates=[ring])))
    with pytest.raises(ConfigError, match=r'fiji\.geojson spans 179 to 181'):
        Area.from_file(path)


def test_impossible_boxes():
    with pytest.raises(ConfigError, match='degrees north'):
        Area.from_bbox(-122, 38, -121, 37)
    with pytest.raises(ConfigError, match='degrees north'):
        Area.from_bbox(-122, 37, -121, 37)
    with pytest.raises(ConfigError, match='degrees north'):
        Area.from_bbox(500000, 4100000, 600000, 4200000)
    with pytest.raises(ConfigError, match='degrees north'):
        Area.from_bbox(0, float('nan'), 1, 1)


def test_bad_files(tmp_path):
    with pytest.raises(DataNotFoundError, match='no file'):
        Area.from_file(tmp_path / 'absent.geojson')
    bad = tmp_path / 'bad.geojson'
    for content, message in [
        ('PK\x03', 'no GeoJSON'),
        ('{"type": "FeatureCollection"}', 'no valid GeoJSON'),
        ('[1, 2]', 'no valid GeoJSON'),
        ('{"type": "Point", "coordinates": [1, 2]}', 'holds no polygon'),
        ('{"type": "Polygon", "coordinates": [[["a", "b"]]]}', 'no valid GeoJSON'),
    ]:
        bad.write_text(content)
        with pytest.raises(ConfigError, match=message):
            Area.from_file(bad)


def test_network_libraries_are_imported_nowhere_else():
    root = Path(geoseg_prithvi.__file__).parent
    names = 'earthaccess|mgrs|planetary_computer|pystac|pystac_client|requests|urllib3'
    pattern = re.compile(rf'^\s*(?:import|from) (?:{names})\b', re.MULTILINE)
    users = {p.parent.name for p in root.rglob('*.py') if pattern.search(p.read_text())}
    assert users == {'download'}
    heavy = re.compile(r'^\s*(?:import|from) (?:torch|mm\w+)\b', re.MULTILINE)
    assert not [p for p in (root / 'data').rglob('*.py') if heavy.search(p.read_text())]
