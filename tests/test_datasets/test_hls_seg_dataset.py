import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import torch
from mmengine.dataset import ClassBalancedDataset
from mmseg.registry import DATASETS

from geoseg_prithvi.data.balance import nested_subset
from geoseg_prithvi.data.index import INDEX_NAME
from geoseg_prithvi.data.subset_manifest import read_chip_table, write_subset
from geoseg_prithvi.datasets import HLSSegDataset
from geoseg_prithvi.errors import ChipIndexError, ConfigError, DataNotFoundError
from geoseg_prithvi.lulc import IO_LULC, Legend

from .chip_world import DATES, SENSORS, chip_label, chip_pixels, write_chips

META_KEYS = ('chip_id', 'dates', 'sensors', 'temporal_coords', 'location_coords', 'img_path')
PIPELINE = [
    dict(type='LoadHLSChip', num_frames=3),
    dict(type='LoadHLSLabel'),
    dict(type='PackSegInputs', meta_keys=META_KEYS),
]


def test_what_a_sample_knows(chips):
    dataset = DATASETS.build(dict(type='HLSSegDataset', data_root=str(chips), split='val'))
    assert len(dataset) == 2
    info = dataset.get_data_info(1)
    assert info['chip_id'] == 'chip_5'
    assert info['img_path'] == str(chips / 'images/chip_5.tif')
    assert info['seg_map_path'] == str(chips / 'labels/chip_5.tif')
    assert info['dates'] == list(DATES)
    assert info['sensors'] == list(SENSORS)
    assert info['block'] == 'b5'
    # Day of year counted from 0: 1 March 2022 is 31 + 28, 15 July 181 + 14.
    assert info['temporal_coords'].tolist() == [[2022, 59], [2022, 195], [2023, 0]]
    assert info['location_coords'].tolist() == [38.5, -118.0]  # latitude first
    with rasterio.open(info['img_path']) as image:
        assert info['epsg'] == image.crs.to_epsg() == 32610
        assert info['bounds'] == tuple(image.bounds)
    assert info['class_pixels'].sum() == 16 * 16 - 1
    assert info['reduce_zero_label'] is False
    assert info['seg_fields'] == []


def test_metainfo_is_the_legend(chips):
    meta = HLSSegDataset(str(chips)).metainfo
    assert meta['classes'] == IO_LULC.names
    assert meta['palette'] == [list(color) for color in IO_LULC.colors]
    assert meta['split'] == 'train'


def test_packed_sample(chips):
    dataset = HLSSegDataset(str(chips), split='train', pipeline=PIPELINE)
    sample = dataset[2]
    assert sample['inputs'].dtype == torch.int16
    assert sample['inputs'].is_contiguous()
    np.testing.assert_array_equal(sample['inputs'], chip_pixels(2))
    np.testing.assert_array_equal(sample['data_samples'].gt_sem_seg.data[0], chip_label(2))
    meta = sample['data_samples'].metainfo
    assert set(META_KEYS) <= set(meta)
    assert meta['temporal_coords'].shape == (3, 2)


def test_construction_opens_no_image(tmp_path):
    root = write_chips(tmp_path, ['train', 'train'])
    for path in [*root.glob('images/*'), *root.glob('labels/*')]:
        path.unlink()
    dataset = HLSSegDataset(str(root), pipeline=PIPELINE)
    assert len(dataset) == 2
    with pytest.raises(DataNotFoundError, match=r'chip_0\.tif does not exist'):
        dataset[0]


def test_split_none_is_every_chip(chips):
    assert len(HLSSegDataset(str(chips), split=None)) == 7


def test_ignored_classes_are_masked_and_the_others_move_up(chips):
    dataset = HLSSegDataset(
        str(chips), pipeline=PIPELINE, ignore_classes=('trees', 'clouds'), serialize_data=False
    )
    names = [name for name in IO_LULC.names if name not in ('trees', 'clouds')]
    assert list(dataset.metainfo['classes']) == names
    assert dataset.metainfo['palette'][1] == list(IO_LULC.colors[2])
    packed = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    original = chip_label(0)
    for old, name in enumerate(IO_LULC.names):
        new = names.index(name) if name in names else 255
        assert (packed[original == old] == new).all()
    counts = dataset.get_data_info(0)['class_pixels']
    np.testing.assert_array_equal(counts, np.bincount(packed[packed != 255], minlength=7))


def test_the_stock_way_to_choose_classes_does_the_same(chips):
    kept = ('rangeland', 'water')
    dataset = HLSSegDataset(str(chips), pipeline=PIPELINE, metainfo=dict(classes=kept))
    assert dataset.metainfo['palette'] == [list(IO_LULC.colors[8]), list(IO_LULC.colors[0])]
    packed = dataset[0]['data_samples'].gt_sem_seg.data[0].numpy()
    assert (packed[chip_label(0) == 8] == 0).all()
    assert (packed[chip_label(0) == 0] == 1).all()
    counts = dataset.get_data_info(0)['class_pixels']
    np.testing.assert_array_equal(counts, np.bincount(packed[packed != 255], minlength=2))


