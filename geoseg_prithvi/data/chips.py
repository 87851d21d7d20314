"""Cut one slab of a tile into chips: the unit of work, of progress and of resuming.

A slab is a few rows of chips over the full width of a tile. A task opens each granule band once
for all of its chips and walks down the rows, so that GDAL's block cache, bounded by
:data:`CACHE_MB`, decodes each block once. A task reads files, writes files and returns a record of
plain data: it can run in any process on any machine that sees the folders.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.warp import transform
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from ..errors import ConfigError
from ..hls import BANDS, FILL, fmask_clear
from ..lulc import IGNORE, Legend
from .chip_io import write_chip, write_label
from .files import write_bytes
from .frames import SeasonWindow, candidates, cell_means, check_windows, choose_frames
from .granules import Granule, Grid, check_grid, unreadable
from .index import FORMAT_VERSION
from .labels import CELLS, LabelMap, LabelReader
from .statistics import band_sums

#: Bound of GDAL's block cache in a worker, in MB. One row of 256 x 256 blocks of a full tile is
#: 2 MB a band; this holds two such rows for 64 granule bands.
CACHE_MB = 256

#: Why a cell gave no chip, in the order of the checks.
SKIPS = ('not clear enough', 'too little data', 'no label')


@dataclasses.dataclass(frozen=True)
class ChipOptions:
    """What a chip must be like. Another value means other files.

    Attributes:
        windows: One season window a frame.
        chip_size: Pixels along the side.
        stride: Pixels from one chip to the next; ``chip_size`` by default, below it chips overlap.
        min_clear: Least share of clear pixels in each frame, 0..1.
        min_valid: Least share of pixels with data in every band and frame, 0..1.
        min_purity: Pixels whose class has a smaller share of the 10 m cells are ignored, 0..1.
        bands: Canonical bands.
    """

    windows: tuple[SeasonWindow, ...]
    chip_size: int = 224
    stride: int | None = None
    min_clear: float = 0.7
    min_valid: float = 0.9
    min_purity: float = 0.0
    bands: tuple[str, ...] = BANDS

    def __post_init__(self) -> None:
        if self.stride is None:
            object.__setattr__(self, 'stride', self.chip_size)
        if self.chip_size < 1 or self.stride < 1:
            raise ConfigError(
                f'Chips of {self.chip_size} pixels every {self.stride} make no sense; both must be '
                'at least 1.'
            )
        for name in ('min_clear', 'min_valid', 'min_purity'):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f'--{name.replace("_", "-")} is a share from 0 to 1, not {getattr(self, name)}.'
                )
        check_windows(self.windows)

    def document(self) -> dict[str, object]:
        """Return the options as plain data, for a file."""
        return dataclasses.asdict(self) | dict(
            windows=[str(window) for window in self.windows], bands=list(self.bands)
        )


@dataclasses.dataclass(frozen=True)
class SlabTask:
    """All that a worker needs to know.

    Attributes:
        tile: MGRS tile.
        year: Year of the labels and of the frames.
        grid: The tile's pixels.
        granules: All granules of the tile in that year.
        labels: The label maps over the tile.
        cells: ``(row, column)`` of the first pixel of each chip, row by row.
        options: What a chip must be like.
        legend: The classes.
        out: The chip folder.
    """

    tile: str
    year: int
    grid: Grid
    granules: tuple[Granule, ...]
    labels: tuple[LabelMap, ...]
    cells: tuple[tuple[int, int], ...]
    options: ChipOptions
    legend: Legend
    out: Path

    @property
    def record_path(self) -> Path:
        """Where the record of the finished task is kept."""
        return self.out / '.tasks' / f'{self.tile}_{self.year}_{self.cells[0][0]:04d}.json'

    def fingerprint(self) -> str:
        """Return a digest of everything that decides over the content of the chips.

        Input files count by name, size and time of modification.
        """
        files = [
            granule.path(band)
            for granule in self.granules
            for band in (*self.options.bands, 'Fmask')
        ]
        files += [label.path for label in self.labels]
        states = [(path.name, *_state(path)) for path in files]
        document = (
            FORMAT_VERSION,
            self.options.document(),
            dataclasses.asdict(self.legend),
            self.cells,
            str(self.grid),
            states,
        )
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def cut_slab(task: SlabTask) -> dict[str, object]:
    """Cut a slab and write its chips and, last, its record.

    Args:
        task: What to cut.

    Returns:
        The record: ``fingerprint``, ``rows`` (of the index, without block and split, with
        ``sums`` for the statistics), ``skipped`` (reason -> cells) and ``best_clear`` (for each
        window the clearest that any cell got).

    Raises:
        GranuleError: If a granule is damaged or on another grid, or a season window is empty.
        LabelError: If a label map is damaged or holds an unknown code.
        OutputWriteError: If the disk does not take a chip.
    """
    fingerprint = task.fingerprint()
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
        clear = _clear_fractions(task)
        ids = [granule.id for granule in task.granules]
        frames = choose_frames(clear, candidates(ids, task.options.windows, task.year, task.tile))
        # (N, T) share of clear pixels of the frames chosen
        frame_clear = np.take_along_axis(clear.T, frames, axis=1)
        rows, skipped = _cut(task, frames, frame_clear)
    record = dict(
        fingerprint=fingerprint,
        rows=rows,
        skipped=dict(skipped),
        best_clear=frame_clear.max(axis=0).tolist(),
    )
    write_bytes(task.record_path, json.dumps(record).encode())
    return record


def finished(task: SlabTask) -> dict[str, object] | None:
    """Return the record of a task that needs no work, else None.

    What an earlier run made from other inputs is removed.
    """
    try:
        record = json.loads(task.record_path.read_bytes())
    except FileNotFoundError:
        return None
    files = [task.out / row[key] for row in record['rows'] for key in ('image', 'label')]
    if record['fingerprint'] == task.fingerprint() and all(path.is_file() for path in files):
        return record
    task.record_path.unlink()
    return None


def _clear_fractions(task: SlabTask) -> np.ndarray:
    """Return the clear share of each granule over each cell, ``(G, N)``, from Fmask's bits."""
    size = task.options.chip_size
    in_row = collections.defaultdict(list)
    for row, column in task.cells:
        in_row[row].append(column)
    result = np.empty((len(task.granules), len(task.cells)))
    for number, granule in enumerate(task.granules):
        path = granule.path('Fmask')
        try:
            with rasterio.open(path) as dataset:
                check_grid(dataset, task.grid, task.granules[0].id)
                done = 0
                for row, columns in in_row.items():
                    window = Window(columns[0], row, columns[-1] + size - columns[0], size)
                    mask = fmask_clear(dataset.read(1, window=window))
                    starts = [column - columns[0] for column in columns]
                    result[number, done : done + len(columns)] = cell_means(mask, starts, size)
                    done += len(columns)
        except RasterioError as error:
            raise unreadable(path, error) from error
    return result


