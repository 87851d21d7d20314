"""tools/publish_model.py as a user runs it, and the published file in tools/test.py."""

import json
import shutil

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS

import geoseg_prithvi  # noqa: F401  registers the components
from geoseg_prithvi.models import read_published

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


def test_a_checkpoint_that_does_not_fit_is_not_tested(chips, trained, run_tool, tmp_path):
    options = demo_options(chips, model__backbone__arch__depth=2)
    done = run_tool('tools/test.py', DEMO, trained, '--work-dir', tmp_path, *options, check=False)
    assert done.returncode == 2
    assert 'does not fit the config' in done.stderr.splitlines()[-1]
    done = run_tool('tools/test.py', DEMO, check=False)
    assert done.returncode == 2
    assert 'only a published .safetensors needs none' in done.stderr
