"""The encoder against the reference vectors, and its behaviour as a backbone."""

import math

import numpy as np
import pytest
import torch
from mmseg.registry import MODELS

from geoseg_prithvi.errors import ChipError, ConfigError, LayoutError
from geoseg_prithvi.layout import fold_time
from geoseg_prithvi.models import VARIANTS, PrithviViT, load_prithvi_weights
from geoseg_prithvi.models.embeddings import sincos_positions

TINY = dict(embed_dims=32, depth=2, num_heads=2, patch_size=8)
TL = ('time', 'location')


def tiny(**kwargs) -> PrithviViT:
    return PrithviViT(**{'arch': TINY, 'img_size': 32, **kwargs}).eval()


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_v1_layout_agrees_with_the_reference(golden):
    state, data = golden('prithvi_eo_v1_tiny')
    model = tiny()
    load_prithvi_weights(model, state)
    for i, tokens in enumerate(model.forward_tokens(data['input'])):
        assert_close(tokens, data[f'feature/{i}'])


@torch.no_grad()
def test_v2_layout_with_dates_and_locations_agrees_with_the_reference(golden):
    state, data = golden('prithvi_eo_v2_tl_tiny')
    model = tiny(num_frames=4, coords_encoding=TL)
    load_prithvi_weights(model, state)
    coords = (data['temporal_coords'], data['location_coords'])
    for i, tokens in enumerate(model.forward_tokens(data['input'], *coords)):
        assert_close(tokens, data[f'feature/{i}'])
    # and they matter: without either of them the tokens are others
    for partial in ((None, coords[1]), (coords[0], None)):
        difference = model.forward_tokens(data['input'], *partial)[1] - data['feature/1']
        assert difference.abs().max() > 1e-3


@torch.no_grad()
def test_hls_foundation_os_agrees_with_the_reference(golden):
    state, data = golden('hls_foundation_os_tiny')
    # the reference vectors were made with positions that are not the fixed ones
    arch = dict(embed_dims=16, depth=2, num_heads=4, patch_size=16)
    model = PrithviViT(arch, img_size=64, learned_positions=True).eval()
    load_prithvi_weights(model, state)
    assert_close(model.forward_tokens(data['input'])[-1], data['tokens'])


@torch.no_grad()
def test_maps_are_the_tokens_time_major(golden):
    state, data = golden('prithvi_eo_v1_tiny')
    model = tiny(out_indices=(0, -1))
    load_prithvi_weights(model, state)
    maps = model(fold_time(data['input']))
    assert [m.shape for m in maps] == [(2, 3 * 32, 4, 4)] * 2
    for i, feature in enumerate(maps):
        # frame 1, row 2, column 3
        token = data[f'feature/{i}'][:, 1 + 1 * 16 + 2 * 4 + 3]
        assert_close(feature[:, 32:64, 2, 3], token)


def test_every_frame_and_band_keeps_its_identity():
    # A chip whose pixels say 100 * frame + band, read back where the patches are cut.
    chip = torch.tensor([[100.0 * t + band for t in range(3) for band in range(6)]])
    chip = chip[..., None, None].expand(-1, -1, 32, 32)
    seen = {}
    model = tiny()
    model.patch_embed.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    model(chip)
    assert seen['x'].shape == (1, 6, 3, 32, 32)
    for t in range(3):
        for band in range(6):
            assert (seen['x'][0, band, t] == 100 * t + band).all()


