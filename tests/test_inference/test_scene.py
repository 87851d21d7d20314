"""Rows of a scene: the right band in the right channel, nodata and clouds seen as such."""

import datetime as dt

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from geoseg_prithvi.errors import ConfigError, SceneError
from geoseg_prithvi.hls import BANDS, FILL, Fmask
from geoseg_prithvi.inference.inputs import SceneOptions, find_scenes
from geoseg_prithvi.inference.scene import WGS84, SceneGrid
from geoseg_prithvi.layout import channel_names

from ..granule_world import granule_name, write_granule
from .scenes import TRANSFORM, UTM10, random_pixels, write_stack

CHIP_TAGS = dict(GEOSEG_DATES='2022-04-01,2022-07-02', GEOSEG_SENSORS='L30,S30')


def open_one(path, **options):
    (source,) = find_scenes([path])
    return source.open(SceneOptions(**{'num_frames': 2, **options}))


def test_stack_is_read_by_name(tmp_path):
    pixels = random_pixels((12, 40, 30))
    shuffled = np.random.default_rng(1).permutation(12)
    names = np.array(channel_names(2))
    path = write_stack(tmp_path / 'a.tif', pixels[shuffled], names[shuffled], tags=CHIP_TAGS)
    with open_one(path) as scene:
        rows = scene.read(7, 19)
    np.testing.assert_array_equal(rows.pixels, pixels[:, 7:19])
    assert (rows.seen == 1).all()
    assert scene.grid == SceneGrid(UTM10, TRANSFORM, 30, 40)
    assert scene.temporal_coords == [[2022, 90], [2022, 182]]
    assert scene.sensors == ['L30', 'S30']


def test_band_major_stack(tmp_path):
    pixels = random_pixels((12, 5, 6))
    stored = pixels.reshape(2, 6, 5, 6).swapaxes(0, 1).reshape(12, 5, 6)
    path = write_stack(tmp_path / 'a.tif', stored)
    with open_one(path, layout='band-major') as scene:
        np.testing.assert_array_equal(scene.read(0, 5).pixels, pixels)


def test_share_of_frames_seen_and_another_nodata_value(tmp_path):
    pixels = random_pixels((12, 8, 8)).clip(1)
    pixels[3, 0, 0] = 0  # one band of frame 0
    pixels[:, 1, 1] = 0
    path = write_stack(tmp_path / 'a.tif', pixels, channel_names(2), nodata=0)
    with open_one(path) as scene:
        rows = scene.read(0, 8)
    expected = np.ones((8, 8))
    expected[0, 0], expected[1, 1] = 0.5, 0
    np.testing.assert_array_equal(rows.seen, expected)
    assert rows.pixels[3, 0, 0] == FILL
    assert (rows.pixels[:, 1, 1] == FILL).all()


@pytest.fixture
def two_passes(tmp_path):
    """Two granules of 24 x 24 px; the first has a cloud, the second a swath edge."""
    pixels = random_pixels((12, 24, 24))
    clear = np.full((24, 24), 64, np.uint8)
    cloud, edge = clear.copy(), clear.copy()
    cloud[2:5, 2:5] |= int(Fmask.CLOUD)
    cloud[10, 10] |= int(Fmask.SNOW)
    pixels[6:, :, 20:] = FILL
    edge[:, 20:] = 255
    write_granule(tmp_path, granule_name('10SEG', 20, 'L30'), pixels[:6], cloud)
    write_granule(tmp_path, granule_name('10SEG', 200, 'S30'), pixels[6:], edge)
    return tmp_path, pixels


def test_granules_become_frames(two_passes):
    folder, pixels = two_passes
    with open_one(folder) as scene:
        rows = scene.read(3, 24)
    np.testing.assert_array_equal(rows.pixels, pixels[:, 3:])
    assert scene.dates == [dt.date(2022, 1, 20), dt.date(2022, 7, 19)]
    assert scene.sensors == ['L30', 'S30']
    np.testing.assert_array_equal(rows.seen[:, :20], 1)
    np.testing.assert_array_equal(rows.seen[:, 20:], 0.5)


def test_clouds_are_masked_on_request(two_passes):
    folder, _ = two_passes
    with open_one(folder, mask_clouds=True) as scene:
        seen = scene.read(0, 24).seen
    np.testing.assert_array_equal(seen[2:5, 2:5], 0.5)
    assert seen[10, 10] == 1  # snow is ground
    assert (seen == 0.5).sum() == 9 + 4 * 24


def test_no_clouds_to_mask_in_a_stack(tmp_path):
    path = write_stack(tmp_path / 'a.tif', random_pixels((12, 8, 8)), channel_names(2))
    with pytest.raises(ConfigError, match=r'a\.tif has no Fmask.*leave out --mask-clouds'):
        open_one(path, mask_clouds=True)


def truncated(tmp_path):
    """Tiles of 16 x 16 px, the file ending in the last row of tiles of the last band."""
    pixels = random_pixels((12, 64, 64))
    profile = dict(tiled=True, blockxsize=16, blockysize=16, interleave='band')
    path = write_stack(tmp_path / 'cut.tif', pixels, channel_names(2), **profile)
    with path.open('r+b') as file:
        file.truncate(path.stat().st_size - 2 * 16 * 16 * 2)
    return path, pixels


def test_truncated_file_is_named_with_its_place(tmp_path):
    path, pixels = truncated(tmp_path)
    with open_one(path) as scene:
        np.testing.assert_array_equal(scene.read(0, 48).pixels, pixels[:, :48])
        with pytest.raises(
            SceneError, match=r'cut\.tif .*rows 50 to 59, columns 32 to 47.*--on-error'
        ):
            scene.read(50, 60)


def test_truncated_file_passed_over(tmp_path, caplog):
    path, pixels = truncated(tmp_path)
    expected = pixels.copy()
    expected[11, 48:, 32:] = FILL
    with open_one(path, on_error='nodata') as scene:
        first, second = scene.read(0, 50), scene.read(50, 64)
    np.testing.assert_array_equal(np.concatenate([first.pixels, second.pixels], 1), expected)
    np.testing.assert_array_equal(second.seen[:, 32:], 0.5)
    np.testing.assert_array_equal(second.seen[:, :32], 1)
    assert [record.message for record in caplog.records] == [
        f'{path} is damaged, first at rows 48 to 49, columns 32 to 47; such places count as nodata.'
    ]


def test_locations_agree_with_the_corner_coordinates():
    grid = SceneGrid(WGS84, Affine(0.5, 0, 10, 0, -0.25, 50), 8, 8)
    places = grid.locations(np.array([0, 4.0]), np.array([0, 1.0]))
    np.testing.assert_allclose(places, [[50, 10], [49, 10.5]])


def test_vrt_and_any_coordinate_system(tmp_path):
    pixels = random_pixels((12, 8, 8))
    turned = Affine(0.001, 0.0002, 10, 0.0003, -0.001, 50)
    write_stack(tmp_path / 'a.tif', pixels, channel_names(2), crs=WGS84, transform=turned)
    with rasterio.open(tmp_path / 'a.tif') as dataset:
        rasterio.shutil.copy(dataset, tmp_path / 'b.vrt', driver='VRT')
    with open_one(tmp_path / 'b.vrt') as scene:
        np.testing.assert_array_equal(scene.read(0, 8).pixels, pixels)
    assert scene.grid == SceneGrid(WGS84, turned, 8, 8)
    assert list(BANDS) == list(scene.bands)
