import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg_prithvi.data.draws import epoch_order, systematic_counts


@st.composite
def weighted(draw):
    raw = draw(st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1.0)), min_size=1, max_size=30))
    weights = np.array(raw) + (0 if any(raw) else 1)
    strata = draw(st.lists(st.integers(0, 3), min_size=len(raw), max_size=len(raw)))
    return weights / weights.sum(), np.array(strata, np.uint8)


@settings(max_examples=200, deadline=None)
@given(weighted(), st.integers(1, 200), st.integers(0, 2**31), st.integers(0, 1000))
def test_counts_and_determinism(case, num_draws, seed, epoch):
    weights, strata = case
    order = epoch_order(weights, num_draws, seed, epoch, strata)
    counts = np.bincount(order, minlength=len(weights))
    assert counts.sum() == len(order) == num_draws
    assert (np.abs(counts - num_draws * weights) < 1 + 1e-5).all()
    assert not counts[weights == 0].any()
    for k in range(4):
        expected = num_draws * weights[strata == k].sum()
        assert abs(counts[strata == k].sum() - expected) < 1 + 1e-5
    assert np.array_equal(order, epoch_order(weights, num_draws, seed, epoch, strata))


def test_whole_expectations_are_met_exactly():
    """Rounding errors of a long sum must not take one draw and give another."""
    n = 100_003
    weights = np.full(n, 1 / n)
    strata = np.zeros(n, np.uint8)
    for seed in range(20):
        counts = systematic_counts(weights, 3 * n, np.random.default_rng(seed), strata)
        assert (counts == 3).all()


def test_the_order_is_shuffled():
    """No chip's draws stand together, and places are not tied to indices."""
    weights = np.full(500, 1 / 500)
    order = epoch_order(weights, 2000, 0, 0, np.zeros(500, np.uint8))
    assert np.count_nonzero(np.diff(order) == 0) < 20  # 4 expected
    assert abs(np.corrcoef(order, np.arange(2000))[0, 1]) < 0.1
