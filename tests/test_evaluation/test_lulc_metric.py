import csv
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from geoseg_prithvi.errors import LabelError
from geoseg_prithvi.evaluation import LULCMetric

CLASSES = ('water', 'flooded vegetation', 'snow/ice', 'crops')
META = dict(classes=CLASSES, split='val')


def make_samples(count, seed=0):
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        label = rng.integers(0, 3, (1, 8, 8))
        prediction = np.where(rng.random(label.shape) < 0.5, label, rng.integers(0, 3, label.shape))
        label[0, 0, : i + 1] = 255
        sample = SegDataSample(
            gt_sem_seg=PixelData(data=torch.from_numpy(label)),
            pred_sem_seg=PixelData(data=torch.from_numpy(prediction)),
        )
        sample.set_metainfo(dict(img_path=f'images/{i}.tif', seg_map_path=f'labels/{i}.tif'))
        samples.append(sample)
    return samples


def evaluate(out_dir, count=7, batch_size=2, round_up=True):
    """What mmengine's ValLoop does with a loader."""
    samples = make_samples(count)
    sampler = list(DefaultSampler(samples, shuffle=False, round_up=round_up))
    evaluator = Evaluator(LULCMetric(out_dir=str(out_dir)))
    evaluator.dataset_meta = META
    for start in range(0, len(sampler), batch_size):
        evaluator.process([samples[i] for i in sampler[start : start + batch_size]], {})
    return evaluator.evaluate(count)


def run_rank(rank, world_size, folder, round_up):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=world_size
    )
    metrics = evaluate(folder / 'out', round_up=round_up)
    torch.save(metrics, folder / f'metrics_{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.parametrize(('world_size', 'round_up'), [(2, True), (3, True), (3, False)])
def test_same_numbers_on_any_number_of_ranks(tmp_path, world_size, round_up, monkeypatch):
    # 7 samples: 2 ranks see 8 of them, 3 ranks 9; the last batches are uneven.
    monkeypatch.chdir(tmp_path)
    expected = evaluate(tmp_path / 'one')
    mp.start_processes(run_rank, (world_size, tmp_path, round_up), world_size, start_method='fork')
    for rank in range(world_size):
        metrics = torch.load(tmp_path / f'metrics_{rank}.pt')
        assert metrics.keys() == expected.keys()
        np.testing.assert_array_equal(list(metrics.values()), list(expected.values()))
    one, many = (tmp_path / run / 'confusion_val.csv' for run in ('one', 'out'))
    assert one.read_bytes() == many.read_bytes()
    assert not (tmp_path / '.dist_test').exists()


def test_numbers_and_names(tmp_path):
    metrics = evaluate(tmp_path)
    rows = list(csv.reader((tmp_path / 'confusion_val.csv').open()))
    assert rows[0][1:] == list(CLASSES)
    assert [row[0] for row in rows[1:]] == list(CLASSES)
    matrix = np.array([row[1:] for row in rows[1:]], int)
    assert matrix.sum() == 7 * 64 - sum(range(1, 8))
    hit, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    assert metrics['IoU/snow/ice'] == pytest.approx(100 * hit[2] / union[2], rel=1e-12)
    assert metrics['mIoU'] == pytest.approx(100 * np.mean(hit[:3] / union[:3]), rel=1e-12)
    assert metrics['aAcc'] == pytest.approx(100 * hit.sum() / matrix.sum(), rel=1e-12)
    assert metrics['Recall/water'] == pytest.approx(100 * hit[0] / matrix[0].sum(), rel=1e-12)
    assert metrics['Precision/water'] == pytest.approx(100 * hit[0] / matrix[:, 0].sum(), rel=1e-12)
    assert math.isnan(metrics['IoU/crops'])
    assert {'mF1', 'mAcc', 'mPrecision', 'F1/flooded vegetation'} <= metrics.keys()
    with Image.open(tmp_path / 'confusion_val.png') as picture:
        assert picture.width > 300
    assert sorted(p.name for p in tmp_path.iterdir()) == ['confusion_val.csv', 'confusion_val.png']


def test_a_repeated_image_counts_once(tmp_path):
    samples = make_samples(2)
    evaluator = Evaluator(LULCMetric(out_dir=str(tmp_path)))
    evaluator.dataset_meta = META
    evaluator.process([*samples, *samples], {})
    evaluator.evaluate(4)
    table = np.loadtxt(
        tmp_path / 'confusion_val.csv', delimiter=',', skiprows=1, usecols=range(1, 5)
    )
    assert table.sum() == 2 * 64 - 1 - 2


def test_results_of_one_epoch_do_not_leak_into_the_next(tmp_path):
    samples = make_samples(3)
    evaluator = Evaluator(LULCMetric(out_dir=str(tmp_path)))
    evaluator.dataset_meta = META
    runs = []
    for _ in range(2):
        evaluator.process(samples, {})
        runs.append(evaluator.evaluate(3))
    np.testing.assert_array_equal(list(runs[0].values()), list(runs[1].values()))


def test_label_outside_the_classes(tmp_path):
    (sample,) = make_samples(1)
    sample.gt_sem_seg.data[0, 3, 3] = 4
    metric = LULCMetric(out_dir=str(tmp_path))
    metric.dataset_meta = META
    with pytest.raises(LabelError, match=r'labels/0\.tif holds the class\(es\) \[4\]'):
        metric.process({}, [sample.to_dict()])


def test_prefix(tmp_path):
    evaluator = Evaluator(LULCMetric(out_dir=str(tmp_path), prefix='night'))
    evaluator.dataset_meta = META
    evaluator.process(make_samples(1), {})
    assert 'night/mIoU' in evaluator.evaluate(1)


def test_save_best_knows_that_a_greater_miou_is_better():
    hook = CheckpointHook(interval=1, save_best='mIoU')
    assert hook.rules == ['greater']
