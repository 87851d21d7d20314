"""From a real STAC API and a real file server to folders that ``prepare_data.py`` takes."""

import io
import json

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rich.console import Console

pytest.importorskip('pystac_client')
pytest.importorskip('rustac')

from geoseg_prithvi.data.download import clarity
from geoseg_prithvi.data.download.access import Access
from geoseg_prithvi.data.download.area import Area, tile_square
from geoseg_prithvi.data.download.cache import QueryCache
from geoseg_prithvi.data.download.http import HttpClient
from geoseg_prithvi.data.download.plan import (
    CACHE_NAME,
    Request,
    fetch_plan,
    make_plan,
    print_plan,
)
from geoseg_prithvi.data.download.search import Asset, Catalogue
from geoseg_prithvi.data.download.sources import Source
from geoseg_prithvi.data.frames import SeasonWindow, equal_windows
from geoseg_prithvi.data.granules import find_granules
from geoseg_prithvi.data.labels import find_labels
from geoseg_prithvi.data.synthetic import make_world
from geoseg_prithvi.errors import (
    ConfigError,
    DataNotFoundError,
    DownloadError,
    GranuleError,
    LabelError,
    NetworkError,
)
from geoseg_prithvi.hls import GranuleId, fmask_clear

from .stac_server import FileServer, stac_api, world_items

#: Within the upper left corner of tile 10SEG, where the world has its 128 x 128 pixels.
BOX = (-122.99, 37.92, -122.965, 37.94)


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp('served')
    make_world(root, tiles=['10SEG', '10SFG'], years=[2022], dates_per_year=9, size=128, seed=0)
    return root


@pytest.fixture(scope='module')
def files(world):
    server = FileServer(world)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _reset(files):
    files.reset()


@pytest.fixture(scope='module')
def api(world, files, tmp_path_factory):
    with stac_api(tmp_path_factory.mktemp('api'), world_items(world, files.url)) as url:
        yield url


def request(api, area=None, **changes):
    area = area or Area.from_bbox(*BOX)
    kwargs = dict(area=area, year=2022, windows=equal_windows(3), source=api, min_clear=0.0)
    return Request(**(kwargs | changes))


def plan_of(api, out, **changes):
    return make_plan(request(api, **changes), out, workers=4, backoff=0.01)


def clear_share(world, granule, area):
    """Clear share of the area by reading all of Fmask at full resolution."""
    path = next((world / 'granules' / granule).glob('*Fmask.tif'))
    with rasterio.open(path) as dataset:
        inside = area.mask(dataset.crs, dataset.transform, dataset.height, dataset.width)
        return fmask_clear(dataset.read(1))[inside].mean()


def test_what_arrives_is_what_prepare_data_needs(api, files, world, tmp_path):
    plan = plan_of(api, tmp_path)
    fetch_plan(plan, tmp_path, 4, Console(quiet=True))
    granules = find_granules(tmp_path / 'granules')
    assert list(granules) == ['10SEG']
    chosen = {str(g.id) for p in plan.picks for g in p.granules}
    assert {str(granule.id) for granule in granules['10SEG']} == chosen
    assert len(plan.picks) == 3
    for path in (tmp_path / 'granules').rglob('*'):
        if path.is_file():
            there = world / 'granules' / path.parent.name / path.name
            assert path.read_bytes() == there.read_bytes()
    # Seven files each: the NIR of Sentinel-2 is the narrow one.
    names = {path.name.split('.')[-2] for path in (tmp_path / 'granules').rglob('*S30*.tif')}
    assert names == {'B02', 'B03', 'B04', 'B8A', 'B11', 'B12', 'Fmask'}
    assert len(plan.granule_files) == 7 * len(chosen)
    (label,) = find_labels(tmp_path / 'labels')
    assert (label.zone, label.year) == ('10S', 2022)
    assert label.path.read_bytes() == (world / 'labels' / '10S_20220101-20230101.tif').read_bytes()


def test_second_run_asks_nobody(api, files, tmp_path):
    first = plan_of(api, tmp_path)
    fetch_plan(first, tmp_path, 4, Console(quiet=True))
    files.asked.clear()
    # Not even the catalogue: nothing answers at the port of another source.
    again = plan_of(api, tmp_path)
    fetch_plan(again, tmp_path, 4, Console(quiet=True))
    assert files.asked == []
    assert [p.granules for p in again.picks] == [p.granules for p in first.picks]


