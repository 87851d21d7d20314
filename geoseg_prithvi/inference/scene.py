"""A scene to predict: the frames of one place on one grid, read by rows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine, xy
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from ..errors import ConfigError, SceneError
from ..hls import FILL, fmask_clear

logger = logging.getLogger(__name__)

#: What to do with pixels that cannot be read.
ON_ERROR = ('raise', 'nodata')
WGS84 = CRS.from_epsg(4326)


@dataclasses.dataclass(frozen=True)
class SceneGrid:
    """The pixel grid of a scene, in any coordinate system or in none.

    Attributes:
        crs: Coordinate system, ``None`` if the file has none.
        transform: Pixel to map coordinates.
        width: Columns.
        height: Rows.
    """

    crs: CRS | None
    transform: Affine
    width: int
    height: int

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader) -> SceneGrid:
        """Return the grid of an open file."""
        return cls(dataset.crs, dataset.transform, dataset.width, dataset.height)

    def locations(self, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Return ``(N, 2)`` latitude and longitude in degrees of fractional pixel positions.

        Raises:
            SceneError: If the scene has no coordinate system.
        """
        if self.crs is None:
            raise SceneError('A scene without coordinate system has no latitude and longitude.')
        xs, ys = xy(self.transform, rows, cols, offset='ul')
        lon, lat = transform_points(self.crs, WGS84, xs, ys)
        return np.stack([lat, lon], axis=1)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the channels of a scene come from.

    Attributes:
        path: A raster file.
        indexes: 1-based bands of the file.
        channels: The channels of the scene that they become, in the same order.
    """

    path: Path
    indexes: tuple[int, ...]
    channels: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a scene.

    Attributes:
        pixels: ``(T*C, rows, width)`` int16, time-major, nodata -9999.
        seen: ``(rows, width)`` float32, share of the frames that show the ground, 0..1.
    """

    pixels: np.ndarray
    seen: np.ndarray


