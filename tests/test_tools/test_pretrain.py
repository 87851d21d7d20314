"""Self-supervised pre-training and what starts from it, as a user runs them."""

import json

import pytest
import torch
from mmengine.config import Config

from geoseg_prithvi.compat import load_checkpoint_file

from .conftest import DEMO, ROOT, cfg_options, demo_options

pytestmark = pytest.mark.slow

MAE = 'configs/demo/prithvi_mae.py'


@pytest.fixture(scope='module')
def unlabelled(granule_folder, run_tool, tmp_path_factory):
    """Nine chips of 32 pixels without labels."""
    out = tmp_path_factory.mktemp('data') / 'unlabelled'
    run_tool(
        'tools/prepare_data.py', granule_folder, out, '--unlabelled', '--chip-size', 32,
        '--block-size', 960, '--split-ratio', 0.56, 0.22, 0.22, '--workers', 1,
    )  # fmt: skip
    return out


@pytest.fixture(scope='module')
def mae(unlabelled, run_tool, tmp_path_factory):
    """The work dir of two iterations of a tiny autoencoder, its encoder that of demo_options."""
    work = tmp_path_factory.mktemp('mae')
    options = {
        'train_dataloader.dataset.data_root': unlabelled,
        'val_dataloader.dataset.data_root': unlabelled,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'val_dataloader.num_workers': 0,
        'val_dataloader.persistent_workers': False,
        'train_dataloader.batch_size': 2,
        'model.encoder.arch.embed_dims': 32,
        'model.encoder.arch.depth': 1,
        'model.encoder.arch.num_heads': 2,
        'model.decoder.embed_dims': 16,
        'model.decoder.depth': 1,
        'train_cfg.val_interval': 2,
        'train_cfg.max_iters': 2,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.logger.interval': 1,
    }
    run_tool('tools/train.py', MAE, '--work-dir', work, *cfg_options(options))
    return work


def start_from(checkpoint):
    """Options that put an ``init_cfg`` where the config has none."""
    return dict(
        model__backbone__init_cfg___delete_=True,
        model__backbone__init_cfg__type='Pretrained',
        model__backbone__init_cfg__checkpoint=checkpoint,
    )


def test_validation_is_logged_and_drawn(mae):
    scalars = next(mae.glob('*/vis_data/scalars.json')).read_text().splitlines()
    rows = [json.loads(line) for line in scalars]
    assert [set(row) & {'loss', 'val/mse', 'val/visible_mean'} for row in rows] == [
        {'loss'},
        {'loss'},
        {'val/mse', 'val/visible_mean'},
    ]
    assert len(list(mae.rglob('vis_image/val_*_2.png'))) == 2  # there are two validation chips
    assert (mae / 'best_val_mse_iter_2.pth').exists()


def test_fine_tuning_starts_from_the_checkpoint_as_it_is(mae, chips, run_tool, tmp_path):
    # Nothing is learned at a rate of 0, so the encoder must be that of the checkpoint.
    options = demo_options(
        chips,
        train_cfg__max_iters=2,
        optim_wrapper__optimizer__lr=0.0,
        **start_from(mae / 'iter_2.pth'),
    )
    done = run_tool('tools/train.py', DEMO, '--work-dir', tmp_path, *options)
    assert 'iter_2.pth: ' in done.stdout + done.stderr  # the report of the loading
    before = load_checkpoint_file(mae / 'iter_2.pth')['state_dict']
    after = load_checkpoint_file(tmp_path / 'iter_2.pth')['state_dict']
    names = [name for name in before if name.startswith('encoder.')]
    assert len(names) == len([name for name in after if name.startswith('backbone.')]) > 10
    for name in names:
        assert torch.equal(after[name.replace('encoder.', 'backbone.', 1)], before[name])


def test_an_encoder_of_another_size_is_one_sentence(mae, chips, run_tool, tmp_path):
    options = demo_options(
        chips,
        model__backbone__arch__embed_dims=48,
        model__neck__0__in_channels='[144]',
        **start_from(mae / 'iter_2.pth'),
    )
    done = run_tool('tools/train.py', DEMO, '--work-dir', tmp_path, *options, check=False)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith('error: ') and 'embed_dims 32' in last and 'the model has 48' in last


def test_the_encoder_of_the_demo_is_that_of_its_fine_tuning():
    mae, tuned = (Config.fromfile(ROOT / path).model for path in (MAE, DEMO))
    assert mae.encoder.arch == tuned.backbone.arch
    assert mae.encoder.img_size == tuned.backbone.img_size
    assert mae.encoder.num_frames == tuned.backbone.num_frames
    assert mae.data_preprocessor == tuned.data_preprocessor
