"""A checkpoint that would run code is refused by every tool that reads one, in one sentence."""

import os

import pytest
import torch

from .conftest import DEMO, cfg_options, data_options, demo_options

pytestmark = pytest.mark.slow


class _RunsCode:
    """Its pickle makes the folder ``target`` when it is loaded carelessly."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def commands(evil, work, chips):
    options = demo_options(chips)
    train = ('tools/train.py', DEMO, '--work-dir', work)
    published = cfg_options({**data_options(chips), 'model.backbone.init_cfg.checkpoint': evil})
    convert = ('tools/model_converters/hls_foundation.py', 'configs/burn_scars.py')
    return {
        'train': (*train, *demo_options(chips, load_from=evil)),
        'init_cfg': ('tools/train.py', 'configs/prithvi_lulc.py', '--work-dir', work, *published),
        'resume': (*train, '--resume', *options),
        'test': ('tools/test.py', DEMO, evil, '--work-dir', work, *options),
        'predict': ('tools/predict.py', DEMO, evil, work / 'scene.tif', work / 'map.tif', *options),
        'convert': (*convert, evil, work / 'out.pth'),
        'publish': ('tools/publish_model.py', evil, DEMO, work / 'out.safetensors', *options),
    }


@pytest.mark.parametrize(
    'tool', ['train', 'init_cfg', 'resume', 'test', 'predict', 'convert', 'publish']
)
def test_a_checkpoint_that_would_run_code_is_refused(tool, chips, run_tool, tmp_path):
    target, work = tmp_path / 'ran', tmp_path / 'work'
    evil = work / 'iter_1.pth'  # where --resume looks
    work.mkdir()
    torch.save(dict(state_dict={}, meta=dict(iter=1), extra=_RunsCode(target)), evil)
    if tool == 'predict':
        image = next((chips / 'images').glob('*.tif'))
        (work / 'scene.tif').write_bytes(image.read_bytes())
    done = run_tool(*commands(evil, work, chips)[tool], check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f'error: {evil} was not loaded: it holds more than tensors')
    assert not target.exists()
    assert not list(work.glob('out*'))
