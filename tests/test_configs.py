"""Every config on disk: the numbers of the real one fit, and a shrunk copy trains and predicts."""

import copy
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS, MODELS

import geoseg_prithvi  # noqa: F401  registers the components
from geoseg_prithvi.inference.segmentor import drop_pretrained
from geoseg_prithvi.models import VARIANTS

from .test_tools.conftest import make_chips

ROOT = Path(__file__).parents[1]
# The parts in _base_ are tested by the configs that are made of them; studies are no configs of a
# runner but lists of them, which tests/test_experiments reads.
CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'configs').rglob('*.py')
    if path.relative_to(ROOT / 'configs').parts[0] not in ('_base_', 'studies')
)
AUTOENCODERS = [path for path in CONFIGS if 'mae' in Path(path).stem]
SEGMENTORS = [path for path in CONFIGS if path not in AUTOENCODERS]


@pytest.fixture(autouse=True, scope='module')
def _one_thread():
    torch.set_num_threads(1)
    init_default_scope('mmseg')


@pytest.fixture(scope='module')
def chips(tmp_path_factory):
    """Chip folders by their number of frames; all labels are of the first two classes."""
    return {
        frames: make_chips(
            tmp_path_factory.mktemp('chips'),
            32,
            dict(train=2, val=1, test=1),
            num_frames=frames,
            num_classes=2,
        )
        for frames in (1, 3)
    }


def load(path):
    cfg = Config.fromfile(ROOT / path)
    drop_pretrained(cfg.model)
    return cfg


def swap(item, numbers):
    """Exchange numbers anywhere in a config."""
    if isinstance(item, dict):
        return type(item)({key: swap(value, numbers) for key, value in item.items()})
    if isinstance(item, list | tuple):
        return type(item)(swap(value, numbers) for value in item)
    return numbers.get(item, item) if type(item) is int else item


def shrink(model):
    """Keep everything of a model but the width and depth of its transformer."""
    model = copy.deepcopy(model)
    backbone = model.backbone
    frames = backbone.get('num_frames', 1)
    if backbone.type == 'PrithviViT':
        arch = backbone.arch
        variant = VARIANTS[arch] if isinstance(arch, str) else None
        width, depth = (
            (variant.embed_dims, variant.depth) if variant else (arch.embed_dims, arch.depth)
        )
        patch = variant.patch_size if variant else arch.get('patch_size', 16)
        backbone.arch = dict(embed_dims=32, depth=4, num_heads=2, patch_size=patch)
        if variant:
            backbone.setdefault('coords_encoding', variant.coords_encoding)
        backbone.img_size = 4 * patch
    elif backbone.type == 'TimmViT':
        width, depth = backbone.get('embed_dims', 768), backbone.get('num_layers', 12)
        backbone.update(embed_dims=32, num_layers=4, num_heads=2, img_size=64)
    else:
        backbone.base_channels = backbone.base_channels // 8
        model.decode_head.in_channels = backbone.base_channels
        return model
    if len(backbone.get('out_indices', [])) == 4:
        backbone.out_indices = (0, 1, 2, 3)
    if backbone.get('frozen_stages', -1) > 0:
        backbone.frozen_stages = round(4 * backbone.frozen_stages / depth)
    for part in ('neck', 'decode_head', 'auxiliary_head'):
        if part in model:
            model[part] = swap(model[part], {width: 32, frames * width: frames * 32})
    return model


def sample_of(cfg, split, chips):
    """One batch through the dataset and pipeline of the config."""
    dataset = cfg[f'{split}_dataloader'].dataset
    dataset.data_root = str(chips[dataset.num_frames])
    dataset = DATASETS.build(dataset)
    return pseudo_collate([dataset[i] for i in range(len(dataset))])


def test_every_config_on_disk_is_tested():
    found = {str(p.relative_to(ROOT)) for p in (ROOT / 'configs').rglob('*_lulc*.py')}
    assert found <= {*CONFIGS} | {p for p in found if '_base_' in p}
    assert {'configs/burn_scars.py', 'configs/floods.py', 'configs/crops.py'} <= set(CONFIGS)


