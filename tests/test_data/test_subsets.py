from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg_prithvi.data.balance import nested_subset
from geoseg_prithvi.errors import ChipIndexError, ConfigError

FRACTIONS = (0.05, 0.1, 0.125, 0.2, 0.25, 1 / 3, 0.5, 0.75, 1.0)


def chips(n, purity=0.3, seed=0):
    rng = np.random.default_rng(seed)
    prior = 9 * np.array([0.35, 0.2, 0.15, 0.1, 0.08, 0.05, 0.04, 0.02, 0.01])
    return np.round(4096 * rng.dirichlet(purity * prior, size=n)).astype(np.int64)


def shares(pixels):
    return pixels.sum(axis=0) / pixels.sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(0, 5), st.floats(0.02, 1.0), st.integers(0, 3))
def test_exact_size_sorted_unique_nested_for_any_fraction(n, seed, fraction, data):
    pixels = chips(n, seed=data)
    pixels[0, 0] += 1
    kept = None
    for f in sorted({fraction, *FRACTIONS}):
        if round(f * n) == 0:
            continue
        subset = nested_subset(pixels, f, seed)
        assert len(subset) == round(f * n)
        assert (np.diff(subset) > 0).all()
        assert 0 <= subset[0] <= subset[-1] < n
        assert kept is None or set(kept) <= set(subset)
        kept = subset
    assert len(kept) == n


@pytest.mark.parametrize('n', [565, 2000])
@pytest.mark.parametrize('seed', range(5))
def test_class_shares_within_one_percent_point(n, seed):
    pixels = chips(n)
    for fraction in (0.125, 0.25, 0.5):
        subset = nested_subset(pixels, fraction, seed)
        assert np.abs(shares(pixels[subset]) - shares(pixels)).max() < 0.01


def test_rare_classes_are_kept_too():
    """The rarest class, 1 %: its share in 71 chips is right to a quarter; chance misses by more."""
    pixels = chips(565)
    rarest = shares(pixels).argmin()
    error, chance = [], []
    for seed in range(20):
        subset = nested_subset(pixels, 0.125, seed)
        random = np.random.default_rng(seed).choice(565, 71, replace=False)
        for part, errors in ((subset, error), (random, chance)):
            errors.append(abs(shares(pixels[part])[rarest] / shares(pixels)[rarest] - 1))
    assert max(error) < 0.25
    assert np.mean(error) < 0.2 * np.mean(chance)


def test_seeds_differ_and_one_seed_does_not():
    pixels = chips(565)
    subsets = [set(nested_subset(pixels, 0.125, seed)) for seed in range(10)]
    common = [len(a & b) / 71 for a, b in combinations(subsets, 2)]
    assert np.mean(common) < 0.2  # 0.125 if drawn independently
    assert max(common) < 0.4
    assert set(nested_subset(pixels, 0.125, 3)) == subsets[3]


def test_every_chip_gets_its_turn():
    """Chosen about equally often (25 of 100; binomial 5 % to 95 %: 18 to 32), pure or mixed."""
    pixels = chips(600, purity=1.0)
    times = np.zeros(600)
    for seed in range(100):
        times[nested_subset(pixels, 0.25, seed)] += 1
    assert np.percentile(times, 5) > 15
    assert np.percentile(times, 95) < 35
    assert times.min() > 0
    purity = pixels.max(axis=1) / pixels.sum(axis=1)
    assert abs(np.average(purity, weights=times) - purity.mean()) < 0.005


def test_pixels_count_not_chips():
    """A chip with few labels weighs little: shares are those of all pixels together."""
    pixels = chips(600)
    pixels[::2] //= 50
    subset = nested_subset(pixels, 0.25, 0)
    assert np.abs(shares(pixels[subset]) - shares(pixels)).max() < 0.01


def test_chips_without_labels_and_absent_classes():
    pixels = np.insert(chips(300), 4, 0, axis=1)
    pixels[:100] = 0
    subset = nested_subset(pixels, 0.5, 0)
    assert len(subset) == 150
    assert np.abs(shares(pixels[subset]) - shares(pixels)).max() < 0.01


@pytest.mark.parametrize(
    ('n', 'fraction', 'seed', 'message'),
    [
        (100, 0, 0, 'fraction must be above 0'),
        (100, 1.5, 0, 'fraction must be above 0'),
        (100, 0.001, 0, 'leaves none'),
        (100, 0.5, -1, 'seed must be 0 or more'),
    ],
)
def test_bad_arguments(n, fraction, seed, message):
    with pytest.raises(ConfigError, match=message):
        nested_subset(chips(n), fraction, seed)


def test_no_chips():
    with pytest.raises(ChipIndexError, match='shape'):
        nested_subset(np.zeros((0, 9), int), 0.5, 0)
