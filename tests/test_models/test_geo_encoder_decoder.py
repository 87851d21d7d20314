"""Dates and locations reach the backbone in training, testing and every window."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs, RandomFlip
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from rasterio.transform import xy
from rasterio.warp import transform

from geoseg_prithvi.datasets import HLSSegDataset, LoadHLSChip
from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.models.geo_encoder_decoder import _starts

DATES = [[2020, 10], [2020, 130], [2021, 250]]
ARCH = dict(embed_dims=32, depth=1, num_heads=2, patch_size=8)
BASE = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets' / 'hls_lulc.py'


def build(coords=('time', 'location'), kind='GeoEncoderDecoder', **test_cfg):
    return MODELS.build(
        ConfigDict(
            type=kind,
            data_preprocessor=dict(type='HLSDataPreprocessor', size_divisor=8),
            backbone=dict(type='PrithviViT', arch=ARCH, img_size=16, coords_encoding=coords),
            neck=dict(type='TemporalFuse', in_channels=96, out_channels=16),
            decode_head=dict(
                type='FCNHead',
                in_channels=16,
                channels=16,
                num_convs=0,
                concat_input=False,
                num_classes=9,
                align_corners=False,
            ),
            auxiliary_head=dict(
                type='FCNHead', in_channels=16, channels=16, num_classes=9, align_corners=False
            ),
            train_cfg=dict(),
            test_cfg=test_cfg or dict(mode='whole'),
        )
    )


def batch(height=16, width=16, **metas):
    torch.manual_seed(0)
    chips = [torch.randint(0, 4000, (18, height, width), dtype=torch.int16) for _ in range(2)]
    samples = []
    for i in range(2):
        label = torch.randint(0, 9, (1, height, width))
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        sample.set_metainfo(dict(ori_shape=(height, width), img_shape=(height, width), **metas))
        if metas:
            sample.set_metainfo(dict(location_coords=[10.0 + i, 20.0]))
        samples.append(sample)
    return dict(inputs=chips, data_samples=samples)


@pytest.fixture
def seen(monkeypatch):
    """Coordinates that the backbone got, call by call."""
    calls = []
    original = MODELS.get('PrithviViT').forward

    def forward(self, x, temporal_coords=None, location_coords=None):
        calls.append((temporal_coords, location_coords))
        return original(self, x, temporal_coords, location_coords)

    monkeypatch.setattr(MODELS.get('PrithviViT'), 'forward', forward)
    return calls


def test_training_passes_each_samples_coordinates(seen):
    model = build()
    data = model.data_preprocessor(batch(temporal_coords=DATES), True)
    losses = model(**data, mode='loss')
    assert {'decode.loss_ce', 'aux.loss_ce'} <= set(losses)
    ((temporal, location),) = seen
    assert temporal.tolist() == [DATES, DATES]
    assert location.tolist() == [[10, 20], [11, 20]]
    sum(v for k, v in losses.items() if 'loss' in k).backward()
    assert model.backbone.temporal_embed_enc.scale.grad != 0
    assert model.backbone.location_embed_enc.scale.grad != 0


@torch.no_grad()
def test_testing_passes_them_too(seen):
    model = build().eval()
    model.test_step(batch(temporal_coords=DATES))
    data = model.data_preprocessor(batch(temporal_coords=DATES))
    model(**data, mode='tensor')
    for temporal, location in seen:
        assert temporal.tolist() == [DATES, DATES]
        assert location.tolist() == [[10, 20], [11, 20]]
    assert len(seen) == 2


def real_chip(chip_folder, direction=None, size=32):
    """A chip of the dataset with the meta_keys of our configs, flipped and cut to ``size``."""
    info = HLSSegDataset(str(chip_folder), split='test').get_data_info(0)
    results = LoadHLSChip(num_frames=3)(info)
    results.update(img=results['img'][:size], img_shape=(size, 32))
    if direction:
        results = RandomFlip(prob=1.0, direction=direction)(results)
    packed = PackSegInputs(meta_keys=Config.fromfile(BASE).meta_keys)(results)
    return info['img_path'], pseudo_collate([packed])


@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical'])
@torch.no_grad()
def test_each_window_has_the_location_of_its_centre(seen, chip_folder, monkeypatch, direction):
    """Against the georeference in the file, in test-time augmentation too."""
    places = []
    model = build(mode='slide', crop_size=(16, 16), stride=(8, 16)).eval()
    original = model.encode_decode

    def encode_decode(inputs, metas):
        places.extend(meta['location_coords'] for meta in metas)
        return original(inputs, metas)

    monkeypatch.setattr(model, 'encode_decode', encode_decode)
    path, data = real_chip(chip_folder, direction)
    model.test_step(data)

    rows, cols = np.transpose([*itertools.product((8, 16, 24), (8, 24))])
    rows = 32 - rows if direction == 'vertical' else rows
    cols = 32 - cols if direction == 'horizontal' else cols
    with rasterio.open(path) as image:
        xs, ys = xy(image.transform, rows, cols, offset='ul')
        lon, lat = transform(image.crs, 'EPSG:4326', xs, ys)
    np.testing.assert_allclose(places, np.transpose([lat, lon]), rtol=0, atol=1e-6)
    assert np.ptp(places, axis=0).min() > 1e-3  # 16 pixels are 480 m
    reached = torch.cat([location for _, location in seen])
    assert torch.equal(reached, torch.tensor(np.array(places, np.float32)))


@torch.no_grad()
def test_padding_does_not_move_the_windows(seen, chip_folder):
    model = build(mode='slide', crop_size=(16, 16), stride=(16, 16)).eval()
    bounds = (500_000.0, 4_000_000.0, 500_000.0 + 30 * 32, 4_000_000.0 + 30 * 28)
    data = real_chip(chip_folder, size=28)[1]  # padded to 32 rows
    for sample in data['data_samples']:
        sample.set_metainfo(dict(epsg=32610, bounds=bounds))
    model.test_step(data)
    lon, lat = transform('EPSG:32610', 'EPSG:4326', [500_720.0], [4_000_840.0 - 24 * 30])
    assert seen[-1][1].tolist() == np.float32([[lat[0], lon[0]]]).tolist()


@torch.no_grad()
def test_a_whole_chip_has_the_location_of_the_index(seen, chip_folder):
    path, data = real_chip(chip_folder)
    expected = data['data_samples'][0].location_coords
    build().eval().test_step(data)
    assert [location[0].tolist() for _, location in seen] == [expected.tolist()]
    with rasterio.open(path) as image:
        lon, lat = transform(image.crs, 'EPSG:4326', *xy(image.transform, [16], [16], offset='ul'))
    np.testing.assert_allclose(expected, [lat[0], lon[0]], rtol=1e-6)  # float32


@torch.no_grad()
def test_windows_share_the_centre_where_corners_are_not_known(seen):
    model = build(mode='slide', crop_size=(16, 16), stride=(8, 8)).eval()
    model.test_step(batch(16, 24, temporal_coords=DATES))
    assert [location.tolist() for _, location in seen] == [[[10, 20], [11, 20]]] * 2


def test_starts_of_windows():
    assert _starts(15, 8, 6) == [0, 6, 7]
    assert _starts(8, 8, 6) == [0]
    assert _starts(5, 8, 6) == [0]
    assert _starts(20, 8, 6) == [0, 6, 12]
    for length in range(1, 40):
        covered = {p for s in _starts(length, 8, 6) for p in range(s, min(s + 8, length))}
        assert covered == set(range(length))


@pytest.mark.parametrize(
    'test_cfg', [dict(mode='whole'), dict(mode='slide', crop_size=(16, 16), stride=(8, 16))]
)
def test_without_coordinates_it_is_the_stock_segmentor(test_cfg):
    torch.manual_seed(0)
    geo = build((), **test_cfg).eval()
    stock = build((), 'EncoderDecoder', **test_cfg).eval()
    stock.load_state_dict(geo.state_dict())
    with torch.no_grad():
        ours, theirs = (m.test_step(batch(32, 40)) for m in (geo, stock))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.seg_logits.data, b.seg_logits.data)
    data = batch()
    for model in (geo, stock):
        model.train()
    torch.manual_seed(1)
    ours = geo(**geo.data_preprocessor(data, True), mode='loss')
    torch.manual_seed(1)
    theirs = stock(**stock.data_preprocessor(data, True), mode='loss')
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(ours['decode.loss_ce'], theirs['decode.loss_ce'])


def test_missing_coordinates_are_told():
    model = build()
    data = model.data_preprocessor(batch(), True)
    with pytest.raises(ConfigError, match="add 'temporal_coords' to meta_keys"):
        model(**data, mode='loss')
