"""From chip weights to whole numbers of draws: the order of one epoch."""

from __future__ import annotations

import numpy as np


def systematic_counts(
    weights: np.ndarray, num_draws: int, rng: np.random.Generator, strata: np.ndarray
) -> np.ndarray:
    """How often each chip is drawn, by systematic sampling.

    The expected counts are laid end to end on a line, and every point ``U, U+1, U+2, ...`` draws
    the chip it falls on. So each count is its expectation rounded down or up, is right on average,
    and the counts sum to ``num_draws``. Chips of a stratum lie side by side, in random order, so
    the count of a stratum is its expectation rounded down or up too.

    Args:
        weights: ``(N,)``, share of the draws; sums to 1.
        num_draws: Draws in all.
        rng: Source of chance.
        strata: ``(N,)`` small unsigned integers.

    Returns:
        ``(N,)`` int64.
    """
    order = rng.permutation(len(weights))
    order = order[np.argsort(strata[order], kind='stable')]
    edges = np.cumsum(weights[order]) * num_draws
    edges[-1] = num_draws  # whatever the rounding errors
    # Rounded, so that whole expected counts stay whole.
    points = np.floor(np.round(edges, 6) + rng.random()).astype(np.int64)
    counts = np.empty(len(weights), np.int64)
    counts[order] = np.diff(points, prepend=0)
    return counts


def epoch_order(
    weights: np.ndarray, num_draws: int, seed: int, epoch: int, strata: np.ndarray
) -> np.ndarray:
    """Chips in the order in which an epoch draws them; a function of its arguments alone.

    Args:
        weights: ``(N,)``, share of the draws; sums to 1.
        num_draws: Length of the epoch.
        seed: Seed of the run, 0 or more.
        epoch: Number of the epoch, counted from 0.
        strata: ``(N,)`` small unsigned integers, see :func:`systematic_counts`.

    Returns:
        ``(num_draws,)`` indices, int64.
    """
    rng = np.random.default_rng((seed, epoch))
    counts = systematic_counts(weights, num_draws, rng, strata)
    return rng.permutation(np.repeat(np.arange(len(weights)), counts))
