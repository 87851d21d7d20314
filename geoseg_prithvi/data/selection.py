"""Choose exactly M chips that are together as balanced as can be.

Choosing chips once each is the balancing problem of :mod:`.balance` with the cap ``1 / M``, made
whole: its solution has all but a few weights at 0 or at the cap. Those are rounded, then chips are
exchanged while that helps. The relaxed problem also says how good any choice could be.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..errors import ConfigError
from .balance import balanced_weights
from .class_mix import checked_pixels, class_shares, kl_divergence

#: Chips of either side that one exchange looks at: the best by first-order gain, and as many at
#: random.
_CANDIDATES = 128
_MAX_SWAPS_PER_CHIP = 10


@dataclasses.dataclass(frozen=True)
class Selection:
    """Chosen chips and how balanced they are.

    Attributes:
        indices: ``(M,)`` sorted.
        target: ``(K,)`` wanted mix.
        mix: ``(K,)`` mean class shares of the chosen chips.
        mix_before: ``(K,)`` mean class shares of all labelled chips.
        kl: ``KL(target || mix)`` in nats.
        kl_before: ``KL(target || mix_before)``.
        bound: No M chips whatever have a smaller KL (certified by the relaxation, which knows
            nothing of a minimum per tile).
    """

    indices: np.ndarray
    target: np.ndarray
    mix: np.ndarray
    mix_before: np.ndarray
    kl: float
    kl_before: float
    bound: float

    @property
    def gap(self) -> float:
        """How far ``kl`` is at most from the best possible choice, nats."""
        return self.kl - self.bound


def select_balanced(
    class_pixels: np.ndarray,
    count: int,
    *,
    target: np.ndarray | None = None,
    tiles: np.ndarray | None = None,
    min_per_tile: int = 0,
) -> Selection:
    """Choose ``count`` chips, each once, whose class mix is closest to the target.

    Args:
        class_pixels: ``(N, K)``, labelled pixels per chip and class.
        count: Chips to choose, M.
        target: ``(K,)`` wanted mix, any positive scale; uniform if not given.
        tiles: ``(N,)`` tile of each chip; needed for ``min_per_tile``.
        min_per_tile: Choose at least so many chips of every tile (all labelled ones of a tile
            that has fewer).

    Returns:
        The choice. It is deterministic.

    Raises:
        ConfigError: If ``count`` is out of range or too small for ``min_per_tile``.
        ChipIndexError: If no chip has a labelled pixel.
    """
    table = checked_pixels(class_pixels)
    labelled = np.flatnonzero(table.any(axis=1))
    if not 1 <= count <= len(labelled):
        raise ConfigError(
            f'count must be from 1 to {len(labelled)}, the number of chips with labels, but is '
            f'{count}.'
        )
    if min_per_tile and tiles is None:
        raise ConfigError('min_per_tile needs the tile of each chip.')
    relaxed = balanced_weights(table, len(table) / count, target)
    shares = class_shares(table[labelled])
    group = np.zeros(len(labelled), int)
    if min_per_tile:
        group = np.unique(np.asarray(tiles)[labelled], return_inverse=True)[1]

    wanted = relaxed.target > 0
    price = np.where(wanted, relaxed.target / np.maximum(relaxed.mix, 1e-300), 0.0)
    weights = relaxed.weights[labelled]
    best_first = np.lexsort((-(shares @ price), -np.round(weights * count, 9)))
    chosen = _round(best_first, count, group, min_per_tile)
    _exchange(chosen, shares, relaxed.target, group, min_per_tile)

    mix, mix_before = shares[chosen].mean(axis=0), shares.mean(axis=0)
    return Selection(
        indices=labelled[chosen],
        target=relaxed.target,
        mix=mix,
        mix_before=mix_before,
        kl=kl_divergence(relaxed.target, mix),
        kl_before=kl_divergence(relaxed.target, mix_before),
        bound=relaxed.bound,
    )


def _round(best_first: np.ndarray, count: int, group: np.ndarray, minimum: int) -> np.ndarray:
    """Take the best ``minimum`` of each group, then the best of all; ``(N,)`` bool."""
    chosen = np.zeros(len(best_first), bool)
    if minimum:
        by_group = best_first[np.argsort(group[best_first], kind='stable')]
        sizes = np.bincount(group)
        rank = np.arange(len(by_group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        chosen[by_group[rank < minimum]] = True
        if chosen.sum() > count:
            raise ConfigError(
                f'{minimum} chips of each of the {len(sizes)} tiles are {chosen.sum()} chips, but '
                f'only {count} are to be chosen; lower --min-per-tile or choose more.'
            )
    rest = best_first[~chosen[best_first]]
    chosen[rest[: count - chosen.sum()]] = True
    return chosen


def _exchange(
    chosen: np.ndarray, shares: np.ndarray, target: np.ndarray, group: np.ndarray, minimum: int
) -> None:
    """Exchange one chip for another, in place, as long as the KL falls."""
    count = np.count_nonzero(chosen)
    wanted = target > 0
    shares, target = shares[:, wanted], target[wanted]
    rng = np.random.default_rng(0)
    total = shares[chosen].sum(axis=0)

    def candidates(side: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if len(side) <= 2 * _CANDIDATES:
            return side
        best = side[np.argpartition(scores[side], _CANDIDATES)[:_CANDIDATES]]
        return np.union1d(best, rng.choice(side, _CANDIDATES, replace=False))

    def value(total: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(total / count, 1e-12)) @ target

    for _ in range(_MAX_SWAPS_PER_CHIP * count):
        scores = shares @ (target / np.maximum(total, 1e-12))
        out = candidates(np.flatnonzero(chosen), scores)
        into = candidates(np.flatnonzero(~chosen), -scores)
        if not len(into):
            return
        gain = value(total - shares[out][:, None] + shares[into]) - value(total)
        if minimum:
            spare = np.bincount(group[chosen], minlength=group.max() + 1) > minimum
            allowed = spare[group[out]][:, None] | (group[out][:, None] == group[into])
            gain = np.where(allowed, gain, -np.inf)
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        if gain[i, j] <= 1e-12:
            return
        chosen[out[i]], chosen[into[j]] = False, True
        total = total - shares[out[i]] + shares[into[j]]
