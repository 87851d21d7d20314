"""Which granule becomes which frame of a chip: the clearest of each season window."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError, GranuleError
from ..hls import GranuleId


@dataclasses.dataclass(frozen=True)
class SeasonWindow:
    """A span of the year, both days included.

    Attributes:
        first: ``(month, day)``.
        last: ``(month, day)``, not before ``first``: labels are of one calendar year.
    """

    first: tuple[int, int]
    last: tuple[int, int]

    @classmethod
    def parse(cls, text: str) -> SeasonWindow:
        """Read ``MM-DD:MM-DD``.

        Raises:
            ConfigError: If it is no such span within one year.
        """
        try:
            # A leap year, so that 29 February is a day.
            days = [dt.datetime.strptime(f'2000-{day}', '%Y-%m-%d') for day in text.split(':')]
            first, last = days
        except ValueError:
            raise ConfigError(
                f'{text!r} is no season window; write MM-DD:MM-DD, e.g. 03-01:05-31.'
            ) from None
        if first > last:
            raise ConfigError(
                f'The season window {text} ends before it begins; labels are of one calendar year, '
                'so split it at the turn of the year.'
            )
        return cls((first.month, first.day), (last.month, last.day))

    def __contains__(self, day: dt.date) -> bool:
        return self.first <= (day.month, day.day) <= self.last

    def __str__(self) -> str:
        return '{:02}-{:02}:{:02}-{:02}'.format(*self.first, *self.last)


def equal_windows(count: int) -> tuple[SeasonWindow, ...]:
    """Divide the calendar year into windows of equal length.

    The calendar year and not a growing season, because the labels are annual and a fixed season
    would be the wrong one on the other hemisphere. For three: 1 January, 2 May and 1 September
    begin one.

    Raises:
        ConfigError: If ``count`` is not between 1 and 365.
    """
    if not 1 <= count <= 365:
        raise ConfigError(f'{count} frames a year cannot be had; ask for 1 to 365.')
    new_year = dt.date(2001, 1, 1)  # not a leap year; 29 February falls where 28 February does
    starts = [new_year + dt.timedelta(days=365 * i // count) for i in range(count + 1)]
    windows = []
    for start, following in itertools.pairwise(starts):
        last = following - dt.timedelta(days=1)
        windows.append(SeasonWindow((start.month, start.day), (last.month, last.day)))
    return tuple(windows)


def check_windows(windows: Sequence[SeasonWindow]) -> None:
    """Check that windows follow each other, so that frames are in the order of time.

    Raises:
        ConfigError: If two overlap or stand in the wrong order.
    """
    for one, other in itertools.pairwise(windows):
        if one.last >= other.first:
            raise ConfigError(
                f'The season windows {one} and {other} overlap or are out of order; frames go '
                'forward in time.'
            )


def candidates(
    granules: Sequence[GranuleId], windows: Sequence[SeasonWindow], year: int, tile: str
) -> list[list[int]]:
    """Find the granules of each window.

    Args:
        granules: All granules of a tile.
        windows: The season windows.
        year: The year of the labels.
        tile: Name of the tile, for the message.

    Returns:
        For each window, positions in ``granules``.

    Raises:
        GranuleError: If a window has none.
    """
    found = [
        [
            i
            for i, granule in enumerate(granules)
            if granule.acquired.year == year and granule.acquired.date() in window
        ]
        for window in windows
    ]
    for window, positions in zip(windows, found, strict=True):
        if not positions:
            days = sorted(g.acquired.date().isoformat() for g in granules)
            raise GranuleError(
                f'Tile {tile} has no granule in the season window {window} of {year} (it has '
                f'{len(days)}, from {days[0]} to {days[-1]}); add one, or change --windows or '
                '--frames.'
            )
    return found


def choose_frames(clear: np.ndarray, candidates: Sequence[Sequence[int]]) -> np.ndarray:
    """Choose the clearest granule of each window for each chip.

    Args:
        clear: ``(G, N)`` share of clear pixels of each granule over each chip, 0..1.
        candidates: For each of T windows, rows of ``clear``.

    Returns:
        ``(N, T)`` rows of ``clear``. Of equally clear granules the earlier row wins.
    """
    chosen = [np.asarray(rows)[np.argmax(clear[list(rows)], axis=0)] for rows in candidates]
    return np.stack(chosen, axis=1)


def cell_means(mask: np.ndarray, starts: Sequence[int], size: int) -> np.ndarray:
    """Return the share of ``True`` in each chip of a row of chips.

    Args:
        mask: ``(size, W)`` boolean.
        starts: First column of each of N chips.
        size: Columns of a chip.

    Returns:
        ``(N,)`` float64, exact multiples of ``1 / size**2``.
    """
    columns = np.concatenate([[0], np.cumsum(mask.sum(axis=0, dtype=np.int64))])
    first = np.asarray(starts, dtype=np.int64)
    return (columns[first + size] - columns[first]) / (size * mask.shape[0])
