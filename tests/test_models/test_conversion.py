"""Fine-tuned checkpoints of hls-foundation-os: their numbers, and the converter at work."""

import runpy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.runner import load_checkpoint
from mmseg.registry import MODELS

from geoseg_prithvi.errors import CheckpointMismatchError
from geoseg_prithvi.experiments.weights_benchmark import PeakMemory, random_hls_foundation
from geoseg_prithvi.inference.segmentor import load_weights
from geoseg_prithvi.layout import fold_time
from geoseg_prithvi.models import load_hls_foundation
from geoseg_prithvi.models.conversion import save_converted

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'hls_foundation.py'
HEAD = dict(
    type='FCNHead',
    in_channels=8,
    channels=4,
    concat_input=False,
    num_classes=3,
    norm_cfg=dict(type='BN'),
    align_corners=False,
)


def config(depth=2, learned_positions=True, **kwargs):
    arch = dict(embed_dims=16, depth=depth, num_heads=4, patch_size=16)
    return dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='HLSDataPreprocessor'),
        backbone=dict(
            type='PrithviViT',
            arch=arch,
            img_size=64,
            learned_positions=learned_positions,
            **kwargs,
        ),
        neck=dict(type='ConvTransformerTokensToEmbeddingNeck', embed_dim=48, output_embed_dim=8),
        decode_head=dict(num_convs=1, **HEAD),
        auxiliary_head=dict(num_convs=2, **HEAD),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
    )


def build(**kwargs):
    return MODELS.build(ConfigDict(config(**kwargs))).eval()


@pytest.fixture
def published(golden):
    """Return a whole checkpoint as that code wrote it: the reference backbone and neck, heads."""
    state, data = golden('hls_foundation_os_tiny')
    heads = {k: v for k, v in build().state_dict().items() if 'head' in k}
    meta = dict(CLASSES=('a', 'b', 'c'), PALETTE=[[0, 0, 0]] * 3, mmseg_version='0.30.0')
    return dict(meta=meta, state_dict={**state, **heads}), data


@torch.no_grad()
def test_a_converted_model_gives_the_published_numbers(published):
    checkpoint, data = published
    model = build()
    report, meta = load_hls_foundation(model, checkpoint)
    (features,) = model.extract_feat(fold_time(data['input']))
    torch.testing.assert_close(features, data['neck_output'], rtol=0, atol=1e-5)
    assert set(report.loaded) == set(model.state_dict())
    assert report.dropped == []
    assert meta == dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0]] * 3)


@torch.no_grad()
def test_the_legacy_layout_is_the_historical_reshape(published):
    checkpoint, data = published
    model = build(legacy_layout=True)
    load_hls_foundation(model, checkpoint)
    # that pipeline did chip.reshape(bands, frames, H, W) whatever the order in the file
    chip = data['input'].reshape(2, 18, 64, 64)
    (features,) = model.extract_feat(chip)
    torch.testing.assert_close(features, data['neck_output'], rtol=0, atol=1e-5)


def test_fixed_positions_are_recomputed_not_stored(published):
    checkpoint, _ = published
    model = build(learned_positions=False)
    checkpoint['state_dict']['backbone.pos_embed'] = model.backbone.pos_embed.clone()
    report, _ = load_hls_foundation(model, checkpoint)
    assert report.recomputed == ['pos_embed']
    assert 'backbone.pos_embed' not in model.state_dict()


@pytest.mark.parametrize(
    ('kwargs', 'extra', 'message'),
    [
        (dict(depth=1), {}, 'depth 2 .* the model has 1'),
        (dict(), {'decode_head.sep.weight': torch.ones(1)}, r'holds decode_head\.sep\.weight'),
        (dict(), {'neck.fpn1.0.bias': torch.ones(9)}, r'neck\.fpn1\.0\.bias of shape \(9,\)'),
    ],
)
def test_what_does_not_fit_is_refused(published, kwargs, extra, message):
    checkpoint, _ = published
    checkpoint['state_dict'].update(extra)
    with pytest.raises(CheckpointMismatchError, match=message):
        load_hls_foundation(build(**kwargs), checkpoint)


def test_the_converter_as_a_user_runs_it(published, tmp_path, monkeypatch, capsys):
    checkpoint, data = published
    monkeypatch.chdir(tmp_path)
    torch.save(checkpoint, 'theirs.pth')
    Config(dict(model=config())).dump('config.py')
    monkeypatch.setattr('sys.argv', ['tool', 'config.py', 'theirs.pth', 'ours.pth'])

    runpy.run_path(str(TOOL), run_name='__main__')
    assert 'written: ours.pth' in capsys.readouterr().out
    model = build()
    load_checkpoint(model, 'ours.pth', strict=True)
    with torch.no_grad():
        (features,) = model.extract_feat(fold_time(data['input']))
    torch.testing.assert_close(features, data['neck_output'], rtol=0, atol=1e-5)
    assert sorted(p.name for p in tmp_path.glob('*.pth*')) == ['ours.pth', 'theirs.pth']

    with pytest.raises(SystemExit) as exit_status:
        runpy.run_path(str(TOOL), run_name='__main__')
    assert exit_status.value.code == 2
    assert capsys.readouterr().err.startswith('error: ours.pth is there already')


def test_the_heads_of_the_published_models_fit():
    # burn scars: 1 frame, 768 channels; names as in its checkpoint
    with torch.device('meta'):
        neck = dict(
            type='ConvTransformerTokensToEmbeddingNeck',
            embed_dim=768,
            output_embed_dim=768,
            num_frames=1,
        )
        head = {**HEAD, 'in_channels': 768, 'channels': 256, 'num_classes': 2, 'num_convs': 1}
        model = MODELS.build(
            ConfigDict(
                type='EncoderDecoder',
                backbone=dict(type='PrithviViT', arch='v1-100M', num_frames=1),
                neck=neck,
                decode_head=head,
            )
        )
    keys = set(model.state_dict())
    assert {
        'backbone.blocks.11.attn.qkv.weight',
        'neck.fpn2.1.ln.weight',
        'decode_head.convs.0.bn.running_var',
        'decode_head.conv_seg.bias',
    } <= keys


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='reads memory use from /proc')
def test_a_full_size_checkpoint_is_converted_and_loaded_without_a_second_copy(tmp_path):
    """Burn scars: every name and shape of the published file, random values."""
    cfg = Config.fromfile(TOOL.parents[2] / 'configs' / 'burn_scars.py')
    theirs = random_hls_foundation(cfg)
    expected = theirs['state_dict']['neck.fpn2.3.weight'][0].clone()
    size = sum(value.nbytes for value in theirs['state_dict'].values()) // 10**6
    assert size > 390
    torch.save(theirs, tmp_path / 'theirs.pth')
    del theirs

    model = MODELS.build(cfg.model)
    with PeakMemory() as memory:
        report, meta = load_hls_foundation(model, tmp_path / 'theirs.pth')
        save_converted(model, meta, tmp_path / 'ours.pth')
        assert torch.equal(model.neck.fpn2[3].weight[0], expected)
        torch.nn.init.zeros_(model.neck.fpn2[3].weight)
        meta = load_weights(model, tmp_path / 'ours.pth')
        assert meta['dataset_meta'] == dict(classes=('class 0', 'class 1'))
    assert memory.peak - memory.start < size / 4
    assert torch.equal(model.neck.fpn2[3].weight[0], expected)
    assert set(report.loaded) == set(model.state_dict())
    assert report.recomputed == ['pos_embed']
