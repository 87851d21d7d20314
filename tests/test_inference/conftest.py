"""A tiny model with random weights, its config and its checkpoint as training would write it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import geoseg_prithvi  # noqa: F401  registers the components
from geoseg_prithvi.lulc import IO_LULC

TINY = """
custom_imports = dict(imports=['geoseg_prithvi'])
default_scope = 'mmseg'
num_frames = 3
crop_size = (16, 16)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='HLSDataPreprocessor', normalization='v1', num_frames=3),
    backbone=dict(
        type='PrithviViT',
        arch=dict(embed_dims=16, depth=1, num_heads=2, patch_size=8, mlp_ratio=2),
        num_frames=3,
        img_size=16,
        init_cfg=dict(type='Pretrained', checkpoint='hf://nobody/nothing/at_all.pt'),
    ),
    neck=[
        dict(type='TemporalFuse', in_channels=[48], out_channels=16),
        dict(type='ProgressiveUpsample', in_channels=16, channels=[8]),
    ],
    decode_head=dict(
        type='FCNHead',
        in_channels=8,
        channels=8,
        num_convs=1,
        concat_input=False,
        num_classes=9,
        norm_cfg=dict(type='GN', num_groups=2),
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    ),
    test_cfg=dict(mode='whole'),
)
work_dir = 'unused'
"""


class TinyModel:
    """Paths of a config and its checkpoint."""

    def __init__(self, folder, text=TINY, meta=None, seed=0):
        self.config = folder / 'tiny.py'
        self.checkpoint = folder / 'tiny.pth'
        self.config.write_text(text)
        init_default_scope('mmseg')
        torch.manual_seed(seed)
        settings = self.load().model
        settings.backbone.pop('init_cfg', None)
        self.state = MODELS.build(settings).state_dict()
        self.meta = dict(dataset_meta=IO_LULC.metainfo) if meta is None else meta
        torch.save(dict(state_dict=self.state, meta=self.meta), self.checkpoint)

    def load(self):
        return Config.fromfile(self.config)


@pytest.fixture(scope='session')
def tiny_model(tmp_path_factory):
    """A segmentor of 3 frames and 9 classes on windows of 16 x 16 px."""
    return TinyModel(tmp_path_factory.mktemp('tiny'))
