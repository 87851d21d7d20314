"""tools/publish_model.py as a user runs it; the published file alone in test.py and predict.py."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

import geoseg_prithvi  # noqa: F401  registers the components
from geoseg_prithvi.lulc import IO_LULC
from geoseg_prithvi.models import read_published

from ..hub_server import COMMITS, Hub
from .conftest import DEMO, ROOT, cfg_options, data_options, demo_options

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def trained(tmp_path_factory, chips):
    """The demo model, tiny and untrained, as a checkpoint."""
    cfg = Config.fromfile(ROOT / DEMO)
    cfg.model.backbone.arch.update(embed_dims=32, depth=1, num_heads=2)
    cfg.model.neck[0].in_channels = [96]
    torch.manual_seed(0)
    state = MODELS.build(cfg.model).state_dict()
    path = tmp_path_factory.mktemp('trained') / 'iter_1.pth'
    torch.save(dict(state_dict=state, meta=dict(iter=1)), path)
    return path


def metrics(folder):
    found = [json.loads(p.read_text()) for p in folder.glob('*/*.json')]
    return {k: v for k, v in found[0].items() if 'time' not in k}


def test_a_published_model_needs_no_other_file(chips, trained, run_tool, tmp_path):
    (tmp_path / 'scores.json').write_text('{"mIoU": 12.5}')
    out = tmp_path / 'hub' / 'demo.safetensors'
    command = ('tools/publish_model.py', trained, DEMO, out, '--metrics', tmp_path / 'scores.json')
    done = run_tool(*command, *demo_options(chips))
    assert f'written: {out}' in done.stdout
    _, _, meta = read_published(str(out))
    assert meta['metrics'] == {'mIoU': 12.5}
    assert '| train | 12 |' in meta['data_card']
    assert '20 chips of 1 MGRS tiles' in meta['data_card']

    again = run_tool(*command, *demo_options(chips), check=False)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1].startswith(f'error: {out} is there already')

    alone = tmp_path / 'alone' / 'demo.safetensors'
    alone.parent.mkdir()
    shutil.move(out, alone)
    options = cfg_options(data_options(chips))
    run_tool('tools/test.py', alone, '--work-dir', tmp_path / 'a', *options)
    run_tool('tools/test.py', DEMO, trained, '--work-dir', tmp_path / 'b', *demo_options(chips))
    assert metrics(tmp_path / 'a') == metrics(tmp_path / 'b')
    assert len(metrics(tmp_path / 'a')) > 3


@pytest.fixture(scope='module')
def published(tmp_path_factory, chips, trained, run_tool):
    out = tmp_path_factory.mktemp('published') / 'demo.safetensors'
    run_tool('tools/publish_model.py', trained, DEMO, out, *demo_options(chips))
    return out


@pytest.fixture
def hub(published):
    hub = Hub()
    hub.files[COMMITS['main'], 'maps/demo.safetensors'] = published.read_bytes()
    yield hub
    hub.stop()


def test_a_published_model_predicts_alone(chips, trained, published, hub, run_tool, tmp_path):
    """As a file and from the hub, it makes the map that config and checkpoint make."""
    scene = next((chips / 'images').glob('*.tif'))
    tiny = cfg_options(
        {
            'model.backbone.arch.embed_dims': 32,
            'model.backbone.arch.depth': 1,
            'model.backbone.arch.num_heads': 2,
            'model.neck.0.in_channels': '[96]',
        }
    )
    env = dict(HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / 'hf'), NO_PROXY='127.0.0.1')
    url = f'hf://owner/repo/maps/demo.safetensors@{COMMITS["main"]}'
    maps = {}
    for name, model, options in (
        ('both', (DEMO, trained), tiny),
        ('file', (published,), ()),
        ('hub', (url,), ()),
    ):
        out = tmp_path / f'{name}.tif'
        command = ('tools/predict.py', *model, scene, out, '--confidence', '--crop-size', 32)
        run_tool(*command, *options, env=env)
        with (
            rasterio.open(out) as raster,
            rasterio.open(f'{out.parent / name}_confidence.tif') as c,
        ):
            maps[name] = np.concatenate([raster.read(), c.read()])
            assert raster.colormap(1)[2][:3] == IO_LULC.colors[2]
            tags = raster.tags()
        if name != 'both':
            assert tags['GEOSEG_MODEL'].startswith('demo.safetensors')
            digest = hashlib.sha256(published.read_bytes()).hexdigest()
            assert tags['GEOSEG_CHECKPOINT_SHA256'] == digest
    assert all(np.array_equal(maps['both'], other) for other in maps.values())
    assert len(np.unique(maps['both'])) > 2
    assert hub.requests

    hub.requests.clear()
    work = ('--work-dir', tmp_path / 'test', *cfg_options(data_options(chips)))
    run_tool('tools/test.py', url, *work, env=env)
    assert len(metrics(tmp_path / 'test')) > 3
    # what is pinned and in the cache is not asked for
    assert not any('demo.safetensors' in path for _, path, _ in hub.requests)


def test_a_checkpoint_that_does_not_fit_is_not_tested(chips, trained, run_tool, tmp_path):
    options = demo_options(chips, model__backbone__arch__depth=2)
    done = run_tool('tools/test.py', DEMO, trained, '--work-dir', tmp_path, *options, check=False)
    assert done.returncode == 2
    assert 'does not fit the config' in done.stderr.splitlines()[-1]
    done = run_tool('tools/test.py', DEMO, check=False)
    assert done.returncode == 2
    assert 'only a published .safetensors needs none' in done.stderr
