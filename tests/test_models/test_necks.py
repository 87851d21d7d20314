"""Necks: the published one to the last digit, ours inside MMSegmentation's segmentor."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.layout import tokens_to_maps
from geoseg_prithvi.models import (
    ConvTransformerTokensToEmbeddingNeck,
    ProgressiveUpsample,
    TemporalFuse,
)


@torch.no_grad()
def test_published_neck_agrees_with_the_reference(golden):
    state, data = golden('hls_foundation_os_tiny')
    neck = ConvTransformerTokensToEmbeddingNeck(embed_dim=48, output_embed_dim=8, num_frames=3)
    prefix = 'neck.'
    neck.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
    maps = tokens_to_maps(data['tokens'][:, 1:], (3, 4, 4))
    (output,) = neck((maps,))
    torch.testing.assert_close(output, data['neck_output'], rtol=0, atol=1e-5)


def test_fuse_sees_each_map_with_weights_of_its_own():
    neck = TemporalFuse([12, 24], 8)
    maps = torch.randn(2, 12, 5, 7), torch.randn(2, 24, 3, 2)
    first, second = neck(maps)
    assert first.shape == (2, 8, 5, 7)
    assert second.shape == (2, 8, 3, 2)
    with pytest.raises(ConfigError, match=r'2 feature map\(s\) and got 1'):
        neck(maps[:1])


def test_fuse_is_a_weighted_sum_over_frames():
    neck = TemporalFuse(2 * 3, 2, norm_cfg=None, act_cfg=None)  # 2 frames of 3 channels
    conv = neck.convs[0].conv
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[0, 1] = 1  # channel 1 of frame 0
        conv.weight[1, 3 + 2] = 2  # channel 2 of frame 1
    x = torch.randn(1, 6, 4, 4)
    (y,) = neck((x,))
    torch.testing.assert_close(y, torch.stack([x[:, 1], 2 * x[:, 5]], 1))


@pytest.mark.parametrize('channels', [(16,), (32, 16, 8)])
def test_upsample_doubles_at_each_step(channels):
    neck = ProgressiveUpsample(24, channels)
    (y,) = neck((torch.randn(1, 24, 3, 5),))
    factor = 2 ** len(channels)
    assert y.shape == (1, channels[-1], 3 * factor, 5 * factor)
    with pytest.raises(ConfigError, match=r'1 feature map\(s\) and got 2'):
        neck((y, y))


def _segmentor(neck, head, out_indices=(-1,)):
    arch = dict(embed_dims=32, depth=4, num_heads=2, patch_size=8)
    return MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='HLSDataPreprocessor', size_divisor=8),
            backbone=dict(type='PrithviViT', arch=arch, img_size=32, out_indices=out_indices),
            neck=neck,
            decode_head=dict(num_classes=9, align_corners=False, **head),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )


def _batch(height, width):
    chips, samples = [], []
    for _ in range(2):
        chips.append(torch.randint(-100, 5000, (18, height, width), dtype=torch.int16))
        label = torch.randint(0, 9, (1, height, width))
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        sample.set_metainfo(dict(ori_shape=(height, width), img_shape=(height, width)))
        samples.append(sample)
    return dict(inputs=chips, data_samples=samples)


FCN = (
    [
        dict(type='TemporalFuse', in_channels=96, out_channels=32),
        dict(type='ProgressiveUpsample', in_channels=32, channels=(24, 16)),
    ],
    dict(type='FCNHead', in_channels=16, channels=16, num_convs=1, concat_input=False),
    (-1,),
)
PYRAMID = [
    dict(type='TemporalFuse', in_channels=[96] * 4, out_channels=32),
    dict(type='Feature2Pyramid', embed_dim=32, norm_cfg=dict(type='BN')),
]
FEATURES = dict(in_channels=[32] * 4, in_index=[0, 1, 2, 3], channels=16)
UPER = (PYRAMID, dict(type='UPerHead', **FEATURES), (0, 1, 2, 3))
SEGFORMER = (PYRAMID, dict(type='SegformerHead', **FEATURES), (0, 1, 2, 3))


@pytest.mark.parametrize('parts', [FCN, UPER, SEGFORMER], ids=['fcn', 'uper', 'segformer'])
def test_neck_lists_train_and_predict_in_the_stock_segmentor(parts):
    model = _segmentor(*parts)
    losses = model(**model.data_preprocessor(_batch(32, 32), True), mode='loss')
    losses['decode.loss_ce'].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)

    # in testing any size will do: it is padded to the patch and cut back
    model.eval()
    with torch.no_grad():
        results = model.test_step(_batch(30, 45))
    assert [tuple(r.seg_logits.data.shape) for r in results] == [(9, 30, 45)] * 2


def test_padding_is_cut_off_and_moves_nothing():
    model = _segmentor(*FCN).eval()
    batch = _batch(32, 40)
    with torch.no_grad():
        whole = model.test_step(batch)[0].seg_logits.data
        # the same chip with its last rows and columns unobserved, once cut off and once nodata
        small = [chip[:, :27, :35] for chip in batch['inputs']]
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(ori_shape=(27, 35), img_shape=(27, 35)))
        cut = model.test_step(dict(inputs=small, data_samples=batch['data_samples']))
        masked = [chip.clone() for chip in batch['inputs']]
        for chip in masked:
            chip[:, 27:] = chip[:, :, 35:] = -9999
        for sample in batch['data_samples']:
            sample.set_metainfo(dict(ori_shape=(32, 40), img_shape=(32, 40)))
        cut = cut[0].seg_logits.data.clone()
        nodata = model.test_step(dict(inputs=masked, data_samples=batch['data_samples']))
    assert whole.shape == (9, 32, 40)
    torch.testing.assert_close(cut, nodata[0].seg_logits.data[:, :27, :35])
