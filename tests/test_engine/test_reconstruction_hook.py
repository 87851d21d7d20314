import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from PIL import Image
from torch.utils.data import Dataset

from geoseg_prithvi.models import PrithviMAE

DATES = ['2022-03-01', '2022-07-15', '2022-10-02']


class Chips(Dataset):
    metainfo = dict(split='val')  # noqa: RUF012

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        chip = torch.from_numpy(rng.integers(0, 4000, (18, 16, 16)).astype(np.int16))
        meta = dict(chip_id=f'chip_{index}', img_path=f'{index}.tif', dates=DATES)
        return dict(inputs=chip, data_samples=SegDataSample(metainfo=meta))


def loader(batch_size):
    return dict(
        batch_size=batch_size,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=Chips(),
    )


def train(work, num_samples, val_batch_size=2):
    Visualizer._instance_dict.clear()
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        runner = Runner(
            PrithviMAE(
                dict(arch=dict(embed_dims=32, depth=1, num_heads=2, patch_size=8), img_size=16),
                dict(embed_dims=16, depth=1, num_heads=2),
                data_preprocessor=dict(type='HLSDataPreprocessor', num_frames=3),
            ),
            str(work),
            train_dataloader=loader(2),
            val_dataloader=loader(val_batch_size),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1),
            val_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_evaluator=dict(type='ReconstructionMetric'),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook',
                    by_epoch=False,
                    interval=1,
                    save_best='val/mse',
                    rule='less',
                ),
                logger=dict(type='LoggerHook', log_metric_by_epoch=False, interval=1),
                visualization=dict(type='MAEVisualizationHook', num_samples=num_samples),
            ),
            default_scope='mmseg',
            log_processor=dict(by_epoch=False),
            experiment_name=work.name,
            randomness=dict(seed=0),
            cfg=Config(),
        )
        runner.train()
        return runner.val()


def test_first_chips_of_each_validation_are_drawn_and_the_best_is_kept(tmp_path):
    metrics = train(tmp_path, num_samples=3)
    names = sorted(path.name for path in tmp_path.rglob('vis_image/*.png'))
    assert names == sorted(f'val_chip_{i}_{step}.png' for i in range(3) for step in (1, 2))
    with Image.open(next(tmp_path.rglob('val_chip_2_1.png'))) as picture:
        width, height = picture.size
    assert width > 900 and height > 900  # three dates in three rows

    # On the way: the error of validation drives save_best and stands beside the loss of training.
    assert set(metrics) == {'val/mse', 'val/visible_mean'}
    assert len(list(tmp_path.glob('best_val_mse_iter_*.pth'))) == 1
    (scalars,) = tmp_path.rglob('scalars.json')
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [set(row) & {'loss', 'val/mse', 'val/visible_mean'} for row in rows] == [
        {'loss'},
        {'val/mse', 'val/visible_mean'},
    ] * 2 + [{'val/mse', 'val/visible_mean'}]
    # mmengine would log the mean over the last validations if the name had "loss" in it.
    assert rows[3]['val/mse'] == rows[4]['val/mse'] == metrics['val/mse'] < rows[1]['val/mse']


def test_zero_samples_draw_nothing_and_the_loss_does_not_depend_on_the_batches(tmp_path):
    one = train(tmp_path / 'one', num_samples=0, val_batch_size=2)
    assert not list(tmp_path.rglob('*.png'))
    all_at_once = train(tmp_path / 'two', num_samples=0, val_batch_size=5)
    assert all_at_once == pytest.approx(one, rel=1e-5)
