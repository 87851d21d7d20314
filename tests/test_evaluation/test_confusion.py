import numpy as np
import pytest
from sklearn import metrics as sk

from geoseg_prithvi.errors import ConfigError, LabelError
from geoseg_prithvi.evaluation.confusion import confusion_matrix, mean_score, scores


def test_orientation_on_paper():
    # 140 labelled 'water'(0): 40 found, 100 called trees; 60 trees, all found.
    label = np.r_[np.zeros(140), np.ones(60)].astype(np.uint8)
    prediction = np.r_[np.zeros(40), np.ones(160)].astype(np.int64)
    matrix = confusion_matrix(label, prediction, 2)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[40, 100], [0, 60]]
    score = scores(matrix)
    assert score.precision.tolist() == [1.0, 60 / 160]
    assert score.recall.tolist() == [40 / 140, 1.0]
    assert score.iou.tolist() == [40 / 140, 60 / 160]
    assert score.accuracy == 0.5
    assert score.support.tolist() == [140, 60]


@pytest.mark.parametrize('seed', range(3))
def test_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 7, (3, 40, 30))
    prediction = np.where(rng.random(label.shape) < 0.4, label, rng.integers(0, 7, label.shape))
    label[rng.random(label.shape) < 0.1] = 255
    counted = label != 255
    matrix = confusion_matrix(label, prediction, 7)
    truth, guess = label[counted], prediction[counted]
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(truth, guess, labels=range(7)))
    score = scores(matrix)
    precision, recall, f1, support = sk.precision_recall_fscore_support(truth, guess)
    np.testing.assert_allclose(score.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(score.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(score.f1, f1, rtol=1e-12)
    np.testing.assert_array_equal(score.support, support)
    np.testing.assert_allclose(score.iou, sk.jaccard_score(truth, guess, average=None), rtol=1e-12)
    assert score.accuracy == pytest.approx(sk.accuracy_score(truth, guess), rel=1e-12)


def test_absent_class_is_nan_and_an_invented_one_counts():
    # Class 2 is nowhere; class 1 is only predicted.
    score = scores(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(score.iou, [0.75, 0.0, np.nan])
    np.testing.assert_array_equal(score.f1, [6 / 7, 0.0, np.nan])
    np.testing.assert_array_equal(score.precision, [1.0, 0.0, np.nan])
    np.testing.assert_array_equal(score.recall, [0.75, np.nan, np.nan])
    assert mean_score(score.iou) == 0.375
    assert mean_score(score.recall) == 0.75


def test_nothing_labelled():
    label = np.full((4, 4), 255, np.uint8)
    matrix = confusion_matrix(label, np.zeros_like(label), 3)
    assert matrix.sum() == 0
    score = scores(matrix)
    assert np.isnan(score.accuracy)
    assert np.isnan(mean_score(score.iou))


def test_counts_stay_exact_beyond_float32():
    matrix = np.array([[2**24 + 1, 0], [0, 2**53 + 1]], np.int64)
    total = matrix + np.array([[1, 0], [0, 1]], np.int64)
    assert total[0, 0] == 2**24 + 2 and total[1, 1] == 2**53 + 2
    assert scores(total).iou.tolist() == [1.0, 1.0]


@pytest.mark.parametrize('bad', [9, 254])
def test_label_outside_the_classes_names_the_file(bad):
    label = np.array([[0, bad]], np.uint8)
    with pytest.raises(LabelError, match=rf'chip_7\.tif holds the class\(es\) \[{bad}\].*9 class'):
        confusion_matrix(label, np.zeros((1, 2), int), 9, source='chip_7.tif')


def test_prediction_outside_the_classes():
    with pytest.raises(ConfigError, match=r'predicts class 9.*num_classes of the decode head'):
        confusion_matrix(np.zeros((1, 2), int), np.array([[0, 9]]), 9)


def test_shapes_must_agree():
    with pytest.raises(LabelError, match=r'chip_7\.tif has the shape \(1, 2\)'):
        confusion_matrix(np.zeros((1, 2), int), np.zeros((2, 1), int), 2, source='chip_7.tif')
