import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from geoseg_prithvi.data.balance import balanced_weights
from geoseg_prithvi.data.class_mix import class_shares, kl_divergence
from geoseg_prithvi.errors import ChipIndexError, ConfigError


def chips(n, classes=5, purity=0.3, seed=0):
    """Pixels of chips with few classes each, and classes from common to rare."""
    rng = np.random.default_rng(seed)
    prior = 0.5 ** np.arange(classes)
    return np.round(1000 * rng.dirichlet(purity * prior, size=n)).astype(np.int64)


def slsqp(pixels, cap, target):
    """The same problem, by a general solver that knows nothing of it."""
    shares = class_shares(pixels)
    wanted = target > 0

    def loss(w):
        return -target[wanted] @ np.log(np.maximum(w @ shares[:, wanted], 1e-12))

    def gradient(w):
        return -shares[:, wanted] @ (target[wanted] / np.maximum(w @ shares[:, wanted], 1e-12))

    result = minimize(
        loss,
        np.full(len(pixels), 1 / len(pixels)),
        jac=gradient,
        method='SLSQP',
        bounds=[(0, cap)] * len(pixels),
        constraints=dict(type='eq', fun=lambda w: w.sum() - 1, jac=lambda w: np.ones(len(pixels))),
        options=dict(ftol=1e-14, maxiter=2000),
    )
    return loss(result.x) + target[wanted] @ np.log(target[wanted]), result.x @ shares


@pytest.mark.parametrize('max_repeat', [1.0, 1.5, 3.0, 8.0, 60.0])
@pytest.mark.parametrize('purity', [0.1, 1.0, 5.0])
@pytest.mark.parametrize('target', [None, (5, 1, 1, 2, 0)])
def test_agrees_with_a_general_solver(max_repeat, purity, target):
    pixels = chips(40, purity=purity, seed=3)
    ours = balanced_weights(pixels, max_repeat, target)
    kl, mix = slsqp(pixels, min(max_repeat / 40, 1), ours.target)
    assert ours.kl == pytest.approx(kl, abs=1e-6)
    assert np.abs(ours.mix - mix)[ours.target > 0].max() < 1e-4
    assert ours.gap < 1e-6
    assert ours.bound <= kl + 1e-9


def test_by_hand():
    """Two kinds of chips, all a and all b: 3 + 1. A cap of 2 lifts b from 1/4 to 1/2."""
    pixels = np.array([[10, 0]] * 3 + [[0, 10]])
    free = balanced_weights(pixels, 2)
    assert free.weights == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2], abs=1e-4)
    assert free.kl < 1e-8
    # with a cap of 1.6 the b chip gets 0.4 and the others share the rest
    limited = balanced_weights(pixels, 1.6)
    assert limited.weights == pytest.approx([0.2, 0.2, 0.2, 0.4])
    assert limited.kl == pytest.approx(-0.5 * np.log(4 * 0.6 * 0.4))
    # a wish of 9 : 1 for a is met by 0.9 and 0.1
    assert balanced_weights(pixels, 2, (9, 1)).mix == pytest.approx([0.9, 0.1], abs=1e-4)


tables = st.integers(1, 12).flatmap(
    lambda n: st.lists(
        st.lists(st.one_of(st.just(0), st.integers(0, 1000)), min_size=3, max_size=3),
        min_size=n,
        max_size=n,
    )
)


@settings(max_examples=200, deadline=None)
@given(tables.filter(lambda t: np.any(t)), st.floats(1, 20))
def test_properties(table, max_repeat):
    pixels = np.array(table)
    ours = balanced_weights(pixels, max_repeat)
    labelled = pixels.any(axis=1)
    assert ours.weights.sum() == pytest.approx(1, abs=1e-9)
    assert ours.weights.min() >= 0
    assert ours.weights.max() <= ours.cap * (1 + 1e-9)
    assert ours.cap <= max(max_repeat / len(pixels), 1 / labelled.sum())
    assert not ours.weights[~labelled].any()
    assert ours.mix == pytest.approx(ours.weights @ class_shares(pixels), abs=1e-12)
    assert ours.kl == pytest.approx(kl_divergence(ours.target, ours.mix))
    assert 0 <= ours.gap < 1e-5
    assert (np.diff(ours.path) <= 0).all()
    assert ours.absent == tuple(np.flatnonzero(~pixels.any(axis=0)))
    order = np.random.default_rng(0).permutation(len(pixels))
    assert balanced_weights(pixels[order], max_repeat).kl == pytest.approx(ours.kl, abs=1e-5)


def test_gap_certifies():
    """No feasible weights do better than the bound; here 2,000 at random, and greedy ones."""
    pixels = chips(60)
    ours = balanced_weights(pixels, 4)
    shares = class_shares(pixels)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        w = np.minimum(rng.dirichlet(np.full(60, rng.uniform(0.1, 3))), 4 / 60)
        w += (1 - w.sum()) * (4 / 60 - w) / (4 / 60 - w).sum()
        assert kl_divergence(ours.target, w @ shares) >= ours.bound


def test_stops_at_the_stated_tolerance():
    pixels = chips(3000)
    loose, tight = (balanced_weights(pixels, tol=tol) for tol in (1e-3, 1e-8))
    assert loose.gap <= 1e-3
    assert tight.gap <= 1e-8
    assert len(loose.path) < len(tight.path)
    assert loose.kl - tight.kl <= 1e-3


