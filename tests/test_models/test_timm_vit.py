"""The ViT baseline: timm's names and numbers, strictly."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from geoseg_prithvi.errors import CheckpointMismatchError, ConfigError
from geoseg_prithvi.hls import BANDS
from geoseg_prithvi.models import TimmViT, load_timm_weights

D, DEPTH, HEADS, PATCH, SIZE = 32, 2, 2, 8, 32


def timm_state(dims=D, depth=DEPTH, patch=PATCH, size=SIZE, classes=10):
    """Random values under the names and in the shapes that timm gives its ViTs."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        'cls_token': (1, 1, dims),
        'pos_embed': (1, 1 + (size // patch) ** 2, dims),
        'patch_embed.proj.weight': (dims, 3, patch, patch),
        'patch_embed.proj.bias': (dims,),
        'norm.weight': (dims,),
        'norm.bias': (dims,),
        'head.weight': (classes, dims),
        'head.bias': (classes,),
    }
    for i in range(depth):
        for name, out, inner in (
            ('attn.qkv', 3 * dims, dims),
            ('attn.proj', dims, dims),
            ('mlp.fc1', 4 * dims, dims),
            ('mlp.fc2', dims, 4 * dims),
        ):
            shapes |= {f'blocks.{i}.{name}.weight': (out, inner), f'blocks.{i}.{name}.bias': (out,)}
        for name in ('norm1', 'norm2'):
            shapes |= {f'blocks.{i}.{name}.weight': (dims,), f'blocks.{i}.{name}.bias': (dims,)}
    return {k: torch.randn(v, generator=generator) * 0.2 for k, v in shapes.items()}


def timm_forward(state, image):
    """Spell out timm's ``forward_features``; it agrees with timm 1.0 to 1e-6 (tried once)."""

    def linear(x, name):
        return functional.linear(x, state[f'{name}.weight'], state[f'{name}.bias'])

    def norm(x, name):
        return functional.layer_norm(
            x, (D,), state[f'{name}.weight'], state[f'{name}.bias'], eps=1e-6
        )

    x = functional.conv2d(
        image, state['patch_embed.proj.weight'], state['patch_embed.proj.bias'], stride=PATCH
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state['cls_token'].expand(len(x), -1, -1), x], 1) + state['pos_embed']
    for i in range(DEPTH):
        block = f'blocks.{i}'
        y = linear(norm(x, f'{block}.norm1'), f'{block}.attn.qkv')
        q, k, v = y.reshape(*y.shape[:2], 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / (D / HEADS) ** 0.5).softmax(-1)
        y = (weights @ v).transpose(1, 2).flatten(2)
        x = x + linear(y, f'{block}.attn.proj')
        y = functional.gelu(linear(norm(x, f'{block}.norm2'), f'{block}.mlp.fc1'))
        x = x + linear(y, f'{block}.mlp.fc2')
    return norm(x, 'norm')[:, 1:]


def tiny(**kwargs):
    defaults = dict(img_size=SIZE, patch_size=PATCH, embed_dims=D, num_layers=DEPTH)
    return TimmViT(**{**defaults, 'num_heads': HEADS, **kwargs}).eval()


@torch.no_grad()
def test_a_grey_unchanging_chip_gives_the_tokens_of_timm():
    state, model = timm_state(), tiny()
    load_timm_weights(model, state)
    grey = torch.randn(2, 1, SIZE, SIZE)
    (maps,) = model(grey.expand(-1, 18, -1, -1))
    expected = timm_forward(state, grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(maps.flatten(2).transpose(1, 2), expected, rtol=0, atol=1e-5)


def test_each_band_has_the_columns_of_its_colour():
    state, model = timm_state(), tiny()
    report = load_timm_weights(model, state)
    colours = state['patch_embed.proj.weight']
    weight = model.patch_embed.projection.weight.view(D, 3, 6, PATCH, PATCH)
    for t in range(3):
        for i, colour in enumerate(('RED', 'GREEN', 'BLUE')):
            column = weight[:, t, BANDS.index(colour)]
            torch.testing.assert_close(column, colours[:, i] * 3 / 18)
        for band in ('NIR_NARROW', 'SWIR_1', 'SWIR_2'):
            column = weight[:, t, BANDS.index(band)]
            torch.testing.assert_close(column, colours.mean(1) * 3 / 18)
    assert report.dropped == ['head.weight', 'head.bias']
    assert report.inflated == ['NIR_NARROW', 'SWIR_1', 'SWIR_2']
    assert set(report.loaded) == set(model.state_dict())


def test_init_cfg_loads_a_file(tmp_path):
    save_file(timm_state(), tmp_path / 'model.safetensors')
    path = str(tmp_path / 'model.safetensors')
    model = tiny(init_cfg=dict(type='Pretrained', checkpoint=path))
    model.init_weights()
    expected = timm_state()['blocks.1.mlp.fc2.bias']
    assert torch.equal(model.layers[1].ffn.layers[1].bias, expected)


@torch.no_grad()
def test_another_size_stretches_the_positions():
    model = tiny(img_size=48)
    load_timm_weights(model, timm_state())
    assert model.pos_embed.shape == (1, 1 + 36, D)
    assert torch.equal(model.pos_embed[:, 0], timm_state()['pos_embed'][:, 0])
    assert model(torch.randn(1, 18, 48, 48))[0].shape == (1, D, 6, 6)


def test_the_published_names_and_shapes_fit_the_default_model():
    with torch.device('cpu'):
        model = TimmViT()
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    load_timm_weights(model, timm_state(768, 12, 16, 224, 1000))
    assert own['patch_embed.projection.weight'] == (768, 18, 16, 16)
    assert sum(p.numel() for p in model.parameters()) == 85798656 + 15 * 768 * 256


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.pop('blocks.1.norm2.bias'), r'has no layers\.1\.ln2\.bias'),
        (lambda s: s.update({'fc_norm.weight': torch.ones(D)}), r'holds fc_norm\.weight'),
        (lambda s: s.pop('patch_embed.proj.weight'), 'no vision transformer of timm'),
        (lambda s: s.update(timm_state(depth=3)), r'holds layers\.2'),
        (lambda s: s.update(timm_state(depth=3, dims=48)), 'shape'),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    state = timm_state()
    change(state)
    with pytest.raises(CheckpointMismatchError, match=message):
        load_timm_weights(tiny(), state)


@pytest.mark.parametrize('stages', [-1, 0, 1, 2])
def test_frozen_stages(stages):
    model = tiny(frozen_stages=stages, drop_path_rate=0.5).train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert ('pos_embed' in trained) == (stages < 0)
    for i in range(DEPTH):
        assert (f'layers.{i}.attn.attn.in_proj_weight' in trained) == (i >= stages)
        assert model.layers[i].training == (i >= stages)
    assert ('ln1.weight' in trained) == (stages < DEPTH)
    with pytest.raises(ConfigError, match='between -1'):
        tiny(frozen_stages=3)


def test_layer_depth():
    model = tiny()
    assert model.get_layer_depth('backbone.pos_embed', 'backbone.') == (0, 4)
    assert model.get_layer_depth('backbone.layers.1.ln2.bias', 'backbone.') == (2, 4)
    assert model.get_layer_depth('backbone.ln1.bias', 'backbone.') == (3, 4)
