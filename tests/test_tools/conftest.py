"""Run the tools as a user does: real processes, a tiny model, a few chips."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geoseg_prithvi.data.chip_io import write_chip, write_label
from geoseg_prithvi.data.index import write_index

ROOT = Path(__file__).parents[2]
DEMO = 'configs/demo/prithvi_lulc.py'


def make_chips(root, size, counts, num_frames=3, num_classes=9, seed=0):
    """Chips whose class can be read off their pixels, so that training has something to learn."""
    rng = np.random.default_rng(seed)
    crs, rows = CRS.from_epsg(32610), []
    dates = [f'2022-{month:02d}-15' for month in (4, 7, 10)[:num_frames]]
    for split, count in counts.items():
        for i in range(count):
            chip_id = f'{split}_{i}'
            blocks = rng.integers(0, num_classes, (size // 16, size // 16), dtype=np.uint8)
            label = blocks.repeat(16, 0).repeat(16, 1)
            noise = rng.normal(0, 100, (num_frames * 6, size, size))
            pixels = (label[None] * 400.0 + 500 + noise).astype(np.int16)
            left, top = 500000.0 + 30 * size * i, 4200000.0
            transform = from_origin(left, top, 30, 30)
            for folder in ('images', 'labels'):
                (root / folder).mkdir(parents=True, exist_ok=True)
            write_chip(
                root / f'images/{chip_id}.tif',
                pixels,
                transform=transform,
                crs=crs,
                dates=dates,
                sensors=['S30'] * num_frames,
            )
            write_label(root / f'labels/{chip_id}.tif', label, transform=transform, crs=crs)
            rows.append(
                dict(
                    chip_id=chip_id,
                    image=f'images/{chip_id}.tif',
                    label=f'labels/{chip_id}.tif',
                    tile='10SEG',
                    epsg=32610,
                    minx=left,
                    miny=top - 30 * size,
                    maxx=left + 30 * size,
                    maxy=top,
                    lon=-123.0,
                    lat=37.9,
                    dates=dates,
                    sensors=['S30'] * num_frames,
                    clear_fraction=[1.0] * num_frames,
                    valid_fraction=1.0,
                    class_pixels=np.bincount(label.ravel(), minlength=9).tolist(),
                    purity=1.0,
                    block='0_0',
                    split=split,
                )
            )
    write_index(root, rows)
    return root


@pytest.fixture(scope='session')
def chips(tmp_path_factory):
    """32 px chips: 12 to train on, 5 to validate (an odd number), 3 to test."""
    return make_chips(tmp_path_factory.mktemp('chips'), 32, dict(train=12, val=5, test=3))


@pytest.fixture(scope='session')
def run_tool():
    """Run ``tools/<name>`` and return the finished process."""

    def run(*command, check=True, env=None):
        argv = [str(part) for part in command]
        if argv[0].endswith('.py'):
            argv = [sys.executable, *argv]
        path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        done = subprocess.run(
            argv,
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'PATH': path, **(env or {})},
        )
        assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    return run


PHASES = ('train', 'val', 'test')


def cfg_options(options):
    """Turn dotted keys into the arguments of ``--cfg-options``."""
    return ['--cfg-options', *(f'{key}={value}' for key, value in options.items())]


def data_options(chips):
    """Point a config at ``chips``, read in the main process."""
    options = {}
    for phase in PHASES:
        options[f'{phase}_dataloader.dataset.data_root'] = chips
        options[f'{phase}_dataloader.num_workers'] = 0
        options[f'{phase}_dataloader.persistent_workers'] = False
    return options


def demo_options(chips, **more):
    """Make the demo config tiny; ``more`` are further options, ``__`` standing for a dot."""
    options = {
        'train_dataloader.batch_size': 2,
        'model.backbone.arch.embed_dims': 32,
        'model.backbone.arch.depth': 1,
        'model.backbone.arch.num_heads': 2,
        'model.neck.0.in_channels': '[96]',
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.logger.interval': 1,
    }
    more = {key.replace('__', '.'): value for key, value in more.items()}
    return cfg_options({**data_options(chips), **options, **more})