def test_cache_serves_without_network_until_it_is_old(api, tmp_path):
    area = Area.from_tiles(['10SEG'])
    source = Source.named(api)
    fresh = Catalogue(source, QueryCache(tmp_path, 7)).granules(area, '2022-01-01', '2022-12-31')
    assert len(fresh) == 9
    for path in tmp_path.iterdir():  # the answers are now those of an API that is gone
        assert json.loads(path.read_text())
    offline = Catalogue(source, QueryCache(tmp_path, 7))
    offline._open = None
    assert offline.granules(area, '2022-01-01', '2022-12-31') == fresh
    stale = Catalogue(source, QueryCache(tmp_path, 0))
    stale._open = None
    with pytest.raises(DownloadError, match='no STAC API'):
        stale.granules(area, '2022-01-01', '2022-12-31')


def test_search_reads_every_page(world, files, tmp_path):
    items = world_items(world, files.url)
    template = next(i for i in items if i['id'].startswith('HLS.S30.T10SEG'))
    many = [
        json.loads(
            json.dumps(template).replace(
                template['id'], f'HLS.S30.T10SEG.2022{day:03}T{hour:02}0000.v2.0'
            )
        )
        | dict(
            properties=dict(datetime=f'2022-06-01T{hour:02}:00:00Z'),
        )
        for day in range(1, 26)
        for hour in range(10)
    ]
    with stac_api(tmp_path, many) as url:
        found = Catalogue(Source.named(url), QueryCache(tmp_path / 'q', 1)).granules(
            Area.from_tiles(['10SEG']), '2022-01-01', '2022-12-31'
        )
    assert {str(candidate.id) for candidate in found} == {item['id'] for item in many}
    assert len(found) == 250
    assert found[0].cloud_cover is None


def test_planetary_computer_names_are_known(world, files, tmp_path):
    items = world_items(world, files.url, names=('hls2-l30', 'hls2-s30'))
    with stac_api(tmp_path, items) as url:
        plan = plan_of(url, tmp_path / 'out')
    assert len(plan.picks) == 3


def test_least_cloud_over_the_area_beats_the_average(api, files, world, tmp_path):
    area = Area.from_bbox(*BOX)
    plan = plan_of(api, tmp_path, max_granules=1)
    for choice in plan.picks:
        of_window = [
            folder.name
            for folder in (world / 'granules').glob('*T10SEG*')
            if GranuleId.parse(folder.name)[0].acquired.date() in choice.window
        ]
        shares = {name: clear_share(world, name, area) for name in of_window}
        best = str(choice.granules[0].id)
        assert shares[best] == max(shares.values())
        assert choice.clear == pytest.approx(shares[best], abs=1e-9)
        assert choice.measured
        assert choice.considered == len(of_window)


def test_probe_reads_parts_of_fmask_only(api, files, tmp_path):
    plan_of(api, tmp_path)
    assert files.asked
    assert {name.split('.')[-2] for name, *_ in files.asked if 'HLS' in name} == {'Fmask'}
    assert all(wanted is not None for _, wanted, _ in files.asked)