def test_another_legend_from_the_index(tmp_path):
    legend = Legend('burn', (0, 1), ('unburnt', 'burnt'), ((0, 90, 0), (200, 40, 0)))
    root = write_chips(tmp_path, ['train'], legend=legend)
    dataset = HLSSegDataset(str(root), pipeline=PIPELINE)
    assert dataset.metainfo['classes'] == ('unburnt', 'burnt')
    assert dataset.metainfo['palette'] == [[0, 90, 0], [200, 40, 0]]
    assert set(dataset[0]['data_samples'].gt_sem_seg.data.unique().tolist()) == {0, 1, 255}


def test_mmengine_wrappers_and_slices(chips):
    dataset = HLSSegDataset(str(chips), indices=2)
    assert len(dataset) == 2
    assert dataset.get_cat_ids(0) == list(range(9))
    assert len(ClassBalancedDataset(HLSSegDataset(str(chips)), oversample_thr=1e-3)) == 4


def test_subset_from_text_and_manifest(chips, tmp_path):
    text = tmp_path / 'ids.txt'
    text.write_text('chip_3\nchip_1\n')
    manifest = tmp_path / 'ids.json'
    write_subset(manifest, read_chip_table(chips, 'train'), np.array([1, 3]))
    for path in (text, manifest):
        dataset = HLSSegDataset(str(chips), subset=str(path), pipeline=PIPELINE)
        assert [dataset.get_data_info(i)['chip_id'] for i in range(2)] == ['chip_1', 'chip_3']
        np.testing.assert_array_equal(dataset[1]['inputs'], chip_pixels(3))
        info = dataset.get_data_info(1)
        assert info['location_coords'].tolist() == [37.5, -120.0]
        label = chip_label(3)
        counts = np.bincount(label[label != 255], minlength=9)
        np.testing.assert_array_equal(info['class_pixels'], counts)


def test_subset_by_fraction_is_the_one_of_the_index(chips):
    whole = HLSSegDataset(str(chips))
    infos = [whole.get_data_info(i) for i in range(4)]
    chosen = nested_subset(np.array([info['class_pixels'] for info in infos]), 0.5, 1)
    dataset = HLSSegDataset(str(chips), subset=dict(fraction=0.5, seed=1))
    assert len(dataset) == 2
    ids = [dataset.get_data_info(i)['chip_id'] for i in range(2)]
    assert ids == [infos[i]['chip_id'] for i in chosen]


@pytest.mark.parametrize(
    ('options', 'error', 'words'),
    [
        (dict(num_frames=4), ChipIndexError, 'holds chips of 3 frames, but num_frames=4'),
        (dict(split='holdout'), ChipIndexError, "no chip in the split 'holdout'"),
        (dict(ignore_classes=['lava']), ConfigError, r"\['lava'\] is no class"),
        (dict(ignore_classes=IO_LULC.names), ConfigError, 'leaves no class'),
        (dict(subset=dict(fraction=0.5)), ConfigError, r'write dict\(fraction=0.125, seed=0\)'),
        (dict(subset='no/such.txt'), DataNotFoundError, 'no subset file no/such.txt'),
        (
            dict(split='val', subset=dict(fraction=0.5, seed=0)),
            ConfigError,
            'only training data may shrink',
        ),
    ],
)
def test_bad_options_say_what_to_do(chips, options, error, words):
    with pytest.raises(error, match=words) as caught:
        HLSSegDataset(str(chips), **options)
    assert '\n' not in str(caught.value)


def test_no_folder_and_no_index(tmp_path):
    with pytest.raises(DataNotFoundError, match='no data folder'):
        HLSSegDataset(str(tmp_path / 'nowhere'))
    with pytest.raises(DataNotFoundError, match=r'no chips\.parquet'):
        HLSSegDataset(str(tmp_path))


@pytest.mark.parametrize(
    ('name', 'content', 'words'),
    [
        ('ids.txt', 'chip_1\nchip_9\n', 'names 1 chip.s. that .* such as chip_9'),
        ('ids.txt', '\n', 'names no chip'),
        ('ids.json', '["chip_1"]', 'is no subset manifest'),
    ],
)
def test_bad_subset_files(chips, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ChipIndexError, match=words):
        HLSSegDataset(str(chips), subset=str(path))


def test_a_large_index_is_read_in_a_moment(chips, tmp_path):
    table = pq.read_table(chips / INDEX_NAME)
    pq.write_table(table.take([0] * 50_000), tmp_path / INDEX_NAME)
    start = time.perf_counter()
    dataset = HLSSegDataset(str(tmp_path))
    assert len(dataset) == 50_000
    assert time.perf_counter() - start < 10
