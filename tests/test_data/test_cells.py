import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

from geoseg_prithvi.data.cells import cell_offsets, plan_cells
from geoseg_prithvi.data.granules import Grid
from geoseg_prithvi.errors import ConfigError


def grid(left, top, size=100, epsg=32610):
    return Grid(epsg, Affine(30, 0, left, 0, -30, top), size, size)


def covered(grids, cells, size, stride, canvas):
    """Count how many chips see each pixel of a canvas whose corner is (0, canvas * 30)."""
    count = np.zeros((canvas, canvas), int)
    for tile, kept in cells.items():
        left = round(grids[tile].transform.c / 30)
        top = round(canvas - grids[tile].transform.f / 30)
        for i, j in zip(*np.nonzero(kept), strict=True):
            row, column = top + i * stride, left + j * stride
            count[row : row + size, column : column + size] += 1
    return count


def test_full_tile():
    offsets = cell_offsets(3660, 224, 224)
    assert (len(offsets), offsets[-1]) == (16, 3360)
    assert list(cell_offsets(10, 4, 2)) == [0, 2, 4, 6]
    assert list(cell_offsets(224, 224, 224)) == [0]
    assert list(cell_offsets(223, 224, 224)) == []


@pytest.mark.parametrize('shift', [60, 84, 90, 99, 100, 101])
def test_overlapping_tiles_yield_each_pixel_once(shift):
    """Four tiles of 100 pixels, ``shift`` pixels apart, chips of 8: no pixel in two chips."""
    canvas = 100 + shift
    corners = [(0, 0), (0, shift), (shift, 0), (shift, shift)]
    grids = {
        f'{number}': grid(30 * column, 30 * (canvas - row))
        for number, (row, column) in enumerate(corners)
    }
    cells = plan_cells(grids, 8, 8)
    count = covered(grids, cells, 8, 8, canvas)
    assert count.max() == 1
    # The first tile keeps all of its 12 x 12 cells; of the others only what overlaps is lost.
    assert cells['0'].all()
    assert cells['1'].sum() == 12 * (12 - max(0, -(-(96 - shift) // 8)))
    assert cells['1'].any() and cells['3'].any()


def test_order_decides_who_keeps_shared_ground():
    one, other = grid(0, 3000), grid(1500, 3000)
    first = plan_cells({'a': one, 'b': other}, 10, 10)
    second = plan_cells({'b': other, 'a': one}, 10, 10)
    assert first['a'].all() and second['b'].all()
    # 50 pixels of overlap are 5 columns of cells
    assert first['b'].sum() == second['a'].sum() == 50


def test_overlapping_stride_within_a_tile_is_kept():
    assert plan_cells({'a': grid(0, 3000)}, 10, 5)['a'].sum() == 19 * 19


def test_neighbours_across_the_zone_border():
    """The same ground in zones 10 and 11, at 38 degrees north."""
    one = grid(760_020, 4_200_000, 200)
    xs, ys = transform(CRS.from_epsg(32610), CRS.from_epsg(32611), [763_020.0], [4_197_000.0])
    # A tile of 200 pixels around the first one's centre
    other = grid(30 * round((xs[0] - 3000) / 30), 30 * round((ys[0] + 3000) / 30), 200, 32611)
    cells = plan_cells({'a': one, 'b': other}, 20, 20)
    assert cells['a'].all()
    # The grids are turned by 3.7 degrees against each other: only corners stick out.
    assert cells['b'].sum() < 20
    centres = np.argwhere(cells['b'])
    for i, j in centres:
        x = other.transform.c + 30 * (20 * j + 10)
        y = other.transform.f - 30 * (20 * i + 10)
        (x,), (y,) = transform(CRS.from_epsg(32611), CRS.from_epsg(32610), [x], [y])
        inside = 760_020 < x < 766_020 and 4_194_000 < y < 4_200_000
        assert not inside


def test_far_tiles_do_not_meet():
    cells = plan_cells({'a': grid(0, 3000), 'b': grid(0, 3000, epsg=32633)}, 10, 10)
    assert cells['a'].all() and cells['b'].all()


def test_tile_smaller_than_a_chip():
    with pytest.raises(ConfigError, match='Tile a has 100 x 100 pixels, less than one chip of 224'):
        plan_cells({'a': grid(0, 3000)}, 224, 224)
