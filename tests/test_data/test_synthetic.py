"""The synthetic world: true formats, one ground under all tiles, weather that Fmask knows of."""

import dataclasses
import datetime as dt
import shutil
import time

import numpy as np
import pytest
import rasterio

from geoseg_prithvi.data.granules import find_granules, tile_grid
from geoseg_prithvi.data.labels import find_labels
from geoseg_prithvi.data.landscape import Block, make_ground, noise
from geoseg_prithvi.data.spectra import COVER_INDEX, VARIANTS, cover_table, hash01
from geoseg_prithvi.data.synthetic import Scene, make_world, observe, schedule, tile_origin
from geoseg_prithvi.errors import ConfigError, OutputExistsError
from geoseg_prithvi.hls import BANDS, FILL, FMASK_FILL, Fmask, GranuleId
from geoseg_prithvi.lulc import IO_LULC

TILES = ('10SEG', '10SFG')
SIZE, DATES = 64, 4


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp('world')
    make_world(out, TILES, (2021, 2022), DATES, SIZE)
    return out


@pytest.fixture(scope='module')
def place():
    _, left, top = tile_origin('10SEG')
    block = Block(left, top, 384, 384, 30.0)
    return block, make_ground(block, 0, 2022)


def bands_of(granule):
    for band in (*BANDS, 'Fmask'):
        with rasterio.open(granule.path(band)) as dataset:
            yield dataset.read(1)


@pytest.mark.parametrize(
    ('tile', 'corner'),
    # Corners of real Sentinel-2 tiles.
    [
        ('10SEG', (32610, 499980, 4200000)),
        ('10SEH', (32610, 499980, 4300020)),
        ('18TWL', (32618, 499980, 4600020)),
        ('31TCJ', (32631, 300000, 4900020)),
        ('33UUP', (32633, 300000, 5400000)),
    ],
)
def test_tiles_lie_where_sentinel_2_has_them(tile, corner):
    assert tile_origin(tile) == corner


@pytest.mark.parametrize('tile', ['10SIG', '61SEG', '10SEW', 'SEG', '10HEG', ''])
def test_impossible_tile(tile):
    with pytest.raises(ConfigError, match='no MGRS tile of the northern hemisphere'):
        tile_origin(tile)


def test_files_are_as_lp_daac_delivers_them(world):
    tiles = find_granules(world / 'granules')
    assert tuple(tiles) == TILES
    sensors = set()
    for tile, granules in tiles.items():
        assert len(granules) == 2 * DATES
        assert {g.id.acquired.year for g in granules} == {2021, 2022}
        grid = tile_grid(granules)
        epsg, left, top = tile_origin(tile)
        assert (grid.epsg, grid.transform.c, grid.transform.f, grid.width) == (
            epsg,
            left,
            top,
            SIZE,
        )
        for granule in granules:
            sensors.add(granule.id.sensor)
            assert granule.folder.name == str(granule.id)
            assert len(list(granule.folder.iterdir())) == 7
    assert sensors == {'L30', 'S30'}
    with rasterio.open(granules[0].path('NIR_NARROW')) as band:
        assert (band.dtypes, band.nodata, band.scales) == (('int16',), FILL, (1e-4,))
        assert band.profile['tiled']
        assert band.compression.name == 'deflate'
        assert band.tags()['SENSING_TIME'].startswith(f'{granules[0].id.acquired:%Y-%m-%dT%H:%M}')
    with rasterio.open(granules[0].path('Fmask')) as fmask:
        assert (fmask.dtypes, fmask.nodata) == (('uint8',), FMASK_FILL)


