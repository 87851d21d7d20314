"""From a scene and a model to the files of a map."""

import csv
import datetime as dt
import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from geoseg_prithvi.errors import OutputExistsError, SceneError
from geoseg_prithvi.hls import FILL
from geoseg_prithvi.inference import (
    MapOptions,
    SceneOptions,
    Tiling,
    build_segmentor,
    find_scenes,
    make_map,
)
from geoseg_prithvi.layout import channel_names
from geoseg_prithvi.lulc import IO_LULC

from .conftest import TINY, TinyModel
from .scenes import TRANSFORM, UTM10, random_pixels, write_stack

TAGS = dict(GEOSEG_DATES='2022-04-01,2022-07-02,2022-10-03', GEOSEG_SENSORS='L30,S30,S30')


@pytest.fixture
def segmentor(tiny_model):
    return build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint)


def map_of(path, segmentor, out, scene_options=None, **options):
    (source,) = find_scenes([path])
    options = MapOptions(**{'tiling': Tiling(12, 9, 2), 'batch_size': 3, **options})
    return make_map(source, segmentor, out, scene_options or SceneOptions(3), options)


def test_all_files_of_a_map(tmp_path, segmentor):
    pixels = random_pixels((18, 70, 50))
    pixels[:, :5] = FILL
    stack = write_stack(tmp_path / 'scene.tif', pixels, channel_names(3), tags=TAGS)
    done = []
    (source,) = find_scenes([stack])
    options = MapOptions(
        Tiling(12, 9, 2), layers=['confidence'], area=True, tags={'GEOSEG_MODEL': 'tiny.py'}
    )
    out = tmp_path / 'out' / 'map.tif'
    files = make_map(source, segmentor, out, SceneOptions(3), options, done.append)
    assert done == sorted(done) and done[-1] == 1

    with rasterio.open(files.map) as raster:
        assert (raster.crs, raster.transform) == (UTM10, TRANSFORM)
        assert raster.bounds == rasterio.open(stack).bounds
        classes = raster.read(1)
        tags = raster.tags()
    assert (classes[:5] == 255).all()
    assert (classes[5:] < 9).all()
    assert tags['GEOSEG_DATES'] == TAGS['GEOSEG_DATES']
    assert tags['GEOSEG_SENSORS'] == TAGS['GEOSEG_SENSORS']
    assert tags['GEOSEG_MODEL'] == 'tiny.py'
    assert tags['TIFFTAG_SOFTWARE'].startswith('geoseg_prithvi ')

    with files.area.open() as table:
        rows = list(csv.DictReader(table))
    counts = np.bincount(classes.ravel(), minlength=256)[:9]
    assert [row['name'] for row in rows] == list(IO_LULC.names)
    assert [int(row['pixels']) for row in rows] == counts.tolist()
    assert [float(row['hectares']) for row in rows] == pytest.approx(0.09 * counts)

    item = json.loads(files.item.read_text())
    assert item['properties']['start_datetime'] == '2022-04-01T00:00:00Z'
    assert item['properties']['end_datetime'] == '2022-10-03T23:59:59Z'
    assert item['properties']['proj:code'] == 'EPSG:32610'
    assert item['properties']['proj:transform'] == list(TRANSFORM)[:6]
    for asset in item['assets'].values():
        assert (files.item.parent / asset['href']).is_file()
    assert set(item['assets']) == {'map', 'confidence', 'thumbnail', 'area'}
    west, south, _, north = item['bbox']
    assert west == pytest.approx(-123.0002, abs=1e-3) and north == pytest.approx(37.9476, abs=1e-3)
    assert (north - south) * 111 == pytest.approx(2.1, abs=0.02)  # km
    assert Image.open(files.picture).size[0] > 500
    assert sorted(path.name for path in out.parent.iterdir()) == [
        'map.json',
        'map.png',
        'map.tif',
        'map.tif.aux.xml',
        'map_area.csv',
        'map_confidence.tif',
    ]


def test_map_is_the_model_on_one_window(tmp_path, segmentor):
    """A scene as large as a window: what the model says of it, and nothing else."""
    pixels = random_pixels((18, 16, 16))
    stack = write_stack(tmp_path / 'scene.tif', pixels, channel_names(3), tags=TAGS)
    files = map_of(stack, segmentor, tmp_path / 'map.tif')
    with torch.no_grad():
        expected = segmentor(torch.from_numpy(pixels)[None], [{}])[0].argmax(0)
    with rasterio.open(files.map) as raster:
        np.testing.assert_array_equal(raster.read(1), expected)


@pytest.mark.parametrize('shape', [(1, 1), (1, 40), (17, 3)])
def test_tiny_scenes(tmp_path, segmentor, shape):
    stack = write_stack(tmp_path / 's.tif', random_pixels((18, *shape)), channel_names(3))
    with rasterio.open(map_of(stack, segmentor, tmp_path / 'map.tif').map) as raster:
        assert raster.shape == shape
        assert (raster.read(1) < 9).all()


