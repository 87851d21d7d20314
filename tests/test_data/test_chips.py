"""From band files to chips, with values that a reader can check."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import rasterio

from geoseg_prithvi.data.chip_io import read_chip, read_label
from geoseg_prithvi.data.chips import ChipOptions, TileTask, cut_tile, finished
from geoseg_prithvi.data.frames import SeasonWindow, equal_windows
from geoseg_prithvi.data.granules import DamagedGranuleError, find_granules, tile_grid
from geoseg_prithvi.data.labels import find_labels, labels_over
from geoseg_prithvi.errors import ConfigError, GranuleError, LabelError
from geoseg_prithvi.hls import GranuleId
from geoseg_prithvi.lulc import IO_LULC

from ..granule_world import (
    ORIGIN,
    band_values,
    granule_name,
    write_tif,
    write_world,
)


def task_of(root, cells=((0, 0),), **options):
    (tile, granules), *_ = find_granules(root / 'granules').items()
    grid = tile_grid(granules)
    return TileTask(
        tile=tile,
        year=2022,
        grid=grid,
        granules=tuple(granules),
        labels=tuple(labels_over(find_labels(root / 'labels'), grid, 2022, tile)),
        cells=tuple(cells),
        options=ChipOptions(**(dict(windows=equal_windows(3), chip_size=32) | options)),
        legend=IO_LULC,
        out=root / 'out',
    )


def replace_band(root, day, sensor, band, edit):
    """Apply ``edit`` to the pixels of one band file in place."""
    name = granule_name('10SEG', day, sensor)
    path = root / 'granules' / name / GranuleId.parse(name)[0].band_file(band)
    with rasterio.open(path, 'r+') as dataset:
        pixels = dataset.read(1)
        edit(pixels)
        dataset.write(pixels, 1)


def cloud(root, day, sensor, where, value=2):
    def edit(fmask):
        fmask[where] = value

    replace_band(root, day, sensor, 'Fmask', edit)


@pytest.mark.parametrize('sensor', ['L30', 'S30'])
def test_every_band_lands_in_its_channel(tmp_path, sensor):
    """Each file of a granule holds one number; which one, the table of HLS says."""
    files = {
        'L30': {'B02': 2, 'B03': 3, 'B04': 4, 'B05': 5, 'B06': 6, 'B07': 7},
        'S30': {'B02': 2, 'B03': 3, 'B04': 4, 'B8A': 80, 'B11': 11, 'B12': 12, 'B08': 8, 'B05': 5},
    }[sensor]
    for t, day in enumerate((20, 150, 300)):
        name = granule_name('10SEG', day, sensor)
        folder = tmp_path / 'granules' / name
        for band, value in files.items():
            pixels = np.full((32, 32), 100 * t + value, np.int16)
            write_tif(folder / f'{name}.{band}.tif', pixels, nodata=-9999)
        write_tif(folder / f'{name}.Fmask.tif', np.zeros((32, 32), np.uint8), nodata=255)
    codes = np.full((96, 96), 2, np.uint8)
    write_tif(tmp_path / 'labels' / '10S-2022.tif', codes, ORIGIN, 10.0)
    (row,) = cut_tile(task_of(tmp_path))['rows']
    wanted = {'L30': [2, 3, 4, 5, 6, 7], 'S30': [2, 3, 4, 80, 11, 12]}[sensor]
    pixels = read_chip(tmp_path / 'out' / row['image'], 3)
    assert (pixels == pixels[:, :1, :1]).all()
    assert pixels[:, 0, 0].tolist() == [100 * t + value for t in range(3) for value in wanted]
    assert row['sensors'] == [sensor] * 3


def test_pixels_are_those_of_the_granules(tmp_path):
    """Chip at row 32, column 64; the first pass of each window, where all are clear."""
    write_world(tmp_path)
    (row,) = cut_tile(task_of(tmp_path, [(32, 64)]))['rows']
    pixels = read_chip(tmp_path / 'out' / row['image'], 3)
    for t, number in enumerate((0, 2, 4)):
        np.testing.assert_array_equal(
            pixels[6 * t : 6 * t + 6], band_values(number, 96)[:, 32:64, 64:96]
        )
    assert row['dates'] == ['2022-01-20', '2022-05-20', '2022-09-17']
    assert row['sensors'] == ['L30', 'S30', 'S30']
    assert (row['minx'], row['maxy']) == (ORIGIN[0] + 64 * 30, ORIGIN[1] - 32 * 30)
    assert (row['maxx'] - row['minx'], row['maxy'] - row['miny']) == (960, 960)
    with rasterio.open(tmp_path / 'out' / row['image']) as dataset:
        assert tuple(dataset.bounds) == tuple(row[k] for k in ('minx', 'miny', 'maxx', 'maxy'))
        assert dataset.tags()['GEOSEG_DATES'] == ','.join(row['dates'])


def test_negatives_zero_and_fill_stay_what_they_are(tmp_path):
    write_world(tmp_path)

    def edit(pixels):
        pixels[0, :4] = [-50, 0, -9999, -1]

    replace_band(tmp_path, 20, 'L30', 'RED', edit)
    (row,) = cut_tile(task_of(tmp_path))['rows']
    pixels = read_chip(tmp_path / 'out' / row['image'], 3)
    assert pixels[2, 0, :4].tolist() == [-50, 0, -9999, -1]
    assert row['valid_fraction'] == 1 - 1 / 1024
    assert row['sums']['count'] == [3072, 3072, 3071, 3072, 3072, 3072]


def test_each_chip_takes_its_own_clearest_frames(tmp_path):
    """A cloud over the left chip on the first pass: it alone takes the second."""
    write_world(tmp_path)
    cloud(tmp_path, 20, 'L30', np.s_[:32, :32])
    left, right = cut_tile(task_of(tmp_path, [(0, 0), (0, 32)]))['rows']
    assert left['dates'][0] == '2022-03-01'
    assert right['dates'][0] == '2022-01-20'
    pixels = read_chip(tmp_path / 'out' / left['image'], 3)
    np.testing.assert_array_equal(pixels[:6], band_values(1, 96)[:, :32, :32])


@pytest.mark.parametrize(
    ('flag', 'clear'),
    [(2, False), (4, False), (8, False), (16, True), (32, True), (64, True), (192, True),
     (194, False), (1, True), (255, False), (0, True)],
)  # fmt: skip
def test_bits_of_fmask(tmp_path, flag, clear):
    """Cloud, adjacent and shadow hide the ground; snow, water, aerosol and bit 0 do not."""
    write_world(tmp_path)
    for day, sensor in ((20, 'L30'), (60, 'S30')):
        cloud(tmp_path, day, sensor, np.s_[:8, :32], flag)
    (row,) = cut_tile(task_of(tmp_path))['rows']
    assert row['clear_fraction'] == [1.0 if clear else 0.75, 1.0, 1.0]


def test_skipped_cells_are_counted_with_their_reason(tmp_path):
    write_world(tmp_path)
    for day, sensor in ((20, 'L30'), (60, 'S30')):
        cloud(tmp_path, day, sensor, np.s_[:32, :32])

    def fill(pixels):
        pixels[:, 32:64] = -9999

    replace_band(tmp_path, 140, 'S30', 'BLUE', fill)
    codes = np.full((288, 288), 2, np.uint8)
    codes[:, 192:] = 0
    write_tif(tmp_path / 'labels' / '10S_20220101-20230101.tif', codes, ORIGIN, 10.0, nodata=0)
    record = cut_tile(task_of(tmp_path, [(0, 0), (0, 32), (0, 64), (32, 0)]))
    assert record['skipped'] == {'not clear enough': 1, 'too little data': 1, 'no label': 1}
    assert [row['chip_id'] for row in record['rows']] == ['10SEG_2022_0032_0000']
    assert record['best_clear'] == [1.0, 1.0, 1.0]
    assert [p.name for p in (tmp_path / 'out/images').iterdir()] == ['10SEG_2022_0032_0000.tif']


def test_purity(tmp_path):
    """Left half: nine cells of trees. Right half: six of trees, three of water."""
    write_world(tmp_path)
    codes = np.full((288, 288), 2, np.uint8)
    codes[::3, 48:] = 1
    write_tif(tmp_path / 'labels' / '10S_20220101-20230101.tif', codes, ORIGIN, 10.0, nodata=0)
    (row,) = cut_tile(task_of(tmp_path))['rows']
    assert row['class_pixels'] == [0, 1024, 0, 0, 0, 0, 0, 0, 0]
    assert row['purity'] == pytest.approx((1 + 6 / 9) / 2)
    (row,) = cut_tile(task_of(tmp_path, min_purity=0.7))['rows']
    assert row['class_pixels'][1] == 512
    label = read_label(tmp_path / 'out' / row['label'])
    assert (label[:, :16] == 1).all()
    assert (label[:, 16:] == 255).all()
    (row,) = cut_tile(task_of(tmp_path, min_purity=6 / 9))['rows']
    assert row['class_pixels'][1] == 1024


def test_other_windows_and_one_frame(tmp_path):
    write_world(tmp_path)
    summer = (SeasonWindow.parse('07-01:08-31'),)
    (row,) = cut_tile(task_of(tmp_path, windows=summer))['rows']
    assert row['dates'] == ['2022-07-19']
    assert read_chip(tmp_path / 'out' / row['image'], 1).shape == (6, 32, 32)


def test_second_time_gives_the_same_bytes_and_is_known_as_finished(tmp_path):
    write_world(tmp_path)
    task = task_of(tmp_path, [(0, 0), (0, 32)])
    assert finished(task) is None
    record = cut_tile(task)
    files = sorted(path for path in task.out.rglob('*') if path.is_file())
    before = [path.read_bytes() for path in files]
    assert finished(task) == record == json.loads(task.record_path.read_bytes())
    cut_tile(task)
    assert [path.read_bytes() for path in files] == before


def test_not_finished_when_a_file_or_an_input_has_changed(tmp_path):
    write_world(tmp_path)
    task = task_of(tmp_path)
    (row,) = cut_tile(task)['rows']
    assert finished(task) is not None
    (task.out / row['label']).unlink()
    assert finished(task) is None
    cut_tile(task)
    with (task.out / row['image']).open('r+b') as file:
        file.truncate(1000)
    assert finished(task) is None
    cut_tile(task)
    replace_band(tmp_path, 20, 'L30', 'RED', lambda pixels: pixels.fill(9))
    assert finished(task) is None
    cut_tile(task)
    assert finished(task) is not None
    assert finished(task_of(tmp_path, min_clear=0.1)) is None


CELLS = [(row, column) for row in (0, 32, 64) for column in (0, 32, 64)]


def damage(root, day, sensor, band, size):
    """Cut a band file to ``size`` bytes; return the name of its granule."""
    name = granule_name('10SEG', day, sensor)
    path = root / 'granules' / name / f'{name}.{band}.tif'
    content = path.read_bytes()
    assert size < len(content)
    path.write_bytes(content[:size])
    return name


# 12,000 bytes are two thirds of the file: its last row of chips cannot be read, the others can.
@pytest.mark.parametrize(
    ('band', 'size'), [('B11', 0), ('B11', 300), ('B11', 12_000), ('Fmask', 0), ('Fmask', 6_000)]
)
def test_damaged_granule_is_as_if_it_were_not_there(tmp_path, band, size):
    """That of day 140 is the first of its window; all its chips go to that of day 200."""
    write_world(tmp_path)
    name = damage(tmp_path, 140, 'S30', band, size)
    record = cut_tile(task_of(tmp_path, CELLS))
    assert [row['dates'][1] for row in record['rows']] == ['2022-07-19'] * 9
    assert list(record['damaged']) == [name]
    assert f'{name}.{band}.tif cannot be read' in record['damaged'][name]
    with_it = {path.name: path.read_bytes() for path in (tmp_path / 'out/images').iterdir()}

    shutil.rmtree(tmp_path / 'granules' / name)
    shutil.rmtree(tmp_path / 'out')
    without = cut_tile(task_of(tmp_path, CELLS))
    assert without['rows'] == record['rows']
    assert {path.name: path.read_bytes() for path in (tmp_path / 'out/images').iterdir()} == with_it


@pytest.mark.parametrize('size', [0, 12_000])
def test_strict_names_a_damaged_granule(tmp_path, size):
    write_world(tmp_path)
    name = damage(tmp_path, 140, 'S30', 'B11', size)
    task = task_of(tmp_path, CELLS)
    strict = dataclasses.replace(task, strict=True)
    with pytest.raises(DamagedGranuleError, match=rf'{name}\.B11\.tif cannot be read'):
        cut_tile(strict)
    cut_tile(task)
    assert finished(task) is not None
    with pytest.raises(GranuleError, match=rf'{name}\.B11\.tif cannot be read'):
        finished(strict)


def test_chips_of_damaged_granules_only_are_skipped(tmp_path):
    write_world(tmp_path)
    damage(tmp_path, 140, 'S30', 'B02', 100)
    damage(tmp_path, 200, 'L30', 'B02', 12_000)
    record = cut_tile(task_of(tmp_path, CELLS))
    assert record['rows'] == []
    assert record['skipped'] == {'of damaged granules only': 9}
    assert record['best_clear'] == [1.0, 0.0, 1.0]
    assert len(record['damaged']) == 2


def test_band_on_another_grid_names_both(tmp_path):
    write_world(tmp_path)
    name = granule_name('10SEG', 140, 'S30')
    path = tmp_path / 'granules' / name / f'{name}.B11.tif'
    write_tif(path, np.zeros((96, 96), np.int16), (ORIGIN[0] + 30, ORIGIN[1]))
    with pytest.raises(GranuleError, match=r'B11\.tif and HLS\.L30\.T10SEG\.2022020.*grids differ'):
        cut_tile(task_of(tmp_path))


def test_unknown_label_code(tmp_path):
    write_world(tmp_path)
    codes = np.full((288, 288), 6, np.uint8)
    write_tif(tmp_path / 'labels' / '10S_20220101-20230101.tif', codes, ORIGIN, 10.0, nodata=0)
    with pytest.raises(LabelError, match=r'label code\(s\) \[6\]'):
        cut_tile(task_of(tmp_path))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(min_clear=1.5), '--min-clear is a share from 0 to 1'),
        (dict(min_purity=-1), '--min-purity'),
        (dict(chip_size=0), 'make no sense'),
        (dict(stride=0), 'make no sense'),
    ],
)
def test_bad_options(change, words):
    with pytest.raises(ConfigError, match=words):
        ChipOptions(**(dict(windows=equal_windows(1)) | change))
