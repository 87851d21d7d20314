import numpy as np
import pytest

from geoseg_prithvi.experiments.balance_benchmark import (
    POPULATIONS,
    compare,
    inverse_frequency_weights,
    synthetic_population,
    time_balance,
)


@pytest.mark.parametrize('name', POPULATIONS)
def test_populations_are_imbalanced_like_nature(name):
    pixels = synthetic_population(name, 3000)
    shares = pixels.sum(axis=0) / pixels.sum()
    assert shares.max() > 0.25
    assert 0 < shares.min() < 0.015
    assert (np.abs(pixels.sum(axis=1) - 224 * 224) < 10).all()
    assert np.array_equal(pixels, synthetic_population(name, 3000))


@pytest.mark.parametrize('name', POPULATIONS)
@pytest.mark.parametrize('max_repeat', [2.0, 8.0])
def test_bound_of_the_design(name, max_repeat):
    """The mix really drawn: within 2 % of the optimum, and below all alternatives."""
    result = compare(name, synthetic_population(name, 1500), max_repeat)
    assert result.optimum <= result.ours <= 1.02 * result.optimum + 1e-4
    assert result.ours < min(result.as_they_come, result.inverse_frequency)
    if max_repeat == 8.0:  # repeat factors have no cap, so a small one is no fair comparison
        assert result.ours < result.repeat_factor


def test_inverse_frequency_keeps_the_cap():
    shares = np.array([[1.0, 0.0]] * 9 + [[0.0, 1.0]])
    assert inverse_frequency_weights(shares, 1.0)[9] == pytest.approx(0.5)
    capped = inverse_frequency_weights(shares, 0.2)
    assert capped == pytest.approx([0.8 / 9] * 9 + [0.2])


def test_repeat_factors_by_hand():
    """Class 1 in one chip of four: at threshold 1 its factor is sqrt(1 / 0.25) = 2."""
    pixels = np.array([[9, 0]] * 3 + [[0, 9]])
    result = compare('by hand', pixels, 8.0)
    # at threshold 4 it is 4 for class 1, and ceil(sqrt(4 / 0.75)) = 3 for class 0: mix 9 : 4
    mix = np.array([3, 2]) / 5
    assert result.repeat_factor == pytest.approx(np.mean(np.log(0.5 / mix)))
    assert result.as_they_come == pytest.approx(np.mean(np.log(0.5 / np.array([0.75, 0.25]))))


def test_timing_counts_the_chips():
    timing = time_balance(2000)
    assert timing.chips == 2000
    assert timing.gap < 1e-7
    assert timing.weights > 0 < timing.epoch
