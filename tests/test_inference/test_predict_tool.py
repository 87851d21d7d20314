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
    done = predict(*args, '--layout', 'time-major', '--halo', 1, '--mosaic', 'first')
    assert done.returncode == 0, done.stderr
    found = sorted(p.name for p in (tmp_path / 'maps').glob('*.tif'))
    assert found == ['10SEG.tif', 'mosaic.tif', 'stack.tif']
    assert rasterio.open(tmp_path / 'maps' / 'mosaic.tif').shape == (40, 40)
    assert rasterio.open(tmp_path / 'maps' / 'stack.tif').shape == rasterio.open(stack).shape


@pytest.fixture(scope='module')
def long_scene(tmp_path_factory, tiny_model):
    """Arguments for a scene of four parts, and the map that one undisturbed run makes of it."""
    folder = tmp_path_factory.mktemp('long')
    stack = write_stack(folder / 's.tif', random_pixels((18, 2000, 400)), channel_names(3))
    args = [str(a) for a in (tiny_model.config, tiny_model.checkpoint, stack)]
    done = predict(*args, folder / 'map.tif', '--confidence')
    assert done.returncode == 0, done.stderr
    return args, folder / 'map.tif'


def same_files(one, two):
    for name in ('map.tif', 'map_confidence.tif', 'map.tif.aux.xml', 'map.png'):
        assert (one.parent / name).read_bytes() == (two.parent / name).read_bytes(), name
    assert not list(two.parent.glob('.*'))


def test_killed_in_the_middle_and_run_again(tmp_path, long_scene):
    args, whole = long_scene
    out = tmp_path / 'maps' / 'map.tif'
    process = subprocess.Popen(
        [*COMMAND, *args, str(out), '--confidence'], stdout=subprocess.DEVNULL, cwd=ROOT
    )
    unfinished = out.parent / '.unfinished-map.tif'
    deadline = time.monotonic() + 120
    while not [*unfinished.glob('*/part-00001.done')] and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in out.parent.iterdir()] == ['.unfinished-map.tif']
    (folder,) = unfinished.iterdir()
    assert len([*folder.glob('part-*.done')]) in (2, 3)
    # Who goes on believes the marks: what it finds under them comes into the map.
    with (folder / 'rows.u8').open('r+b') as file:
        file.write(bytes([7] * 400))

    done = predict(*args, out, '--confidence')
    assert done.returncode == 0, done.stderr
    with rasterio.open(out) as again, rasterio.open(whole) as raster:
        found, expected = again.read(1), raster.read(1)
    assert (found[0] == 7).all()
    assert (found[1:] == expected[1:]).all()
    assert [path.name for path in out.parent.glob('.*')] == []


def test_two_processes_share_a_scene(tmp_path, long_scene):
    args, whole = long_scene
    out = tmp_path / 'maps' / 'map.tif'
    ranks = [
        subprocess.Popen(
            [*COMMAND, *args, str(out), '--confidence'],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, 'RANK': str(rank), 'WORLD_SIZE': '2'},
        )
        for rank in range(2)
    ]
    printed = [rank.communicate()[0].decode() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert [str(out) in text for text in printed] == [True, False]
    same_files(whole, out)


def test_torchrun_shares_a_list(tmp_path, tiny_model):
    names = ['a', 'b', 'c']
    for seed, name in enumerate(names):
        pixels = random_pixels((18, 40, 30), seed)
        write_stack(tmp_path / 'in' / f'{name}.tif', pixels, channel_names(3))
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2', COMMAND[1]]
    args = [tiny_model.config, tiny_model.checkpoint, tmp_path / 'in', tmp_path / 'maps']
    done = subprocess.run([*command, *map(str, args)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert sorted(path.stem for path in (tmp_path / 'maps').glob('*.tif')) == names
    assert all(done.stdout.count(f'{name}.tif') == 1 for name in names)