class _BandReader:
    """Keeps granule bands open while a slab is cut."""

    def __init__(self, grid: Grid, first: Granule) -> None:
        self._grid = grid
        self._first = first
        self._open: dict[Path, rasterio.DatasetReader] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _BandReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def read(self, granules: Sequence[Granule], bands: Sequence[str], window: Window) -> np.ndarray:
        """Read one chip, ``(T*C, H, W)`` int16, time-major."""
        pixels = np.empty((len(granules) * len(bands), window.height, window.width), np.int16)
        paths = [granule.path(band) for granule in granules for band in bands]
        for channel, path in zip(pixels, paths, strict=True):
            try:
                if path not in self._open:
                    dataset = self._stack.enter_context(rasterio.open(path))
                    check_grid(dataset, self._grid, self._first.id)
                    self._open[path] = dataset
                self._open[path].read(1, window=window, out=channel)
            except RasterioError as error:
                raise unreadable(path, error) from error
        return pixels


def _cut(
    task: SlabTask, frames: np.ndarray, frame_clear: np.ndarray
) -> tuple[list[dict[str, object]], collections.Counter[str]]:
    """Write the chips of a slab; return their rows and how many cells were skipped, and why."""
    options = task.options
    size = options.chip_size
    rows: list[dict[str, object]] = []
    skipped: collections.Counter[str] = collections.Counter()
    with (
        _BandReader(task.grid, task.granules[0]) as reader,
        LabelReader(task.labels, task.grid, task.legend) as labels,
    ):
        for (row, column), chosen, clear in zip(task.cells, frames, frame_clear, strict=True):
            if clear.min() < options.min_clear:
                skipped['not clear enough'] += 1
                continue
            window = Window(column, row, size, size)
            granules = [task.granules[i] for i in chosen]
            pixels = reader.read(granules, options.bands, window)
            valid = float((pixels != FILL).all(axis=0).mean())
            if valid < options.min_valid:
                skipped['too little data'] += 1
                continue
            classes, votes = labels.read(window)
            labelled = classes != IGNORE
            purity = votes / CELLS**2
            mean_purity = float(purity[labelled].mean()) if labelled.any() else 0.0
            classes[purity < options.min_purity] = IGNORE
            class_pixels = np.bincount(classes.ravel(), minlength=256)[: len(task.legend)]
            if not class_pixels.any():
                skipped['no label'] += 1
                continue

            chip_id = f'{task.tile}_{task.year}_{row:04d}_{column:04d}'
            minx, miny, maxx, maxy = task.grid.bounds(window)
            (lon,), (lat,) = transform(
                task.grid.crs, 'EPSG:4326', [(minx + maxx) / 2], [(miny + maxy) / 2]
            )
            entry = dict(
                chip_id=chip_id,
                image=f'images/{chip_id}.tif',
                label=f'labels/{chip_id}.tif',
                tile=task.tile,
                epsg=task.grid.epsg,
                minx=minx,
                miny=miny,
                maxx=maxx,
                maxy=maxy,
                lon=lon,
                lat=lat,
                dates=[granule.date for granule in granules],
                sensors=[granule.id.sensor for granule in granules],
                clear_fraction=clear.tolist(),
                valid_fraction=valid,
                class_pixels=class_pixels.tolist(),
                purity=mean_purity,
            )
            where = dict(transform=window_transform(window, task.grid.transform), crs=task.grid.crs)
            write_chip(
                task.out / entry['image'],
                pixels,
                dates=entry['dates'],
                sensors=entry['sensors'],
                bands=options.bands,
                **where,
            )
            write_label(task.out / entry['label'], classes, legend=task.legend, **where)
            rows.append(entry | dict(sums=band_sums(pixels, len(options.bands))))
    return rows, skipped


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
