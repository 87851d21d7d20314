"""The only place where frames and bands are folded, and tokens become maps.

A sample is ``(T*C, H, W)``, time-major: all bands of frame 0, then all of frame 1. Every function
takes numpy arrays and torch tensors alike and keeps leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from .errors import LayoutError
from .hls import BANDS

Array = TypeVar('Array')  # numpy.ndarray or torch.Tensor


def fold_time(x: Array) -> Array:
    """``(..., C, T, H, W) -> (..., T*C, H, W)``, time-major."""
    *lead, c, t, h, w = x.shape
    return x.swapaxes(-4, -3).reshape(*lead, t * c, h, w)


def unfold_time(x: Array, num_frames: int) -> Array:
    """``(..., T*C, H, W) -> (..., C, T, H, W)``, the inverse of :func:`fold_time`.

    Raises:
        LayoutError: If the channels are no multiple of ``num_frames``.
    """
    *lead, tc, h, w = x.shape
    if tc % num_frames:
        raise LayoutError(
            f'{tc} channels cannot be {num_frames} frames; check num_frames in the model config '
            'against the chips.'
        )
    return x.reshape(*lead, num_frames, tc // num_frames, h, w).swapaxes(-4, -3)


def tokens_to_maps(tokens: Array, grid: tuple[int, int, int]) -> Array:
    """``(N, T*h*w, D) -> (N, T*D, h, w)``, time-major; ``grid`` is ``(T, h, w)``."""
    t, h, w = grid
    n, _, d = tokens.shape
    # (N, T, h*w, D) -> (N, T, D, h*w)
    return tokens.reshape(n, t, h * w, d).swapaxes(-1, -2).reshape(n, t * d, h, w)


def maps_to_tokens(maps: Array, num_frames: int) -> Array:
    """``(N, T*D, h, w) -> (N, T*h*w, D)``, the inverse of :func:`tokens_to_maps`."""
    n, td, h, w = maps.shape
    d = td // num_frames
    return maps.reshape(n, num_frames, d, h * w).swapaxes(-1, -2).reshape(n, -1, d)


def band_major(maps: Array, num_frames: int) -> Array:
    """``(N, T*D, H, W) -> (N, D*T, H, W)``: all frames of channel 0, then all of channel 1."""
    *lead, td, h, w = maps.shape
    return unfold_time(maps, num_frames).reshape(*lead, td, h, w)


def unfold_time_legacy(x: Array, num_frames: int) -> Array:
    """``(..., T*C, H, W) -> (..., C, T, H, W)`` as hls-foundation-os did it: mixed up.

    That code read time-major chips as band-major ones. Its crop checkpoint was trained so and
    needs the same mistake.

    Raises:
        LayoutError: If the channels are no multiple of ``num_frames``.
    """
    *lead, tc, h, w = x.shape
    unfold_time(x, num_frames)  # for its check
    return x.reshape(*lead, tc // num_frames, num_frames, h, w)


def patchify(x: Array, patch_size: int) -> Array:
    """``(N, C, T, H, W) -> (N, T*h*w, p*p*C)``, time-major; a patch holds its pixels row by row.

    Height and width must be multiples of the patch.
    """
    n, c, t, height, width = x.shape
    p, h, w = patch_size, height // patch_size, width // patch_size
    x = x.reshape(n, c, t, h, p, w, p)
    # (N, C, T, h, p, w, q) -> (N, T, h, w, p, q, C): a move of C to the end, then of p behind w
    x = x.swapaxes(1, 2).swapaxes(2, 3).swapaxes(3, 4).swapaxes(4, 5).swapaxes(5, 6)
    # now (N, T, h, p, w, q, C)
    return x.swapaxes(3, 4).reshape(n, t * h * w, p * p * c)


def unpatchify(patches: Array, grid: tuple[int, int, int], patch_size: int) -> Array:
    """``(N, T*h*w, p*p*C) -> (N, C, T, H, W)``, the inverse of :func:`patchify`."""
    n, _, values = patches.shape
    (t, h, w), p = grid, patch_size
    x = patches.reshape(n, t, h, w, p, p, values // (p * p)).swapaxes(3, 4)
    x = x.swapaxes(5, 6).swapaxes(4, 5).swapaxes(3, 4).swapaxes(2, 3).swapaxes(1, 2)
    return x.reshape(n, values // (p * p), t, h * p, w * p)


def channel_names(num_frames: int, bands: Sequence[str] = BANDS) -> list[str]:
    """Names of the channels of a chip, ``t0_BLUE ... t2_SWIR_2``."""
    return [f't{t}_{band}' for t in range(num_frames) for band in bands]


def channel_order(
    descriptions: Sequence[str | None],
    num_frames: int,
    bands: Sequence[str] = BANDS,
    *,
    source: object,
    layout: str | None = None,
) -> list[int]:
    """Find the channels ``(T*C,)``, time-major, in a file.

    Args:
        descriptions: Band descriptions of the file, ``None`` or empty where it has none.
        num_frames: Frames asked for.
        bands: Canonical bands asked for, in this order.
        source: The file, for the messages.
        layout: ``time-major`` or ``band-major``: how to read a file without names. A file with
            names is always read by name.

    Returns:
        0-based positions in the file.

    Raises:
        LayoutError: If a name is missing or stands twice, or if the file has no names and
            ``layout`` is not given or does not fit.
    """
    wanted = channel_names(num_frames, bands)
    if any(descriptions):
        position = {name: i for i, name in enumerate(descriptions)}
        if len(position) < len(descriptions):
            raise LayoutError(f'{source} names a band twice; write the chip again.')
        missing = [name for name in wanted if name not in position]
        if missing:
            raise LayoutError(
                f'{source} has {len(descriptions)} bands but none is called {missing[0]}; '
                'check num_frames and bands in the dataset config against the chips.'
            )
        return [position[name] for name in wanted]

    if layout not in ('time-major', 'band-major'):
        raise LayoutError(
            f'{source} does not name its bands, so their order is unknown; set layout='
            "'time-major' (all bands of the first date first) or layout='band-major' (all dates "
            'of the first band first).'
        )
    count, c = len(descriptions), len(bands)
    if count != num_frames * c:
        raise LayoutError(
            f'{source} has {count} bands, but num_frames={num_frames} x {c} bands = '
            f'{num_frames * c} are expected; check num_frames and bands in the dataset config.'
        )
    if layout == 'time-major':
        return list(range(count))
    return [band * num_frames + t for t in range(num_frames) for band in range(c)]