def test_where_many_weights_serve_the_chips_stay_in_use():
    """With mixed chips and a wide cap the target is met; the shortest such weights are wanted."""
    pixels = chips(40, classes=3, purity=3.0)
    ours = balanced_weights(pixels, 16)
    assert ours.kl < 1e-7
    shortest = minimize(
        lambda w: 40 * w @ w,
        np.full(40, 1 / 40),
        jac=lambda w: 80 * w,
        method='SLSQP',
        bounds=[(0, 16 / 40)] * 40,
        constraints=dict(type='eq', fun=lambda w: w @ class_shares(pixels) - 1 / 3),
        options=dict(ftol=1e-12, maxiter=500),
    )
    assert shortest.success
    assert ours.weights @ ours.weights < 1.01 * shortest.fun / 40
    assert np.count_nonzero(ours.weights) > 2 * 40 / 16


def test_equal_chips_get_equal_weights():
    pixels = np.repeat(chips(30), 3, axis=0)
    weights = balanced_weights(pixels).weights.reshape(30, 3)
    assert np.ptp(weights, axis=1).max() < 1e-12


def test_already_balanced_is_left_alone():
    ours = balanced_weights(np.full((7, 3), 5))
    assert np.array_equal(ours.weights, np.full(7, 1 / 7))
    assert ours.kl == ours.gap == 0


def test_only_shares_count_not_sizes():
    pixels = chips(50, purity=2.0)
    pixels = pixels[pixels.all(axis=1)]
    scaled = pixels * np.arange(1, len(pixels) + 1)[:, None]
    assert balanced_weights(scaled).weights == pytest.approx(balanced_weights(pixels).weights)


def test_a_class_in_one_pixel_only():
    pixels = chips(200, classes=4)
    pixels[:, 3] = 0
    pixels[17, 3] = 1
    ours = balanced_weights(pixels)
    assert ours.gap < 1e-6
    assert ours.weights[17] == pytest.approx(ours.cap)


def test_one_chip_and_one_class():
    assert balanced_weights([[3, 4]]).weights.tolist() == [1.0]
    one_class = balanced_weights([[3, 0], [7, 0], [0, 0]])
    assert one_class.weights == pytest.approx([0.5, 0.5, 0])
    assert one_class.absent == (1,)
    assert one_class.kl == 0


def test_absent_classes_are_reported_and_not_wanted():
    pixels = np.insert(chips(40, classes=3), 1, 0, axis=1)
    ours = balanced_weights(pixels, target=(1, 9, 1, 1))
    assert ours.absent == (1,)
    assert ours.target == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert ours.kl == pytest.approx(balanced_weights(chips(40, classes=3)).kl, abs=1e-6)


@pytest.mark.parametrize(
    ('pixels', 'arguments', 'error', 'message'),
    [
        (np.zeros((4, 3), int), {}, ChipIndexError, 'None of the 4 chips has a labelled pixel'),
        (np.zeros((0, 3), int), {}, ChipIndexError, r'shape \(0, 3\)'),
        (np.ones(3), {}, ChipIndexError, r'shape \(3,\)'),
        (np.array([[1, -1]]), {}, ChipIndexError, '0 or more'),
        (np.ones((2, 3)), dict(max_repeat=0.9), ConfigError, 'max_repeat must be at least 1'),
        (np.ones((2, 3)), dict(max_repeat=np.nan), ConfigError, 'max_repeat must be at least 1'),
        (np.ones((2, 3)), dict(target=(1, 2)), ConfigError, 'target must hold 3 numbers'),
        (np.ones((2, 3)), dict(target=(1, 2, -1)), ConfigError, 'target must hold 3 numbers'),
        (np.array([[1, 0]]), dict(target=(0, 1)), ConfigError, 'only classes that no chip holds'),
    ],
)
def test_bad_input(pixels, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        balanced_weights(pixels, **arguments)
    assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_a_million_chips():
    """Bounds of the design: 10 s of processor time on two cores, 1 GB, linear; the epoch 1 s."""
    code = (
        'import numpy as np, resource, time\n'
        'from geoseg_prithvi.data.balance import balanced_weights\n'
        'from geoseg_prithvi.data.draws import epoch_order\n'
        'def cpu(): return time.process_time()\n'
        'rng = np.random.default_rng(0)\n'
        'prior = 9 * 0.2 * np.array([.35, .2, .15, .1, .08, .05, .04, .02, .01])\n'
        'pixels = np.round(50176 * rng.dirichlet(prior, 1_000_000)).astype(np.int64)\n'
        't0 = cpu(); ours = balanced_weights(pixels); t1 = cpu()\n'
        'strata = pixels.argmax(1).astype(np.uint16)\n'
        't2 = cpu(); epoch_order(ours.weights, 1_000_000, 0, 0, strata); t3 = cpu()\n'
        'print(t1 - t0, t3 - t2, ours.gap, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    seconds, epoch_seconds, gap, kilobytes = map(float, run.stdout.split())
    assert seconds < 20  # of both cores together
    assert epoch_seconds < 1
    assert gap <= 1e-8
    assert kilobytes < 1e6
