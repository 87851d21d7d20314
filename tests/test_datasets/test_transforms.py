import random

import numpy as np
import pytest
import rasterio
from mmengine.dataset import Compose, DefaultSampler, pseudo_collate
from torch.utils.data import DataLoader

from geoseg_prithvi.datasets import HLSSegDataset, LoadHLSChip, LoadHLSLabel
from geoseg_prithvi.errors import ChipError, DataNotFoundError, LayoutError, sentence

from .chip_world import SIZE, chip_label, chip_pixels, write_chips

LOAD = [dict(type='LoadHLSChip', num_frames=3), dict(type='LoadHLSLabel')]
PACK = dict(type='PackSegInputs', meta_keys=('chip_id', 'flip', 'flip_direction', 'img_shape'))
EIGHT = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomRotFlip', rotate_prob=0.0, flip_prob=1.0),
]


def run(root, *transforms, seeds=(0,)):
    dataset = HLSSegDataset(str(root), pipeline=[*LOAD, *transforms, PACK])
    for seed in seeds:
        random.seed(seed)
        np.random.seed(seed)
        sample = dataset[1]
        yield sample['inputs'].numpy(), sample['data_samples'].gt_sem_seg.data[0].numpy()


def test_the_image_is_a_view_of_time_major_channels(chips):
    results = LoadHLSChip()(dict(img_path=str(chips / 'images/chip_1.tif')))
    assert results['img'].dtype == np.int16
    assert results['img'].shape == (SIZE, SIZE, 18)
    assert results['img_shape'] == results['ori_shape'] == (SIZE, SIZE)
    np.testing.assert_array_equal(results['img'].transpose(2, 0, 1), chip_pixels(1))
    assert results['img'].transpose(2, 0, 1).flags.c_contiguous


def test_fewer_bands_in_another_order(chips):
    results = LoadHLSChip(bands=['NIR_NARROW', 'RED'])(
        dict(img_path=str(chips / 'images/chip_1.tif'))
    )
    wanted = chip_pixels(1)[[3, 2, 9, 8, 15, 14]]
    np.testing.assert_array_equal(results['img'].transpose(2, 0, 1), wanted)


@pytest.mark.parametrize('direction', ['horizontal', 'vertical', 'diagonal'])
def test_flip_moves_image_and_label_alike(chips, direction):
    [(image, label)] = run(chips, dict(type='RandomFlip', prob=1.0, direction=direction))
    axes = dict(horizontal=-1, vertical=-2, diagonal=(-2, -1))[direction]
    np.testing.assert_array_equal(image, np.flip(chip_pixels(1), axes))
    np.testing.assert_array_equal(label, np.flip(chip_label(1), axes))


@pytest.mark.parametrize('options', [{}, dict(cat_max_ratio=0.75)])
def test_crop_cuts_image_and_label_alike(chips, options):
    [(image, label)] = run(chips, dict(type='RandomCrop', crop_size=(5, 7), **options))
    assert image.shape == (18, 5, 7)
    row, column = divmod(int(image[0, 0, 0]) - 300, 16)
    window = np.s_[..., row : row + 5, column : column + 7]
    np.testing.assert_array_equal(image, chip_pixels(1)[window])
    np.testing.assert_array_equal(label, chip_label(1)[window])


def test_all_eight_orientations_from_stock_transforms(chips):
    source, target = chip_pixels(1), chip_label(1)
    orientations = {}
    for k in range(4):
        for mirror in (False, True):
            turned = [np.rot90(x, k, axes=(-2, -1)) for x in (source, target)]
            orientations[k, mirror] = [np.flip(x, -1) if mirror else x for x in turned]
    seen = set()
    for image, label in run(chips, *EIGHT, seeds=range(60)):
        found = [key for key, (x, y) in orientations.items() if np.array_equal(x, image)]
        assert len(found) == 1
        np.testing.assert_array_equal(label, orientations[found[0]][1])
        seen.add(found[0])
    assert len(seen) == 8


