"""Cut one year of a tile into chips: the unit of work, of progress and of resuming.

A task opens each granule band once for all of its chips and walks down the rows, so that GDAL's
block cache, bounded by :data:`CACHE_MB`, decodes each block once. One thread decodes, another
labels, compresses and writes: a single tile keeps two cores busy. A task reads files, writes files
and returns a record of plain data: it can run in any process on any machine that sees the folders.

A granule that turns out damaged is left out as if it were not there: the tile is begun anew
without it. That depends on the files alone, so every run makes the same chips.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.warp import transform
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from ..errors import ConfigError, GranuleError
from ..hls import BANDS, FILL, GranuleId, fmask_clear
from ..lulc import IGNORE, Legend
from .chip_io import write_chip, write_label
from .files import write_bytes
from .frames import SeasonWindow, candidates, cell_means, check_windows, choose_frames
from .granules import DamagedGranuleError, Granule, Grid, check_grid, unreadable
from .index import FORMAT_VERSION
from .labels import CELLS, LabelMap, LabelReader
from .statistics import band_sums

#: Bound of GDAL's block cache in a worker, in MB. One row of 256 x 256 blocks of a full tile is
#: 2 MB a band; this holds two such rows for 64 granule bands.
CACHE_MB = 256

#: Chips that may wait, decoded, for the thread that writes them: 1.8 MB each.
AHEAD = 8
#: Stands for the clear share of a damaged granule: below that of any other.
DAMAGED = -1.0
#: Raised when the record of a task changes, or the chips that it makes.
RECORD_VERSION = 3


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
        mask_clouds: Write pixels that are not clear (:func:`geoseg_prithvi.hls.fmask_clear`) as
            nodata. ``min_valid`` does not count them.
    """

    windows: tuple[SeasonWindow, ...]
    chip_size: int = 224
    stride: int | None = None
    min_clear: float = 0.7
    min_valid: float = 0.9
    min_purity: float = 0.0
    bands: tuple[str, ...] = BANDS
    mask_clouds: bool = False

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
class TileTask:
    """All that a worker needs to know.

    Attributes:
        tile: MGRS tile.
        year: Year of the labels and of the frames.
        grid: The tile's pixels.
        granules: All granules of the tile in that year.
        labels: The label maps over the tile; none for chips without labels.
        cells: ``(row, column)`` of the first pixel of each chip, row by row.
        options: What a chip must be like.
        legend: The classes.
        out: The chip folder.
        strict: Take a damaged granule for an error.
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
    strict: bool = False

    @property
    def record_path(self) -> Path:
        """Where the record of the finished task is kept."""
        return self.out / '.tasks' / f'{self.tile}_{self.year}.json'

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
            RECORD_VERSION,
            FORMAT_VERSION,
            self.options.document(),
            dataclasses.asdict(self.legend),
            self.cells,
            str(self.grid),
            states,
        )
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()


def cut_tile(task: TileTask) -> dict[str, object]:
    """Cut a tile and write its chips and, last, its record.

    Args:
        task: What to cut.

    Returns:
        The record: ``fingerprint``, ``rows`` (of the index, without block and split, with
        ``sums`` for the statistics), ``skipped`` (reason -> cells), ``best_clear`` (for each
        window the clearest that any cell got), ``damaged`` (granule -> what is wrong with it) and
        ``files`` (name -> bytes).

    Raises:
        GranuleError: If a granule is on another grid, or a season window is empty.
        DamagedGranuleError: If a granule is damaged and ``task.strict``.
        LabelError: If a label map is damaged or holds an unknown code.
        OutputWriteError: If the disk does not take a chip.
    """
    fingerprint = task.fingerprint()
    ids = [granule.id for granule in task.granules]
    windows = candidates(ids, task.options.windows, task.year, task.tile)
    damaged: dict[str, str] = {}
    clear = np.full((len(ids), len(task.cells)), DAMAGED)
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
        for shares, granule in zip(clear, task.granules, strict=True):
            with _leaving_out(damaged, task.strict):
                shares[:] = _clear_fractions(task, granule)
        whole = False
        while not whole:
            clear[[str(granule) in damaged for granule in ids]] = DAMAGED
            frames = choose_frames(clear, windows)
            # (N, T) share of clear pixels of the frames chosen
            frame_clear = np.take_along_axis(clear.T, frames, axis=1)
            with _leaving_out(damaged, task.strict):
                rows, skipped = _cut(task, frames, frame_clear)
                whole = True
    names = [row['image'] for row in rows]
    for row in rows:
        if row['label']:
            names += [row['label'], f'{row["label"]}.aux.xml']
    record = dict(
        fingerprint=fingerprint,
        rows=rows,
        skipped=dict(skipped),
        best_clear=frame_clear.max(axis=0).clip(0).tolist(),
        damaged=damaged,
        files={name: (task.out / name).stat().st_size for name in names},
    )
    write_bytes(task.record_path, json.dumps(record).encode())
    return record


@contextlib.contextmanager
def _leaving_out(damaged: dict[str, str], strict: bool) -> Iterator[None]:
    """Note a damaged granule in ``damaged`` and go on, unless ``strict``."""
    try:
        yield
    except DamagedGranuleError as error:
        if strict:
            raise
        damaged[str(GranuleId.parse(error.path.name)[0])] = str(error)


def finished(task: TileTask) -> dict[str, object] | None:
    """Return the record of a task that needs no work, else None.

    A record of other inputs, or whose files are gone or of another size, is removed.

    Raises:
        GranuleError: If it tells of a damaged granule and ``task.strict``.
    """
    try:
        record = json.loads(task.record_path.read_bytes())
    except FileNotFoundError:
        return None
    if record['fingerprint'] == task.fingerprint() and _whole(task.out, record['files']):
        if task.strict and record['damaged']:
            raise GranuleError(next(iter(record['damaged'].values())))
        return record
    task.record_path.unlink()
    return None


def _whole(folder: Path, files: Mapping[str, int]) -> bool:
    try:
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except FileNotFoundError:
        return False


def _clear_fractions(task: TileTask, granule: Granule) -> np.ndarray:
    """Return the clear share of a granule over each cell, ``(N,)``, from Fmask's bits."""
    size = task.options.chip_size
    in_row = collections.defaultdict(list)
    for row, column in task.cells:
        in_row[row].append(column)
    result = []
    path = granule.path('Fmask')
    try:
        with rasterio.open(path) as dataset:
            check_grid(dataset, task.grid, task.granules[0].id)
            for row, columns in in_row.items():
                window = Window(columns[0], row, columns[-1] + size - columns[0], size)
                mask = fmask_clear(dataset.read(1, window=window))
                starts = [column - columns[0] for column in columns]
                result.append(cell_means(mask, starts, size))
    except RasterioError as error:
        raise unreadable(path, error) from error
    return np.concatenate(result)


