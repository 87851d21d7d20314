"""Nested subsets of a training set that keep its class shares, for label-efficiency curves.

A seed fixes one order of all chips, and a subset is a prefix of it, so a smaller one lies in every
larger one. The order is built from the small end: 1/2^J of all chips, then as many again, and so
on. Each part is drawn at random, systematically along an order in which neighbours are alike, and
then improved: chips in it change places with chips outside while that brings the class counts of
the whole prefix nearer to the shares of the full set. No chip is preferred beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import ConfigError
from .class_mix import checked_pixels, class_shares

#: The smallest part drawn from all chips; what lies within it is a split of it.
_SMALLEST = 10
#: Exchanges per draw, and chips of either side that one exchange looks at. They bound the time,
#: which is linear in the number of chips; a large draw is precise by chance alone.
_MAX_SWAPS, _MAX_SIDE = 64, 512
#: Imbalance at which a draw is left as chance made it: sqrt(sum_c d_c^2 / q_c), where d is the
#: difference of the class shares and q the shares. 0.3 % points for a class of 35 %, 0.05 for 1 %.
_ENOUGH = 0.005


def nested_subset(class_pixels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose ``round(fraction * N)`` chips whose class shares are those of all N.

    For one seed, the chips of a smaller fraction are among those of every larger one.

    Args:
        class_pixels: ``(N, K)``, labelled pixels per chip and class.
        fraction: Above 0, at most 1.
        seed: Fixes the choice; other seeds choose other chips.

    Returns:
        Sorted indices of the chips, int64.

    Raises:
        ConfigError: If ``fraction`` is out of range or leaves no chip, or ``seed`` is negative.
        ChipIndexError: If there is no chip or no labelled pixel.
    """
    table = checked_pixels(class_pixels)
    if not 0 < fraction <= 1:
        raise ConfigError(f'fraction must be above 0 and at most 1, but is {fraction}.')
    if seed < 0:
        raise ConfigError(f'seed must be 0 or more, but is {seed}.')
    count = round(fraction * len(table))
    if count == 0:
        raise ConfigError(
            f'fraction {fraction} of {len(table)} chips leaves none; use a larger fraction.'
        )
    return np.sort(_Order(table, seed).prefix(count))


class _Order:
    """The order of the chips that a seed fixes; only as much of it is built as is asked for.

    Args:
        table: ``(N, K)`` labelled pixels.
        seed: 0 or more.
    """

    def __init__(self, table: np.ndarray, seed: int) -> None:
        self.seed = seed
        self.shares = class_shares(table)
        # What each chip adds to the imbalance of a set, (N, K): its pixels of a class beyond what
        # the overall shares would give it. Rows sum to 0. The scale weighs rare classes up
        # (chi-square) and makes an average chip 1.
        overall = table.sum(axis=0) / table.sum()
        excess = table - table.sum(axis=1, keepdims=True) * overall
        self.excess = excess / (np.sqrt(np.maximum(overall, 1e-12)) * table.sum() / len(table))

    def prefix(self, count: int) -> np.ndarray:
        """Return the first ``count`` chips, in no particular order."""
        rest = np.arange(len(self.excess))
        taken, imbalance, end = [rest[:0]], np.zeros(self.excess.shape[1]), 0
        for size in self._sizes():
            part, rest = self._draw(rest, size - end, imbalance, end)
            if count <= size:
                return np.concatenate([*taken, self._within(part, count - end, imbalance, end)])
            taken.append(part)
            imbalance = imbalance + self.excess[part].sum(axis=0)
            end = size
        return np.concatenate(taken)

    def _sizes(self) -> Iterator[int]:
        """Sizes of the prefixes that are drawn from all chips, ascending: ... N/4, N/2, N."""
        n = len(self.excess)
        halvings = max(int(np.log2(n / _SMALLEST)), 0) if n > _SMALLEST else 0
        for level in range(halvings, -1, -1):
            yield round(n * 0.5**level)

    def _within(
        self, part: np.ndarray, count: int, imbalance: np.ndarray, start: int
    ) -> np.ndarray:
        """Return the first ``count`` chips of a part, halving it again and again."""
        taken = [part[:0]]
        while count < len(part):
            if count == 0:
                return np.concatenate(taken)
            half = len(part) // 2
            first, second = self._draw(part, half, imbalance, start)
            if count < half:
                part = first
            else:
                taken.append(first)
                imbalance = imbalance + self.excess[first].sum(axis=0)
                part, count, start = second, count - half, start + half
        return np.concatenate([*taken, part])

    def _draw(
        self, pool: np.ndarray, count: int, imbalance: np.ndarray, start: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw ``count`` of ``pool`` so that ``imbalance`` plus theirs is near 0."""
        if count == len(pool):
            return pool, pool[:0]
        # The generator depends on the place in the order alone, not on how much of it is wanted.
        rng = np.random.default_rng((self.seed, start, len(pool)))
        shares = self.shares[pool]
        direction = shares @ rng.standard_normal(shares.shape[1])
        pool = pool[np.lexsort((direction, shares.argmax(axis=1)))]
        step = len(pool) / count
        places = np.floor((np.arange(count) + rng.random()) * step).astype(int)
        chosen = np.zeros(len(pool), bool)
        chosen[np.minimum(places, len(pool) - 1)] = True
        self._swap(pool, chosen, imbalance, start, rng)
        return pool[chosen], pool[~chosen]

    def _swap(
        self,
        pool: np.ndarray,
        chosen: np.ndarray,
        imbalance: np.ndarray,
        start: int,
        rng: np.random.Generator,
    ) -> None:
        """Exchange chips in place, by chance one of the better exchanges each time."""
        excess, size = self.excess[pool], start + np.count_nonzero(chosen)
        total = imbalance + excess[chosen].sum(axis=0)
        for _ in range(_MAX_SWAPS):
            inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
            inside, outside = (
                side if len(side) <= _MAX_SIDE else rng.choice(side, _MAX_SIDE, replace=False)
                for side in (inside, outside)
            )
            out, into = excess[inside], excess[outside]
            # |total - out + into|^2 - |total|^2 of every pair
            gain = (
                (np.einsum('ik,ik->i', out, out) - 2 * out @ total)[:, None]
                + (np.einsum('jk,jk->j', into, into) + 2 * into @ total)
                - 2 * out @ into.T
            )
            better = np.flatnonzero(gain < min(0.5 * gain.min(), -1e-12))
            if not len(better) or total @ total < (_ENOUGH * size) ** 2:
                break
            i, j = np.unravel_index(rng.choice(better), gain.shape)
            total = total - out[i] + into[j]
            chosen[inside[i]], chosen[outside[j]] = False, True