def test_probe_of_a_full_tile_reads_little(files, tmp_path):
    """Only headers and one overview of a cloud-optimised Fmask of 2400 x 2400 pixels."""
    rng = np.random.default_rng(0)
    fmask = rng.choice([64, 66, 72, 96], (600, 600)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    fmask ^= rng.choice([0, 128], fmask.shape).astype(np.uint8)  # hard to compress
    _, left, top = tile_square('10SEG')
    plain = tmp_path / 'plain.tif'
    profile = dict(driver='GTiff', dtype='uint8', count=1, height=2400, width=2400, nodata=255)
    where = dict(crs='EPSG:32610', transform=rasterio.Affine(30, 0, left, 0, -30, top))
    with rasterio.open(plain, 'w', **profile, **where) as dataset:
        dataset.write(fmask, 1)
    cog = files.folder / 'cog.tif'
    rasterio.shutil.copy(
        plain, cog, driver='COG', compress='deflate', blocksize=256, overview_resampling='nearest'
    )
    asset = Asset(f'{files.url}/cog.tif')
    granule, _ = GranuleId.parse('HLS.S30.T10SEG.2022123T190919.v2.0')
    candidate = clarity.Candidate(granule, dict(Fmask=asset), None)
    client, cache = HttpClient(Access()), QueryCache(tmp_path / 'q', 1)
    seen = clarity.look(candidate, Area.from_tiles(['10SEG']), client, cache)
    assert seen.size == 256 * 256
    assert abs(seen.mean() - fmask_clear(fmask).mean()) < 0.01
    spans = [wanted.removeprefix('bytes=').split('-') for _, wanted, _ in files.asked]
    asked = sum(int(last) - int(first) + 1 for first, last in spans)
    assert asked < 0.2 * cog.stat().st_size
    again = clarity.look(candidate, Area.from_tiles(['10SEG']), None, cache)
    assert np.array_equal(again, seen)


def test_damaged_fmask_is_ranked_by_the_stated_cover(files, tmp_path, caplog):
    (files.folder / 'bad.tif').write_bytes(b'II*\0' + b'no tiff' * 100)
    asset = Asset(f'{files.url}/bad.tif')
    granule, _ = GranuleId.parse('HLS.S30.T10SEG.2022123T190919.v2.0')
    candidate = clarity.Candidate(granule, dict(Fmask=asset), 0.25)
    client, cache = HttpClient(Access()), QueryCache(tmp_path / 'q', 1)
    area = Area.from_tiles(['10SEG'])
    seen = clarity.look_at_all([candidate], area, client, cache, 2)
    assert seen == {}
    assert f'The Fmask of {granule} cannot be read' in caplog.text
    choice = clarity.pick('10SEG', SeasonWindow((1, 1), (12, 31)), [candidate], seen, 3)
    assert (choice.clear, choice.measured) == (0.75, False)


def test_probe_0_goes_by_the_stated_cover(api, files, tmp_path):
    plan = plan_of(api, tmp_path, probe=0, max_granules=1)
    assert not any('Fmask' in name for name, *_ in files.asked)
    assert not any(choice.measured for choice in plan.picks)
    area = Area.from_bbox(*BOX)
    found = Catalogue(Source.named(api), QueryCache(tmp_path / CACHE_NAME, 1)).granules(
        area, '2022-01-01', '2022-12-31'
    )
    for choice in plan.picks:
        (granule,) = choice.granules
        covers = [
            c.cloud_cover
            for c in found
            if c.id.tile == granule.id.tile and c.id.acquired.date() in choice.window
        ]
        assert granule.cloud_cover == min(covers)


def test_second_granule_fills_what_the_first_hides():
    window = SeasonWindow((1, 1), (12, 31))
    names = ('A', 'B', 'C')
    made = [clarity.Candidate(name, {}, 0.5) for name in names]
    masks = dict(
        A=np.array([1, 1, 1, 0, 0, 0], bool),
        B=np.array([1, 1, 0, 0, 0, 0], bool),
        C=np.array([0, 0, 0, 1, 1, 0], bool),
    )
    choice = clarity.pick('10SEG', window, made, masks, 3)
    assert [c.id for c in choice.granules] == ['A', 'C']  # B shows nothing new
    assert choice.clear == pytest.approx(5 / 6)
    assert choice.best == pytest.approx(1 / 2)
    masks['A'][:] = True
    assert len(clarity.pick('10SEG', window, made, masks, 3).granules) == 1  # enough


def test_overview_is_sampled_not_averaged(tmp_path):
    """Fmask 64 and 194 side by side: an average would set flags that neither has."""
    fmask = np.full((512, 512), 64, np.uint8)
    fmask[:, ::2] = 194  # cloud
    path = tmp_path / 'fmask.tif'
    profile = dict(driver='GTiff', dtype='uint8', count=1, height=512, width=512, nodata=255)
    _, left, top = tile_square('10SEG')
    where = dict(crs='EPSG:32610', transform=rasterio.Affine(30, 0, left, 0, -30, top))
    with rasterio.open(path, 'w', **profile, **where) as dataset:
        dataset.write(fmask, 1)
    with rasterio.open(path) as dataset:
        clear = clarity._sample(dataset, Area.from_tiles(['10SEG']))
    assert clear.size == 256 * 256
    assert clear.all() or not clear.any()  # every second column


def test_dry_run_counts_bytes(api, files, world, tmp_path):
    plan = plan_of(api, tmp_path)
    console = Console(record=True, width=200, file=io.StringIO())
    print_plan(plan, console)
    text = console.export_text()
    sizes = [
        (world / 'granules' / f.path.parent.name / f.path.name).stat().st_size
        for f in plan.granule_files
    ]
    label = (world / 'labels' / '10S_20220101-20230101.tif').stat().st_size
    expected = f'granules: {len(sizes)} files, {sum(sizes):,} bytes; still to fetch: {len(sizes)}'
    assert expected in text
    # The catalogue does not state the size of the label map; its server does.
    assert f'label maps: 1 files, {label:,} bytes' in text
    assert not (tmp_path / 'granules').exists()


def test_two_tiles(api, tmp_path):
    plan = plan_of(api, tmp_path, area=Area.from_tiles(['10SFG', 'T10SEG']), probe=2)
    assert sorted({choice.tile for choice in plan.picks}) == ['10SEG', '10SFG']
    assert len(plan.picks) == 6


def test_tile_without_granules(api, tmp_path):
    with pytest.raises(GranuleError, match=r'no HLS granule of tile 11SKA from 2022-01-01 to'):
        plan_of(api, tmp_path, area=Area.from_tiles(['10SEG', '11SKA']))


def test_year_without_labels(api, tmp_path, world, files):
    items = world_items(world, files.url)
    for item in items:
        if item['id'] == '10S-2022':
            item['id'] = '10S-2021'
            item['properties'] |= dict(
                start_datetime='2021-01-01T00:00:00Z', end_datetime='2022-01-01T00:00:00Z'
            )
    with (
        stac_api(tmp_path, items) as url,
        pytest.raises(LabelError, match=r'no label map .* of 2022 over the area \(it has 2021\)'),
    ):
        plan_of(url, tmp_path / 'out')


def test_labels_can_be_left_out(api, tmp_path):
    assert plan_of(api, tmp_path, label_source='none').label_files == ()


def test_not_clear_enough_names_tile_window_and_best(api, world, tmp_path):
    window = SeasonWindow.parse('01-01:02-15')
    area = Area.from_bbox(*BOX)
    (only,) = [
        folder.name
        for folder in (world / 'granules').glob('*T10SEG*')
        if GranuleId.parse(folder.name)[0].acquired.date() in window
    ]
    share = clear_share(world, only, area)
    with pytest.raises(GranuleError) as caught:
        clarity.check_clear(
            plan_of(api, tmp_path, windows=(window,), min_clear=0.0).picks, 1.01, 2022
        )
    text = str(caught.value)
    assert 'Tile 10SEG' in text
    assert '01-01:02-15 of 2022' in text
    assert f'{only}, shows {share:.0%}' in text


def test_window_without_granules(api, tmp_path):
    windows = (SeasonWindow.parse('01-01:01-02'), SeasonWindow.parse('01-03:12-31'))
    with pytest.raises(
        GranuleError, match=r'10SEG has no granule in the season window 01-01:01-02'
    ):
        plan_of(api, tmp_path, windows=windows)


def test_server_without_ranges_is_ranked_by_the_stated_cover(api, files, tmp_path, caplog):
    files.ranges = False
    plan = plan_of(api, tmp_path)
    assert 'does not serve parts of files' in caplog.text
    assert 'stated cloud cover is used' in caplog.text
    assert not any(choice.measured for choice in plan.picks)


def test_no_network(tmp_path):
    with pytest.raises(NetworkError, match=r'127\.0\.0\.1:9 cannot be reached \(.*refused\)'):
        plan_of('http://127.0.0.1:9/stac', tmp_path)


def test_no_stac_api(files, tmp_path):
    with pytest.raises(DownloadError, match='check --source'):
        plan_of(files.url, tmp_path)
    (files.folder / 'other.json').write_text('{"hello": "world"}')
    with pytest.raises(DownloadError, match='is no STAC API'):
        plan_of(f'{files.url}/other.json', tmp_path)


def test_api_without_hls(tmp_path, world, files):
    items = [i for i in world_items(world, files.url) if i['collection'] == 'io-lulc-annual-v02']
    with (
        stac_api(tmp_path, items) as url,
        pytest.raises(DataNotFoundError, match=r'has no HLS V2\.0'),
    ):
        plan_of(url, tmp_path / 'out')


def test_unknown_source_and_impossible_numbers(tmp_path):
    with pytest.raises(ConfigError, match="'nasa' is no source"):
        plan_of('nasa', tmp_path)
    with pytest.raises(ConfigError, match='--min-clear'):
        request('lpdaac', min_clear=2)
    with pytest.raises(ConfigError, match='--max-granules'):
        request('lpdaac', max_granules=0)
