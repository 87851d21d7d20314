"""Finished rows of a map on disk, while others are still being predicted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

#: Rows that are read at once when the rows become a map.
CHUNK = 512


class RowStore:
    """A plain file of uint8 bands that several processes fill, each its own rows.

    Args:
        path: The file, made if it is not there.
        count: Bands.
        height: Rows.
        width: Columns.
    """

    def __init__(self, path: Path, count: int, height: int, width: int) -> None:
        self.path = path
        self.count = count
        self.height = height
        self.width = width

    def write(self, row: int, values: np.ndarray) -> None:
        """Write ``(count, rows, width)`` uint8 from ``row`` on.

        Raises:
            OSError: At once if the disk is full; a memory-mapped file would end the process.
        """
        # Neither truncates what others wrote nor fails if they made the file first.
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            for band, plane in enumerate(values):
                data = memoryview(np.ascontiguousarray(plane)).cast('B')
                position = self._position(band, row)
                while data:
                    written = os.pwrite(handle, data, position)
                    data, position = data[written:], position + written
        finally:
            os.close(handle)

    def chunks(self, first: int, last: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(row, (last - first, rows, width) uint8)`` of some bands, from the top down."""
        with self.path.open('rb') as file:
            for row in range(0, self.height, CHUNK):
                rows = min(CHUNK, self.height - row)
                values = np.empty((last - first, rows, self.width), np.uint8)
                for band, plane in enumerate(values, start=first):
                    file.seek(self._position(band, row))
                    if file.readinto(plane) != plane.nbytes:
                        raise OSError(f'{self.path} is shorter than it was written')
                yield row, values

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        handle = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _position(self, band: int, row: int) -> int:
        return (band * self.height + row) * self.width
