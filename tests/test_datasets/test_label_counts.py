from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmseg.datasets import BaseSegDataset
from PIL import Image

from geoseg_prithvi.datasets import HLSSegDataset, label_counts
from geoseg_prithvi.datasets.label_counts import dataset_class_pixels
from geoseg_prithvi.errors import ConfigError, LabelError

CLASSES = ('a', 'b', 'c')
LABELS = {
    'one': [[0, 0, 1], [255, 255, 1]],
    'two': [[2, 2, 2], [2, 2, 2]],
    'three': [[255, 255, 255], [255, 255, 255]],
}
COUNTS = {'one': [2, 2, 0], 'two': [0, 0, 6], 'three': [0, 0, 0]}


@pytest.fixture
def plain(tmp_path):
    """A folder of images and labels as MMSegmentation knows them, and a dataset on it."""
    for name, label in LABELS.items():
        for folder in ('img', 'ann'):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(np.array(label, np.uint8)).save(tmp_path / folder / f'{name}.png')

    def build(**kwargs):
        return BaseSegDataset(
            data_root=str(tmp_path),
            img_suffix='.png',
            data_prefix=dict(img_path='img', seg_map_path='ann'),
            metainfo=dict(classes=CLASSES, palette=[[0] * 3] * 3),
            **kwargs,
        )

    return build


def expected(dataset):
    names = [Path(dataset.get_data_info(i)['seg_map_path']).stem for i in range(3)]
    return [COUNTS[name] for name in names]


def test_counts_a_plain_dataset_once(plain, tmp_path, monkeypatch):
    dataset = plain()
    counts = dataset_class_pixels(dataset)
    assert counts.dtype == np.int64
    assert counts.tolist() == expected(dataset)
    cache = list((tmp_path / 'ann').glob('.class_pixels-*.npz'))
    assert len(cache) == 1

    def refuse(*args):
        raise RuntimeError('read again')

    with monkeypatch.context() as patch:
        patch.setattr(label_counts, '_count_one', refuse)
        assert dataset_class_pixels(plain()).tolist() == counts.tolist()
        Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / 'ann' / 'two.png')
        with pytest.raises(RuntimeError, match='read again'):  # a label has changed
            dataset_class_pixels(plain())
    assert dataset_class_pixels(plain()).sum(axis=0).tolist() == [8, 2, 0]
    assert len(list((tmp_path / 'ann').iterdir())) == 4  # the counts were replaced


def test_a_damaged_cache_is_replaced(plain, tmp_path):
    counts = dataset_class_pixels(plain())
    (cache,) = (tmp_path / 'ann').glob('.class_pixels-*.npz')
    for damage in (b'', cache.read_bytes()[:100], b'rubbish'):
        cache.write_bytes(damage)
        assert dataset_class_pixels(plain()).tolist() == counts.tolist()
        assert len(cache.read_bytes()) > 200


def test_counts_what_the_pipeline_reads(plain):
    """reduce_zero_label: 0 becomes ignored, 1 and 2 move down; not mixed up with the cache."""
    assert dataset_class_pixels(plain()).sum(axis=0).tolist() == [2, 2, 6]
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    reduced = plain(reduce_zero_label=True, pipeline=pipeline)
    assert dataset_class_pixels(reduced).sum(axis=0).tolist() == [2, 6, 0]


def test_read_only_folder_is_no_obstacle(plain, monkeypatch):
    def refuse(path):
        raise label_counts.OutputWriteError('read-only')

    monkeypatch.setattr(label_counts, 'atomic_path', refuse)  # root may write everywhere
    assert dataset_class_pixels(plain()).sum() == 10


def test_wrappers(plain):
    one = expected(plain())
    joined = ConcatDataset([plain(), plain(indices=[1])])
    assert dataset_class_pixels(joined).tolist() == [*one, one[1]]
    repeated = RepeatDataset(plain(), 2)
    assert dataset_class_pixels(repeated).tolist() == one * 2
    for dataset in (joined, repeated):
        counts = dataset_class_pixels(dataset)
        for i in range(len(dataset)):
            assert dataset.get_data_info(i)['seg_map_path'].endswith('.png')
            assert counts[i].tolist() == one[i % 3] if i < 3 else True
    late = ConcatDataset([plain(lazy_init=True)], lazy_init=True)
    assert dataset_class_pixels(late).tolist() == one


def test_chips_are_read_from_the_index(chip_folder, monkeypatch):
    def refuse(*args):
        raise RuntimeError('a label was read')

    dataset = HLSSegDataset(str(chip_folder), pipeline=[dict(type='LoadHLSLabel')])
    true = []
    for i in range(len(dataset)):
        label = dataset[i]['gt_seg_map']
        true.append(np.bincount(label[label < 9], minlength=9).tolist())
    monkeypatch.setattr(label_counts, '_count_one', refuse)
    assert dataset_class_pixels(dataset).tolist() == true
    balanced = ClassBalancedDataset(dataset, oversample_thr=1.0)
    assert dataset_class_pixels(balanced).tolist() == [true[i] for i in balanced.repeat_indices]


def test_bad_datasets(plain, tmp_path):
    with pytest.raises(ConfigError, match=r'get_class_pixels\(\)'):
        dataset_class_pixels([1, 2, 3])

    class Fewer(list):
        def get_class_pixels(self):
            return np.ones((1, 2))

    joined = ConcatDataset([plain(), plain()])
    joined.datasets[1] = Fewer([0])
    with pytest.raises(ConfigError, match=r'different numbers of classes \(\[3, 2\]\)'):
        dataset_class_pixels(joined)
    with pytest.raises(ConfigError, match='without a label map'):
        dataset_class_pixels(
            BaseSegDataset(
                img_suffix='.png',
                data_prefix=dict(img_path=str(tmp_path / 'img')),
                metainfo=dict(classes=CLASSES),
            )
        )


def test_bad_labels(plain, tmp_path):
    path = tmp_path / 'ann' / 'two.png'
    Image.fromarray(np.full((2, 3), 7, np.uint8)).save(path)
    with pytest.raises(LabelError, match=r'two\.png holds the label\(s\) \[7\]'):
        dataset_class_pixels(plain())
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(LabelError, match=r'two\.png cannot be read'):
        dataset_class_pixels(plain())
