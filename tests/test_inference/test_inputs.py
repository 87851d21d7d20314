"""From paths to scenes: which frames, and one clear sentence for what does not fit."""

import datetime as dt

import numpy as np
import pytest

from geoseg_prithvi.data.frames import SeasonWindow
from geoseg_prithvi.errors import (
    ConfigError,
    DataNotFoundError,
    GranuleError,
    LayoutError,
    SceneError,
)
from geoseg_prithvi.hls import Fmask
from geoseg_prithvi.inference.inputs import SceneOptions, find_scenes
from geoseg_prithvi.layout import channel_names

from ..granule_world import band_values, granule_name, write_granule, write_tif
from .scenes import random_pixels, write_stack

NAMES = channel_names(2)


def days(scene):
    return [day.timetuple().tm_yday for day in scene.dates]


def write_passes(root, passes, tile='10SEG', size=16):
    """``passes``: (day, cloud cover, year) each."""
    for number, (day, cover, year) in enumerate(passes):
        fmask = np.full((size, size), 64, np.uint8)
        fmask[: round(cover * size)] |= int(Fmask.CLOUD)
        name = granule_name(tile, day, 'S30', year)
        write_granule(root, name, band_values(number, size), fmask)
    return root


def test_each_season_window_gives_its_clearest_granule(tmp_path):
    passes = [(10, 0.5, 2022), (60, 0.25, 2022), (150, 0.0, 2022), (160, 0.5, 2022), (300, 1, 2022)]
    (source,) = find_scenes([write_passes(tmp_path, passes)])
    assert source.name == '10SEG'
    assert days(source.open(SceneOptions(3))) == [60, 150, 300]
    windows = [SeasonWindow.parse('01-01:01-31'), SeasonWindow.parse('06-01:06-30')]
    assert days(source.open(SceneOptions(2, windows=windows))) == [10, 160]


def test_the_last_complete_year_is_taken(tmp_path):
    passes = [(d, 0, y) for y in (2020, 2021) for d in (30, 200)] + [(40, 0, 2022)]
    (source,) = find_scenes([write_passes(tmp_path, passes)])
    assert {day.year for day in source.open(SceneOptions(2)).dates} == {2021}
    assert {day.year for day in source.open(SceneOptions(2, year=2020)).dates} == {2020}
    with pytest.raises(GranuleError, match=r'no granule in the season window .* of 2022'):
        source.open(SceneOptions(2, year=2022))


def test_given_dates(tmp_path):
    passes = [(10, 0.5, 2022), (60, 0.25, 2022), (150, 0.0, 2022)]
    (source,) = find_scenes([write_passes(tmp_path, passes)])
    dates = [dt.date(2022, 5, 30), dt.date(2022, 1, 10)]
    assert source.open(SceneOptions(2, dates=dates)).dates == dates
    wrong = [dt.date(2022, 5, 30), dt.date(2022, 1, 11)]
    with pytest.raises(GranuleError, match=r'no granule of 2022-01-11; it has 2022-01-10, 2022-03'):
        source.open(SceneOptions(2, dates=wrong))
    with pytest.raises(ConfigError, match='2 dates were given, but the model takes 3 frames'):
        SceneOptions(3, dates=dates)


def test_tiles_lists_and_folders_of_stacks(tmp_path):
    write_passes(tmp_path / 'granules', [(10, 0, 2022)], '10SEG')
    write_passes(tmp_path / 'granules', [(10, 0, 2022)], '11SKA')
    for name in ('b', 'a'):
        (tmp_path / 'stacks').mkdir(exist_ok=True)
        write_stack(tmp_path / f'stacks/{name}.tif', random_pixels((12, 4, 4)), NAMES)
    (tmp_path / 'list.txt').write_text('# two tiles\ngranules\n\nstacks/a.tif\n')
    assert [s.name for s in find_scenes([tmp_path / 'granules'])] == ['10SEG', '11SKA']
    assert [s.name for s in find_scenes([tmp_path / 'stacks'])] == ['a', 'b']
    assert [s.name for s in find_scenes([tmp_path / 'list.txt'])] == ['10SEG', '11SKA', 'a']
    with pytest.raises(SceneError, match='Two scenes are called a,'):
        find_scenes([tmp_path / 'list.txt', tmp_path / 'stacks'])


def test_nothing_there(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty.txt').write_text('\n')
    for name, message in (
        ('nowhere', 'nowhere does not exist'),
        ('empty', 'no HLS granule in'),
        ('empty.txt', 'names no input'),
    ):
        with pytest.raises(DataNotFoundError, match=message):
            find_scenes([tmp_path / name])


def open_stack_of(path, pixels, names=NAMES, num_frames=2, **profile):
    write_stack(path, pixels, names, **profile)
    return find_scenes([path])[0].open(SceneOptions(num_frames))


def test_wrong_bands(tmp_path):
    pixels = random_pixels((12, 4, 4))
    with pytest.raises(LayoutError, match=r'a\.tif has 12 bands but none is called t2_BLUE'):
        open_stack_of(tmp_path / 'a.tif', pixels, num_frames=3)
    with pytest.raises(LayoutError, match=r"b\.tif does not name its bands.*layout='time-major'"):
        open_stack_of(tmp_path / 'b.tif', pixels, None)
    with pytest.raises(SceneError, match=r'c\.tif holds float32, but int16'):
        open_stack_of(tmp_path / 'c.tif', pixels.astype(np.float32))


def test_wrong_dates(tmp_path):
    pixels = random_pixels((12, 4, 4))
    with pytest.raises(SceneError, match=r'a\.tif names 1 dates for 2 frames; .*--dates'):
        open_stack_of(tmp_path / 'a.tif', pixels, tags=dict(GEOSEG_DATES='2022-01-01'))
    with pytest.raises(SceneError, match=r'GEOSEG_DATES of .*b\.tif is no list of dates'):
        open_stack_of(tmp_path / 'b.tif', pixels, tags=dict(GEOSEG_DATES='2022-01-01,spring'))


def test_no_coordinate_system_is_a_warning(tmp_path, caplog):
    scene = open_stack_of(tmp_path / 'a.tif', random_pixels((12, 4, 4)), crs=None)
    assert scene.grid.crs is None
    assert 'a.tif has no coordinate system; neither will its map' in caplog.text


def test_no_raster(tmp_path):
    (tmp_path / 'a.tif').write_bytes(b'no raster at all')
    with pytest.raises(SceneError, match=r'a\.tif cannot be opened as a raster'):
        find_scenes([tmp_path / 'a.tif'])[0].open(SceneOptions(2))


def test_mixed_grids_among_frames(tmp_path):
    write_passes(tmp_path, [(10, 0, 2022), (200, 0, 2022)])
    band = next(tmp_path.rglob('*2022200*.B04.tif'))
    write_tif(band, np.zeros((16, 17), np.int16))
    (source,) = find_scenes([tmp_path])
    with pytest.raises(GranuleError, match=r'B04\.tif and .* grids differ: 17 x 16 pixels'):
        source.open(SceneOptions(2))


def test_a_band_missing(tmp_path):
    write_passes(tmp_path, [(10, 0, 2022)])
    next(tmp_path.rglob('*.B8A.tif')).unlink()
    with pytest.raises(GranuleError, match=r'lacks its band B8A \(NIR_NARROW\)'):
        find_scenes([tmp_path])