def _reference_positions(dims, t, h, w):
    """Spell the table out with loops, straight from the definition."""

    def sincos(d, position):
        angles = [position / 10000 ** (2 * i / d) for i in range(d // 2)]
        return [math.sin(a) for a in angles] + [math.cos(a) for a in angles]

    rows = [[0.0] * dims]
    for frame in range(t):
        for row in range(h):
            for column in range(w):
                rows.append(
                    sincos(dims * 6 // 16, column)
                    + sincos(dims * 6 // 16, row)
                    + sincos(dims * 4 // 16, frame)
                )
    return np.array(rows, np.float32)[None]


@pytest.mark.parametrize('grid', [(1, 4, 4), (3, 4, 4), (7, 2, 5)])
def test_positions_are_the_definition(grid):
    table = sincos_positions(32, grid, grid[1:])
    np.testing.assert_allclose(table, _reference_positions(32, *grid), atol=1e-5)


def test_another_number_of_frames_has_its_own_table():
    model = tiny(num_frames=3)
    table = model.positions((5, 4, 4))
    np.testing.assert_allclose(table, _reference_positions(32, 5, 4, 4), atol=1e-5)


def test_another_grid_stretches_rows_and_columns_and_keeps_frames():
    model = tiny(num_frames=2)
    table = model.positions((2, 7, 10)).reshape(1, -1, 32)
    patches = table[0, 1:].reshape(2, 7, 10, 32)
    base = model.pos_embed[0, 1:].reshape(2, 4, 4, 32)
    assert (table[0, 0] == 0).all()
    # aligned corners: the corners of both grids coincide, and so does the frame's part everywhere
    for corner in (0, -1):
        torch.testing.assert_close(patches[:, corner, corner], base[:, corner, corner])
    torch.testing.assert_close(patches[:, 3, 5, 24:], base[:, 1, 1, 24:])
    # the middle row of 7 lies half-way between rows 1 and 2 of 4: bicubic (a=-0.75) weights there
    weights = torch.tensor([-0.09375, 0.59375, 0.59375, -0.09375])
    expected = torch.einsum('r,trd->td', weights, base[:, :, 0, 12:24])
    torch.testing.assert_close(patches[:, 3, 0, 12:24], expected)


@pytest.mark.parametrize(
    ('frames', 'height', 'width', 'patch'),
    [(1, 32, 32, 8), (3, 16, 48, 8), (5, 64, 40, 8), (3, 28, 42, 14), (2, 32, 16, 16)],
)
def test_any_frames_height_width_and_patch(frames, height, width, patch):
    model = PrithviViT({**TINY, 'patch_size': patch}, num_frames=frames, img_size=patch * 4)
    (feature,) = model(torch.randn(2, frames * 6, height, width))
    assert feature.shape == (2, frames * 32, height // patch, width // patch)
    assert feature.isfinite().all()
    feature.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_size_that_is_no_multiple_of_the_patch_is_refused_with_advice():
    with pytest.raises(ChipError, match=r'33 x 32 px.*size_divisor=8'):
        tiny()(torch.zeros(1, 18, 33, 32))


def test_wrong_bands_are_refused():
    with pytest.raises(ChipError, match=r'5 bands a frame.*built for 6'):
        tiny()(torch.zeros(1, 15, 32, 32))
    with pytest.raises(LayoutError, match='16 channels cannot be 3 frames'):
        tiny()(torch.zeros(1, 16, 32, 32))


def test_wrong_coordinates_are_refused():
    model = tiny(coords_encoding=TL)
    with pytest.raises(ConfigError, match=r'\(N, 3, 2\)'):
        model(torch.zeros(1, 18, 32, 32), torch.zeros(1, 4, 2))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(arch='v3-1B'), "no Prithvi called 'v3-1B'"),
        (dict(arch=dict(embed_dims=32, depth=2)), 'needs .*num_heads'),
        (dict(arch=dict(embed_dims=40, depth=2, num_heads=2)), 'multiple of 16'),
        (dict(out_indices=(2,)), '2 blocks, -2 to 1'),
        (dict(out_indices=()), 'at least one'),
        (dict(frozen_stages=3), 'between -1 .* 2'),
        (dict(coords_encoding=('date',)), "'date'"),
        (dict(img_size=30), 'no multiple of the patch of 8'),
        (dict(bands=('RED',)), 'must be 6 different names'),
    ],
)
def test_bad_arguments_are_refused_with_the_legal_set(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**kwargs)


#: Parameters of the encoders, in millions.
COUNTS = {
    'v1-100M': 86.2,
    'v2-tiny-TL': 5.6,
    'v2-100M-TL': 86.2,
    'v2-300M': 303.9,
    'v2-300M-TL': 303.9,
    'v2-600M': 631.2,
    'v2-600M-TL': 631.2,
}


@pytest.mark.parametrize('name', VARIANTS)
def test_parameter_counts_of_the_published_variants(name):
    variant = VARIANTS[name]
    with torch.device('meta'):
        model = PrithviViT(arch=name)
    count = sum(p.numel() for p in model.parameters())
    d, p = variant.embed_dims, variant.patch_size
    block = 4 * d + (3 * d * d + 3 * d) + (d * d + d) + (8 * d * d + 5 * d)
    expected = d * 6 * p * p + d + d + variant.depth * block + 2 * d
    assert count == expected + len(variant.coords_encoding)
    assert count / 1e6 == pytest.approx(COUNTS[name], abs=0.1)
    assert ('temporal_embed_enc.scale' in model.state_dict()) == name.endswith('TL')


def test_only_the_last_output_is_normed():
    model = tiny(out_indices=(0, 1))
    torch.nn.init.constant_(model.norm.weight, 0.0)
    torch.nn.init.constant_(model.norm.bias, 7.0)
    first, last = model(torch.randn(1, 18, 32, 32))
    assert (last == 7).all()
    assert (first != 7).all()


def test_blocks_beyond_the_last_output_are_not_run():
    model = tiny(out_indices=(0,))
    model.blocks[1].register_forward_pre_hook(lambda *_: pytest.fail('block 1 was run'))
    model(torch.randn(1, 18, 32, 32))


@pytest.mark.parametrize('stages', [-1, 0, 1, 2])
def test_frozen_stages(stages):
    model = tiny(frozen_stages=stages, drop_path_rate=0.5, coords_encoding=TL).train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    stem = {'cls_token', 'patch_embed.proj.weight', 'temporal_embed_enc.scale'}
    assert stem <= trained if stages < 0 else not stem & trained
    for i in range(2):
        assert (f'blocks.{i}.attn.qkv.weight' in trained) == (i >= stages)
        assert model.blocks[i].training == (i >= stages)
    assert ('norm.weight' in trained) == (stages < 2)
    if stages == 2:
        assert not trained


def test_drop_path_rises_linearly():
    arch = dict(embed_dims=16, depth=5, num_heads=2, patch_size=8)
    model = PrithviViT(arch, img_size=32, drop_path_rate=0.4)
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for block in model.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_activation_checkpointing_changes_no_gradient():
    torch.manual_seed(0)
    x = torch.randn(1, 18, 32, 32)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(1)
        model = tiny(with_cp=with_cp).train()
        model(x)[0].square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_layer_depth():
    model = tiny()
    assert model.get_layer_depth('backbone.cls_token', 'backbone.') == (0, 4)
    assert model.get_layer_depth('patch_embed.proj.bias') == (0, 4)
    assert model.get_layer_depth('backbone.blocks.1.mlp.fc1.weight', 'backbone.') == (2, 4)
    assert model.get_layer_depth('norm.bias') == (3, 4)
    assert model.get_layer_depth('decode_head.conv.weight', 'backbone.') == (3, 4)


def test_year_keeps_its_precision_under_autocast():
    model = tiny(num_frames=1, coords_encoding=('time',))
    with torch.autocast('cpu', torch.bfloat16):
        embed = model.temporal_embed_enc
        one, two = (embed(torch.tensor([[[year, 100.0]]])) for year in (2021.0, 2022.0))
    assert (one - two).abs().max() > 0.01


def test_it_is_a_component_of_mmseg():
    model = MODELS.build(dict(type='PrithviViT', arch=TINY, img_size=32))
    model.init_weights()
    assert isinstance(model, PrithviViT)