def test_labels_are_as_impact_observatory_delivers_them(world):
    maps = find_labels(world / 'labels')
    assert [m.path.name for m in maps] == [
        '10S_20210101-20220101.tif',
        '10S_20220101-20230101.tif',
    ]
    for label in maps:
        with rasterio.open(label.path) as dataset:
            assert (dataset.dtypes, dataset.nodata, dataset.res) == (('uint8',), 0, (10, 10))
            assert dataset.colormap(1)[1][:3] == IO_LULC.colors[0]
            for tile in TILES:
                _, left, top = tile_origin(tile)
                window = dataset.window(left, top - 30 * SIZE, left + 30 * SIZE, top)
                codes = dataset.read(1, window=window)
                assert codes.shape == (3 * SIZE, 3 * SIZE)
                assert set(np.unique(codes)) <= set(IO_LULC.codes)
            # Nothing between the tiles.
            assert dataset.read(1, window=((0, 64), (3 * SIZE, 3 * SIZE + 64))).max() == 0


def test_fill_is_fill_in_all_bands(world):
    edges = 0
    for granules in find_granules(world / 'granules').values():
        for granule in granules:
            *bands, fmask = bands_of(granule)
            fill = fmask == FMASK_FILL
            edges += fill.any()
            for band in bands:
                np.testing.assert_array_equal(band == FILL, fill)
    assert 0 < edges < 4 * DATES


def test_same_arguments_same_world_and_an_interrupted_one_goes_on(world, tmp_path):
    # As a killed run leaves it: no label map yet, a granule unfinished.
    again = tmp_path / 'again'
    shutil.copytree(world, again)
    label = again / 'labels' / '10S_20220101-20230101.tif'
    granule = find_granules(again / 'granules')['10SFG'][-1]
    lost = [label, granule.path('RED'), granule.path('Fmask')]
    before = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    calls = []
    make_world(again, TILES, (2021, 2022), DATES, SIZE, progress=lambda *n: calls.append(n))
    assert [path.read_bytes() for path in lost] == before
    assert calls[-1] == (4 * DATES, 4 * DATES)
    with pytest.raises(OutputExistsError, match='made with other settings'):
        make_world(again, TILES, (2021, 2022), DATES, SIZE, seed=1)


@pytest.mark.parametrize('wrong', [dict(size=0), dict(size=3661), dict(tiles=()), dict(years=())])
def test_impossible_world(tmp_path, wrong):
    with pytest.raises(ConfigError, match='cannot be made'):
        make_world(tmp_path / 'world', **wrong)
    assert not (tmp_path / 'world').exists()


def test_the_ground_is_the_same_in_overlapping_tiles():
    # 10SEG ends 9.8 km east of the corner of 10SFG.
    _, left, top = tile_origin('10SFG')
    one = make_ground(Block(left, top, 40, 60, 30.0), 3, 2022)
    other = make_ground(Block(left - 30 * 25, top + 30 * 10, 50, 70, 30.0), 3, 2022)
    np.testing.assert_array_equal(one.label[:, : 3 * 45], other.label[30:, 75:])
    np.testing.assert_array_equal(one.cover[:, : 3 * 45], other.cover[30:, 75:])
    for name in ('relief', 'slope', 'soil', 'vary'):
        mine, theirs = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(mine[..., :45], theirs[..., 10:, 25:])


def test_a_tile_of_the_demo_holds_all_classes(place):
    _, ground = place
    counts = np.bincount(ground.label.ravel(), minlength=len(IO_LULC))
    assert counts.min() > 0.001 * ground.label.size


def test_another_seed_is_another_world_and_crops_rotate(place):
    block, _ = place
    small = dataclasses.replace(block, height=100, width=100)
    first, second = make_ground(small, 0, 2022), make_ground(small, 1, 2022)
    later = make_ground(small, 0, 2023)
    assert (first.label != second.label).mean() > 0.3
    assert (first.label == later.label).mean() > 0.95
    assert (first.cover != later.cover).mean() > 0.1


def test_noise_is_standardised():
    surface = noise(Block(0, 0, 600, 600, 30.0), 300, 0, 'x', octaves=3)
    assert abs(surface.mean()) < 0.1
    assert abs(surface.std() - 1) < 0.1


def test_hash_is_uniform_and_depends_on_every_key():
    u = hash01(0, 'a', np.arange(100_000))
    np.testing.assert_allclose(np.histogram(u, 10, (0, 1))[0], 10_000, rtol=0.05)
    for other in (hash01(1, 'a', np.arange(100_000)), hash01(0, 'b', np.arange(100_000))):
        assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


