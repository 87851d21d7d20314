import numpy as np
import pytest
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import TRANSFORMS

from geoseg_prithvi.errors import ConfigError


def sample(height=40, width=50):
    """Class 0 everywhere but one pixel of class 2 in a corner and a strip of class 1."""
    label = np.zeros((height, width), np.uint8)
    label[0, 0] = 2
    label[:, -1] = 1
    img = np.arange(height * width * 18, dtype=np.int32).reshape(height, width, 18)
    return dict(img=img, gt_seg_map=label, seg_fields=['gt_seg_map'])


def crop(results, **kwargs):
    transform = TRANSFORMS.build(
        dict(type='RareClassCrop', **(dict(crop_size=16, classes=[2]) | kwargs))
    )
    return transform(results)


@pytest.fixture(autouse=True)
def _seed():
    np.random.seed(0)


def test_holds_the_rare_class():
    for _ in range(50):
        results = crop(sample(), prob=1.0)
        assert 2 in results['gt_seg_map']
        assert results['img'].shape == (16, 16, 18)
        assert results['img_shape'] == (16, 16)


def test_image_and_label_stay_together():
    whole = sample()
    whole['gt_seg_map'] = (whole['img'][..., 0] // 18 % 251).astype(np.uint8)
    for _ in range(20):
        results = crop(dict(whole), classes=[7], prob=1.0)
        assert np.array_equal(results['gt_seg_map'], results['img'][..., 0] // 18 % 251)
        assert 7 in results['gt_seg_map']


def test_probability_and_equal_classes():
    has = np.array(
        [
            [k in results['gt_seg_map'] for k in (1, 2)]
            for results in (crop(sample(), classes=[1, 2], prob=0.5) for _ in range(1000))
        ]
    )
    # 0.25 by choice, plus by chance: 1 of 35 columns; 1 of 25 x 35 places
    assert has.mean(axis=0) == pytest.approx([0.25 + 0.5 / 35, 0.25 + 0.5 / 875], abs=0.05)


def test_window_is_uniform_around_the_pixel():
    label = np.zeros((30, 30), np.uint8)
    label[15, 15] = 2
    places = []
    for _ in range(3000):
        results = crop(
            dict(img=np.zeros((30, 30, 1)), gt_seg_map=label, seg_fields=['gt_seg_map']),
            crop_size=4,
            prob=1.0,
        )
        places.append(np.argwhere(results['gt_seg_map'] == 2)[0])
    counts = np.zeros((4, 4))
    np.add.at(counts, tuple(np.transpose(places)), 1)
    assert counts.min() > 130  # 187.5 expected
    assert counts.max() < 250


def test_without_the_class_it_is_the_stock_crop():
    np.random.seed(5)
    ours = crop(sample(), classes=[6], prob=0.0, cat_max_ratio=0.99)['img']
    np.random.seed(5)
    stock = RandomCrop(16, cat_max_ratio=0.99)(sample())['img']
    assert np.array_equal(ours, stock)
    assert crop(sample(), classes=[6], prob=1.0)['img'].shape == (16, 16, 18)


def test_image_smaller_than_the_crop():
    results = crop(sample(10, 50), prob=1.0)
    assert results['img'].shape == (10, 16, 18)
    assert 2 in results['gt_seg_map']


def test_bad_arguments():
    with pytest.raises(ConfigError, match='rare classes'):
        crop(sample(), classes=[])
    with pytest.raises(ConfigError, match='prob'):
        crop(sample(), prob=1.5)
