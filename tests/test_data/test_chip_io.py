import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geoseg_prithvi.data.chip_io import read_chip, read_label, write_chip, write_label
from geoseg_prithvi.errors import ChipError, DataNotFoundError, LayoutError, OutputWriteError
from geoseg_prithvi.hls import BANDS
from geoseg_prithvi.lulc import IO_LULC

WHERE = dict(transform=from_origin(499_980, 4_200_000, 30, 30), crs=CRS.from_epsg(32610))
DATES = ['2022-02-03', '2022-06-10', '2022-10-11']
SENSORS = ['L30', 'S30', 'L30']


def chip_pixels():
    """``100 * t + band`` everywhere, with the values that others get wrong in the first pixels."""
    pixels = np.empty((18, 32, 32), np.int16)
    for t in range(3):
        for band in range(6):
            pixels[6 * t + band] = 100 * t + band
    pixels[:, 0, :5] = [-50, 0, -9999, 32767, -32768]
    return pixels


@pytest.fixture
def chip(tmp_path):
    path = tmp_path / 'images' / 'a.tif'
    write_chip(path, chip_pixels(), dates=DATES, sensors=SENSORS, **WHERE)
    return path


def test_chip_comes_back_as_written(chip):
    read = read_chip(chip, 3)
    assert read.dtype == np.int16
    np.testing.assert_array_equal(read, chip_pixels())


def test_chip_file_is_as_the_contract_says(chip):
    with rasterio.open(chip) as dataset:
        assert dataset.descriptions[:2] == ('t0_BLUE', 't0_GREEN')
        assert dataset.descriptions[17] == 't2_SWIR_2'
        assert dataset.nodata == -9999
        assert dataset.crs.to_epsg() == 32610
        assert dataset.transform == WHERE['transform']
        assert dataset.compression.name == 'zstd'
        assert dataset.interleaving.name == 'band'
        assert dataset.tags(ns='IMAGE_STRUCTURE')['PREDICTOR'] == '2'
        tags = dataset.tags()
    assert tags['GEOSEG_LAYOUT'] == 'time-major'
    assert tags['GEOSEG_DATES'] == '2022-02-03,2022-06-10,2022-10-11'
    assert tags['GEOSEG_SENSORS'] == 'L30,S30,L30'


def test_bands_are_found_by_name_in_the_order_asked_for(chip):
    read = read_chip(chip, 2, bands=('SWIR_2', 'BLUE'))
    assert read[:, 1, 0].tolist() == [5, 0, 105, 100]


def test_bands_in_another_order_in_the_file(tmp_path):
    pixels = np.arange(18, dtype=np.int16)[:, None, None].repeat(8, 1).repeat(8, 2)
    backwards = tuple(reversed(BANDS))
    write_chip(tmp_path / 'a.tif', pixels, dates=DATES, sensors=SENSORS, bands=backwards, **WHERE)
    assert read_chip(tmp_path / 'a.tif', 1)[:, 0, 0].tolist() == [5, 4, 3, 2, 1, 0]


def write_plain(path, count=18, dtype='int16'):
    values = np.arange(count)[:, None, None] * np.ones((8, 8))
    with rasterio.open(
        path, 'w', driver='GTiff', count=count, height=8, width=8, dtype=dtype, **WHERE
    ) as dataset:
        dataset.write(values.astype(dtype))
    return path


def test_file_without_names_is_not_guessed(tmp_path):
    path = write_plain(tmp_path / 'a.tif')
    with pytest.raises(LayoutError, match='does not name its bands'):
        read_chip(path, 3)
    assert read_chip(path, 3, layout='time-major')[:, 0, 0].tolist() == list(range(18))
    # band-major: file is B0 t0, B0 t1, B0 t2, B1 t0, ...
    assert read_chip(path, 3, layout='band-major')[:8, 0, 0].tolist() == [0, 3, 6, 9, 12, 15, 1, 4]


def test_wrong_band_count(tmp_path):
    path = write_plain(tmp_path / 'a.tif', count=17)
    with pytest.raises(LayoutError, match=r'a\.tif has 17 bands.*num_frames=3 x 6 bands = 18'):
        read_chip(path, 3, layout='time-major')


