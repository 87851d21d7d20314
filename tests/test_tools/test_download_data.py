"""The command, from a real STAC API to chips."""

import importlib.util
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('pystac_client')
pytest.importorskip('rustac')

from geoseg_prithvi.data.synthetic import make_world

from ..test_data.stac_server import FileServer, stac_api, world_items

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture(scope='module')
def api(tmp_path_factory):
    root = tmp_path_factory.mktemp('served')
    make_world(root, tiles=['10SEG'], years=[2022], dates_per_year=9, size=96, seed=1)
    server = FileServer(root)
    with stac_api(tmp_path_factory.mktemp('api'), world_items(root, server.url)) as url:
        yield url, server
    server.close()


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a tool in this process: a fresh one imports torch for seconds."""

    def run(tool, *args):
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        monkeypatch.setenv('COLUMNS', '200')
        code = 0
        try:
            runpy.run_path(str(TOOLS / tool), run_name='__main__')
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(args, code, out, err)

    return run


def test_from_nothing_to_chips(run, api, tmp_path):
    url, server = api
    server.reset()
    area = tmp_path / 'area.geojson'
    ring = [[-122.999, 37.93], [-122.97, 37.93], [-122.97, 37.947], [-122.999, 37.93]]
    area.write_text(json.dumps(dict(type='Polygon', coordinates=[ring])))
    command = ['--aoi', area, '--year', 2022, '--source', url, '--out', tmp_path / 'raw']
    command += ['--min-clear', 0.1]

    dry = run('download_data.py', *command, '--dry-run')
    assert dry.returncode == 0, dry.stderr
    assert '10SEG' in dry.stdout
    assert 'still to fetch: 1 files' in dry.stdout  # the label map
    assert not (tmp_path / 'raw' / 'granules').exists()

    done = run('download_data.py', *command)
    assert done.returncode == 0, done.stderr
    again = run('download_data.py', *command)
    assert 'still to fetch: 0 files, 0 bytes' in again.stdout

    chips = run(
        'prepare_data.py',
        *(tmp_path / 'raw' / 'granules', tmp_path / 'raw' / 'labels', tmp_path / 'chips'),
        *('--chip-size', 32, '--min-clear', 0, '--min-valid', 0, '--workers', 1),
        *('--block-size', 960),
    )
    assert chips.returncode == 0, chips.stderr
    assert (tmp_path / 'chips' / 'chips.parquet').is_file()


@pytest.mark.parametrize('dry', [[], ['--dry-run']], ids=['', 'dry'])
@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--tiles', '10SVG'], 'There is no MGRS tile 10SVG'),
        (['--bbox', 170, -20, -170, -10], 'antimeridian'),
        (['--tiles', '11SKA'], 'no HLS granule of tile 11SKA'),
        (['--tiles', '10SEG', '--year', '2031'], 'no HLS granule of tile 10SEG from 2031'),
        (['--tiles', '10SEG', '--windows', '06-01:03-01'], 'ends before it begins'),
        (
            ['--tiles', '10SEG', '--windows', '01-01:02-15', '--min-clear', '1'],
            'Tile 10SEG has no granule that is clear enough over the area in the season window '
            '01-01:02-15 of 2022: the best of 1, HLS.',
        ),
    ],
)
def test_bad_input_is_one_sentence(run, api, tmp_path, args, message, dry):
    url, server = api
    server.reset()
    command = ['--year', 2022, *args, '--source', url, '--out', tmp_path / 'raw', *dry]
    done = run('download_data.py', *command)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('more', [[], ['--dry-run'], ['--dry-run', '--probe', 0]])
def test_wrong_credentials(run, api, tmp_path, more):
    url, server = api
    server.reset()
    server.token = 'secret'
    command = ['--tiles', '10SEG', '--year', 2022, '--source', url, '--out', tmp_path / 'raw']
    done = run('download_data.py', *command, *more)
    server.reset()
    assert done.returncode == 2
    assert done.stderr.startswith('error: 127.0.0.1')
    assert 'refuses' in done.stderr
    assert done.stderr.count('\n') == 1


@pytest.mark.parametrize('dry', [[], ['--dry-run']], ids=['', 'dry'])
def test_year_without_labels_and_no_network(run, api, tmp_path, dry):
    _, server = api
    items = world_items(server.folder, server.url)
    for item in items:
        if item['collection'] == 'io-lulc-annual-v02':
            item['id'] = '10S-2021'
            item['properties'] |= dict(
                start_datetime='2021-01-01T00:00:00Z', end_datetime='2022-01-01T00:00:00Z'
            )
    command = ['--tiles', '10SEG', '--year', 2022, '--out', tmp_path / 'raw', *dry]
    with stac_api(tmp_path, items) as url:
        done = run('download_data.py', *command, '--source', url, '--min-clear', 0)
    assert done.returncode == 2
    assert 'no label map' in done.stderr
    assert 'of 2022 over the area (it has 2021)' in done.stderr
    assert done.stderr.count('\n') == 1
    done = run('download_data.py', *command, '--source', 'http://127.0.0.1:9/stac')
    assert done.returncode == 2
    assert '127.0.0.1:9 cannot be reached' in done.stderr
    assert done.stderr.count('\n') == 1


def test_missing_library_is_one_sentence(run, monkeypatch, tmp_path):
    """The extra is not installed: an interpreter that finds no pystac_client."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        'find_spec',
        lambda name, *args: None if name == 'pystac_client' else find(name, *args),
    )
    for name in [name for name in sys.modules if name.startswith('geoseg_prithvi.data.download')]:
        monkeypatch.delitem(sys.modules, name)
    done = run('download_data.py', '--tiles', '10SEG', '--year', 2022, '--out', tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        'error: Downloading needs pystac_client, which is not installed; run: pip install '
        "'geoseg_prithvi[data]'.\n"
    )
