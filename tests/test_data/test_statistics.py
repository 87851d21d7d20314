import json

import numpy as np
import pytest

from geoseg_prithvi.data.statistics import band_sums, read_statistics, write_statistics
from geoseg_prithvi.errors import ChipIndexError, DataNotFoundError
from geoseg_prithvi.lulc import IO_LULC


def test_sums_by_hand():
    """Two frames of two bands of 1 x 2 pixels; -9999 does not count, 0 and -50 do."""
    pixels = np.array([[[-50, 0]], [[7, -9999]], [[10, 20]], [[-9999, -9999]]], np.int16)
    assert band_sums(pixels, 2) == dict(count=[4, 1], sum=[-20, 7], sum_of_squares=[3000, 49])


def test_mean_and_std_are_those_of_the_valid_pixels(tmp_path):
    rng = np.random.default_rng(0)
    chips = rng.integers(-9998, 32767, (5, 18, 32, 32)).astype(np.int16)
    chips[rng.random(chips.shape) < 0.2] = -9999
    sums = [band_sums(chip, 6) for chip in chips]
    write_statistics(tmp_path, sums, np.arange(9), legend=IO_LULC)
    found = read_statistics(tmp_path)
    # (chips, T, C, H, W) -> values of each band
    bands = chips.reshape(5, 3, 6, 32, 32).swapaxes(0, 2).reshape(6, -1).astype(float)
    for band, mean, std in zip(bands, found.mean, found.std, strict=True):
        valid = band[band != -9999]
        np.testing.assert_allclose([mean, std], [valid.mean(), valid.std()], rtol=1e-12)
    document = json.loads((tmp_path / 'stats.json').read_text())
    assert document['count'] == [int((band != -9999).sum()) for band in bands]
    assert document['class_pixels']['rangeland'] == 8
    assert document['num_chips'] == 5


def test_order_of_chips_does_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    sums = [band_sums(rng.integers(0, 9999, (6, 8, 8)).astype(np.int16), 6) for _ in range(9)]
    first = write_statistics(tmp_path, sums, np.arange(9), legend=IO_LULC).read_bytes()
    again = write_statistics(tmp_path, sums[::-1], np.arange(9), legend=IO_LULC).read_bytes()
    assert first == again


def test_band_without_data(tmp_path):
    pixels = np.full((6, 4, 4), 5, np.int16)
    pixels[3] = -9999
    with pytest.raises(ChipIndexError, match='NIR_NARROW has no valid pixel'):
        write_statistics(tmp_path, [band_sums(pixels, 6)], np.arange(9), legend=IO_LULC)


def test_missing_and_damaged(tmp_path):
    with pytest.raises(DataNotFoundError, match=r'no stats\.json'):
        read_statistics(tmp_path)
    (tmp_path / 'stats.json').write_text('{"mean": [1]')
    with pytest.raises(ChipIndexError, match=r'stats\.json is damaged'):
        read_statistics(tmp_path)