def test_one_date_confuses_what_three_tell_apart():
    def ndvi(name, day):
        table = cover_table(0, 2022, day).reshape(-1, VARIANTS, 8)[COVER_INDEX[name], :, :6]
        return np.median((table[:, 3] - table[:, 2]) / (table[:, 3] + table[:, 2]))

    names = ('maize', 'deciduous', 'reed', 'pasture')
    assert min(ndvi(name, 215) for name in names) > 0.5
    assert ndvi('winter cereal', 110) > ndvi('maize', 110) + 0.3
    assert ndvi('maize', 215) > ndvi('winter cereal', 215) + 0.3
    assert ndvi('pasture', 110) > ndvi('reed', 110) + 0.2


def scene(cover, edge=0.0):
    return Scene(GranuleId('10SEG', dt.datetime(2022, 7, 20, 19), 'S30'), cover, edge)


def test_shadows_lie_north_west_of_their_clouds(place):
    block, ground = place
    fmask = observe(scene(0.25), ground, block, block, 0)[-1]
    cloud, shadow = (fmask & int(Fmask.CLOUD)) != 0, (fmask & int(Fmask.SHADOW)) != 0
    assert 0.05 < cloud.mean() < 0.6
    assert not (cloud & shadow).any()
    overlap = {k: (shadow[:-k, :-k] & cloud[k:, k:]).sum() for k in range(5, 80)}
    best = max(overlap, key=overlap.get)
    assert overlap[best] > 0.7 * shadow[:-best, :-best].sum()
    assert 10 < best < 70


def test_sky_and_ground_bits_fit_the_picture(place):
    block, ground = place
    *bands, fmask = observe(scene(0.25), ground, block, block, 0)
    clear = (fmask & int(Fmask.CLOUD | Fmask.ADJACENT | Fmask.SHADOW)) == 0
    water = clear & ((fmask & int(Fmask.WATER)) != 0)
    snow = clear & ((fmask & int(Fmask.SNOW)) != 0)
    cloud = (fmask & int(Fmask.CLOUD)) != 0
    assert np.median(bands[0][cloud]) > np.median(bands[0][clear]) + 1500
    assert np.median(bands[0][snow]) > 4000 > 2500 > np.median(bands[4][snow])
    assert np.median(bands[4][water]) < 200
    assert -500 < bands[5][water].min() < 0
    assert set(np.unique(fmask >> 6)) <= {0, 1, 2, 3}
    assert not (fmask & 1).any()


def test_the_picture_does_not_depend_on_the_time_zone(monkeypatch):
    _, left, top = tile_origin('10SEG')
    block = Block(left, top, 16, 16, 30.0)
    ground = make_ground(block, 0, 2022)
    pictures = []
    for zone in ('UTC', 'Asia/Tokyo'):
        monkeypatch.setenv('TZ', zone)
        time.tzset()
        pictures.append(observe(scene(0.1), ground, block, block, 0))
    monkeypatch.undo()
    time.tzset()
    np.testing.assert_array_equal(*pictures)


def test_swath_edge_is_slanted(place):
    block, ground = place
    fill = observe(scene(0.1, edge=0.3), ground, block, block, 0)[-1] == FMASK_FILL
    ends = fill.sum(axis=1)
    assert 0.15 < fill.mean() < 0.45
    assert (np.diff(ends) <= 0).all()
    assert ends[0] > ends[-1] + 50


def test_each_third_of_the_year_has_a_clear_scene():
    for tile in ('10SEG', '10SGJ', '31TCJ'):
        scenes = schedule(tile, 2022, 9, 0)
        days = [s.granule.acquired.timetuple().tm_yday for s in scenes]
        assert days == sorted(days)
        for third in range(3):
            covers = sorted(s.cover for s in scenes[3 * third : 3 * third + 3])
            assert covers[0] < 0.1 < covers[1] < 0.55 < covers[2]
            assert all(121 * third < day <= 122 * third + 122 for day in days[3 * third :][:3])
