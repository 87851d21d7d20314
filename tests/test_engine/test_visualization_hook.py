import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample
from PIL import Image
from torch.utils.data import Dataset

from geoseg_prithvi.engine.visualization_hook import HLSVisualizationHook
from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.lulc import IO_LULC

DATES = ['2022-03-01', '2022-07-15', '2022-10-02']


class Chips(Dataset):
    metainfo = IO_LULC.metainfo | dict(split='val')

    def __init__(self, views=1):
        self.views = views

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        chip = torch.from_numpy(rng.integers(0, 4000, (18, 16, 16)).astype(np.int16))
        sample = SegDataSample(
            gt_sem_seg=PixelData(data=torch.full((1, 16, 16), index, dtype=torch.int64))
        )
        sample.set_metainfo(
            dict(chip_id=f'chip_{index}', img_path=f'{index}.tif', dates=DATES, ori_shape=(16, 16))
        )
        if self.views > 1:
            return dict(inputs=[chip] * self.views, data_samples=[sample] * self.views)
        return dict(inputs=chip, data_samples=sample)


class Oracle(BaseModel):
    """Predicts the label."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples, mode):
        if mode == 'loss':
            return dict(loss=(self.scale**2).sum())
        if isinstance(data_samples[0], (list, tuple)):
            data_samples = data_samples[0]
        for sample in data_samples:
            sample.pred_sem_seg = PixelData(data=sample.gt_sem_seg.data)
        return data_samples


def loader(views=1):
    return dict(
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=Chips(views),
    )


@pytest.fixture
def run(tmp_path):
    """Train two iterations with validation after each, then test."""

    def start(hook, views=1, train=True):
        Visualizer._instance_dict.clear()
        with DefaultScope.overwrite_default_scope('mmseg'):
            runner = Runner(
                Oracle(),
                str(tmp_path),
                train_dataloader=loader(),
                val_dataloader=loader(),
                test_dataloader=loader(views),
                train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1),
                val_cfg=dict(),
                test_cfg=dict(),
                optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
                val_evaluator=dict(type='LULCMetric'),
                test_evaluator=dict(type='LULCMetric'),
                default_hooks=dict(
                    checkpoint=dict(
                        type='CheckpointHook', by_epoch=False, interval=1, save_best='mIoU'
                    ),
                    logger=dict(type='LoggerHook', log_metric_by_epoch=False),
                    visualization=hook,
                ),
                default_scope='mmseg',
                log_processor=dict(by_epoch=False),
                experiment_name=tmp_path.name,
                cfg=Config(),
            )
            if train:
                runner.train()
            metrics = runner.test()
        return runner, metrics, sorted(p.name for p in tmp_path.rglob('vis_image/*.png'))

    return start


def test_first_samples_of_each_run_are_drawn(run, tmp_path):
    _, metrics, names = run(dict(type='HLSVisualizationHook', num_samples=3))
    # The runner counts two training iterations in the end.
    assert names == sorted(
        [f'val_chip_{i}_{step}.png' for i in range(3) for step in (1, 2)]
        + [f'test_chip_{i}_2.png' for i in range(3)]
    )
    with Image.open(next(tmp_path.rglob('val_chip_2_1.png'))) as picture:
        pixels = np.asarray(picture.convert('RGB'))
    # Label and prediction are both class 2 all over, so its colour covers two pictures.
    assert (pixels == IO_LULC.colors[2]).all(-1).sum() > 2 * 250**2

    # On the way: the metric drives save_best and writes its files beside the log of the run.
    assert metrics['mIoU'] == 100.0
    assert len(list(tmp_path.glob('best_mIoU_iter_*.pth'))) == 1
    (table,) = tmp_path.rglob('confusion_val.csv')
    (log,) = tmp_path.rglob('*.log')
    assert table.parent == log.parent
    assert 'flooded vegetation' in log.read_text()


def test_zero_samples_draw_nothing(run):
    assert run(dict(type='HLSVisualizationHook', num_samples=0), train=False)[2] == []


def test_test_time_augmentation_draws_the_first_view(run):
    names = run(dict(type='HLSVisualizationHook', num_samples=2), views=2, train=False)[2]
    assert names == ['test_chip_0_0.png', 'test_chip_1_0.png']


def test_bands_that_do_not_fit():
    hook = HLSVisualizationHook(bands=('BLUE', 'GREEN', 'RED', 'NIR_NARROW'))
    with pytest.raises(ConfigError, match=r'18 channels are no multiple of the 4 bands'):
        hook._panel(torch.zeros(18, 4, 4), SegDataSample(), 'chip_0', Chips.metainfo)
