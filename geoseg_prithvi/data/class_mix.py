"""Class counts of chips as shares, mixes, and the distance between mixes."""

from __future__ import annotations

import numpy as np

from ..errors import ChipIndexError, ConfigError


def checked_pixels(class_pixels: np.ndarray) -> np.ndarray:
    """Return ``class_pixels`` as an ``(N, K)`` array of counts.

    Raises:
        ChipIndexError: If it is no such table, has no row, or no labelled pixel at all.
    """
    table = np.asarray(class_pixels)
    if table.ndim != 2 or 0 in table.shape:
        raise ChipIndexError(
            f'class_pixels has the shape {table.shape}, but (chips, classes) with at least one of '
            'each is expected; check the split that was asked for.'
        )
    if not np.issubdtype(table.dtype, np.number) or table.min() < 0 or np.isnan(table.max()):
        raise ChipIndexError('class_pixels must hold counts, 0 or more; write the index again.')
    if not table.any():
        raise ChipIndexError(
            f'None of the {len(table)} chips has a labelled pixel, so nothing can be balanced; '
            'check the labels and the purity threshold.'
        )
    return table


def class_shares(class_pixels: np.ndarray) -> np.ndarray:
    """Class shares of each chip among its labelled pixels, ``(N, K)``; 0 where none is labelled."""
    total = class_pixels.sum(axis=1, keepdims=True)
    return class_pixels / np.maximum(total, 1)


def kl_divergence(target: np.ndarray, mix: np.ndarray) -> float:
    """``KL(target || mix)`` in nats; infinite if a wanted class is not in the mix."""
    wanted = target > 0
    if np.any(mix[wanted] <= 0):
        return float('inf')
    return max(float(target[wanted] @ np.log(target[wanted] / mix[wanted])), 0.0)


def target_mix(class_pixels: np.ndarray, target: np.ndarray | None = None) -> np.ndarray:
    """The wanted mix over the classes that are present.

    Args:
        class_pixels: ``(N, K)`` counts.
        target: ``(K,)`` relative wish per class, 0 or more; uniform if not given.

    Returns:
        ``(K,)``, sums to 1, 0 for absent classes.

    Raises:
        ConfigError: If ``target`` has the wrong length, is negative, or wants only absent classes.
    """
    present = class_pixels.any(axis=0)
    wish = np.ones(len(present)) if target is None else np.asarray(target, float)
    if wish.shape != present.shape or not np.isfinite(wish).all() or wish.min() < 0:
        raise ConfigError(
            f'target must hold {len(present)} numbers of 0 or more, one per class; got {target}.'
        )
    wish = np.where(present, wish, 0.0)
    if wish.sum() == 0:
        raise ConfigError(f'target {target} wants only classes that no chip holds.')
    return wish / wish.sum()