def test_nearest_resize_takes_all_channels(chips):
    [(image, label)] = run(chips, dict(type='Resize', scale=(32, 32), interpolation='nearest'))
    np.testing.assert_array_equal(image, chip_pixels(1).repeat(2, -1).repeat(2, -2))
    np.testing.assert_array_equal(label, chip_label(1).repeat(2, -1).repeat(2, -2))


def test_test_time_augmentation(chips):
    views = [dict(type='RandomFlip', prob=p, direction='vertical') for p in (0.0, 1.0)]
    pipeline = [*LOAD, dict(type='TestTimeAug', transforms=[views, [PACK]])]
    sample = HLSSegDataset(str(chips), pipeline=pipeline)[0]
    plain, flipped = sample['inputs']
    np.testing.assert_array_equal(plain, chip_pixels(0))
    np.testing.assert_array_equal(flipped, chip_pixels(0)[:, ::-1])
    assert [s.metainfo['flip'] for s in sample['data_samples']] == [False, True]


def test_stock_load_annotations_reads_the_same_label(chips):
    pipeline = [LOAD[0], dict(type='LoadAnnotations', imdecode_backend='pillow'), PACK]
    dataset = HLSSegDataset(str(chips), pipeline=pipeline, ignore_classes=['trees'])
    ours = HLSSegDataset(str(chips), pipeline=[*LOAD, PACK], ignore_classes=['trees'])
    for i in range(len(ours)):
        stock, own = (d[i]['data_samples'].gt_sem_seg.data for d in (dataset, ours))
        np.testing.assert_array_equal(stock, own)


def test_label_of_another_size_than_its_chip(tmp_path):
    root = write_chips(tmp_path, ['train'])
    path = root / 'labels/chip_0.tif'
    with rasterio.open(path) as file:
        profile, label = file.profile, file.read()
    profile.update(height=8, blockysize=8)
    with rasterio.open(path, 'w', **profile) as file:
        file.write(label[:, :8])
    with pytest.raises(ChipError, match=r'chip_0\.tif is 8 x 16 pixels, but its chip .* 16 x 16'):
        HLSSegDataset(str(root), pipeline=LOAD)[0]


def test_label_with_a_class_outside_the_legend(chips):
    results = dict(seg_map_path=str(chips / 'labels/chip_0.tif'), label_map={0: 0, 1: 1})
    with pytest.raises(ChipError, match=r'holds the class\(es\) \[2, 3, 4, 5, 6, 7, 8\], .* 2 cl'):
        LoadHLSLabel()(results)


def test_chip_errors_name_the_file(tmp_path):
    root = write_chips(tmp_path, ['train'])
    path = root / 'images/chip_0.tif'
    load = Compose(LOAD[:1])
    with pytest.raises(LayoutError, match=r'chip_0\.tif .* t3_BLUE'):
        LoadHLSChip(num_frames=4)(dict(img_path=str(path)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ChipError, match=r'chip_0\.tif cannot be read'):
        load(dict(img_path=str(path)))
    with pytest.raises(DataNotFoundError, match=r'chip_7\.tif does not exist'):
        load(dict(img_path=str(root / 'images/chip_7.tif')))


def test_an_error_in_a_worker_is_one_sentence(tmp_path):
    root = write_chips(tmp_path, ['train', 'train'])
    (root / 'images/chip_1.tif').unlink()
    dataset = HLSSegDataset(str(root), pipeline=[*LOAD, PACK])
    loader = DataLoader(
        dataset,
        2,
        sampler=DefaultSampler(dataset, shuffle=False),
        num_workers=1,
        collate_fn=pseudo_collate,
    )
    with pytest.raises(DataNotFoundError) as caught:
        next(iter(loader))
    assert sentence(caught.value).startswith(str(root / 'images/chip_1.tif') + ' does not exist')
