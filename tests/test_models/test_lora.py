"""LoRA: nothing changes at first, little is trained, and merging changes nothing."""

import pytest
import torch

from geoseg_prithvi.errors import CheckpointMismatchError, ConfigError
from geoseg_prithvi.models import PrithviViT, load_prithvi_weights
from geoseg_prithvi.models.lora import merge_lora

TINY = dict(embed_dims=32, depth=2, num_heads=2, patch_size=8)
LORA = dict(rank=4, alpha=8)


def tiny(**kwargs) -> PrithviViT:
    return PrithviViT(**{'arch': TINY, 'img_size': 32, **kwargs})


@pytest.fixture
def trained(golden):
    """A model with published weights and LoRA, after three steps."""
    torch.manual_seed(0)
    model = tiny(lora=LORA)
    load_prithvi_weights(model, golden('prithvi_eo_v1_tiny')[0])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 18, 32, 32))[0].square().mean().backward()
        optimizer.step()
    return model, optimizer


@torch.no_grad()
def test_it_starts_as_the_published_model(golden):
    state, data = golden('prithvi_eo_v1_tiny')
    model = tiny(lora=LORA).eval()
    report = load_prithvi_weights(model, state)
    assert not any('lora' in key for key in report.loaded)
    tokens = model.forward_tokens(data['input'])[-1]
    torch.testing.assert_close(tokens, data['feature/1'], rtol=0, atol=1e-5)


def test_only_the_additions_are_trained(trained, golden):
    model, _ = trained
    state, _ = golden('prithvi_eo_v1_tiny')
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    layers = [f'blocks.{i}.attn.{layer}' for i in range(2) for layer in ('qkv', 'proj')]
    assert names == {f'{layer}.lora_{x}' for layer in layers for x in 'ab'}
    for name, value in model.state_dict().items():
        if 'lora' not in name:
            assert torch.equal(value, state[name]), name
    assert all((model.state_dict()[f'{layer}.lora_b'] != 0).any() for layer in layers)


@torch.no_grad()
def test_merged_weights_give_the_same_features(trained):
    model = trained[0].eval()
    x = torch.randn(1, 18, 32, 32)
    plain = tiny().eval()
    before = model(x)[0]
    load_prithvi_weights(plain, merge_lora(model.state_dict(), LORA['alpha']))
    torch.testing.assert_close(plain(x)[0], before, rtol=0, atol=1e-5)
    # and they are others than the published ones
    for block in model.blocks:
        block.attn.qkv.scale = block.attn.proj.scale = 0.0
    assert (model(x)[0] - before).abs().max() > 1e-3


def test_it_is_saved_and_resumed(trained, tmp_path):
    model, optimizer = trained
    torch.save(dict(model=model.state_dict(), optimizer=optimizer.state_dict()), tmp_path / 'a.pt')
    saved = torch.load(tmp_path / 'a.pt', weights_only=True)
    again = tiny(lora=LORA)
    again.load_state_dict(saved['model'], strict=True)
    other = torch.optim.AdamW(again.parameters(), lr=1e-2)
    other.load_state_dict(saved['optimizer'])
    x = torch.randn(2, 18, 32, 32)
    for net, optim in ((model, optimizer), (again, other)):
        optim.zero_grad()
        net(x)[0].square().mean().backward()
        optim.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_weights_with_lora_need_lora(trained):
    state = trained[0].state_dict()
    report = load_prithvi_weights(tiny(lora=LORA), state)
    assert 'blocks.0.attn.qkv.lora_a' in report.loaded
    with pytest.raises(CheckpointMismatchError, match=r'holds blocks\.0.*lora_a.*set lora to'):
        load_prithvi_weights(tiny(), state)
    with pytest.raises(CheckpointMismatchError, match=r'lora_a of shape \(4, 32\)'):
        load_prithvi_weights(tiny(lora=dict(rank=2)), state)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(lora=dict(rank=0)), 'both over 0'),
        (dict(lora=dict(rank=4, alpha=-1)), 'both over 0'),
        (dict(lora=dict(alpha=4)), r'must be dict\(rank=, alpha=\)'),
        (dict(lora=dict(rank=4, r=4)), r'must be dict\(rank=, alpha=\)'),
        (dict(lora=dict(rank=4), frozen_stages=1), 'leave out frozen_stages=1'),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        tiny(**kwargs)
