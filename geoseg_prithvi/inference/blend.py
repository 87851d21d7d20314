"""Blending the scores of overlapping windows, one row of windows at a time.

The accumulator is as high as a box and as wide as the scene, so memory does not grow with the
scene's height. It lives on the model's device, and only finished rows leave it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from .windows import Tiling, WindowRow


@dataclasses.dataclass(frozen=True)
class Block:
    """Finished rows of a scene.

    Attributes:
        row: First scene row.
        scores: ``(K, rows, width)`` float32, blended scores; 0 where nothing was seen.
        seen: ``(rows, width)`` bool, False where no window saw anything valid.
    """

    row: int
    scores: torch.Tensor
    seen: torch.Tensor


class RowBlender:
    """Weighted mean of window scores.

    Args:
        tiling: Where the windows lie.
        height: Rows of the scene.
        width: Columns of the scene.
        num_classes: Channels of the scores.
        device: Where to accumulate.
        first: First scene row wanted; rows of windows that end above it only lead in.
    """

    def __init__(
        self,
        tiling: Tiling,
        height: int,
        width: int,
        num_classes: int,
        device: torch.device,
        first: int = 0,
    ) -> None:
        self.tiling = tiling
        self.height = height
        self.width = width
        padded = max(width, tiling.box)
        self._sum = torch.zeros(num_classes, tiling.box, padded, device=device)
        self._weight = torch.zeros(tiling.box, padded, device=device)
        self._profiles = {
            (start, length): torch.from_numpy(tiling.weight(start, length)).to(device)
            for length in (height, width)
            for start in tiling.starts(length)
        }
        self._written = first

    def add(
        self, row: WindowRow, cols: Sequence[int], scores: torch.Tensor, seen: torch.Tensor
    ) -> None:
        """Add boxes of the current row of windows.

        Args:
            row: The row of windows.
            cols: First scene column of each of the N boxes.
            scores: ``(N, K, box, box)``.
            seen: ``(N, box, box)`` weight of what was seen, 0 (nothing valid) to 1.
        """
        down = self._profiles[row.start, self.height][:, None]
        scores = scores.to(self._sum.dtype)
        for i, col in enumerate(cols):
            weight = down * self._profiles[col, self.width] * seen[i]
            columns = slice(col, col + self.tiling.box)
            self._sum[:, :, columns].addcmul_(scores[i], weight)
            self._weight[:, columns] += weight

    def finish(self, row: WindowRow, following: WindowRow | None) -> Block | None:
        """Return the rows that are final after ``row``, if any, and move to the ``following``."""
        block = None
        if row.done > self._written:
            rows = slice(self._written - row.start, row.done - row.start)
            total = self._weight[rows, : self.width]
            seen = total > 0
            # Where nothing was seen the sum is 0 too, and so is the quotient.
            scores = self._sum[:, rows, : self.width] / torch.where(seen, total, 1)
            block = Block(self._written, scores, seen)
            self._written = row.done
        if following is not None:
            shift = following.start - row.start
            for buffer in (self._sum, self._weight):
                buffer[..., : self.tiling.box - shift, :] = buffer[..., shift:, :].clone()
                buffer[..., self.tiling.box - shift :, :] = 0
        return block


def even_batches(count: int, batch_size: int) -> list[np.ndarray]:
    """Split ``count`` windows into batches that differ by one at most.

    22 windows in batches of at most 8 make 8, 7 and 7. Batches never join rows of windows, so
    that what a window is computed with, and thus its last bits, does not depend on who
    computes the rows around it.
    """
    return np.array_split(np.arange(count), -(-count // batch_size))
