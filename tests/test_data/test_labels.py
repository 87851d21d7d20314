import collections

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform
from rasterio.windows import Window

from geoseg_prithvi.data.granules import Grid
from geoseg_prithvi.data.labels import LabelReader, find_labels, labels_over, majority
from geoseg_prithvi.errors import DataNotFoundError, LabelError
from geoseg_prithvi.lulc import IO_LULC

from ..granule_world import ORIGIN, write_tif

GRID = Grid(32610, Affine(30, 0, ORIGIN[0], 0, -30, ORIGIN[1]), 8, 8)
ALL = Window(0, 0, 8, 8)
NAME = '10S_20220101-20230101.tif'


def pixel(*cells):
    return np.array(cells, np.uint8).reshape(3, 3)


@pytest.mark.parametrize(
    ('cells', 'winner', 'votes'),
    [
        (pixel(1, 1, 1, 1, 1, 1, 1, 1, 1), 1, 9),
        (pixel(1, 1, 1, 1, 2, 2, 2, 2, 2), 2, 5),
        # 4 to 4: neither is in the centre, so the lower index
        (pixel(5, 5, 5, 5, 7, 3, 3, 3, 3), 3, 4),
        # 3 to 3 to 3: the centre is among them
        (pixel(0, 0, 0, 4, 4, 4, 8, 8, 8), 4, 3),
        # the centre never beats a class that has more
        (pixel(0, 0, 6, 6, 1, 0, 8, 8, 0), 0, 4),
        # cells without label do not vote, but count in the nine
        (pixel(255, 255, 255, 255, 255, 255, 255, 255, 0), 0, 1),
        (pixel(*[255] * 9), 255, 0),
    ],
)
def test_majority_of_one_pixel(cells, winner, votes):
    classes, counts = majority(cells, 9)
    assert (classes.item(), counts.item()) == (winner, votes)


def vote(cells):
    """Count in Python, one pixel at a time, by the rule in words."""
    counts = collections.Counter(cells.ravel().tolist())
    del counts[255]
    if not counts:
        return 255, 0
    most = max(counts.values())
    tied = sorted(c for c, n in counts.items() if n == most)
    return (cells[1, 1] if cells[1, 1] in tied else tied[0]), most


def test_majority_of_many_pixels():
    rng = np.random.default_rng(0)
    cells = rng.choice([0, 1, 2, 8, 255], (60, 45)).astype(np.uint8)
    classes, votes = majority(cells, 9)
    expected = [
        [vote(cells[i : i + 3, j : j + 3]) for j in range(0, 45, 3)] for i in range(0, 60, 3)
    ]
    np.testing.assert_array_equal(np.dstack([classes, votes]), expected)


def codes_world(rows=60, columns=60, seed=0):
    codes = np.random.default_rng(seed).choice(IO_LULC.codes, (rows, columns))
    return codes.astype(np.uint8)


def read_all(folder, window=ALL, year=2022):
    maps = labels_over(find_labels(folder), GRID, year, '10SEG')
    with LabelReader(maps, GRID, IO_LULC) as reader:
        return reader.read(window)


@pytest.mark.parametrize(('east', 'north'), [(0, 0), (10, 0), (20, 10), (-10, -20), (30, 300)])
def test_label_grid_shifted_by_whole_cells_is_exact(tmp_path, east, north):
    """The map's corner lies ``east`` and ``north`` of a point 100 m outside of the tile's."""
    codes = codes_world()
    origin = (ORIGIN[0] - 100 + east, ORIGIN[1] + 100 + north)
    write_tif(tmp_path / NAME, codes, origin, 10.0, nodata=0)
    column, row = (100 - east) // 10, (100 + north) // 10
    expected = np.full((24, 24), 255, np.uint8)
    part = IO_LULC.lookup[codes[row : row + 24, column : column + 24]]
    expected[: part.shape[0], : part.shape[1]] = part
    classes, votes = read_all(tmp_path)
    wanted, wanted_votes = majority(expected, 9)
    np.testing.assert_array_equal(classes, wanted)
    np.testing.assert_array_equal(votes, wanted_votes)
    # A window is the same part of it.
    part, _ = read_all(tmp_path, Window(3, 2, 4, 5))
    np.testing.assert_array_equal(part, wanted[2:7, 3:7])


def test_label_beside_part_of_the_tile_is_ignore_there(tmp_path):
    write_tif(tmp_path / NAME, np.full((12, 12), 2, np.uint8), ORIGIN, 10.0, nodata=0)
    classes, _ = read_all(tmp_path)
    assert (classes[:4, :4] == 1).all()
    assert (np.delete(classes, np.s_[:4], 0) == 255).all()
    assert (classes[:, 4:] == 255).all()