class _BandReader:
    """Keeps granule bands open while a tile is cut."""

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
    task: TileTask, frames: np.ndarray, frame_clear: np.ndarray
) -> tuple[list[dict[str, object]], collections.Counter[str]]:
    """Write the chips of a tile; return their rows and how many cells were skipped, and why."""
    options = task.options
    size = options.chip_size
    rows: list[dict[str, object]] = []
    skipped: collections.Counter[str] = collections.Counter()

    def note(outcome: dict[str, object] | str) -> None:
        if isinstance(outcome, str):
            skipped[outcome] += 1
        else:
            rows.append(outcome)

    with (
        _BandReader(task.grid, task.granules[0]) as reader,
        LabelReader(task.labels, task.grid, task.legend) as labels,
        concurrent.futures.ThreadPoolExecutor(1) as writer,
    ):
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        for (row, column), chosen, clear in zip(task.cells, frames, frame_clear, strict=True):
            if clear.min() == DAMAGED:
                note('of damaged granules only')
                continue
            if clear.min() < options.min_clear:
                note('not clear enough')
                continue
            window = Window(column, row, size, size)
            granules = [task.granules[i] for i in chosen]
            pixels = reader.read(granules, options.bands, window)
            hidden = None
            if options.mask_clouds:
                hidden = ~fmask_clear(reader.read(granules, ['Fmask'], window))
            waiting.append(
                writer.submit(
                    _write, task, labels, window, granules, clear.tolist(), pixels, hidden
                )
            )
            if len(waiting) > AHEAD:
                note(waiting.popleft().result())
        for outcome in waiting:
            note(outcome.result())
    return rows, skipped


def _write(
    task: TileTask,
    labels: LabelReader,
    window: Window,
    granules: Sequence[Granule],
    clear: list[float],
    pixels: np.ndarray,
    hidden: np.ndarray | None,
) -> dict[str, object] | str:
    """Label a chip and write it; return its row, or why there is none.

    ``hidden`` is ``(T, H, W)``: what becomes nodata.
    """
    options = task.options
    valid = float((pixels != FILL).all(axis=0).mean())
    if valid < options.min_valid:
        return 'too little data'
    if hidden is not None:
        pixels.reshape(len(hidden), -1, *hidden.shape[1:]).swapaxes(0, 1)[:, hidden] = FILL
    class_pixels, mean_purity = np.zeros(len(task.legend), np.int64), None
    if task.labels:
        classes, votes = labels.read(window)
        labelled = classes != IGNORE
        purity = votes / CELLS**2
        mean_purity = float(purity[labelled].mean()) if labelled.any() else 0.0
        classes[purity < options.min_purity] = IGNORE
        class_pixels = np.bincount(classes.ravel(), minlength=256)[: len(task.legend)]
        if not class_pixels.any():
            return 'no label'

    chip_id = f'{task.tile}_{task.year}_{window.row_off:04d}_{window.col_off:04d}'
    minx, miny, maxx, maxy = task.grid.bounds(window)
    (lon,), (lat,) = transform(task.grid.crs, 'EPSG:4326', [(minx + maxx) / 2], [(miny + maxy) / 2])
    entry = dict(
        chip_id=chip_id,
        image=f'images/{chip_id}.tif',
        label=f'labels/{chip_id}.tif' if task.labels else None,
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
        clear_fraction=clear,
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
    if task.labels:
        write_label(task.out / entry['label'], classes, legend=task.legend, **where)
    return entry | dict(sums=band_sums(pixels, len(options.bands)))


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
