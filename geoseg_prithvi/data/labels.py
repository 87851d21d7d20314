"""Annual 10 m label maps, brought to the 30 m grid of HLS by majority vote.

Each HLS pixel is divided into 3 x 3 cells of 10 m. Where the map lies on that lattice (any offset
by whole 10 m), the cells are its own pixels; where it does not (another UTM zone, an odd offset),
each cell takes the nearest pixel. The class of most cells wins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window

from ..errors import DataNotFoundError, LabelError
from ..lulc import IGNORE, Legend
from .granules import Grid

#: Cells along the edge of an HLS pixel: 30 m / 10 m.
CELLS = 3

# Names of IO/Esri files: 10S_20220101-20230101.tif (the archive on AWS), 10S-2022.tif (Planetary
# Computer), 10S_2022.tif.
_NAME = re.compile(
    r'(?P<zone>\d{2}[C-HJ-NP-X])[_-](?P<year>\d{4})(?:\d{4}-\d{8})?\.tiff?$', re.IGNORECASE
)


@dataclasses.dataclass(frozen=True, order=True)
class LabelMap:
    """One label file.

    Attributes:
        year: The year that it shows.
        zone: UTM zone and latitude band, e.g. ``10S``.
        path: The GeoTIFF.
    """

    year: int
    zone: str
    path: Path

    def overlaps(self, grid: Grid) -> bool:
        """Say whether the map's rectangle meets the tile's.

        Raises:
            LabelError: If the file is damaged or has no coordinate system.
        """
        try:
            with rasterio.open(self.path) as dataset:
                if dataset.crs is None:
                    raise LabelError(
                        f'{self.path} has no coordinate system; use the map as published.'
                    )
                minx, miny, maxx, maxy = transform_bounds(dataset.crs, grid.crs, *dataset.bounds)
        except RasterioError as error:
            raise _unreadable(self.path, error) from error
        west, south, east, north = grid.bounds()
        return minx < east and west < maxx and miny < north and south < maxy


def find_labels(root: str | os.PathLike[str]) -> list[LabelMap]:
    """Find the label maps in a folder, at any depth.

    Raises:
        DataNotFoundError: If there is no folder, or no label map in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataNotFoundError(f'There is no folder {root}; give the folder of the label maps.')
    maps = []
    for path in sorted(root.rglob('*.tif*')):
        match = _NAME.fullmatch(path.name)
        if match:
            maps.append(LabelMap(int(match['year']), match['zone'].upper(), path))
    if not maps:
        raise DataNotFoundError(
            f'There is no label map in {root}; expected names like 10S_20220101-20230101.tif, '
            '10S-2022.tif or 10S_2022.tif.'
        )
    return sorted(maps)


def labels_over(maps: Sequence[LabelMap], grid: Grid, year: int, tile: str) -> list[LabelMap]:
    """Choose the maps of a year that overlap a tile; those of the tile's own zone first.

    Raises:
        LabelError: If there is none.
    """
    of_year = [label for label in maps if label.year == year]
    if not of_year:
        years = sorted({label.year for label in maps})
        raise LabelError(
            f'There is no label map of {year} (there are {", ".join(map(str, years))}); add it, or '
            'choose another --year.'
        )
    over = [label for label in of_year if label.overlaps(grid)]
    if not over:
        names = ', '.join(label.path.name for label in of_year)
        raise LabelError(
            f'No label map of {year} overlaps tile {tile} ({grid}); found {names}. Add the map of '
            f'zone {tile[:3]}.'
        )
    return sorted(over, key=lambda label: (label.zone != tile[:3], label.zone, label.path))


