r"""Chip weights that balance the classes of a segmentation set, with a certificate.

A chip cannot be taken apart, so pixels of nine classes cannot be drawn class by class; what can be
chosen is how often each chip is drawn. Let :math:`h_i` be the class shares of chip *i* among its
labelled pixels, :math:`w` the chips' shares of the draws, :math:`p = \sum_i w_i h_i` the class mix
that the network sees and :math:`u` the wanted mix. The weights here solve

.. math:: \max_w F = \sum_c u_c \log p_c, \qquad \sum_i w_i = 1, \quad 0 \le w_i \le R / N,

that is, they minimise the Kullback-Leibler divergence ``KL(u || p)`` under a cap that lets no chip
be drawn more than ``R`` times as often as the average. See ``docs/balance.md`` for the derivation.
Nothing here imports torch; images are never opened.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..errors import ConfigError
from .class_mix import checked_pixels, class_shares, kl_divergence, target_mix
from .class_weights import effective_number_weights, median_frequency_weights
from .subsets import nested_subset

__all__ = [
    'BalancedWeights',
    'balanced_weights',
    'effective_number_weights',
    'median_frequency_weights',
    'nested_subset',
]

#: Gap (nats) at which :func:`balanced_weights` is satisfied.
TOLERANCE = 1e-8
#: Proximal coefficient: first value, factor after a step that helped and floor; factor after one
#: that did not (Newton's method lost its way) and ceiling.
_ETA, _ETA_DOWN, _ETA_FLOOR, _ETA_UP, _ETA_CEILING = 1e-2, 0.2, 1e-6, 20.0, 1.0
_MAX_STEPS, _MAX_FAILURES, _MAX_NEWTON, _MAX_FILL = 100, 6, 40, 100


@dataclasses.dataclass(frozen=True)
class BalancedWeights:
    """The solution of the balancing problem.

    Attributes:
        weights: ``(N,)``, share of the draws of each chip; sums to 1.
        mix: ``(K,)``, class mix that these weights give; sums to 1.
        target: ``(K,)``, the wanted mix over the classes that are present; sums to 1.
        kl: ``KL(target || mix)`` in nats, 0 if the target is met.
        gap: No feasible weights have a KL below ``kl - gap`` (duality gap of the KKT conditions,
            nats).
        cap: Largest weight allowed.
        absent: Classes that no chip holds; they have no weight and no target.
        path: KL after each step of the solver; it never rises.
    """

    weights: np.ndarray
    mix: np.ndarray
    target: np.ndarray
    kl: float
    gap: float
    cap: float
    absent: tuple[int, ...]
    path: tuple[float, ...]

    @property
    def bound(self) -> float:
        """Certified lower bound of the KL that any weights can reach under the cap."""
        return max(self.kl - max(self.gap, 0.0), 0.0)


def balanced_weights(
    class_pixels: np.ndarray,
    max_repeat: float = 8.0,
    target: np.ndarray | None = None,
    *,
    tol: float = TOLERANCE,
) -> BalancedWeights:
    """Find the chip weights whose class mix is closest to the target.

    Where several weights reach the same mix, the result is the one nearest to equal weights, so
    as many chips as possible stay in use; equal chips get equal weights. Time and memory are linear
    in the number of chips.

    Args:
        class_pixels: ``(N, K)``, labelled pixels per chip and class. Ignored pixels are not in it.
        max_repeat: No chip is drawn more often than this many times the average chip, at least 1.
            (If so few chips have labels that the cap cannot be kept, all of them get the same
            weight.)
        target: ``(K,)`` wanted mix, any positive scale; uniform over the present classes if not
            given.
        tol: Gap in nats at which the solver stops.

    Returns:
        The weights with their mix, KL and gap. Chips without any label have the weight 0.

    Raises:
        ChipIndexError: If no chip has a labelled pixel, or the table is malformed.
        ConfigError: If ``max_repeat`` or ``target`` is out of range.
    """
    table = checked_pixels(class_pixels)
    if not max_repeat >= 1:
        raise ConfigError(f'max_repeat must be at least 1, but is {max_repeat}.')
    u = target_mix(table, target)
    labelled = table.any(axis=1)
    shares = class_shares(table if labelled.all() else table[labelled])
    cap = min(max(max_repeat / len(table), 1 / len(shares)), 1.0)

    wanted = u > 0
    solver = _Solver(shares if wanted.all() else shares[:, wanted], u[wanted], cap)
    weights = np.zeros(len(table))
    weights[labelled] = solver.solve(tol) / len(shares)
    mix = weights[labelled] @ shares
    return BalancedWeights(
        weights=weights,
        mix=mix,
        target=u,
        kl=kl_divergence(u, mix),
        gap=solver.gap,
        cap=cap,
        absent=tuple(np.flatnonzero(~table.any(axis=0)).tolist()),
        path=tuple(solver.path),
    )


class _Solver:
    """Proximal point method; each step is a semismooth Newton method on K dual variables.

    It works on ``v = N w`` (mean 1, ``0 <= v <= limit``). A step maximises
    ``F(v) - eta/2 * mean((v - v_old)**2)``, which never lowers ``F``. Its dual has one price
    ``r_c`` per class: a chip's score is ``s_i = sum_c r_c h_ic``, and

        ``v_i = clip(v_old_i + (s_i - tau) / eta, 0, limit)``, ``tau`` such that the mean is 1.

    At the solution ``r_c = u_c / p_c``. So whatever the number of chips, the unknowns are K, and
    one evaluation is a matrix-vector product.

    Args:
        shares: ``(N, K)``, classes with ``u > 0`` only; rows may sum to less than 1.
        u: ``(K,)`` target, positive.
        cap: Largest ``w``.
    """

    def __init__(self, shares: np.ndarray, u: np.ndarray, cap: float) -> None:
        self.h, self.u, self.n = shares, u, len(shares)
        self.limit = cap * self.n
        self.gap, self.bound = float('inf'), 0.0
        self.path: list[float] = []

    def solve(self, tol: float) -> np.ndarray:
        """Return ``v``, having set ``gap`` and ``path``."""
        v, mix, eta, failures = np.ones(self.n), self.h.mean(axis=0), _ETA, 0
        price = self.u / mix
        tau = 1.0
        self.path.append(kl_divergence(self.u, mix))
        self._certify(price)
        if self.limit <= 1 + 1e-12:  # only equal weights are feasible
            self.gap = 0.0
        for _ in range(_MAX_STEPS):
            if self.gap <= tol or failures > _MAX_FAILURES:
                break
            new, mix, price, tau = self._proximal_step(v, price, tau, eta, tol)
            kl = kl_divergence(self.u, mix)
            gap_before, kl_before = self.gap, self.path[-1]
            if kl <= self.path[-1]:
                self.path.append(kl)
                v = new
            self._certify(price)
            self._certify(self.u / np.maximum(mix, 1e-300))
            if self.gap < 0.9 * gap_before or kl < kl_before - 1e-3 * gap_before:
                eta = max(eta * _ETA_DOWN, _ETA_FLOOR)
            else:
                eta = min(eta * _ETA_UP, _ETA_CEILING)
                failures += 1
        return v

    def _certify(self, price: np.ndarray) -> None:
        """Raise the lower bound of the KL, and so close the gap, with any positive prices.

        By weak duality ``KL >= sum_c u_c log r_c + 1 - S(r)`` for all feasible weights, where
        ``S(r)`` is the best mean score; scaling the prices by ``1 / S`` makes it tightest. For
        ``r = u / p`` it is the Frank-Wolfe gap.
        """
        best = self._best_score(self.h @ price)
        self.bound = max(self.bound, float(self.u @ np.log(price / best)))
        self.gap = max(self.path[-1] - self.bound, 0.0)

    def _best_score(self, scores: np.ndarray) -> float:
        """``max mean(v * scores)`` over the capped simplex."""
        full = int(self.n / self.limit + 1e-9)  # chips at the cap
        if full >= self.n:
            return float(scores.mean())
        edge = self.n - full - 1
        ordered = np.partition(scores, edge)
        rest = self.n - self.limit * full
        return float(self.limit * ordered[edge + 1 :].sum() + rest * ordered[edge]) / self.n

    def _proximal_step(
        self, old: np.ndarray, price: np.ndarray, tau: float, eta: float, tol: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Minimise the dual ``-sum u log r + max_v [<s, v> - eta/2 |v - old|^2] / N``.

        Returns:
            ``v``, its mix, the prices and the threshold.
        """

        def evaluate(price: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray, float, float]:
            scores = self.h @ price
            v, tau = self._fill(old, scores, tau, eta)
            mix = v @ self.h / self.n
            moved = v - old
            dual = price @ mix - self.u @ np.log(price) - eta / 2 * (moved @ moved) / self.n
            return v, mix, tau, dual

        v, mix, tau, dual = evaluate(price, tau)
        enough = max(0.1 * tol, min(1e-3 * eta, 1e-5))
        for _ in range(_MAX_NEWTON):
            # Relative unknowns (d log r): prices of rare classes are large, those of common small.
            gradient = price * mix - self.u
            error = np.abs(gradient / self.u).max()
            if error < enough:
                break
            hessian = np.diag(self.u)
            free = (v > 0) & (v < self.limit)
            if free.any():
                h = self.h[free]
                mean = h.mean(axis=0)
                spread = h.T @ h - len(h) * np.outer(mean, mean)
                hessian += spread * np.outer(price, price) / (eta * self.n)
            step = -np.linalg.solve(hessian, gradient)
            decrease = -gradient @ step
            length = min(1.0, 0.9 / max(-step.min(), 1e-300))
            while True:
                trial = price * (1 + length * step)
                result = evaluate(trial, tau)
                if result[3] <= dual - 1e-4 * length * decrease:
                    break
                if np.abs(trial * result[1] / self.u - 1).max() < 0.5 * error:
                    break  # the dual no longer tells within rounding errors, the error does
                length /= 4
                if length < 1e-4:
                    return v, mix, price, tau
            price, (v, mix, tau, dual) = trial, result
        return v, mix, price, tau

    def _fill(
        self, old: np.ndarray, scores: np.ndarray, tau: float, eta: float
    ) -> tuple[np.ndarray, float]:
        """Water-filling: ``clip(old + (scores - tau) / eta, 0, limit)`` with mean 1.

        The mean falls with ``tau``, piecewise linearly: Newton's method inside a bracket.
        """
        low, high = scores.min() - eta * self.limit, scores.max() + eta * self.limit
        for _ in range(_MAX_FILL):
            v = np.clip(old + (scores - tau) / eta, 0.0, self.limit)
            excess = v.sum() - self.n
            if abs(excess) <= 1e-13 * self.n:
                break
            if excess > 0:
                low = tau
            else:
                high = tau
            free = np.count_nonzero((v > 0) & (v < self.limit))
            new = tau + eta * excess / free if free else low
            if not low < new < high:
                new = (low + high) / 2
            if new in (low, high):  # neighbouring floating-point numbers
                if free:
                    inner = (v > 0) & (v < self.limit)
                    v[inner] = np.clip(v[inner] - excess / free, 0.0, self.limit)
                break
            tau = new
        return v, tau
