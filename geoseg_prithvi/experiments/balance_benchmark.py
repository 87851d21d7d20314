"""How balanced four ways of drawing training chips are, and how long the best of them takes."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset, ClassBalancedDataset

from ..data.balance import balanced_weights
from ..data.class_mix import checked_pixels, class_shares, kl_divergence, target_mix
from ..data.draws import epoch_order

#: Share of each class in the synthetic populations, in the order of the legend: the imbalance of
#: a region of mixed land use, commonest over 30 %, rarest under 1 %.
PRIOR = np.array([0.08, 0.30, 0.01, 0.22, 0.05, 0.04, 0.006, 0.014, 0.28])
#: Thresholds at which mmengine's repeat factors are tried; the best one counts.
REPEAT_THRESHOLDS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 4.0)
#: Labelled pixels of a synthetic chip (224 x 224).
CHIP_PIXELS = 224 * 224


@dataclasses.dataclass(frozen=True)
class BalanceResult:
    """KL from equal shares, in nats, of the mix that each way of drawing gives.

    Attributes:
        population: Name of the chips.
        chips: Their number.
        as_they_come: Every chip once.
        repeat_factor: mmengine's ``ClassBalancedDataset`` at its best threshold.
        threshold: That threshold.
        inverse_frequency: Weights ``sum_c h_ic / f_c`` under the same cap.
        ours: The epoch that ``ClassBalancedSampler`` really draws.
        optimum: Certified lower bound for the cap.
        seconds: Wall time of the weights.
    """

    population: str
    chips: int
    as_they_come: float
    repeat_factor: float
    threshold: float
    inverse_frequency: float
    ours: float
    optimum: float
    seconds: float


def synthetic_population(name: str, num_chips: int, seed: int = 0) -> np.ndarray:
    """Class pixels of chips that no one has labelled.

    Args:
        name: ``mixed`` (several classes a chip), ``pure`` (one or two), or ``clustered`` (regions
            with a class mix of their own, and rare classes in a few regions only).
        num_chips: Number of chips.
        seed: Fixes the chips.

    Returns:
        ``(num_chips, 9)`` int64.
    """
    rng = np.random.default_rng(seed)
    if name == 'mixed':
        alpha = np.tile(6 * PRIOR, (num_chips, 1))
    elif name == 'pure':
        alpha = np.tile(0.7 * PRIOR, (num_chips, 1))
    elif name == 'clustered':
        regions = rng.dirichlet(2 * PRIOR, size=max(num_chips // 100, 2))
        alpha = 3 * regions[rng.integers(len(regions), size=num_chips)]
    else:
        raise ValueError(f'no population is called {name!r}')
    gamma = rng.standard_gamma(np.maximum(alpha, 1e-6)) + 1e-300
    return np.round(CHIP_PIXELS * gamma / gamma.sum(axis=1, keepdims=True)).astype(np.int64)


POPULATIONS = ('mixed', 'pure', 'clustered')


def compare(
    population: str, class_pixels: np.ndarray, max_repeat: float = 8.0, seed: int = 0
) -> BalanceResult:
    """Measure the four ways of drawing on one set of chips."""
    table = checked_pixels(class_pixels)
    start = time.perf_counter()
    solution = balanced_weights(table, max_repeat)
    seconds = time.perf_counter() - start
    shares, target = class_shares(table), target_mix(table)

    def kl(weights: np.ndarray) -> float:
        mix = weights @ shares
        return kl_divergence(target, mix / mix.sum())

    strata = shares.argmax(axis=1).astype(np.uint16)
    order = epoch_order(solution.weights, len(table), seed, 0, strata)
    repeat, threshold = min((kl(_repeats(table, t)), t) for t in REPEAT_THRESHOLDS)
    return BalanceResult(
        population=population,
        chips=len(table),
        as_they_come=kl(np.ones(len(table))),
        repeat_factor=repeat,
        threshold=threshold,
        inverse_frequency=kl(inverse_frequency_weights(shares, solution.cap)),
        ours=kl(np.bincount(order, minlength=len(table)).astype(float)),
        optimum=solution.bound,
        seconds=seconds,
    )


def inverse_frequency_weights(shares: np.ndarray, cap: float) -> np.ndarray:
    """The usual heuristic: a chip weighs ``sum_c h_ic / f_c``; what exceeds ``cap`` is shared out.

    Args:
        shares: ``(N, K)`` class shares of the chips.
        cap: Largest weight.

    Returns:
        ``(N,)``, sums to 1.
    """
    frequency = shares.mean(axis=0)
    weights = shares @ np.where(frequency > 0, 1 / np.maximum(frequency, 1e-300), 0.0)
    weights = weights / weights.sum()
    full = np.zeros(len(weights), bool)
    while (weights > cap * (1 + 1e-12)).any():
        full |= weights > cap
        weights[full] = cap
        weights[~full] *= (1 - cap * full.sum()) / weights[~full].sum()
    return weights


class _ChipList(BaseDataset):
    """What ``ClassBalancedDataset`` asks of a dataset."""

    def __init__(self, class_pixels: np.ndarray) -> None:
        self._classes = [np.flatnonzero(row).tolist() for row in class_pixels]
        super().__init__(serialize_data=False)

    def load_data_list(self) -> list[dict[str, Any]]:
        return [dict(classes=classes) for classes in self._classes]

    def get_cat_ids(self, idx: int) -> list[int]:
        return self._classes[idx]


def _repeats(class_pixels: np.ndarray, threshold: float) -> np.ndarray:
    """How often mmengine's ``ClassBalancedDataset`` repeats each chip, ``(N,)``."""
    balanced = ClassBalancedDataset(_ChipList(class_pixels), oversample_thr=threshold)
    return np.bincount(balanced.repeat_indices, minlength=len(class_pixels)).astype(float)


@dataclasses.dataclass(frozen=True)
class BalanceTiming:
    """Wall time in seconds, for ``chips`` chips: the weights, and one epoch of the sampler."""

    chips: int
    weights: float
    epoch: float
    gap: float


def time_balance(num_chips: int) -> BalanceTiming:
    """Time the weights and an epoch for many chips of the ``mixed`` population."""
    table = synthetic_population('mixed', num_chips)
    start = time.perf_counter()
    solution = balanced_weights(table)
    middle = time.perf_counter()
    strata = table.argmax(axis=1).astype(np.uint16)
    end_of_strata = time.perf_counter()
    epoch_order(solution.weights, num_chips, 0, 0, strata)
    return BalanceTiming(
        chips=num_chips,
        weights=middle - start,
        epoch=time.perf_counter() - end_of_strata,
        gap=solution.gap,
    )
