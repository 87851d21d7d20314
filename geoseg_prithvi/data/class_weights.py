"""Weights per class for a loss, from the index: the ``class_weight`` of MMSegmentation's losses."""

from __future__ import annotations

import numpy as np

from ..errors import ConfigError
from .class_mix import checked_pixels, class_shares


def median_frequency_weights(class_pixels: np.ndarray) -> np.ndarray:
    """Weigh each class by the median frequency over its own (Eigen and Fergus, ICCV 2015).

    The frequency of a class is its share of the labelled pixels of those chips that hold it.

    Args:
        class_pixels: ``(N, K)``, labelled pixels per chip and class.

    Returns:
        ``(K,)``; 1 for the class of median frequency, 0 for classes that no chip holds.
    """
    table = checked_pixels(class_pixels)
    total = table.sum(axis=1)
    present = table.any(axis=0)
    frequency = np.ones(table.shape[1])
    for k in np.flatnonzero(present):
        frequency[k] = table[:, k].sum() / total[table[:, k] > 0].sum()
    return np.where(present, np.median(frequency[present]) / frequency, 0.0)


def effective_number_weights(class_pixels: np.ndarray, beta: float = 0.999) -> np.ndarray:
    """Weigh each class by the inverse of its effective number (Cui et al., CVPR 2019).

    ``w_c = (1 - beta) / (1 - beta**n_c)``. Neighbouring pixels are no independent samples, and in
    pixels every class would be past the point where ``beta**n`` vanishes, so ``n_c`` is counted in
    chips: the sum of the class's shares.

    Args:
        class_pixels: ``(N, K)``, labelled pixels per chip and class.
        beta: From 0 (all classes alike) to below 1 (inverse frequency).

    Returns:
        ``(K,)``; mean 1 over the classes present, 0 for classes that no chip holds.

    Raises:
        ConfigError: If ``beta`` is out of range.
    """
    if not 0 <= beta < 1:
        raise ConfigError(f'beta must be at least 0 and below 1, but is {beta}.')
    table = checked_pixels(class_pixels)
    number = class_shares(table).sum(axis=0)
    present = number > 0
    weights = np.zeros(len(number))
    # expm1 keeps small numbers (a class in a few pixels) from rounding to 0.
    log_beta = np.log(beta) if beta else -np.inf
    weights[present] = (1 - beta) / -np.expm1(number[present] * log_beta)
    return weights / weights[present].mean()
