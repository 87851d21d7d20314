"""Maps of neighbouring tiles become one."""

import numpy as np
import pytest
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform as transform_points

from geoseg_prithvi.errors import ConfigError, OutputExistsError, SceneError
from geoseg_prithvi.inference import mosaic as mosaic_module
from geoseg_prithvi.inference.mosaic import make_mosaic, mosaic_grid
from geoseg_prithvi.inference.scene import SceneGrid

from .scenes import TRANSFORM, UTM10
from .test_writer import Block, write


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(mosaic_module, 'CHUNK', 17)


def moved(cols, rows):
    return Affine(30, 0, TRANSFORM.c + 30 * cols, 0, -30, TRANSFORM.f - 30 * rows)


def write_tile(path, scores, transform=TRANSFORM, crs=UTM10, unseen=None, layers=()):
    _, height, width = scores.shape
    seen = torch.ones(height, width, dtype=torch.bool)
    if unseen:
        seen[unseen] = False
    grid = SceneGrid(crs, transform, width, height)
    write(path, [Block(0, scores * seen, seen)], grid, layers)
    return path


def constant(probabilities, height=60, width=50):
    return torch.tensor(probabilities).view(3, 1, 1).expand(3, height, width).clone()


@pytest.fixture
def neighbours(tmp_path):
    """Class 0 on the left, class 2 on the right; 10 columns overlap, the right is 5 rows lower."""
    kinds = ['probabilities']
    left = write_tile(
        tmp_path / 'left.tif',
        constant([0.8, 0.2, 0.0]),
        unseen=(slice(20, 30), slice(45, 50)),
        layers=kinds,
    )
    right = write_tile(
        tmp_path / 'right.tif', constant([0.0, 0.2, 0.8]), moved(40, 5), layers=kinds
    )
    return left, right


def test_first_valid(tmp_path, neighbours):
    files = make_mosaic(neighbours, tmp_path / 'mosaic.tif', overwrite=False, area=True)
    expected = np.full((65, 90), 255, np.uint8)
    expected[5:, 40:] = 2
    expected[:60, :50] = 0
    expected[20:30, 45:50] = 2  # the left map has no data there
    for path in (files.map, files.map.with_suffix('.vrt')):
        with rasterio.open(path) as raster:
            np.testing.assert_array_equal(raster.read(1), expected)
            assert (raster.crs, raster.transform) == (UTM10, TRANSFORM)
            assert raster.colormap(1)[1] == (0, 99, 0, 255)
            assert raster.nodata == 255
    with rasterio.open(files.map) as raster:
        assert raster.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
    assert files.picture.exists() and files.area.exists()
    assert not files.unfinished.exists()


def test_order_decides(tmp_path, neighbours):
    files = make_mosaic(neighbours[::-1], tmp_path / 'mosaic.tif', overwrite=False)
    with rasterio.open(files.map) as raster:
        assert raster.transform == TRANSFORM  # the grid reaches up and left of the first map
        assert (raster.read(1)[5:60, 40:50] == 2).all()


def test_blend_passes_from_one_to_the_other(tmp_path, neighbours):
    files = make_mosaic(neighbours, tmp_path / 'mosaic.tif', mode='blend', overwrite=False)
    with rasterio.open(files.map) as raster:
        classes = raster.read(1)
    # Far from upper and lower edges the distances to the sides decide: the middle of the overlap.
    assert classes[35, 38:52].tolist() == [0] * 7 + [2] * 7
    assert (classes[20:30, 45:50] == 2).all()
    assert (classes[:5, 50:] == 255).all() and (classes[60:, :40] == 255).all()


def test_blend_finds_the_class_that_both_hold_possible(tmp_path):
    layers = ['probabilities']
    a = write_tile(tmp_path / 'a.tif', constant([0.56, 0.44, 0.0]), layers=layers)
    b = write_tile(tmp_path / 'b.tif', constant([0.0, 0.44, 0.56]), moved(40, 0), layers=layers)
    files = make_mosaic([a, b], tmp_path / 'mosaic.tif', mode='blend', overwrite=False)
    with rasterio.open(files.map) as raster:
        row = raster.read(1)[30, 36:54].tolist()
    assert row[:4] == [0] * 4 and row[-4:] == [2] * 4
    assert 1 in row and row == sorted(row)


def test_another_zone_is_brought_to_the_first(tmp_path):
    # Zone 11 begins at 120 degrees west; both tiles lie there.
    x, y = (v[0] for v in transform_points(CRS.from_epsg(4326), UTM10, [-120.0], [38.0]))
    here = Affine(30, 0, round(x / 30) * 30, 0, -30, round(y / 30) * 30)
    zone11 = CRS.from_epsg(32611)
    x, y = (v[0] for v in transform_points(CRS.from_epsg(4326), zone11, [-120.0], [38.0]))
    there = Affine(30, 0, round(x / 30) * 30 + 900, 0, -30, round(y / 30) * 30)
    scores = constant([0.0, 0.0, 1.0])
    scores[:, 20:30, 20:30] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    a = write_tile(tmp_path / 'a.tif', constant([1.0, 0.0, 0.0]), here)
    b = write_tile(tmp_path / 'b.tif', scores, there, zone11)
    files = make_mosaic([a, b], tmp_path / 'mosaic.tif', overwrite=False)
    with rasterio.open(files.map) as raster:
        classes = raster.read(1)
        assert raster.crs == UTM10
        # The middle of the marked square, by its place on the ground.
        xs, ys = transform_points(zone11, UTM10, [there.c + 30 * 25], [there.f - 30 * 25])
        row, col = raster.index(xs[0], ys[0])
    assert classes[row, col] == 1
    assert 90 <= (classes == 1).sum() <= 110
    assert (classes == 0).sum() == 3000


def test_grid_of_tiles_that_do_not_fit_is_that_of_the_first(tmp_path):
    a = write_tile(tmp_path / 'a.tif', constant([1.0, 0, 0]))
    b = write_tile(tmp_path / 'b.tif', constant([1.0, 0, 0]), moved(-20.5, 7))
    grid, tiles = mosaic_grid([a, b])
    assert grid.transform == moved(-21, 0)
    assert (grid.width, grid.height) == (71, 67)
    assert [tile.aligned for tile in tiles] == [True, False]


def test_bad_input(tmp_path, neighbours):
    out = tmp_path / 'mosaic.tif'
    plain = write_tile(tmp_path / 'plain.tif', constant([1.0, 0, 0]))
    with pytest.raises(ConfigError, match=r'plain\.tif comes without class probabilities'):
        make_mosaic([neighbours[0], plain], out, mode='blend', overwrite=False)
    lost = write_tile(tmp_path / 'lost.tif', constant([1.0, 0, 0]), crs=None)
    with pytest.raises(SceneError, match=r'lost\.tif has no coordinate system'):
        make_mosaic([plain, lost], out, overwrite=False)
    out.write_text('')
    with pytest.raises(OutputExistsError):
        make_mosaic(neighbours, out, overwrite=False)
