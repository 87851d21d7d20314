"""The masked autoencoder against the reference vectors, and as a model of the stock runner."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.runner import save_checkpoint
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from geoseg_prithvi.errors import CheckpointMismatchError, ConfigError
from geoseg_prithvi.layout import fold_time, patchify, unpatchify
from geoseg_prithvi.models import PrithviMAE, PrithviViT, load_mae_weights

ARCH = dict(embed_dims=32, depth=2, num_heads=2, patch_size=8)
DECODER = dict(embed_dims=16, depth=1, num_heads=2)
TL = ('time', 'location')


def mae(num_frames=3, coords=(), **kwargs) -> PrithviMAE:
    encoder = dict(arch=ARCH, img_size=32, num_frames=num_frames, coords_encoding=coords)
    preprocessor = dict(type='HLSDataPreprocessor', num_frames=num_frames, size_divisor=8)
    cfg = dict(encoder=encoder, decoder=DECODER, data_preprocessor=preprocessor)
    return PrithviMAE(**{**cfg, **kwargs}).eval()


def sample(**metas):
    return SegDataSample(metainfo=metas)


@pytest.mark.parametrize('name', ['prithvi_eo_v1_tiny', 'prithvi_eo_v2_tl_tiny'])
@torch.no_grad()
def test_loss_prediction_and_mask_agree_with_the_reference(golden, name):
    state, data = golden(name)
    coords = {k: data[k] for k in ('temporal_coords', 'location_coords') if k in data}
    model = mae(data['input'].shape[2], TL if coords else ())
    report = load_mae_weights(model, state)
    assert set(report.loaded) == set(model.state_dict())
    assert not report.dropped
    assert report.recomputed == ['pos_embed', 'decoder.decoder_pos_embed']

    pred, mask = model.reconstruct(data['input'], data['noise'], **coords)
    grid = (data['input'].shape[2], 4, 4)
    close = dict(rtol=0, atol=1e-5)
    torch.testing.assert_close(unpatchify(pred, grid, 8), data['mae/pred'], **close)
    hidden = unpatchify(mask[..., None].expand(-1, -1, 64), grid, 8)[:, 0]
    torch.testing.assert_close(hidden, data['mae/mask'], **close)
    loss = model.reconstruction_loss(data['input'], pred, mask)
    torch.testing.assert_close(loss.double(), data['mae/loss'], **close)


def test_a_decoder_of_another_size_is_refused_and_nothing_is_loaded(golden):
    state, _ = golden('prithvi_eo_v1_tiny')
    model = mae(decoder={**DECODER, 'depth': 2})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match=r'no decoder_blocks\.1.*set decoder='):
        load_mae_weights(model, state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_three_quarters_of_all_space_time_tokens_are_hidden():
    model = mae()
    visible, restore, mask = model.random_masking(torch.rand(5, 48))
    assert visible.shape == (5, 12)
    assert (mask.sum(1) == 36).all()
    for i in range(5):
        assert (mask[i, visible[i]] == 0).all()
        assert restore[i, visible[i]].tolist() == list(range(12))


def test_the_loss_sees_hidden_patches_only():
    model = mae()
    x = torch.randn(2, 6, 3, 32, 32)
    mask = (torch.rand(2, 48) > 0.5).float()
    target = patchify(x, 8)
    wrong_where_seen = target + (1 - mask)[..., None] * 100
    assert model.reconstruction_loss(x, wrong_where_seen, mask) == 0
    off_by_two = target + mask[..., None] * 2
    assert model.reconstruction_loss(x, off_by_two, mask) == pytest.approx(4, rel=1e-5)


def test_normalised_patches_do_not_depend_on_their_own_mean_and_scale():
    model = mae(norm_pix_loss=True)
    x = torch.randn(1, 6, 3, 32, 32)
    pred, mask = torch.randn(1, 48, 8 * 8 * 6), torch.ones(1, 48)
    loss = model.reconstruction_loss(x, pred, mask)
    assert model.reconstruction_loss(3 * x + 50, pred, mask) == pytest.approx(loss.item(), rel=1e-3)
    patch = patchify(x, 8)
    exact = (patch - patch.mean(-1, keepdim=True)) / patch.std(-1, keepdim=True)
    assert model.reconstruction_loss(x, exact, mask) < 1e-6


def test_nodata_is_left_out_of_the_loss_on_request():
    x = torch.randn(1, 6, 3, 32, 32)
    x[:, :, 1, :, 5:] = 0
    mask = torch.ones(1, 48)
    pred = patchify(x, 8)
    worse = unpatchify(pred, (3, 4, 4), 8).clone()
    worse[:, :, 1, :, 5:] = 1000  # wrong only where nothing was observed
    worse = patchify(worse, 8)
    model = mae(exclude_nodata=True)
    assert model.reconstruction_loss(x, worse, mask, model._valid(x)) == 0
    assert model.reconstruction_loss(x, worse + 1, mask, model._valid(x)) == pytest.approx(1)
    assert mae()._valid(x) is None
    assert model.reconstruction_loss(x * 0, worse, mask, model._valid(x * 0)) == 0


def test_training_on_one_chip_brings_the_loss_below_the_mean():
    torch.manual_seed(0)
    model = mae().train()
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing='ij')
    chip = torch.stack([1000 + 40 * (i + 1) * (rows + columns) // 4 for i in range(18)])
    batch = dict(inputs=[chip.to(torch.int16)] * 4, data_samples=[sample()] * 4)
    before = model.eval().val_step(batch)[0]
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    model.train()
    for _ in range(60):
        logs = model.train_step(batch, wrapper)
    assert set(logs) == {'loss'}
    after = model.eval().val_step(batch)[0]
    assert after['mean_loss'] == before['mean_loss']
    assert after['loss'] < 0.5 * after['mean_loss'] < before['loss']


@torch.no_grad()
def test_prediction_is_repeatable_and_complete():
    model = mae(4, TL)
    torch.manual_seed(0)
    chips = [torch.randint(0, 3000, (24, 32, 40), dtype=torch.int16) for _ in range(2)]
    metas = dict(temporal_coords=[[2020, d] for d in (1, 90, 180, 270)], location_coords=[1, 2])
    results = [
        model.val_step(dict(inputs=chips, data_samples=[sample(**metas) for _ in chips]))
        for _ in range(2)
    ]
    for one, two in zip(*results, strict=True):
        assert one['original'].shape == one['reconstructed'].shape == (6, 4, 32, 40)
        assert one['mask'].shape == (4, 32, 40)
        assert one['mask'].mean() == 0.75
        for key in one:
            assert torch.equal(one[key], two[key])
        # the losses are what a reader would compute from the pictures
        hidden = one['mask'].bool().expand(6, -1, -1, -1)
        difference = (one['original'] - one['reconstructed'])[hidden]
        assert one['loss'] == pytest.approx(difference.square().mean().item(), rel=1e-4)
        seen = (one['original'] * ~hidden).sum((1, 2, 3)) / (~hidden).sum((1, 2, 3))
        off = (one['original'] - seen[:, None, None, None])[hidden]
        assert one['mean_loss'] == pytest.approx(off.square().mean().item(), rel=1e-4)


def test_its_checkpoint_is_an_init_cfg_of_the_backbone(tmp_path):
    model = mae(4, TL)
    path = tmp_path / 'iter_10.pth'
    save_checkpoint(dict(meta=dict(iter=10), state_dict=model.state_dict()), str(path))
    backbone = PrithviViT(
        ARCH,
        num_frames=3,
        img_size=64,
        coords_encoding=TL,
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )
    backbone.init_weights()
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value)
    # and it goes on as an autoencoder
    again = mae(4, TL, init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    again.init_weights()
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_the_published_size_is_the_default_decoder():
    with torch.device('meta'):
        model = MODELS.build(ConfigDict(type='PrithviMAE', encoder=dict(arch='v1-100M')))
    assert model.decoder.mask_token.shape == (1, 1, 512)
    assert len(model.decoder.decoder_blocks) == 8
    assert model.decoder.decoder_blocks[0].attn.num_heads == 16
    assert model.decoder.decoder_pred.out_features == 16 * 16 * 6


@pytest.mark.parametrize('ratio', [0, 1, -0.5])
def test_a_mask_ratio_that_hides_nothing_or_all_is_refused(ratio):
    with pytest.raises(ConfigError, match='between 0 and 1'):
        mae(mask_ratio=ratio)


def test_encoder_input(golden):
    _, data = golden('prithvi_eo_v1_tiny')
    pred, mask = mae()(fold_time(data['input']))
    assert pred.shape == (2, 48, 384)
    assert mask.shape == (2, 48)