def test_the_same_again_gives_the_same_bytes(tmp_path, segmentor):
    stack = write_stack(
        tmp_path / 's.tif', random_pixels((18, 60, 50)), channel_names(3), tags=TAGS
    )
    one = map_of(stack, segmentor, tmp_path / 'a' / 'map.tif', layers=['confidence'])
    two = map_of(stack, segmentor, tmp_path / 'b' / 'map.tif', layers=['confidence'])
    for path in (one.map, one.confidence, one.names, one.picture, one.item):
        assert path.read_bytes() == (two.map.parent / path.name).read_bytes(), path.name


def test_an_existing_map_stops_before_any_work(tmp_path, segmentor):
    (tmp_path / 'map.tif').write_text('keep me')
    (source,) = find_scenes([write_stack(tmp_path / 's.tif', random_pixels((18, 4, 4)))])
    with pytest.raises(OutputExistsError, match='--overwrite'):
        make_map(source, segmentor, tmp_path / 'map.tif', SceneOptions(3), MapOptions(Tiling(4, 4)))
    assert (tmp_path / 'map.tif').read_text() == 'keep me'


def test_without_dates_there_is_no_item(tmp_path, segmentor):
    stack = write_stack(tmp_path / 's.tif', random_pixels((18, 20, 20)), channel_names(3))
    files = map_of(stack, segmentor, tmp_path / 'map.tif')
    assert files.picture.exists() and not files.item.exists()
    dates = [dt.date(2022, 5, day) for day in (1, 2, 3)]
    files = map_of(stack, segmentor, tmp_path / 'map2.tif', SceneOptions(3, dates=dates))
    assert json.loads(files.item.read_text())['properties']['geoseg:dates'].startswith('2022-05-01')


def test_what_a_model_with_dates_and_places_needs(tmp_path):
    text = TINY.replace("'EncoderDecoder'", "'GeoEncoderDecoder'").replace(
        'img_size=16,', "img_size=16, coords_encoding=('time', 'location'),"
    )
    tiny = TinyModel(tmp_path, text)
    segmentor = build_segmentor(tiny.load(), checkpoint=tiny.checkpoint)
    pixels, names = random_pixels((18, 20, 20)), channel_names(3)
    with pytest.raises(SceneError, match=r'a\.tif names no dates, .*--dates'):
        map_of(write_stack(tmp_path / 'a.tif', pixels, names), segmentor, tmp_path / 'm.tif')
    stack = write_stack(tmp_path / 'b.tif', pixels, names, crs=None, tags=TAGS)
    with pytest.raises(SceneError, match=r'b\.tif has no coordinate system, .*gdal_edit'):
        map_of(stack, segmentor, tmp_path / 'm.tif')
    stack = write_stack(tmp_path / 'c.tif', pixels, names, tags=TAGS)
    assert map_of(stack, segmentor, tmp_path / 'm.tif').map.exists()


def test_a_damaged_block_leaves_no_map_or_a_hole(tmp_path, segmentor):
    profile = dict(tiled=True, blockxsize=16, blockysize=16, interleave='band', tags=TAGS)
    pixels = random_pixels((18, 64, 64))
    stack = write_stack(tmp_path / 'cut.tif', pixels, channel_names(3), **profile)
    with stack.open('r+b') as file:
        file.truncate(stack.stat().st_size - 512)
    with pytest.raises(SceneError, match=r'cut\.tif .*columns 48 to 63'):
        map_of(stack, segmentor, tmp_path / 'map.tif')
    assert [path.name for path in tmp_path.iterdir()] == ['cut.tif']
    options = SceneOptions(3, on_error='nodata')
    with rasterio.open(map_of(stack, segmentor, tmp_path / 'map.tif', options).map) as raster:
        assert (raster.read(1) < 9).all()  # the other two frames are whole there


def peak_memory(work):
    """Peak of this process's memory in bytes while it does some work."""
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts anew
    work()
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) * 1024


def test_memory_does_not_grow_with_the_height(tmp_path, segmentor):
    # Tall enough to fill GDAL's cache of two rows of blocks: 18 x 2 x 256 x 512 px x 2 bytes.
    profile = dict(tiled=True, blockxsize=256, blockysize=256, compress='zstd', tags=TAGS)
    tiling = Tiling(32, 32, 0)
    stacks = {
        height: write_stack(
            tmp_path / f'{height}.tif',
            random_pixels((18, height, 512)),
            channel_names(3),
            **profile,
        )
        for height in (2048, 4096)
    }
    peaks = [
        peak_memory(
            lambda stack=stacks[height]: map_of(
                stack, segmentor, tmp_path / 'map.tif', tiling=tiling, overwrite=True
            )
        )
        for height in (2048, 2048, 4096)  # the first to warm up
    ]
    # In memory, what the second scene has more would be 38 MB of pixels and 38 MB of scores.
    assert peaks[2] < 1.05 * peaks[1]
