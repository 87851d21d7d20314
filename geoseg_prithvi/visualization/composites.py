"""Chips and class maps as colours: numpy in, ``uint8`` RGB out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError
from ..hls import BANDS, FILL
from ..layout import unfold_time
from ..lulc import IGNORE

#: Red, green and blue of the standard false-colour composite: vegetation shows red.
FALSE_COLOR: tuple[str, str, str] = ('NIR_NARROW', 'RED', 'GREEN')
#: Percentiles of the valid pixels that become black and full colour.
STRETCH: tuple[float, float] = (2.0, 98.0)
#: Two greys and the side in pixels of the chequers that mean "no data".
CHEQUER: tuple[int, int, int] = (115, 160, 4)


def false_color(
    chip: np.ndarray,
    num_frames: int,
    *,
    bands: Sequence[str] = BANDS,
    composite: Sequence[str] = FALSE_COLOR,
    nodata: int = FILL,
) -> np.ndarray:
    """Render the frames of a chip.

    Each colour is stretched between the :data:`STRETCH` percentiles of its valid pixels in all
    frames together, so that the colours of different dates can be compared.

    Args:
        chip: ``(T*C, H, W)``, time-major, in the units of the file.
        num_frames: T.
        bands: Names of the C bands.
        composite: The three bands shown as red, green and blue.
        nodata: Value of pixels without data; such a pixel is chequered.

    Returns:
        ``(T, H, W, 3)`` uint8.

    Raises:
        ConfigError: If ``composite`` asks for a band that is not among ``bands``.
        LayoutError: If the channels are no multiple of ``num_frames``.
    """
    missing = [band for band in composite if band not in bands]
    if missing:
        raise ConfigError(
            f'A composite of {list(composite)} needs the band(s) {missing}, but the chip has '
            f'{list(bands)}; choose another composite.'
        )
    frames = unfold_time(chip, num_frames)  # (C, T, H, W)
    picked = frames[[list(bands).index(band) for band in composite]]  # (3, T, H, W)
    valid = (picked != nodata).all(axis=0)  # (T, H, W)
    rgb = np.empty((*valid.shape, 3), np.uint8)
    for channel, values in enumerate(picked):
        rgb[..., channel] = _stretch(values.astype(np.float32), valid)
    return np.where(valid[..., None], rgb, _chequers(*valid.shape[-2:])[..., None])


def colorize(classes: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Render a class map.

    Args:
        classes: ``(H, W)`` class indices; what is outside the palette (such as
            :data:`~geoseg_prithvi.lulc.IGNORE`) is chequered.
        palette: ``(R, G, B)`` of each class, 0..255.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    known = (classes >= 0) & (classes < len(palette))
    colors = table[np.where(known, classes, IGNORE)]
    return np.where(known[..., None], colors, _chequers(*classes.shape)[..., None])


def _stretch(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Map the percentiles of the valid values to 0 and 255; a constant becomes mid-grey."""
    if not valid.any():
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(values[valid], STRETCH)
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    return (np.clip((values - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)


def _chequers(height: int, width: int) -> np.ndarray:
    """``(H, W)`` uint8 board of two greys, the usual sign for "nothing here"."""
    dark, light, side = CHEQUER
    rows, columns = np.indices((height, width), sparse=True)
    return np.where((rows // side + columns // side) % 2, dark, light).astype(np.uint8)