@dataclasses.dataclass
class Scene:
    """Frames of one place on one grid.

    Use it as a context manager around :meth:`read`; one thread reads at a time.

    Attributes:
        name: For messages and the map's tags.
        grid: The grid that the map gets too.
        sources: The files behind the channels.
        num_frames: Frames T.
        bands: Names of the C bands of each frame.
        dates: Date of each frame; empty if unknown.
        sensors: ``L30`` or ``S30`` of each frame; empty if unknown.
        fmasks: Fmask file of each frame; empty if there is none.
        mask_clouds: Whether clouded pixels count as not seen.
        on_error: ``raise``, or ``nodata`` to go on past damaged parts of a file.
    """

    name: str
    grid: SceneGrid
    sources: Sequence[Source]
    num_frames: int
    bands: Sequence[str]
    dates: Sequence[dt.date] = ()
    sensors: Sequence[str] = ()
    fmasks: Sequence[Path] = ()
    mask_clouds: bool = False
    on_error: str = 'raise'

    def __post_init__(self) -> None:
        if self.mask_clouds and not self.fmasks:
            raise ConfigError(
                f'{self.name} has no Fmask, so clouds cannot be masked; predict from the folder '
                'of granules, or leave out --mask-clouds.'
            )
        self._open: dict[Path, rasterio.DatasetReader] = {}
        self._warned: set[Path] = set()

    def __enter__(self) -> Scene:
        masks = self.fmasks if self.mask_clouds else ()
        for path in [*(source.path for source in self.sources), *masks]:
            self._open[path] = open_raster(path)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for dataset in self._open.values():
            dataset.close()
        self._open.clear()

    @property
    def files(self) -> list[Path]:
        """The files behind the scene."""
        return [source.path for source in self.sources]

    @property
    def temporal_coords(self) -> list[list[int]]:
        """Year and day of year counted from 0, for each frame."""
        return [[day.year, day.timetuple().tm_yday - 1] for day in self.dates]

    @property
    def cache_bytes(self) -> int:
        """What GDAL must keep so that no block is decoded twice when an open scene is read down.

        Two rows of blocks of every file, since a few rows at a time can lie across both; it does
        not depend on the height of the scene.
        """
        needed = 0
        for dataset in self._open.values():
            height, width = dataset.block_shapes[0]
            columns = -(-dataset.width // width) * width
            size = np.dtype(dataset.dtypes[0]).itemsize
            needed += 2 * min(height, dataset.height) * columns * size * dataset.count
        return needed

    def read(self, start: int, stop: int) -> Rows:
        """Read the rows ``start`` to ``stop``.

        Raises:
            SceneError: If a file is damaged there and ``on_error`` is ``raise``.
        """
        shape = (stop - start, self.grid.width)
        pixels = np.empty((self.num_frames * len(self.bands), *shape), np.int16)
        for source in self.sources:
            data = self._read_file(source.path, source.indexes, start, stop, FILL)
            nodata = self._open[source.path].nodata
            if nodata is not None and nodata != FILL:
                data[data == nodata] = FILL
            pixels[list(source.channels)] = data
        frames = pixels.reshape(self.num_frames, len(self.bands), *shape)
        valid = (frames != FILL).all(axis=1)  # (T, rows, width)
        if self.mask_clouds:
            for t, path in enumerate(self.fmasks):
                valid[t] &= fmask_clear(self._read_file(path, (1,), start, stop, 255)[0])
        return Rows(pixels, valid.mean(axis=0, dtype=np.float32))

    def _read_file(
        self, path: Path, indexes: tuple[int, ...], start: int, stop: int, fill: int
    ) -> np.ndarray:
        dataset = self._open[path]
        window = Window(0, start, self.grid.width, stop - start)
        try:
            return dataset.read(indexes, window=window)
        except RasterioError:
            # Find the damaged block, to name it or to go on without it.
            return self._read_blocks(dataset, path, indexes, window, fill)

    def _read_blocks(
        self,
        dataset: rasterio.DatasetReader,
        path: Path,
        indexes: tuple[int, ...],
        window: Window,
        fill: int,
    ) -> np.ndarray:
        data = np.full((len(indexes), window.height, window.width), fill, dataset.dtypes[0])
        height, width = dataset.block_shapes[0]
        top, bottom = window.row_off, window.row_off + window.height
        for row in range(top - top % height, bottom, height):
            for col in range(0, self.grid.width, width):
                first, last = max(row, top), min(row + height, bottom)
                part = Window(col, first, min(width, self.grid.width - col), last - first)
                inside = (
                    slice(None),
                    slice(first - top, last - top),
                    slice(col, col + part.width),
                )
                for i, index in enumerate(indexes):
                    try:
                        data[i][inside[1:]] = dataset.read(index, window=part)
                    except RasterioError as error:
                        self._damaged(path, part, error)
        return data

    def _damaged(self, path: Path, window: Window, error: RasterioError) -> None:
        where = (
            f'rows {window.row_off} to {window.row_off + window.height - 1}, columns '
            f'{window.col_off} to {window.col_off + window.width - 1}'
        )
        if self.on_error == 'raise':
            raise SceneError(
                f'{path} cannot be read at {where}, it is truncated or damaged; download it '
                'again, or use --on-error nodata to leave such places out.'
            ) from error
        if path not in self._warned:
            self._warned.add(path)
            logger.warning('%s is damaged, first at %s; such places count as nodata.', path, where)


def open_raster(path: Path) -> rasterio.DatasetReader:
    """Open a raster for reading.

    Raises:
        SceneError: If it is not there or no raster.
    """
    if not path.exists():
        raise SceneError(f'{path} does not exist; check the path of the input.')
    try:
        return rasterio.open(path)
    except RasterioError as error:
        raise SceneError(
            f'{path} cannot be opened as a raster ({_reason(error)}); it is truncated or of '
            'another format.'
        ) from error


def _reason(error: RasterioError) -> str:
    return str(error.__cause__ or error).splitlines()[0].rstrip('.')
