"""Each parameter's learning rate and weight decay, as one would work them out on paper."""

import pytest
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import nn

from geoseg_prithvi.errors import ConfigError


def model(**backbone):
    arch = dict(embed_dims=16, depth=3, num_heads=2, patch_size=8)
    head = dict(type='FCNHead', in_channels=48, channels=8, num_convs=1, concat_input=False)
    return MODELS.build(
        ConfigDict(
            type='EncoderDecoder',
            backbone=dict(type='PrithviViT', arch=arch, img_size=16, **backbone),
            decode_head=dict(num_classes=9, align_corners=False, **head),
        )
    )


def rates(model, lr=1.0, **paramwise):
    cfg = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=lr, weight_decay=0.1),
        constructor='ViTLayerDecayConstructor',
        paramwise_cfg=paramwise,
    )
    groups = build_optim_wrapper(model, cfg).optimizer.param_groups
    by_id = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    assert sum(len(g['params']) for g in groups) == len(by_id)
    return {n: by_id.get(id(p)) for n, p in model.named_parameters()}, groups


def test_rate_falls_layer_by_layer():
    found, groups = rates(model(), layer_decay_rate=0.5)
    # 3 blocks: layers 0 (embeddings), 1, 2, 3 and 4 (norm); the head is at full rate
    assert found['backbone.cls_token'][0] == pytest.approx(0.5**4)
    assert found['backbone.patch_embed.proj.weight'][0] == pytest.approx(0.5**4)
    for i in range(3):
        assert found[f'backbone.blocks.{i}.mlp.fc1.weight'][0] == pytest.approx(0.5 ** (3 - i))
    assert found['backbone.norm.weight'][0] == 1
    assert found['decode_head.conv_seg.weight'][0] == 1
    assert {wd for _, wd in found.values()} == {0.1}
    assert len(groups) == 5


def test_it_works_beside_the_other_options():
    found, _ = rates(
        model(),
        lr=2.0,
        layer_decay_rate=0.5,
        norm_decay_mult=0.0,
        custom_keys={'backbone': dict(lr_mult=0.1), 'blocks.2.norm1': dict(decay_mult=0.0)},
    )
    assert found['backbone.blocks.2.mlp.fc1.bias'] == pytest.approx((2 * 0.1 * 0.5, 0.1))
    assert found['backbone.blocks.2.norm1.bias'] == pytest.approx((2 * 0.5, 0.0))
    assert found['decode_head.conv_seg.bias'] == pytest.approx((2.0, 0.1))


def test_frozen_layers_are_left_out():
    found, _ = rates(model(frozen_stages=2), layer_decay_rate=0.75)
    assert found['backbone.blocks.1.norm1.weight'] is None
    assert found['backbone.blocks.2.norm1.weight'][0] == pytest.approx(0.75)


@pytest.mark.parametrize('rate', [None, 0, 1.5, 'x'])
def test_a_wrong_rate_is_refused(rate):
    with pytest.raises(ConfigError, match=r'layer_decay_rate=.* over 0 and at most 1'):
        rates(model(), layer_decay_rate=rate)


def test_a_backbone_that_cannot_tell_is_refused():
    network = nn.Module()
    network.backbone = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match='Linear has no get_layer_depth'):
        rates(network, layer_decay_rate=0.5)