@pytest.mark.parametrize('path', SEGMENTORS)
def test_the_channels_of_the_real_model_fit(path):
    """Shapes only: on the meta device nothing is computed."""
    cfg = load(path)
    side = cfg.model.backbone.get('img_size', 224)
    frames = cfg.model.data_preprocessor.num_frames
    # The stock vision transformer reads numbers while it is built, so it is moved there afterwards.
    with torch.device('cpu' if cfg.model.backbone.type == 'TimmViT' else 'meta'):
        model = MODELS.build(cfg.model).to('meta')
    with torch.device('meta'):
        logits = model(torch.empty(1, frames * 6, side, side), mode='tensor')
    classes = {'configs/crops.py': 13, 'configs/burn_scars.py': 2, 'configs/floods.py': 2}
    assert logits.shape[:2] == (1, classes.get(path, 9))
    # not coarser than a quarter of the chip
    assert logits.shape[2] * 4 >= side * 16 / 14 * 0.8


def train_one_step(cfg, chips):
    """Build the model and train it once: the loss is finite, and all that may learn has learnt."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = model.train().train_step(sample_of(cfg, 'train', chips), wrapper)
    assert torch.isfinite(losses['loss'])
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n, p in model.named_parameters() if p.requires_grad}
    return model


@pytest.mark.parametrize('path', SEGMENTORS)
def test_a_shrunk_copy_trains_and_predicts(path, chips):
    cfg = load(path)
    cfg.model = shrink(cfg.model)
    model = train_one_step(cfg, chips)

    batch = sample_of(cfg, 'test', chips)
    (result,) = model.eval().test_step(batch)
    assert result.pred_sem_seg.data.shape == (1, 32, 32)
    assert int(result.pred_sem_seg.data.max()) < model.decode_head.num_classes
    model.train()


@pytest.mark.parametrize('path', AUTOENCODERS)
def test_an_autoencoder_of_the_real_size_can_be_built(path):
    cfg = load(path)
    assert cfg.model.type == 'PrithviMAE'
    frames = cfg.model.data_preprocessor.num_frames
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
        side = model.encoder.base_size[1] * model.encoder.patch_size
        pred, mask = model(torch.empty(1, frames * 6, side, side))
    tokens = frames * (side // model.encoder.patch_size) ** 2
    assert mask.shape == (1, tokens)
    assert pred.shape == (1, tokens, 6 * model.encoder.patch_size**2)


@pytest.mark.parametrize('path', AUTOENCODERS)
def test_a_shrunk_autoencoder_trains(path, chips):
    cfg = load(path)
    arch = cfg.model.encoder.arch
    patch = VARIANTS[arch].patch_size if isinstance(arch, str) else arch.get('patch_size', 16)
    cfg.model.encoder.arch = dict(embed_dims=32, depth=2, num_heads=2, patch_size=patch)
    cfg.model.encoder.img_size = 4 * patch
    cfg.model.decoder = dict(embed_dims=16, depth=1, num_heads=2)
    model = train_one_step(cfg, chips)
    for result in model.eval().val_step(sample_of(cfg, 'val', chips)):
        assert torch.isfinite(result['reconstructed']).all()


BASELINES = ['unet_lulc', 'vit_lulc', 'prithvi_lulc_frozen', 'prithvi_lulc_scratch']


@pytest.mark.parametrize('name', BASELINES)
def test_a_baseline_differs_only_in_its_encoder(name):
    ours, theirs = (
        Config.fromfile(ROOT / 'configs' / f'{n}.py').to_dict() for n in (name, 'prithvi_lulc')
    )
    for cfg in (ours, theirs):
        del cfg['model']['backbone'], cfg['model']['decode_head']['in_index']
        del cfg['optim_wrapper']['paramwise_cfg'], cfg['optim_wrapper']['constructor']
        neck = cfg['model'].pop('neck')
        cfg['neck'] = neck and neck[1:]  # the first fuses as many channels as the encoder has
    if name == 'unet_lulc':  # its own decoder ends in as many channels as the others' neck
        assert ours.pop('neck') is None
        theirs.pop('neck')
    assert ours == theirs


def variant_configs():
    for path in CONFIGS:
        cfg = Config.fromfile(ROOT / path)
        arch = cfg.model.get('backbone', {}).get('arch')
        if isinstance(arch, str) and 'lulc' in path:
            yield path, cfg


def test_every_variant_has_a_config_with_its_own_weights_and_normalisation():
    seen = set()
    for path, cfg in variant_configs():
        arch, backbone = cfg.model.backbone.arch, cfg.model.backbone
        seen.add(arch)
        assert cfg.model.data_preprocessor.normalization == arch[:2], path
        assert cfg.model.data_preprocessor.get('size_divisor', 16) == VARIANTS[arch].patch_size
        assert (cfg.model.type == 'GeoEncoderDecoder') == arch.endswith('TL')
        if backbone.init_cfg is not None:
            assert backbone.init_cfg.checkpoint.partition('@')[0] == VARIANTS[arch].checkpoint
    assert seen == set(VARIANTS)


def test_every_checkpoint_of_the_hub_is_pinned_as_the_docs_say():
    docs = (ROOT / 'docs' / 'models.md').read_text()
    listed = dict(re.findall(r'^\| `([^`]+)` \| `([0-9a-f]{40})` \|$', docs, re.M))
    found = {}
    for path in CONFIGS:
        for url in find_strings(Config.fromfile(ROOT / path).to_dict()):
            if url.startswith('hf://'):
                repo, revision = re.fullmatch(r'hf://(.+)/[^/]+@([0-9a-f]{40})', url).groups()
                found[repo.removeprefix('ibm-nasa-geospatial/')] = revision
    assert found == listed
    assert len(found) == len(VARIANTS) + 1


def find_strings(item):
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict | list | tuple):
        for value in item.values() if isinstance(item, dict) else item:
            yield from find_strings(value)


@pytest.mark.parametrize('name', ['prithvi_v2_tiny_tl_lulc', 'prithvi_v2_600m_tl_lulc'])
@pytest.mark.parametrize('mode', ['train', 'whole', 'slide'])
def test_dates_and_locations_of_the_index_reach_the_encoder(name, mode, chips):
    cfg = load(f'configs/{name}.py')
    cfg.model = shrink(cfg.model)
    if mode == 'slide':
        patch = cfg.model.backbone.arch['patch_size']
        cfg.model.test_cfg = dict(mode='slide', crop_size=(patch,) * 2, stride=(patch,) * 2)
    model = MODELS.build(cfg.model)
    seen, places = [], []
    model.backbone.temporal_embed_enc.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    model.backbone.location_embed_enc.register_forward_pre_hook(
        lambda _, args: places.append(args[0])
    )
    batch = sample_of(cfg, 'train' if mode == 'train' else 'test', chips)
    if mode == 'train':
        model(**model.data_preprocessor(batch, True), mode='loss')
    else:
        model.eval().test_step(batch)
    # 15 April, July and October 2022, counted from 0
    for dates in seen:
        assert dates.tolist() == [[[2022, 104], [2022, 195], [2022, 287]]] * len(dates)
    places = torch.cat(places)
    if mode == 'slide':  # each its own, from the bounds in the index
        assert len(places) == len(seen) == len(places.unique(dim=0)) >= 4
        np.testing.assert_allclose(places, [[37.9, -123.0]] * len(places), atol=0.1)
    else:
        np.testing.assert_allclose(places, [[37.9, -123.0]] * len(places), rtol=1e-6)


STRATEGIES = re.findall(
    r'```python\n(.*?)```',
    (ROOT / 'docs' / 'models.md').read_text().split('## Strategies')[1],
    re.S,
)


@pytest.mark.parametrize('lines', STRATEGIES, ids=lambda lines: lines.split('\n')[0])
def test_each_strategy_of_the_docs_trains(lines, chips, tmp_path):
    base = ROOT / 'configs' / 'prithvi_lulc.py'
    (tmp_path / 'mine.py').write_text(f'_base_ = [{str(base)!r}]\n{lines}')
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert cfg.to_dict() != Config.fromfile(base).to_dict() or 'layer_decay_rate=0.75' in lines
    drop_pretrained(cfg.model)
    cfg.model = shrink(cfg.model)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train().train_step(sample_of(cfg, 'train', chips), wrapper)
    assert torch.isfinite(losses['loss'])


def test_the_docs_have_every_strategy():
    text = ' '.join(STRATEGIES)
    for word in ('layer_decay_rate', 'frozen_stages=12', 'frozen_stages=6', 'lora', 'compile'):
        assert word in text
    assert 'drop_path_rate' in text and 'with_cp' in text


def test_the_table_of_variants_is_what_the_tool_prints(capsys, monkeypatch):
    monkeypatch.setattr('sys.argv', ['model_summary.py'])
    runpy.run_path(str(ROOT / 'tools' / 'model_summary.py'), run_name='__main__')
    assert capsys.readouterr().out in (ROOT / 'docs' / 'models.md').read_text()