class LabelReader:
    """Reads windows of a tile's label from the maps that overlap it.

    Args:
        maps: The maps; where one has no data, the next is asked.
        grid: The tile's grid.
        legend: The classes.
    """

    def __init__(self, maps: Sequence[LabelMap], grid: Grid, legend: Legend) -> None:
        self._maps = maps
        self._grid = grid
        self._legend = legend
        self._sources: list[rasterio.DatasetReader | WarpedVRT] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> LabelReader:
        for label in self._maps:
            try:
                dataset = self._stack.enter_context(rasterio.open(label.path))
                _check(dataset, label.path)
                self._sources.append(self._on_lattice(dataset))
            except RasterioError as error:
                self._stack.close()
                raise _unreadable(label.path, error) from error
            except LabelError:
                self._stack.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        self._sources.clear()
        self._stack.close()

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Read the label of a window of the tile.

        Args:
            window: In pixels of the tile.

        Returns:
            Classes ``(H, W)`` uint8, 255 where no map has data, and votes ``(H, W)`` uint8, the
            cells out of nine that the winner has; see :func:`majority`.

        Raises:
            LabelError: If a map is damaged or holds a code that the legend does not know.
        """
        cells = Window(
            window.col_off * CELLS,
            window.row_off * CELLS,
            window.width * CELLS,
            window.height * CELLS,
        )
        merged = None
        for label, source in zip(self._maps, self._sources, strict=True):
            try:
                codes = self._read_cells(source, cells)
            except RasterioError as error:
                raise _unreadable(label.path, error) from error
            classes = self._legend.encode(codes, label.path)
            merged = classes if merged is None else np.where(merged == IGNORE, classes, merged)
            if not (merged == IGNORE).any():
                break
        return majority(merged, len(self._legend))

    def _on_lattice(self, dataset: rasterio.DatasetReader) -> rasterio.DatasetReader | WarpedVRT:
        """Return ``dataset`` itself if its pixels are cells, else a view warped to the cells."""
        if self._offset(dataset) is not None:
            return dataset
        lattice = self._grid.transform * Affine.scale(1 / CELLS)
        return self._stack.enter_context(
            WarpedVRT(
                dataset,
                crs=self._grid.crs,
                transform=lattice,
                width=self._grid.width * CELLS,
                height=self._grid.height * CELLS,
                resampling=Resampling.nearest,
                src_nodata=self._fill,
                nodata=self._fill,
            )
        )

    def _offset(self, dataset: rasterio.DatasetReader | WarpedVRT) -> tuple[int, int] | None:
        """Return the column and row of the tile's corner in ``dataset``, None off the lattice."""
        cell = self._grid.transform.a / CELLS
        transform = dataset.transform
        if dataset.crs != self._grid.crs or (transform.a, transform.e) != (cell, -cell):
            return None
        column = (self._grid.transform.c - transform.c) / cell
        row = (transform.f - self._grid.transform.f) / cell
        if column != round(column) or row != round(row):
            return None
        return round(column), round(row)

    def _read_cells(self, source: rasterio.DatasetReader | WarpedVRT, cells: Window) -> np.ndarray:
        """Read ``cells`` of the tile, no data outside of the map."""
        column, row = self._offset(source)
        left, top = cells.col_off + column, cells.row_off + row
        out = np.full((cells.height, cells.width), self._fill, np.uint8)
        x0, x1 = max(left, 0), min(left + cells.width, source.width)
        y0, y1 = max(top, 0), min(top + cells.height, source.height)
        if x0 < x1 and y0 < y1:
            inside = Window(x0, y0, x1 - x0, y1 - y0)
            out[y0 - top : y1 - top, x0 - left : x1 - left] = source.read(1, window=inside)
        return out

    @property
    def _fill(self) -> int:
        return self._legend.nodata_codes[0]


def majority(cells: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Let the 3 x 3 cells of each pixel vote.

    Of classes with equally many cells, that of the centre cell wins if it is among them, else the
    one with the lowest index. Cells without label do not vote, but count in the nine.

    Args:
        cells: ``(3H, 3W)`` uint8, class indices, 255 for no label.
        num_classes: K.

    Returns:
        The winner ``(H, W)`` uint8, 255 if no cell has a label, and its votes ``(H, W)`` uint8,
        0..9.
    """
    height, width = cells.shape[0] // CELLS, cells.shape[1] // CELLS
    # (3H, 3W) -> nine contiguous (H, W), one a position within the pixel
    nine = np.ascontiguousarray(
        cells.reshape(height, CELLS, width, CELLS).transpose(1, 3, 0, 2).reshape(-1, height, width)
    )
    centre = nine[CELLS * CELLS // 2]
    winner = np.full((height, width), IGNORE, np.uint8)
    best = np.zeros((height, width), np.uint8)  # twice the votes, plus one for the centre
    for index in np.flatnonzero(np.bincount(cells.ravel(), minlength=256)[:num_classes]):
        score = 2 * (nine == index).sum(axis=0, dtype=np.uint8) + (centre == index)
        ahead = score > best
        winner[ahead] = index
        best[ahead] = score[ahead]
    return winner, best // 2


def _check(dataset: rasterio.DatasetReader, path: Path) -> None:
    if dataset.count != 1 or dataset.dtypes != ('uint8',):
        raise LabelError(
            f'{path} has {dataset.count} band(s) of {dataset.dtypes[0]}, but a label map is one '
            'band of uint8 codes.'
        )
    if dataset.crs is None:
        raise LabelError(f'{path} has no coordinate system; use the map as published.')


def _unreadable(path: Path, error: RasterioError) -> LabelError:
    reason = str(error.__cause__ or error).splitlines()[0].rstrip('.')
    return LabelError(
        f'{path} cannot be read, it is truncated or damaged ({reason}); download it again.'
    )
