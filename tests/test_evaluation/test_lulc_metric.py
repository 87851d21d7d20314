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
from geoseg_prithvi.evaluation.area_accuracy import area_adjusted
from geoseg_prithvi.evaluation.calibration import confidence_bins, expected_calibration_error
from geoseg_prithvi.evaluation.report import read_confusion_csv

CLASSES = ('water', 'flooded vegetation', 'snow/ice', 'crops')
META = dict(classes=CLASSES, split='val')


def make_samples(count, seed=0, blocks=3):
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
        logits = torch.from_numpy(rng.normal(size=(4, 8, 8)).astype(np.float32))
        logits.scatter_add_(0, torch.from_numpy(prediction), torch.full((1, 8, 8), 9.0))
        sample.seg_logits = PixelData(data=logits)
        sample.set_metainfo(
            dict(
                img_path=f'images/{i}.tif', seg_map_path=f'labels/{i}.tif', block=f'0_{i % blocks}'
            )
        )
        samples.append(sample)
    return samples


def evaluate(out_dir, count=7, batch_size=2, round_up=True, samples=None, **settings):
    """What mmengine's ValLoop does with a loader."""
    samples = make_samples(count) if samples is None else samples
    sampler = list(DefaultSampler(samples, shuffle=False, round_up=round_up))
    evaluator = Evaluator(LULCMetric(out_dir=str(out_dir), **settings))
    evaluator.dataset_meta = META
    for start in range(0, len(sampler), batch_size):
        evaluator.process([samples[i] for i in sampler[start : start + batch_size]], {})
    return evaluator.evaluate(count)


def extras(folder):
    """Settings for all that can be measured."""
    path = folder / 'mapped.csv'
    rows = [f'{k},{name},{10 * (3 - k)},,' for k, name in enumerate(CLASSES)]
    path.write_text('\n'.join(['class,name,pixels,hectares,share', *rows]))
    return dict(temperature=1.5, area=str(path))


def run_rank(rank, world_size, folder, round_up):
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=world_size
    )
    metrics = evaluate(folder / 'out', round_up=round_up, **extras(folder))
    torch.save(metrics, folder / f'metrics_{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.parametrize(('world_size', 'round_up'), [(2, True), (3, True), (3, False)])
def test_same_numbers_on_any_number_of_ranks(tmp_path, world_size, round_up, monkeypatch):
    # 7 samples: 2 ranks see 8 of them, 3 ranks 9; the last batches are uneven.
    monkeypatch.chdir(tmp_path)
    expected = evaluate(tmp_path / 'one', **extras(tmp_path))
    mp.start_processes(run_rank, (world_size, tmp_path, round_up), world_size, start_method='fork')
    for rank in range(world_size):
        metrics = torch.load(tmp_path / f'metrics_{rank}.pt')
        assert metrics.keys() == expected.keys()
        np.testing.assert_array_equal(list(metrics.values()), list(expected.values()))
    assert expected.keys() >= {'ECE', 'mIoU_low', 'mIoU_high'}
    for name in ('confusion_val.csv', 'scores_val.csv', 'area_val.csv', 'reliability_val.png'):
        one, many = (tmp_path / run / name for run in ('one', 'out'))
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
    names = ['confusion_val.csv', 'confusion_val.png', 'scores_val.csv']
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    (water, *_, mean) = csv.DictReader((tmp_path / 'scores_val.csv').open())
    assert float(water['iou']) == metrics['IoU/water']
    assert float(water['iou_low']) < float(water['iou']) < float(water['iou_high'])
    assert float(mean['iou']) == pytest.approx(metrics['mIoU'])
    assert float(mean['iou_low']) == metrics['mIoU_low'] < metrics['mIoU']
    assert float(mean['iou_high']) == metrics['mIoU_high'] > metrics['mIoU']


def test_interval_goes_by_block(tmp_path):
    """Fewer blocks, of the same images: other intervals, and none from a single block."""
    runs = {n: evaluate(tmp_path, samples=make_samples(7, blocks=n)) for n in (1, 3, 7)}
    assert {run['mIoU'] for run in runs.values()} == {runs[7]['mIoU']}
    assert math.isnan(runs[1]['mIoU_low'])
    assert runs[3]['mIoU_low'] != runs[7]['mIoU_low']
    unknown = make_samples(7)
    for sample in unknown:
        del sample.block
    # Each image by itself then.
    assert evaluate(tmp_path, samples=unknown)['mIoU_low'] == runs[7]['mIoU_low']


def test_calibration_error(tmp_path):
    samples = make_samples(7)
    metrics = evaluate(tmp_path, temperature=2.0)
    bins = sum(confidence_bins(s.seg_logits.data / 2, s.gt_sem_seg.data[0], 255) for s in samples)
    assert metrics['ECE'] == pytest.approx(100 * expected_calibration_error(bins))
    assert 0 < metrics['ECE'] < 100
    assert (tmp_path / 'reliability_val.png').stat().st_size > 0
    assert 'ECE' not in evaluate(tmp_path)


def test_mapped_area(tmp_path):
    evaluate(tmp_path, **extras(tmp_path))
    rows = list(csv.DictReader((tmp_path / 'area_val.csv').open()))
    matrix, _ = read_confusion_csv(tmp_path / 'confusion_val.csv')
    mapped = np.array([30.0, 20, 10, 0])
    found = area_adjusted(matrix, mapped)
    np.testing.assert_allclose([float(row['area']) for row in rows[:4]], found.area)
    np.testing.assert_allclose([float(row['area_se']) for row in rows[:4]], found.area_se)
    assert float(rows[0]['area_low_blocks']) < found.area[0] < float(rows[0]['area_high_blocks'])
    assert float(rows[4]['overall_accuracy']) == pytest.approx(found.overall)


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
