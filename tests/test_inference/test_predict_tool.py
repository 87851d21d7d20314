"""tools/predict.py as a user runs it: real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import rasterio

from geoseg_prithvi.layout import channel_names

from ..granule_world import write_world
from .scenes import random_pixels, write_stack

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, str(ROOT / 'tools' / 'predict.py')]


def predict(*args):
    return subprocess.run([*COMMAND, *map(str, args)], capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope='module')
def granules(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp('world'), size=40)[0]


def test_folder_of_granules_and_a_second_run(tmp_path, tiny_model, granules):
    out = tmp_path / 'map.tif'
    args = (tiny_model.config, tiny_model.checkpoint, granules, out)
    done = predict(*args, '--confidence', '--area', '--mask-clouds', '--batch-size', 2)
    assert done.returncode == 0, done.stderr
    for name in ('map.tif', 'map_confidence.tif', 'map.png', 'map.json', 'map_area.csv'):
        assert str(tmp_path / name) in done.stdout
        assert (tmp_path / name).stat().st_size > 0
    with rasterio.open(out) as raster:
        assert raster.shape == (40, 40)
        tags = raster.tags()
    assert tags['GEOSEG_SENSORS'] == 'L30,S30,S30'
    assert tags['GEOSEG_WINDOWS'] == 'crop 16, halo 1, stride 10'
    assert len(tags['GEOSEG_CHECKPOINT_SHA256']) == 64

    again = predict(*args)
    assert again.returncode == 2
    assert again.stderr.strip().splitlines()[-1] == (
        f'error: {out} exists already; choose another name, or replace it with --overwrite.'
    )


def test_several_scenes_go_to_a_folder(tmp_path, tiny_model, granules):
    stack = write_stack(tmp_path / 'stack.tif', random_pixels((18, 20, 30)))
    (tmp_path / 'list.txt').write_text(f'{granules}\nstack.tif\n')
    args = (tiny_model.config, tiny_model.checkpoint, tmp_path / 'list.txt', tmp_path / 'maps')
    done = predict(*args, '--layout', 'time-major', '--stride', 14, '--halo', 1)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / 'maps').glob('*.tif')) == ['10SEG.tif', 'stack.tif']
    assert rasterio.open(tmp_path / 'maps' / 'stack.tif').shape == rasterio.open(stack).shape


def test_killed_in_the_middle_and_run_again(tmp_path, tiny_model):
    stack = write_stack(tmp_path / 's.tif', random_pixels((18, 2000, 400)), channel_names(3))
    out = tmp_path / 'maps' / 'map.tif'
    args = [str(a) for a in (tiny_model.config, tiny_model.checkpoint, stack, out)]
    process = subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    rows = out.parent / '.unfinished-map.tif' / 'map.rows.tif'
    deadline = time.monotonic() + 120
    while not rows.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert rows.exists(), 'the run had not begun, or was over, when it was killed'
    assert [path.name for path in out.parent.iterdir()] == ['.unfinished-map.tif']

    done = predict(*args)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == [
        'map.png',
        'map.tif',
        'map.tif.aux.xml',
    ]
    with rasterio.open(out) as raster:
        assert raster.shape == (2000, 400)
        assert (raster.read(1) < 9).all()
