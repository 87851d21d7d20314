"""Normalisation: exact numbers, nodata, padding, and where the statistics come from."""

import json

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from geoseg_prithvi.errors import ChipError, ConfigError, DataNotFoundError
from geoseg_prithvi.models import HLSDataPreprocessor, read_normalization

MEAN = [100.0, 200.0, 300.0]
STD = [10.0, 20.0, 50.0]


def preprocessor(**kwargs):
    return HLSDataPreprocessor(dict(mean=MEAN, std=STD), **{'num_frames': 2, **kwargs})


def chip(h=4, w=4):
    """Return (2*3, h, w) int16 with 100 * frame + 10 * band everywhere."""
    values = [100 * t + 10 * band for t in range(2) for band in range(3)]
    return torch.tensor(values, dtype=torch.int16)[:, None, None].expand(-1, h, w).clone()


def sample(h=4, w=4):
    return SegDataSample(gt_sem_seg=PixelData(data=torch.zeros(1, h, w, dtype=torch.long)))


def test_each_band_has_its_statistics_in_every_frame():
    data = preprocessor()(dict(inputs=[chip()], data_samples=[sample()]), training=True)
    assert data['inputs'].dtype == torch.float32
    expected = [
        (100 * t + 10 * band - MEAN[band]) / STD[band] for t in range(2) for band in range(3)
    ]
    # frame 1 is padded to 16 px; look at one pixel of the chip
    np.testing.assert_allclose(data['inputs'][0, :, 3, 3], expected, rtol=1e-6)


def test_nodata_and_padding_become_zero_and_zero_and_negatives_stay():
    image = chip()
    image[1, 0, 0] = -9999
    image[2, 0, 0] = 0
    image[3, 0, 0] = -40
    data = preprocessor()(dict(inputs=[image], data_samples=[sample()]), training=True)
    batch = data['inputs']
    assert batch.shape == (1, 6, 16, 16)
    assert batch[0, 1, 0, 0] == 0
    assert batch[0, 2, 0, 0] == pytest.approx((0 - 300) / 50)
    assert batch[0, 3, 0, 0] == pytest.approx((-40 - 100) / 10)
    assert (batch[0, :, 4:] == 0).all()
    assert (batch[0, :, :, 4:] == 0).all()
    label = data['data_samples'][0].gt_sem_seg.data
    assert label.shape == (1, 16, 16)
    assert (label[:, :4, :4] == 0).all()
    assert (label[:, 4:] == 255).all()


def test_the_callers_chip_is_left_alone():
    image = chip(16, 16)
    before = image.clone()
    preprocessor()(dict(inputs=[image], data_samples=[sample(16, 16)]), training=True)
    assert (image == before).all()
    # nor when it is float32 already and nothing has to be cast
    stacked = image.float()[None]
    preprocessor().normalize(stacked)
    assert (stacked[0] == before).all()


def test_chips_of_several_sizes_are_stacked_in_testing_too():
    inputs = [chip(5, 9), chip(16, 4)]
    data = preprocessor(size_divisor=8)(dict(inputs=inputs, data_samples=[sample(), sample()]))
    assert data['inputs'].shape == (2, 6, 16, 16)
    paddings = [s.metainfo['img_padding_size'] for s in data['data_samples']]
    assert paddings == [(0, 7, 0, 11), (0, 12, 0, 0)]  # left, right, top, bottom


def test_testing_needs_no_samples():
    data = preprocessor(size=(8, 8), test_cfg=dict(size_divisor=6))(dict(inputs=[chip()]))
    assert data['inputs'].shape == (1, 6, 6, 6)
    assert data['data_samples'] is None


def test_training_without_samples_is_possible():
    data = preprocessor()(dict(inputs=[chip()] * 2), training=True)
    assert data['inputs'].shape == (2, 6, 16, 16)
    assert data['data_samples'] is None


def test_a_stacked_batch_does_as_well():
    batch = torch.stack([chip(16, 16)] * 3)
    assert preprocessor()(dict(inputs=batch))['inputs'].shape == (3, 6, 16, 16)


def test_wrong_channels_are_refused():
    with pytest.raises(ChipError, match=r'5 channels, but num_frames=2 x 3 bands = 6'):
        preprocessor()(dict(inputs=[chip()[:5]]))


@pytest.mark.parametrize(('name', 'mean'), [('v1', 775), ('v1-100M', 775), ('v2-600M-TL', 1087)])
def test_named_statistics(name, mean):
    model = HLSDataPreprocessor(name, num_frames=4)
    assert model.mean.shape == (1, 24, 1, 1)
    assert model.mean[0, ::6, 0, 0].tolist() == [mean] * 4
    assert not model.state_dict()  # statistics live in the config, not in checkpoints


def test_statistics_of_the_users_chips(tmp_path):
    file = tmp_path / 'stats.json'
    file.write_text(json.dumps(dict(mean=MEAN, std=STD, count=12, bands=['A', 'B', 'C'])))
    assert HLSDataPreprocessor(str(file), 1).std.flatten().tolist() == STD


def test_missing_or_bad_statistics_are_told(tmp_path):
    with pytest.raises(DataNotFoundError, match=r'stats\.json are not there'):
        read_normalization(str(tmp_path / 'stats.json'))
    broken = tmp_path / 'broken.json'
    broken.write_text('{"mean": [1,')
    with pytest.raises(ConfigError, match='no valid JSON'):
        read_normalization(str(broken))
    for values in (dict(mean=[1.0]), dict(mean=[1, 2], std=[1]), dict(mean=[1], std=[0]), [1]):
        with pytest.raises(ConfigError, match='one positive std a band'):
            read_normalization(values)
    with pytest.raises(ConfigError, match="known for 'imagenet'"):
        read_normalization('imagenet')
