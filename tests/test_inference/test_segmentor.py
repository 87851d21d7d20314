"""Models from config and checkpoint: strictly loaded, asked as MMSegmentation asks them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from geoseg_prithvi.errors import (
    CheckpointMismatchError,
    ConfigError,
    UnsafeCheckpointError,
    WeightsNotFoundError,
)
from geoseg_prithvi.hls import FILL
from geoseg_prithvi.inference.segmentor import Segmentor, build_segmentor, input_spec
from geoseg_prithvi.lulc import IO_LULC

from .conftest import TINY, TinyModel
from .scenes import random_pixels

ROOT = Path(__file__).parents[2]


def windows(n=2, side=16, seed=0):
    return torch.from_numpy(random_pixels((n, 18, side, side), seed))


def test_probabilities_are_those_of_mmseg(tiny_model):
    segmentor = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint)
    pixels = windows()
    pixels[:, :, :4] = FILL
    with torch.no_grad():
        found = segmentor(pixels, [{}, {}])
        samples = [SegDataSample(metainfo=dict(img_shape=(16, 16), ori_shape=(16, 16)))] * 2
        samples = [SegDataSample(metainfo=sample.metainfo) for sample in samples]
        results = segmentor.model.test_step(dict(inputs=list(pixels), data_samples=samples))
    assert found.shape == (2, 9, 16, 16)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    for probabilities, sample in zip(found, results, strict=True):
        assert isinstance(sample.seg_logits, PixelData)
        logits = sample.seg_logits.data
        torch.testing.assert_close(probabilities, logits.softmax(0))
        assert torch.equal(probabilities.argmax(0), sample.pred_sem_seg.data[0])


def test_windows_that_are_no_multiple_of_the_patch(tiny_model):
    segmentor = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint)
    assert segmentor(windows(side=13), [{}, {}]).shape == (2, 9, 13, 13)


def test_flips_are_averaged_and_undone(tiny_model):
    plain = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint)
    tta = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint, tta=True)
    pixels, metas = windows(), [{}, {}]
    with torch.no_grad():
        expected = sum(
            plain(pixels.flip(dims), metas).flip(dims) for dims in ((), (-1,), (-2,), (-2, -1))
        )
        torch.testing.assert_close(tta(pixels, metas), expected / 4)
        # The average of all flips does not change when the window is flipped.
        torch.testing.assert_close(
            tta(pixels.flip(-1), metas), tta(pixels, metas).flip(-1), rtol=1e-4, atol=1e-6
        )


def test_bf16_is_close(tiny_model):
    exact = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint)
    half = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint, bf16=True)
    with torch.no_grad():
        a, b = exact(windows(), [{}, {}]), half(windows(), [{}, {}])
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    torch.testing.assert_close(a, b, atol=0.05, rtol=0)


def test_weights_are_those_of_the_checkpoint(tiny_model):
    model = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint).model
    assert not model.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, tiny_model.state[key]), key


def test_dates_and_places_reach_the_model(tmp_path):
    text = TINY.replace("'EncoderDecoder'", "'GeoEncoderDecoder'").replace(
        'img_size=16,', "img_size=16, coords_encoding=('time', 'location'),"
    )
    tiny = TinyModel(tmp_path, text)
    segmentor = build_segmentor(tiny.load(), checkpoint=tiny.checkpoint)
    for name, parameter in segmentor.model.backbone.named_parameters():
        if 'scale' in name:  # of the embeddings; as learned, near zero at the start
            torch.nn.init.ones_(parameter)
    meta = dict(temporal_coords=[[2022, 5], [2022, 100], [2022, 200]], location_coords=[38, -123])
    later = {**meta, 'temporal_coords': [[2022, 5], [2022, 150], [2022, 200]]}
    north = {**meta, 'location_coords': [50, -123]}
    pixels = windows(1).expand(3, -1, -1, -1)
    with torch.no_grad():
        base, by_date, by_place = segmentor(pixels, [meta, later, north])
    assert (base - by_date).abs().max() > 1e-4
    assert (base - by_place).abs().max() > 1e-4


def test_class_names_come_from_the_checkpoint(tmp_path):
    assert load_of(tmp_path, dict(dataset_meta=IO_LULC.metainfo)).legend is IO_LULC
    assert load_of(tmp_path, {}).legend is IO_LULC
    names = [f'kind {k}' for k in range(9)]
    legend = load_of(
        tmp_path, dict(dataset_meta=dict(classes=names, palette=[[k, 0, 9] for k in range(9)]))
    ).legend
    assert legend.names == tuple(names)
    assert legend.colors[3] == (3, 0, 9)


def load_of(folder, meta):
    tiny = TinyModel(folder, meta=meta)
    return build_segmentor(tiny.load(), checkpoint=tiny.checkpoint)


def test_another_class_count(tmp_path, tiny_model):
    cfg = tiny_model.load()
    cfg.model.decode_head.num_classes = 5
    with pytest.raises(
        CheckpointMismatchError, match=r'tiny\.pth was trained for 9 classes, but the config has 5'
    ):
        build_segmentor(cfg, checkpoint=tiny_model.checkpoint)
    with pytest.raises(
        CheckpointMismatchError, match='trained for 2 classes, but the config has 9'
    ):
        load_of(tmp_path, dict(dataset_meta=dict(classes=['a', 'b'], palette=[[0, 0, 0]] * 2)))


def test_another_model(tiny_model):
    cfg = tiny_model.load()
    cfg.model.backbone.arch.depth = 2
    with pytest.raises(CheckpointMismatchError, match=r'backbone\.blocks\.1\.\S+ is missing and'):
        build_segmentor(cfg, checkpoint=tiny_model.checkpoint)


def test_bad_checkpoints(tmp_path, tiny_model):
    class Evil:
        def __reduce__(self):
            return print, ('executed',)

    with pytest.raises(WeightsNotFoundError, match=r'none\.pth does not exist'):
        build_segmentor(tiny_model.load(), checkpoint=tmp_path / 'none.pth')
    torch.save(dict(state_dict={}, meta=Evil()), tmp_path / 'evil.pth')
    with pytest.raises(UnsafeCheckpointError, match=r'evil\.pth was not loaded'):
        build_segmentor(tiny_model.load(), checkpoint=tmp_path / 'evil.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(CheckpointMismatchError, match=r'list\.pth holds no state_dict'):
        build_segmentor(tiny_model.load(), checkpoint=tmp_path / 'list.pth')


def test_bad_configs(tiny_model):
    cfg = tiny_model.load()
    with pytest.raises(ConfigError, match='--device cuda:77 cannot be used here'):
        build_segmentor(cfg, checkpoint=tiny_model.checkpoint, device='cuda:77')
    cfg.pop('model')
    with pytest.raises(ConfigError, match='no model'):
        build_segmentor(cfg, checkpoint=tiny_model.checkpoint)


def test_what_the_model_takes(tiny_model):
    cfg = tiny_model.load()
    bands = ('BLUE', 'GREEN', 'RED', 'NIR_NARROW', 'SWIR_1', 'SWIR_2')
    assert input_spec(cfg) == (3, bands, 16)
    cfg.test_pipeline = [dict(type='LoadHLSChip', num_frames=2, bands=['RED', 'NIR_NARROW'])]
    cfg.pop('crop_size')
    assert input_spec(cfg) == (2, ('RED', 'NIR_NARROW'), 16)
    cfg.model.backbone = dict(type='UNet', in_channels=18)
    assert input_spec(cfg)[2] is None
    cfg.pop('test_pipeline')
    cfg.pop('num_frames')
    with pytest.raises(ConfigError, match='does not say how many frames'):
        input_spec(cfg)


def test_one_channel_against_its_threshold():
    class OneChannel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.decode_head = torch.nn.Module()
            self.decode_head.threshold = 0.3
            self.data_preprocessor = lambda data: dict(inputs=torch.stack(data['inputs']))

        def encode_decode(self, inputs, metas):
            return inputs.float()

    legend = IO_LULC.__class__('two', (0, 1), ('no', 'yes'), ((0, 0, 0), (9, 9, 9)))
    share = torch.tensor([0.1, 0.29, 0.31, 0.9])
    scores = Segmentor(OneChannel(), legend)(share.logit().view(1, 1, 2, 2), [{}])
    assert scores.argmax(1).flatten().tolist() == [0, 0, 1, 1]


def test_a_stock_unet_with_two_heads():
    """Any segmentor of MMSegmentation serves, on the folded channels."""
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'prithvi_lulc.py')
    head = dict(
        type='FCNHead', in_channels=4, channels=4, num_convs=1, num_classes=9, in_index=4,
        loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True),
    )  # fmt: skip
    cfg.model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='HLSDataPreprocessor', num_frames=3),
        backbone=dict(type='UNet', in_channels=18, base_channels=4),
        decode_head=head,
        auxiliary_head={**head, 'in_channels': 8, 'in_index': 3},
        test_cfg=dict(mode='whole'),
    )
    assert input_spec(cfg)[:1] == (3,)
    found = build_segmentor(cfg)(windows(side=32), [{}, {}])
    assert found.shape == (2, 9, 32, 32)
    np.testing.assert_allclose(found.detach().sum(1), 1, rtol=1e-5)
