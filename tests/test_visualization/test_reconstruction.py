import numpy as np
import pytest

from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.visualization.composites import CHEQUER
from geoseg_prithvi.visualization.panel import DPI, SIDE
from geoseg_prithvi.visualization.reconstruction import draw_reconstruction

DATES = ['2022-03-01  L30', '2022-07-15  S30', '2022-10-02  S30']


def chips():
    """A frame is half dark and half bright; the model guesses the opposite of it."""
    dark_and_bright = np.full((6, 3, 16, 16), -1.0)
    dark_and_bright[..., 8:] = 1.0
    hidden = np.zeros((3, 16, 16))
    hidden[1] = 1  # the second frame only
    return dark_and_bright, -dark_and_bright, hidden


def cells(picture):
    """The nine pictures, ``(3, 3, rows, columns, 3)``, cut from the middle of each."""
    height, width = picture.shape[:2]
    side = SIDE * DPI
    # Titles stand above, the row names to the left and the legend below.
    top, left = 0.65 * (height - 3 * side), 0.8 * (width - 3 * side)
    middle = np.round(side * (np.arange(3) + 0.5)).astype(int)
    cut = slice(-60, 60)
    return np.array(
        [
            [
                picture[int(top + y) + cut.start : int(top + y) + cut.stop][
                    :, int(left + x) + cut.start : int(left + x) + cut.stop
                ]
                for x in middle
            ]
            for y in middle
        ]
    )


def is_half_black_half_white(cell):
    values = cell.astype(int).mean(axis=(0, 2))
    return values[:30].mean() < 15 and values[-30:].mean() > 240


def test_rows_show_original_masked_and_filled_in():
    original, guess, hidden = chips()
    found = cells(draw_reconstruction(original, guess, hidden, frame_titles=DATES))
    for column in range(3):
        assert is_half_black_half_white(found[0, column])
    greys = [CHEQUER[0], CHEQUER[1]]
    assert np.isin(found[1, 1], greys).mean() > 0.9  # the model saw nothing of the second frame
    assert is_half_black_half_white(found[1, 0])
    # Only what was hidden is the model's; it guessed the opposite.
    assert is_half_black_half_white(found[2, 0])
    assert is_half_black_half_white(found[2, 1][:, ::-1])


def test_nodata_is_chequered_in_the_original_too():
    original, guess, hidden = chips()
    original[:, 0] = 0
    found = cells(draw_reconstruction(original, guess, hidden, frame_titles=DATES))
    assert np.isin(found[0, 0], CHEQUER[:2]).mean() > 0.9


def test_a_wrong_composite_is_told():
    original, guess, hidden = chips()
    with pytest.raises(ConfigError, match='TIR'):
        draw_reconstruction(
            original, guess, hidden, frame_titles=DATES, composite=('TIR', 'RED', 'GREEN')
        )
