from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg_prithvi.data.class_mix import class_shares, kl_divergence
from geoseg_prithvi.data.selection import select_balanced
from geoseg_prithvi.errors import ChipIndexError, ConfigError


def chips(n, purity=0.3, seed=0):
    rng = np.random.default_rng(seed)
    prior = 9 * np.array([0.35, 0.2, 0.15, 0.1, 0.08, 0.05, 0.04, 0.02, 0.01])
    return np.round(4096 * rng.dirichlet(purity * prior, size=n)).astype(np.int64)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('count', [3, 5, 9])
def test_as_good_as_trying_all_choices(seed, count):
    """Every choice of 12 chips tried: none is much better, none is below the bound."""
    pixels = chips(12, purity=2.0, seed=seed)[:, :4] + 1
    shares = class_shares(pixels)
    best = min(
        kl_divergence(np.full(4, 0.25), shares[list(c)].mean(axis=0))
        for c in combinations(range(12), count)
    )
    chosen = select_balanced(pixels, count)
    assert chosen.bound <= best + 1e-9
    assert best - 1e-9 <= chosen.kl <= best + 0.005


def test_the_number_of_the_study_comes_close_to_the_bound():
    pixels = chips(3000)
    chosen = select_balanced(pixels, 565)
    assert len(chosen.indices) == 565
    assert chosen.gap < 1e-4
    assert chosen.kl < 0.1 * chosen.kl_before
    assert chosen.kl <= 1.02 * chosen.bound + 1e-6


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.data())
def test_exact_count_and_consistent_numbers(n, data):
    pixels = chips(n, seed=n)
    pixels[data.draw(st.lists(st.integers(0, n - 1), max_size=n - 1))] = 0
    labelled = int(pixels.any(axis=1).sum())
    if not labelled:
        return
    count = data.draw(st.integers(1, labelled))
    chosen = select_balanced(pixels, count)
    assert len(set(chosen.indices.tolist())) == count
    assert (np.diff(chosen.indices) > 0).all()
    assert pixels[chosen.indices].any(axis=1).all()
    assert chosen.mix == pytest.approx(class_shares(pixels[chosen.indices]).mean(axis=0))
    assert chosen.kl == pytest.approx(kl_divergence(chosen.target, chosen.mix))
    assert chosen.bound <= chosen.kl + 1e-9
    if count == labelled:
        assert chosen.kl == pytest.approx(chosen.kl_before)


def test_target():
    wish = np.array([8, 0, 0, 1, 1, 0, 0, 0, 0])
    chosen = select_balanced(chips(2000, purity=0.03), 50, target=wish)
    assert chosen.target == pytest.approx(wish / 10)
    assert chosen.mix[[0, 3, 4]] == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


def test_minimum_per_tile():
    pixels = chips(300)
    tiles = np.repeat(['10SEG', '10SFG', '11SKA'], [200, 95, 5])
    pixels[200:295] = [4000, 96, 0, 0, 0, 0, 0, 0, 0]  # a tile that balance would avoid
    free = select_balanced(pixels, 40)
    kept = select_balanced(pixels, 40, tiles=tiles, min_per_tile=8)
    counts = {tile: int((tiles[kept.indices] == tile).sum()) for tile in set(tiles)}
    assert (tiles[free.indices] == '10SFG').sum() < 8
    assert counts['10SFG'] >= 8
    assert counts['11SKA'] == 5  # all it has
    assert sum(counts.values()) == 40
    assert free.kl <= kept.kl < kept.kl_before


def test_bad_arguments():
    pixels = chips(10)
    pixels[0] = 0
    for count in (0, 10):
        with pytest.raises(ConfigError, match='count must be from 1 to 9'):
            select_balanced(pixels, count)
    with pytest.raises(ConfigError, match='3 chips of each of the 3 tiles are 9 chips'):
        select_balanced(chips(9), 8, tiles=np.repeat([1, 2, 3], 3), min_per_tile=3)
    with pytest.raises(ConfigError, match='tile of each chip'):
        select_balanced(pixels, 3, min_per_tile=1)
    with pytest.raises(ChipIndexError, match='labelled pixel'):
        select_balanced(np.zeros((3, 2), int), 1)
