import numpy as np
import pytest

from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.lulc import IO_LULC
from geoseg_prithvi.visualization import colorize, false_color
from geoseg_prithvi.visualization.composites import CHEQUER


def ramp_chip():
    """Channel k = 100 * k + 0..100 along the columns; two frames of six bands."""
    return (100 * np.arange(12)[:, None, None] + np.arange(101)[None, None]).astype(np.int16)


def test_each_frame_shows_its_own_nir_red_green():
    chip = np.zeros((12, 8, 8), np.int16)
    chip[3, 0] = chip[8, 1] = chip[7, 2] = 5000  # frame 0 NIR, frame 1 RED, frame 1 GREEN
    expected = np.zeros((2, 8, 8, 3), np.uint8)
    expected[0, 0, :, 0] = expected[1, 1, :, 1] = expected[1, 2, :, 2] = 255
    frames = false_color(chip, 2)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, expected)


def test_stretch_between_the_percentiles_of_all_frames():
    frames = false_color(ramp_chip(), 2)
    # NIR of frame 0 is 300..400, of frame 1 900..1000: percentile 2 is 304, 98 is 996.
    nir = frames[..., 0].astype(int)
    assert nir[0, 0, 0] == 0 and nir[1, 0, 100] == 255
    assert nir[0, 0, 54] == round((354 - 304) / (996 - 304) * 255)
    assert nir[0].max() < nir[1].min()
    # Red is channel 2 of each frame, green channel 1: the same ramp.
    np.testing.assert_array_equal(frames[..., 1], frames[..., 0])


def test_bands_are_found_by_name():
    chip = ramp_chip()
    swapped = chip.reshape(2, 6, 1, 101)[:, ::-1].reshape(12, 1, 101)
    names = ('SWIR_2', 'SWIR_1', 'NIR_NARROW', 'RED', 'GREEN', 'BLUE')
    np.testing.assert_array_equal(false_color(swapped, 2, bands=names), false_color(chip, 2))


def test_nodata_is_chequered_and_does_not_stretch():
    chip = ramp_chip().repeat(16, axis=1)
    plain = false_color(chip, 2)
    chip[6:, :4, :10] = -9999  # frame 1 only
    frames = false_color(chip, 2)
    hole = frames[1, :4, :10]
    assert set(np.unique(hole)) == set(CHEQUER[:2])
    assert (hole == hole[..., :1]).all()
    assert abs(frames[0].astype(int) - plain[0]).max() <= 2


def test_zero_and_negatives_are_data():
    chip = np.zeros((6, 20, 20), np.int16)
    chip[:, :, 10:] = -50
    frame = false_color(chip, 1)[0]
    assert (frame[:, :10] == 255).all()
    assert (frame[:, 10:] == 0).all()


def test_a_frame_without_any_data():
    frames = false_color(np.full((6, 8, 8), -9999, np.int16), 1)
    assert set(np.unique(frames)) == set(CHEQUER[:2])


def test_unknown_band():
    with pytest.raises(ConfigError, match=r"needs the band\(s\) \['NIR_NARROW'\]"):
        false_color(np.zeros((3, 4, 4), np.int16), 1, bands=('BLUE', 'GREEN', 'RED'))


def test_class_colours():
    classes = np.array([[0, 8], [255, 3]], np.uint8)
    colors = colorize(classes, IO_LULC.colors)
    assert colors[0, 0].tolist() == [26, 91, 171]
    assert colors[0, 1].tolist() == [198, 173, 141]
    assert colors[1, 1].tolist() == [255, 219, 92]
    assert colors[1, 0].tolist() in [[CHEQUER[0]] * 3, [CHEQUER[1]] * 3]
    np.testing.assert_array_equal(colorize(classes.astype(np.int64), IO_LULC.colors), colors)
