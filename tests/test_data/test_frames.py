import datetime as dt

import numpy as np
import pytest

from geoseg_prithvi.data.frames import (
    SeasonWindow,
    candidates,
    cell_means,
    check_windows,
    choose_frames,
    equal_windows,
)
from geoseg_prithvi.errors import ConfigError, GranuleError
from geoseg_prithvi.hls import GranuleId, fmask_clear


def test_three_equal_windows():
    assert [str(w) for w in equal_windows(3)] == ['01-01:05-01', '05-02:08-31', '09-01:12-31']


@pytest.mark.parametrize('count', [1, 2, 3, 4, 6, 12, 365])
@pytest.mark.parametrize('year', [2021, 2024])
def test_equal_windows_cover_each_day_once(count, year):
    windows = equal_windows(count)
    check_windows(windows)
    days = [dt.date(year, 1, 1) + dt.timedelta(days=i) for i in range(365 + (year == 2024))]
    covered = [sum(day in window for window in windows) for day in days]
    assert set(covered) == {1} or (count == 365 and year == 2024 and covered.count(0) == 1)


def test_parse():
    window = SeasonWindow.parse('03-01:05-31')
    assert dt.date(2022, 3, 1) in window
    assert dt.date(2022, 5, 31) in window
    assert dt.date(2022, 2, 28) not in window
    assert dt.date(2022, 6, 1) not in window
    assert str(SeasonWindow.parse('02-29:03-01')) == '02-29:03-01'


@pytest.mark.parametrize('text', ['3', '03-01', '03-01:13-01', '03-01:04-01:05-01', '02-30:03-01'])
def test_no_window(text):
    with pytest.raises(ConfigError, match='no season window'):
        SeasonWindow.parse(text)


def test_window_over_new_year():
    with pytest.raises(ConfigError, match='ends before it begins'):
        SeasonWindow.parse('11-01:02-28')


def test_windows_go_forward_without_overlap():
    one, other = SeasonWindow.parse('01-01:04-01'), SeasonWindow.parse('04-01:06-01')
    with pytest.raises(ConfigError, match='overlap or are out of order'):
        check_windows([one, other])
    with pytest.raises(ConfigError, match='overlap or are out of order'):
        check_windows([SeasonWindow.parse('05-01:06-01'), SeasonWindow.parse('01-01:02-01')])
    with pytest.raises(ConfigError, match='0 frames'):
        equal_windows(0)


def granule(date):
    return GranuleId('10SEG', dt.datetime.fromisoformat(date), 'S30')


def test_candidates_are_of_the_year_of_the_labels():
    granules = [granule(d) for d in ('2021-02-01', '2022-02-01', '2022-03-01', '2022-10-01')]
    windows = equal_windows(3)[::2]
    assert candidates(granules, windows, 2022, '10SEG') == [[1, 2], [3]]


def test_empty_window_is_named():
    granules = [granule('2022-02-01'), granule('2022-10-01')]
    with pytest.raises(
        GranuleError, match=r'10SEG has no granule in the season window 05-02:08-31 of 2022'
    ):
        candidates(granules, equal_windows(3), 2022, '10SEG')


def test_clearest_of_each_window_for_each_chip():
    clear = np.array(
        [
            [0.9, 0.1],
            [0.8, 0.8],
            [0.5, 0.2],  # second window
            [0.5, 0.3],
        ]
    )
    # Ties go to the earlier granule.
    assert choose_frames(clear, [[0, 1], [2, 3]]).tolist() == [[0, 2], [1, 3]]


def test_cell_means_count_pixels():
    mask = np.zeros((4, 12), bool)
    mask[0, :5] = True
    mask[3, 11] = True
    assert cell_means(mask, [0, 4, 8], 4).tolist() == [4 / 16, 1 / 16, 1 / 16]
    assert cell_means(mask, [0, 2], 4).tolist() == [4 / 16, 3 / 16]


def test_clear_and_cloud_side_by_side_give_no_flag_that_neither_has():
    """64 is clear, 194 is cloud: their mean, 129, would be neither."""
    fmask = np.array([[64, 194] * 8] * 16, np.uint8)
    assert cell_means(fmask_clear(fmask), [0], 16).tolist() == [0.5]
    fmask[:] = np.array([64, 255] * 8)
    assert cell_means(fmask_clear(fmask), [0], 16).tolist() == [0.5]