def test_more_frames_than_there_are(chip):
    with pytest.raises(LayoutError, match=r'a\.tif has 18 bands but none is called t3_BLUE'):
        read_chip(chip, 4)


def test_wrong_dtype(tmp_path):
    path = write_plain(tmp_path / 'a.tif', dtype='float32')
    with pytest.raises(ChipError, match=r'a\.tif holds float32, but int16 is expected'):
        read_chip(path, 3, layout='time-major')
    with pytest.raises(ChipError, match='int16'):
        write_chip(tmp_path / 'b.tif', chip_pixels() * 1.0, dates=DATES, sensors=SENSORS, **WHERE)
    assert not (tmp_path / 'b.tif').exists()


def test_frames_and_dates_must_agree(tmp_path):
    with pytest.raises(ChipError, match='2 dates'):
        write_chip(tmp_path / 'b.tif', chip_pixels(), dates=DATES[:2], sensors=SENSORS[:2], **WHERE)


def test_missing_file(tmp_path):
    with pytest.raises(DataNotFoundError, match=r'none\.tif does not exist'):
        read_chip(tmp_path / 'none.tif', 3)
    with pytest.raises(DataNotFoundError, match=r'none\.tif does not exist'):
        read_label(tmp_path / 'none.tif')


@pytest.mark.parametrize('share', [0.0, 0.01, 0.02, 0.04, 0.1, 0.5, 0.99])
def test_truncated_tiff_is_named(tmp_path, share):
    path = tmp_path / 'a.tif'
    pixels = np.random.default_rng(0).integers(0, 9999, (18, 32, 32)).astype(np.int16)
    write_chip(path, pixels, dates=DATES, sensors=SENSORS, **WHERE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ChipError, match=r'a\.tif cannot be read, it is truncated') as caught:
        read_chip(path, 3)
    assert '\n' not in str(caught.value)


def classes():
    return (np.arange(32 * 32) % 9).astype(np.uint8).reshape(32, 32)


def test_label_shows_right_in_a_gis(tmp_path):
    expected = classes()
    expected[0] = 255
    path = tmp_path / 'l.tif'
    write_label(path, expected, **WHERE)
    np.testing.assert_array_equal(read_label(path), expected)
    with rasterio.open(path) as dataset:
        assert dataset.nodata == 255
        colors = dataset.colormap(1)
        assert [colors[i][:3] for i in range(9)] == list(IO_LULC.colors)
        assert colors[255][3] == 0
    # GDAL itself must have understood the names: what it copies, it has read.
    rasterio.shutil.copy(path, tmp_path / 'copy.tif', driver='GTiff')
    copied = (tmp_path / 'copy.tif.aux.xml').read_text()
    assert [part.split('<')[0] for part in copied.split('<Category>')[1:]] == list(IO_LULC.names)


def test_large_map_is_tiled_and_whole(tmp_path):
    expected = np.random.default_rng(0).integers(0, 9, (1030, 600)).astype(np.uint8)
    write_label(tmp_path / 'l.tif', expected, **WHERE)
    np.testing.assert_array_equal(read_label(tmp_path / 'l.tif'), expected)
    with rasterio.open(tmp_path / 'l.tif') as dataset:
        assert dataset.block_shapes == [(512, 512)]


def test_label_must_be_uint8(tmp_path):
    with pytest.raises(ChipError, match='uint8'):
        write_label(tmp_path / 'l.tif', classes().astype(np.int64), **WHERE)
    with pytest.raises(ChipError, match='18 bands; a label has 1'):
        read_label(write_plain(tmp_path / 'a.tif'))


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path, chip):
    first = chip.read_bytes()
    write_chip(chip, chip_pixels(), dates=DATES, sensors=SENSORS, **WHERE)
    assert chip.read_bytes() == first
    assert [path.name for path in chip.parent.iterdir()] == ['a.tif']


def test_unwritable_folder_is_one_sentence(tmp_path):
    (tmp_path / 'blocker').write_text('a file, not a folder')
    with pytest.raises(OutputWriteError, match=r'could not be written .*check free space'):
        write_label(tmp_path / 'blocker' / 'l.tif', classes(), **WHERE)
