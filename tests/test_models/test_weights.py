"""Strict loading: every layout in, and a clear refusal for whatever does not fit."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file

from geoseg_prithvi.errors import (
    CheckpointMismatchError,
    ConfigError,
    UnsafeCheckpointError,
    WeightsNotFoundError,
)
from geoseg_prithvi.experiments.weights_benchmark import PeakMemory, random_v1_state
from geoseg_prithvi.hls import BANDS
from geoseg_prithvi.models import PrithviViT, fetch_checkpoint, load_prithvi_weights

TINY = dict(embed_dims=32, depth=2, num_heads=2, patch_size=8)


def tiny(**kwargs) -> PrithviViT:
    return PrithviViT(**{'arch': TINY, 'img_size': 32, **kwargs}).eval()


@pytest.fixture
def v1(golden):
    return dict(golden('prithvi_eo_v1_tiny')[0])


@pytest.fixture
def v2(golden):
    return dict(golden('prithvi_eo_v2_tl_tiny')[0])


def assert_loaded(model, state, prefix=''):
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, state[prefix + name])


def test_v1_report(v1):
    model = tiny()
    report = load_prithvi_weights(model, v1)
    assert_loaded(model, v1)
    assert report.loaded == sorted(model.state_dict())
    assert report.recomputed == ['pos_embed']
    assert set(report.dropped) == {f'decoder.{k}' for k in v1 if 'decoder' in k or 'mask' in k}
    assert str(report) == (
        'state dict: 29 loaded, 20 dropped (not part of the encoder), 1 recomputed (positions)'
    )


def test_v2_report(v2):
    model = tiny(num_frames=4, coords_encoding=('time', 'location'))
    report = load_prithvi_weights(model, v2)
    assert_loaded(model, v2, 'encoder.')
    assert 'temporal_embed_enc.scale' in report.loaded
    assert {'decoder.mask_token', 'decoder.temporal_embed_dec.scale'} <= set(report.dropped)


def test_another_number_of_frames_and_another_size_load(v1):
    model = tiny(num_frames=5, img_size=64)
    assert load_prithvi_weights(model, v1).recomputed == ['pos_embed']


@pytest.mark.parametrize('wrap', ['segmentor', 'module', 'model', 'segmentor of v2'])
def test_other_wrappings(v1, wrap):
    encoder = {k: v for k, v in v1.items() if not k.startswith(('decoder', 'mask', 'pos'))}
    checkpoint = {
        'segmentor': dict(
            meta=dict(epoch=1),
            state_dict={
                **{f'backbone.{k}': v for k, v in encoder.items()},
                'neck.0.convs.0.conv.weight': torch.ones(1),
                'decode_head.conv_seg.weight': torch.ones(1),
            },
        ),
        'module': {f'module.{k}': v for k, v in v1.items()},
        'model': dict(model=v1),
        'segmentor of v2': {f'backbone.encoder.{k}': v for k, v in encoder.items()},
    }[wrap]
    model = tiny()
    report = load_prithvi_weights(model, checkpoint)
    assert_loaded(model, v1)
    if wrap == 'segmentor':
        assert report.dropped == ['decode_head.conv_seg.weight', 'neck.0.convs.0.conv.weight']


@pytest.mark.parametrize('form', ['pt', 'old.pt', 'safetensors'])
def test_files_and_init_cfg(v1, tmp_path, form):
    path = tmp_path / f'weights.{form}'
    if form == 'safetensors':
        save_file(v1, path)
    else:  # torch before 1.6 wrote no zip archives
        torch.save(v1, path, _use_new_zipfile_serialization=form == 'pt')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    model = tiny(init_cfg=dict(type='Pretrained', checkpoint=str(path), sha256=digest))
    model.init_weights()
    assert_loaded(model, v1)


def test_a_wrong_digest_is_refused(v1, tmp_path):
    path = tmp_path / 'weights.pt'
    torch.save(v1, path)
    model = tiny(init_cfg=dict(type='Pretrained', checkpoint=str(path), sha256='0' * 64))
    with pytest.raises(CheckpointMismatchError, match=r'weights\.pt has the sha256 .* not 000'):
        model.init_weights()


def variation(v1, what):
    """Return a model and a checkpoint that do not fit, each in one way."""
    return {
        'deeper model': (tiny(arch={**TINY, 'depth': 3}), v1),
        'shallower model': (tiny(arch={**TINY, 'depth': 1}), v1),
        'wider model': (tiny(arch={**TINY, 'embed_dims': 64}), v1),
        'other patch': (tiny(arch={**TINY, 'patch_size': 16}), v1),
        'other mlp': (tiny(arch={**TINY, 'mlp_ratio': 2}), v1),
        'leftover': (tiny(), {**v1, 'blocks.0.attn.gate': torch.ones(1)}),
        'missing': (tiny(), {k: v for k, v in v1.items() if k != 'blocks.1.norm2.bias'}),
        'no dates in the file': (tiny(coords_encoding=('time',)), v1),
        'no prithvi': (tiny(), {'conv1.weight': torch.ones(3)}),
        'learned positions': (tiny(), {**v1, 'pos_embed': v1['pos_embed'] + 0.1}),
    }[what]


@pytest.mark.parametrize(
    ('what', 'message'),
    [
        ('deeper model', r'depth 2 \(see blocks\.1\), but the model has 3'),
        ('shallower model', r'depth 2 \(see blocks\.1\), but the model has 1'),
        ('wider model', r'embed_dims 32 \(see patch_embed\.proj\.weight\)'),
        ('other patch', r'patch_size \[1, 8, 8\] .* \[1, 16, 16\]'),
        ('other mlp', r'blocks\.0\.mlp\.fc1\.bias of shape \(128,\), the model \(64,\)'),
        ('leftover', r'holds blocks\.0\.attn\.gate'),
        ('missing', r'has no blocks\.1\.norm2\.bias'),
        ('no dates in the file', r'has no temporal_embed_enc\.scale; set coords_encoding'),
        ('no prithvi', 'no Prithvi encoder'),
        ('learned positions', 'pos_embed is not the fixed sin-cos table'),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_loaded(v1, what, message):
    model, checkpoint = variation(v1, what)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match=message):
        load_prithvi_weights(model, checkpoint)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_dates_of_the_file_without_a_place_are_refused(v2):
    with pytest.raises(
        CheckpointMismatchError, match=r'holds location_embed_enc\.scale.*set coords_encoding'
    ):
        load_prithvi_weights(tiny(num_frames=4), v2)


def test_the_published_crop_config_is_refused():
    # 12-layer, 12-head weights into 8 heads and 6 layers, and into 8 heads alone
    with torch.device('meta'):
        state = PrithviViT('v1-100M').state_dict()
        arch = dict(embed_dims=768, depth=6, num_heads=8)
        shallow, few_heads = PrithviViT(arch), PrithviViT({**arch, 'depth': 12})
    with pytest.raises(CheckpointMismatchError, match=r'depth 12 .* the model has 6'):
        load_prithvi_weights(shallow, state)
    with pytest.raises(CheckpointMismatchError, match='has 12 heads, but the model has 8'):
        load_prithvi_weights(few_heads, state)


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='reads memory use from /proc')
def test_a_full_size_file_loads_without_a_second_copy(tmp_path):
    state = random_v1_state()
    expected = state['blocks.11.mlp.fc1.weight'][0].clone()
    torch.save(state, tmp_path / 'v1.pt')
    del state
    model = PrithviViT('v1-100M')
    size = sum(p.nbytes for p in model.parameters()) // 10**6
    with PeakMemory() as memory:
        report = load_prithvi_weights(model, tmp_path / 'v1.pt')
    assert memory.peak - memory.start < size / 4
    assert len(report.loaded) == 149
    assert torch.equal(model.blocks[11].mlp.fc1.weight[0], expected)


def test_bands_are_selected_by_name(v1):
    bands = ('SWIR_1', 'BLUE', 'RED')
    model = tiny(in_channels=3, bands=bands)
    report = load_prithvi_weights(model, v1)
    columns = v1['patch_embed.proj.weight']
    for i, band in enumerate(bands):
        assert torch.equal(model.patch_embed.proj.weight[:, i], columns[:, BANDS.index(band)])
    assert report.selected == list(bands)
    assert report.inflated == []
    assert 'bands selected: SWIR_1, BLUE, RED, inflated: none' in str(report)


def test_six_bands_in_another_order_are_put_right(v1):
    model = tiny(bands=BANDS[::-1])
    load_prithvi_weights(model, v1)
    weight = model.patch_embed.proj.weight
    assert torch.equal(weight, v1['patch_embed.proj.weight'].flip(1))


def test_unknown_bands_start_from_the_mean(v1):
    model = tiny(in_channels=7, bands=(*BANDS, 'VV'))
    report = load_prithvi_weights(model, v1)
    assert report.inflated == ['VV']
    columns = v1['patch_embed.proj.weight']
    assert torch.equal(model.patch_embed.proj.weight[:, :6], columns)
    torch.testing.assert_close(model.patch_embed.proj.weight[:, 6], columns.mean(1))


@pytest.mark.parametrize(
    ('kwargs', 'source_bands', 'message'),
    [
        (dict(in_channels=4), None, '6 bands, the model 4; name them with bands='),
        (dict(in_channels=2, bands=('VV', 'VH')), None, "none of the model's VV, VH"),
        (dict(), ('RED', 'BLUE'), '6 bands, but 2 are named'),
    ],
)
def test_bands_that_cannot_be_told_are_refused(v1, kwargs, source_bands, message):
    with pytest.raises(CheckpointMismatchError, match=message):
        load_prithvi_weights(tiny(**kwargs), v1, source_bands=source_bands)


def test_a_checkpoint_of_other_bands_goes_by_its_own_names(v1):
    narrow = tiny(in_channels=2, bands=('RED', 'VV'))
    state = narrow.state_dict()
    model = tiny(in_channels=2, bands=('VV', 'RED'))
    load_prithvi_weights(model, state, source_bands=('RED', 'VV'))
    weight = model.patch_embed.proj.weight
    assert torch.equal(weight, narrow.patch_embed.proj.weight.flip(1))
    # without a name it is taken to have the model's own bands
    load_prithvi_weights(narrow, state)


class _Evil:
    def __reduce__(self):
        return (print, ('this must never be printed',))


def test_a_pickle_that_would_run_code_is_refused(v1, tmp_path, capsys):
    path = tmp_path / 'evil.pt'
    torch.save({**v1, 'extra': _Evil()}, path)
    model = tiny(init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    with pytest.raises(UnsafeCheckpointError, match=r'evil\.pt was not loaded'):
        model.init_weights()
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises((UnsafeCheckpointError, CheckpointMismatchError)):
        load_prithvi_weights(model, path)
    assert 'never' not in capsys.readouterr().out


def test_a_truncated_file_is_named(v1, tmp_path):
    path = tmp_path / 'half.pt'
    torch.save(v1, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointMismatchError, match=r'half\.pt'):
        load_prithvi_weights(tiny(), path)


def test_weights_that_are_not_there(tmp_path):
    model = tiny(init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pt')))
    message = r'x\.pt are not there; put the file .* HF_ENDPOINT .* train from scratch'
    with pytest.raises(WeightsNotFoundError, match=message):
        model.init_weights()


@pytest.mark.parametrize('url', ['hf://owner', 'hf://owner/repo', 'hf://o/r/f@'])
def test_malformed_urls_are_refused(url):
    with pytest.raises(ConfigError, match='write hf://owner/repo/file'):
        fetch_checkpoint(url)


def test_unreachable_hub_is_told(monkeypatch, tmp_path):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    model = tiny(init_cfg=dict(type='Pretrained', checkpoint='hf://owner/repo/w.pt@v1'))
    with pytest.raises(
        WeightsNotFoundError,
        match=r'hf://owner/repo/w\.pt@v1 could not be fetched: .* put the file .* from scratch',
    ):
        model.init_weights()
    with pytest.raises(WeightsNotFoundError):
        CheckpointLoader.load_checkpoint('hf://owner/repo/w.pt')