def test_odd_offset_takes_the_nearest_pixel(tmp_path):
    """Shifted by 4 m, the nearest pixel of each cell is the one that covers most of it."""
    codes = codes_world()
    write_tif(tmp_path / NAME, codes, (ORIGIN[0] - 104, ORIGIN[1] + 104), 10.0, nodata=0)
    classes, _ = read_all(tmp_path)
    expected, _ = majority(IO_LULC.lookup[codes[10:34, 10:34]], 9)
    np.testing.assert_array_equal(classes, expected)


def test_label_of_the_neighbouring_zone(tmp_path):
    """Codes drawn by position in zone 11 must be found at the same place from zone 10."""
    # A tile at the eastern edge of zone 10; both zones cover it.
    grid = Grid(32610, Affine(30, 0, 760_020, 0, -30, 4_200_000), 40, 40)
    xs, ys = transform(grid.crs, CRS.from_epsg(32611), [760_620.0], [4_199_400.0])
    left, top = round(xs[0], -1) - 2000, round(ys[0], -1) + 2000
    row, column = np.mgrid[:400, :400]
    # Patches of 200 m: a class by place
    codes = np.asarray(IO_LULC.codes, np.uint8)[(row // 20 + 3 * (column // 20)) % 9]
    write_tif(tmp_path / '11S-2022.tif', codes, (left, top), 10.0, crs=32611, nodata=0)
    maps = labels_over(find_labels(tmp_path), grid, 2022, '10SGG')
    with LabelReader(maps, grid, IO_LULC) as reader:
        classes, votes = reader.read(Window(0, 0, 40, 40))

    # Where is each HLS pixel's centre on the map?
    row, column = np.mgrid[:40, :40]
    x, y = 760_020 + 30 * (column + 0.5), 4_200_000 - 30 * (row + 0.5)
    x, y = transform(grid.crs, CRS.from_epsg(32611), x.ravel(), y.ravel())
    at = (
        np.floor((top - np.array(y)) / 10).astype(int),
        np.floor((np.array(x) - left) / 10).astype(int),
    )
    expected = IO_LULC.lookup[codes[at]].reshape(40, 40)
    pure = votes == 9
    assert pure.mean() > 0.5
    np.testing.assert_array_equal(classes[pure], expected[pure])
    assert (classes == expected).mean() > 0.9


def test_maps_of_two_bands_of_latitude_complete_each_other(tmp_path):
    """The own zone's map has a say first, the other where that has no data."""
    upper = np.full((24, 24), 2, np.uint8)
    upper[12:] = 0
    write_tif(tmp_path / '10S-2022.tif', upper, ORIGIN, 10.0, nodata=0)
    write_tif(tmp_path / '10T-2022.tif', np.full((24, 24), 5, np.uint8), ORIGIN, 10.0, nodata=0)
    classes, _ = read_all(tmp_path)
    assert (classes[:4] == 1).all()
    assert (classes[4:] == 3).all()


@pytest.mark.parametrize('name', [NAME, '10S-2022.tif', '10S_2022.tif', '10s_2022.tif'])
def test_names(tmp_path, name):
    write_tif(tmp_path / 'deep' / name, codes_world(), nodata=0)
    write_tif(tmp_path / 'readme_2022.tif', codes_world())
    (found,) = find_labels(tmp_path)
    assert (found.zone, found.year, found.path.name) == ('10S', 2022, name)


def test_no_labels(tmp_path):
    with pytest.raises(DataNotFoundError, match='no folder'):
        find_labels(tmp_path / 'none')
    with pytest.raises(DataNotFoundError, match='no label map'):
        find_labels(tmp_path)


def test_year_without_labels(tmp_path):
    write_tif(tmp_path / NAME, codes_world(), ORIGIN, 10.0)
    with pytest.raises(LabelError, match=r'no label map of 2021 \(there are 2022\)'):
        read_all(tmp_path, year=2021)


def test_labels_that_do_not_overlap(tmp_path):
    write_tif(tmp_path / NAME, codes_world(), (ORIGIN[0] + 240, ORIGIN[1]), 10.0)
    with pytest.raises(LabelError, match='No label map of 2022 overlaps tile 10SEG'):
        read_all(tmp_path)


def test_unknown_code_is_named(tmp_path):
    codes = codes_world()
    codes[5, 5] = 3
    write_tif(tmp_path / NAME, codes, ORIGIN, 10.0)
    with pytest.raises(LabelError, match=rf'{NAME} holds the label code\(s\) \[3\]'):
        read_all(tmp_path)


def test_truncated_label_is_named(tmp_path):
    path = write_tif(tmp_path / NAME, codes_world(), ORIGIN, 10.0)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(LabelError, match=rf'{NAME} cannot be read, it is truncated'):
        read_all(tmp_path)


def test_wrong_kind_of_file(tmp_path):
    write_tif(tmp_path / NAME, codes_world().astype(np.int16), ORIGIN, 10.0)
    with pytest.raises(LabelError, match=r'1 band\(s\) of int16'):
        read_all(tmp_path)
