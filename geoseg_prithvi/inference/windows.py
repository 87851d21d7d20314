"""Where the windows of a scene lie, and with which weight each of their pixels counts.

Numpy only. A window is a square of ``size`` pixels, read with a ``halo`` around it, so the model
sees a *box* of ``size + 2 * halo`` pixels. Boxes never leave the scene: the windows that touch an
edge of the scene take over the halo there, since nobody else sees those pixels.

Example:
    A scene of 20 rows, ``size=4``, ``stride=4``, ``halo=2`` (the model sees 8 rows)::

        box       [0, 8)  [4, 12)  [8, 16)  [12, 20)
        counts    [0, 6)  [6, 10)  [10, 14) [14, 20)

    With 21 rows there is one more box, ``[13, 21)``, which counts in ``[15, 21)`` together with
    its neighbour, and is the last to count from row 18 on.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from ..errors import ConfigError


@dataclasses.dataclass(frozen=True)
class WindowRow:
    """One row of windows.

    Attributes:
        start: First scene row of the boxes.
        done: Scene rows before this one are final once this row of windows is blended.
    """

    start: int
    done: int


@dataclasses.dataclass(frozen=True)
class Part:
    """Scene rows that are predicted together.

    Attributes:
        rows: The rows of windows that count there.
        start: First scene row.
        stop: The scene row after the last.
    """

    rows: tuple[WindowRow, ...]
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Tiling:
    """Square windows that cover a scene of any size.

    Attributes:
        size: Rows and columns of a window.
        stride: Pixels from one window to the next, 1 to ``size``; less than ``size`` makes
            neighbours overlap, and they are blended over the overlap.
        halo: Pixels read around a window as context; what the model says there is dropped.
    """

    size: int
    stride: int
    halo: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.size:
            raise ConfigError(
                f'stride={self.stride} leaves gaps or does not move; choose 1 to {self.size} '
                '(the crop size without its halo).'
            )
        if self.halo < 0:
            raise ConfigError(f'halo={self.halo} is negative; choose 0 or more.')

    @classmethod
    def of_crop(cls, crop_size: int, halo: int, stride: int | None = None) -> Tiling:
        """Build the tiling whose boxes have the size that the model was trained on.

        Args:
            crop_size: Rows and columns that the model sees.
            halo: Pixels of that to drop on each side.
            stride: ``None`` lets neighbouring windows overlap by a quarter.

        Raises:
            ConfigError: If the halo leaves nothing, or the stride is out of its range.
        """
        size = crop_size - 2 * halo
        if size < 1:
            raise ConfigError(
                f'halo={halo} leaves nothing of a crop of {crop_size} px; choose less than '
                f'{crop_size // 2}.'
            )
        return cls(size, max(1, size * 3 // 4) if stride is None else stride, halo)

    @property
    def box(self) -> int:
        """Rows and columns that the model sees."""
        return self.size + 2 * self.halo

    def starts(self, length: int) -> list[int]:
        """Return the first pixel of every box along an axis of ``length`` pixels.

        Every box ends inside the axis, except the only one of an axis shorter than a box.
        """
        last = length - self.box
        return [*range(0, last, self.stride), max(0, last)]

    def rows(self, height: int) -> Iterator[WindowRow]:
        """Yield the rows of windows from the top down."""
        starts = self.starts(height)
        for start, following in itertools.pairwise(starts):
            yield WindowRow(start, following + self.halo)
        yield WindowRow(starts[-1], height)

    def parts(self, height: int, rows_per_part: int) -> list[Part]:
        """Divide the rows of windows into parts that can be predicted apart.

        The result does not depend on the division: a part starts with as many rows of windows of
        the part before as reach into it.
        """
        rows = list(self.rows(height))
        parts = []
        for first in range(0, len(rows), rows_per_part):
            last = min(first + rows_per_part, len(rows))
            top = rows[first - 1].done if first else 0
            lead = first
            # The window of a row ends a halo before its box does.
            while lead > 0 and rows[lead - 1].start + self.box - self.halo > top:
                lead -= 1
            parts.append(Part(tuple(rows[lead:last]), top, rows[last - 1].done))
        return parts

    def weight(self, start: int, length: int) -> np.ndarray:
        """Return the weight of the box at ``start`` along an axis of ``length`` pixels.

        It is 0 in the halo, rises as a squared sine over the overlap, is 1 between and falls in
        the same way, so that two neighbours at their regular distance add up to 1; towards an
        edge of the scene it stays 1.

        Returns:
            ``(box,)`` float32; every pixel of the axis gets a positive sum over all boxes.
        """
        ramp = min(self.size - self.stride, self.size // 2)
        rise = np.sin(np.pi / 2 * (np.arange(ramp) + 0.5) / ramp) ** 2 if ramp else np.empty(0)
        side = np.concatenate([np.zeros(self.halo), rise]).astype(np.float32)
        weight = np.ones(self.box, np.float32)
        if start > 0:
            weight[: side.size] = side
        if start + self.box < length:
            weight[self.box - side.size :] = side[::-1]
        return weight
