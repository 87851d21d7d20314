"""Normalisation statistics and class counts of a split, from sums taken while chips were cut."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import ChipIndexError, DataNotFoundError
from ..hls import BANDS, FILL, Normalization
from ..lulc import Legend
from .files import write_bytes

STATS_NAME = 'stats.json'


def band_sums(pixels: np.ndarray, num_bands: int) -> dict[str, list[int]]:
    """Sum a chip over frames and pixels with data.

    The sums are exact: int16 squares over a chip stay far below 2**53, where float64 still holds
    every integer. So they add up to the same whatever the order of the chips.

    Args:
        pixels: ``(T*C, H, W)`` int16, time-major.
        num_bands: C.

    Returns:
        ``count``, ``sum`` and ``sum_of_squares``, each of C.
    """
    # (T*C, H, W) -> (T, C, H*W)
    bands = pixels.reshape(-1, num_bands, pixels.shape[1] * pixels.shape[2])
    valid = bands != FILL
    values = np.where(valid, bands, 0).astype(np.float64)
    squares = np.einsum('tcp,tcp->c', values, values)
    return dict(
        count=valid.sum((0, 2)).tolist(),
        sum=[int(value) for value in values.sum((0, 2))],
        sum_of_squares=[int(value) for value in squares],
    )


def write_statistics(
    root: str | os.PathLike[str],
    sums: Sequence[Mapping[str, Sequence[int]]],
    class_pixels: np.ndarray,
    *,
    legend: Legend,
    bands: Sequence[str] = BANDS,
    split: str = 'train',
) -> Path:
    """Write ``stats.json``: mean and standard deviation of each band, and pixels of each class.

    Args:
        root: The chip folder.
        sums: :func:`band_sums` of each chip of the split.
        class_pixels: ``(K,)`` pixels of each class over the split.
        legend: The classes.
        bands: Canonical bands.
        split: What the statistics are of.

    Returns:
        The path of the file.

    Raises:
        ChipIndexError: If a band has no valid pixel at all.
        OutputWriteError: If the disk does not take it.
    """
    # Python's integers do not overflow.
    count, total, squares = (
        [sum(chip[key][band] for chip in sums) for band in range(len(bands))]
        for key in ('count', 'sum', 'sum_of_squares')
    )
    if 0 in count:
        raise ChipIndexError(
            f'The band {bands[count.index(0)]} has no valid pixel in the split {split!r}; raise '
            '--min-valid or check the granules.'
        )
    mean = [t / n for t, n in zip(total, count, strict=True)]
    variance = [(q * n - t * t) / (n * n) for q, t, n in zip(squares, total, count, strict=True)]
    document = dict(
        split=split,
        num_chips=len(sums),
        bands=list(bands),
        mean=mean,
        std=[value**0.5 for value in variance],
        count=count,
        class_pixels=dict(zip(legend.names, class_pixels.tolist(), strict=True)),
    )
    path = Path(root) / STATS_NAME
    write_bytes(path, (json.dumps(document, indent=2) + '\n').encode())
    return path


def read_statistics(root: str | os.PathLike[str]) -> Normalization:
    """Read the mean and standard deviation of the user's own chips.

    Raises:
        DataNotFoundError: If there is no ``stats.json``.
        ChipIndexError: If it is not as :func:`write_statistics` writes it.
    """
    path = Path(root) / STATS_NAME
    try:
        document = json.loads(path.read_text())
        return Normalization(tuple(document['mean']), tuple(document['std']))
    except FileNotFoundError:
        raise DataNotFoundError(
            f'There is no {STATS_NAME} in {root}; run tools/prepare_data.py first.'
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ChipIndexError(
            f'{path} is damaged ({error}); run tools/prepare_data.py again.'
        ) from error
