import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geoseg_prithvi.errors import DataNotFoundError, ResultsError
from geoseg_prithvi.evaluation.area_accuracy import (
    Z95,
    adjusted_area,
    area_adjusted,
    check_strata,
    read_area,
)
from geoseg_prithvi.evaluation.report import read_confusion_csv, write_confusion_csv

ROOT = Path(__file__).parents[2]
#: Olofsson et al. 2014, tables 8 and 9: deforestation, forest gain, stable forest, stable
#: non-forest; rows map, columns reference; areas in Landsat pixels of 0.09 ha.
CLASSES = ['deforestation', 'forest gain', 'stable forest', 'stable non-forest']
SAMPLE = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
MAPPED = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def write_area(path, names=CLASSES, values=MAPPED, hectares=True):
    rows = [
        f'{k},{name},{value},{value * 0.09 if hectares else ""},0'
        for k, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    path.write_text('\n'.join(['class,name,pixels,hectares,share', *rows]) + '\n')
    return path


def test_worked_example_of_the_paper():
    found = area_adjusted(SAMPLE.T, MAPPED)
    np.testing.assert_allclose(found.users, [0.88, 0.73, 0.93, 0.96], atol=0.005)
    np.testing.assert_allclose(Z95 * found.users_se, [0.07, 0.10, 0.04, 0.02], atol=0.005)
    np.testing.assert_allclose(found.producers, [0.75, 0.85, 0.93, 0.96], atol=0.005)
    assert found.overall == pytest.approx(0.95, abs=0.005)
    assert Z95 * found.overall_se == pytest.approx(0.02, abs=0.005)
    assert found.area[0] == pytest.approx(235_086, abs=1)
    np.testing.assert_allclose(0.09 * found.area, [21_158, 11_686, 285_770, 581_386], atol=1)
    np.testing.assert_allclose(0.09 * Z95 * found.area_se, [6158, 3756, 15_510, 16_282], atol=1)
    assert found.area.sum() == pytest.approx(MAPPED.sum())


def test_errors_are_those_that_sampling_shows():
    """Draw the stratified sample again and again from a known map."""
    rng = np.random.default_rng(0)
    truth = SAMPLE / SAMPLE.sum(axis=1, keepdims=True)
    runs = []
    # Ten times the sample: the error of a ratio is that of a large sample.
    sizes = 10 * SAMPLE.sum(axis=1)
    for _ in range(4000):
        n = np.stack([rng.multinomial(m, p) for m, p in zip(sizes, truth, strict=True)])
        runs.append(area_adjusted(n.T, MAPPED))
    expected = area_adjusted(10 * SAMPLE.T, MAPPED)
    for name in ('area', 'producers', 'users', 'overall'):
        spread = np.std([getattr(run, name) for run in runs], axis=0)
        np.testing.assert_allclose(spread, getattr(expected, f'{name}_se'), rtol=0.06)
    mean = np.mean([run.area for run in runs], axis=0)
    np.testing.assert_allclose(mean, expected.area, rtol=0.01)


def test_a_perfect_map_is_taken_as_it_is():
    found = area_adjusted(np.diag([5, 7, 9]), np.array([10.0, 20, 30]))
    np.testing.assert_array_equal(found.area, [10, 20, 30])
    np.testing.assert_array_equal(found.area_se, 0)
    assert (found.overall, found.overall_se) == (1, 0)


def test_weights_of_the_sample_itself_give_the_plain_scores():
    found = area_adjusted(SAMPLE.T, SAMPLE.sum(axis=1))
    assert found.overall == pytest.approx(np.trace(SAMPLE) / SAMPLE.sum())
    np.testing.assert_allclose(found.producers, np.diag(SAMPLE) / SAMPLE.sum(axis=0))


def test_a_class_that_the_map_lacks():
    matrix = np.array([[8, 2, 0], [1, 9, 0], [1, 1, 0]])  # rows labels; never predicted: class 2
    found = area_adjusted(matrix, np.array([50, 50, 0]))
    assert np.isnan(found.users[2])
    assert found.producers[2] == 0
    np.testing.assert_allclose(
        found.area, [50 * 0.8 + 50 * 2 / 12, 50 * 0.1 + 37.5, 50 * (0.1 + 1 / 12)]
    )
    assert np.isfinite(found.area_se).all()
    check_strata(matrix, np.array([50, 50, 0]), 'abc')
    with pytest.raises(ResultsError, match='c covers 1 % of the map, but no pixel'):
        check_strata(matrix, np.array([50, 49, 1]), 'abc')


def test_many_matrices_at_once():
    rng = np.random.default_rng(1)
    matrices = rng.integers(1, 50, (5, 4, 4))
    expected = [area_adjusted(matrix, MAPPED).area for matrix in matrices]
    np.testing.assert_allclose(adjusted_area(matrices, MAPPED), expected)


def test_areas_are_found_by_name(tmp_path):
    path = write_area(tmp_path / 'area.csv', CLASSES[::-1], MAPPED[::-1])
    area = read_area(path, CLASSES)
    np.testing.assert_allclose(area.values, MAPPED * 0.09)
    assert area.unit == 'ha'
    area = read_area(write_area(path, hectares=False), CLASSES)
    np.testing.assert_array_equal(area.values, MAPPED)
    assert area.unit == 'pixels'


def test_wrong_areas_are_one_sentence(tmp_path):
    with pytest.raises(DataNotFoundError, match='does not exist; write the area'):
        read_area(tmp_path / 'no.csv', CLASSES)
    path = write_area(tmp_path / 'area.csv')
    with pytest.raises(ResultsError, match='is of the classes deforestation'):
        read_area(path, ['water', 'trees'])
    with pytest.raises(ResultsError, match='holds no area'):
        read_area(write_area(path, values=[0, 0, 0, 0]), CLASSES)
    path.write_text('a,b\n1,2\n')
    with pytest.raises(ResultsError, match='is no table of areas'):
        read_area(path, CLASSES)


def test_confusion_csv_comes_back(tmp_path):
    path = tmp_path / 'confusion_test.csv'
    write_confusion_csv(SAMPLE.T, CLASSES, path)
    matrix, classes = read_confusion_csv(path)
    np.testing.assert_array_equal(matrix, SAMPLE.T)
    assert classes == CLASSES
    path.write_text(path.read_text().rpartition('stable')[0])
    with pytest.raises(ResultsError, match='is no confusion matrix'):
        read_confusion_csv(path)


def test_tool(tmp_path):
    write_confusion_csv(SAMPLE.T, CLASSES, tmp_path / 'confusion_test.csv')
    area, out = write_area(tmp_path / 'area.csv'), tmp_path / 'out.csv'
    command = [sys.executable, 'tools/accuracy.py', tmp_path / 'confusion_test.csv']
    done = subprocess.run(
        [*command, '--area', area, '--out', out], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert '21,158 ± 6,158' in done.stdout
    assert 'too small' in done.stdout
    assert 'deforestation,ha,18000.0,21157.7' in out.read_text()
