"""HLS granules on disk: which there are, and on which grid."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window
from rasterio.windows import bounds as window_bounds

from ..errors import DataNotFoundError, GranuleError
from ..hls import BANDS, SENSOR_BANDS, GranuleId


class DamagedGranuleError(GranuleError):
    """A band file is empty, truncated or otherwise not readable.

    Args:
        path: The band file.
        reason: What the reader said.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(path, reason)
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f'{self.path} cannot be read, it is truncated or damaged ({self.reason}); download it '
            'again.'
        )


@dataclasses.dataclass(frozen=True)
class Grid:
    """The pixel grid of a tile.

    Attributes:
        epsg: Code of the UTM zone.
        transform: Pixel to map coordinates, metres.
        width: Columns.
        height: Rows.
    """

    epsg: int
    transform: Affine
    width: int
    height: int

    @property
    def crs(self) -> CRS:
        """The UTM zone."""
        return CRS.from_epsg(self.epsg)

    def bounds(self, window: Window | None = None) -> tuple[float, float, float, float]:
        """Return ``(minx, miny, maxx, maxy)`` of a window, or of all, in metres."""
        window = window or Window(0, 0, self.width, self.height)
        return window_bounds(window, self.transform)

    def __str__(self) -> str:
        x, y = self.transform.c, self.transform.f
        return (
            f'{self.width} x {self.height} pixels of {self.transform.a:g} m from '
            f'({x:.0f}, {y:.0f}) in EPSG:{self.epsg}'
        )


@dataclasses.dataclass(frozen=True, order=True)
class Granule:
    """One complete granule on disk: six bands and Fmask, one file each."""

    id: GranuleId
    folder: Path

    def path(self, band: str) -> Path:
        """Return the file of a canonical band or of ``Fmask``."""
        return self.folder / self.id.band_file(band)

    @property
    def date(self) -> str:
        """UTC date of acquisition, ``YYYY-MM-DD``."""
        return self.id.acquired.date().isoformat()


def find_granules(
    root: str | os.PathLike[str],
    bands: Sequence[str] = BANDS,
    incomplete: dict[str, str] | None = None,
) -> dict[str, list[Granule]]:
    """Find all granules in a folder, at any depth.

    Files whose names do not begin with ``HLS.`` and bands that are not asked for are passed over.

    Args:
        root: A folder, e.g. with one sub-folder a granule.
        bands: Canonical bands that each granule must have beside ``Fmask``.
        incomplete: Takes the granules that lack a band, each with what it lacks; they are left
            out then. Without it, such a granule is an error.

    Returns:
        The granules of each MGRS tile, both sorted.

    Raises:
        DataNotFoundError: If there is no folder, or no whole granule in it.
        GranuleError: If a granule lacks a band or is there twice.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataNotFoundError(f'There is no folder {root}; give the folder of the HLS granules.')
    found: dict[GranuleId, dict[str, Path]] = collections.defaultdict(dict)
    for path in sorted(root.rglob('HLS.*.tif')):
        granule, band = GranuleId.parse(path.name)
        if band is None:  # a stacked export, not a band of HLS
            continue
        if band in found[granule]:
            raise GranuleError(
                f'{path.name} is there twice, in {found[granule][band]} and {path.parent}; remove '
                'one of them.'
            )
        found[granule][band] = path.parent
    if not found:
        raise DataNotFoundError(
            f'There is no HLS granule in {root}; expected files like '
            'HLS.S30.T10SEG.2022123T190919.v2.0.B02.tif.'
        )

    tiles: dict[str, list[Granule]] = collections.defaultdict(list)
    for granule in sorted(found):
        files = found[granule]
        lack = _what_it_lacks(granule, files, bands)
        if lack and incomplete is None:
            raise GranuleError(lack)
        if lack:
            incomplete[str(granule)] = lack
            continue
        folders = {files[SENSOR_BANDS[granule.sensor].get(b, b)] for b in (*bands, 'Fmask')}
        if len(folders) > 1:
            raise GranuleError(
                f'The bands of the granule {granule} lie in several folders '
                f'({", ".join(sorted(map(str, folders)))}); move them into one.'
            )
        tiles[granule.tile].append(Granule(granule, folders.pop()))
    if not tiles:
        raise DataNotFoundError(
            f'There is no whole HLS granule in {root}. {next(iter(incomplete.values()))}'
        )
    return dict(sorted(tiles.items()))


def _what_it_lacks(granule: GranuleId, files: Mapping[str, Path], bands: Sequence[str]) -> str:
    """Return a sentence about a missing band, empty if there is none."""
    for band in (*bands, 'Fmask'):
        name = SENSOR_BANDS[granule.sensor].get(band, band)
        if name not in files:
            return (
                f'The granule {granule} lacks its band {name}'
                f'{"" if name == band else f" ({band})"}: {granule.band_file(band)} is not in '
                f'{next(iter(files.values()))}; download it again or remove the granule.'
            )
    return ''


def tile_grid(granules: Iterable[Granule]) -> Grid:
    """Return the one grid of a tile's granules.

    Only Fmask is opened here, and passed over if it is damaged; :func:`check_grid` sees to each
    band when it is read.

    Args:
        granules: Granules of one tile, at least one.

    Raises:
        GranuleError: If two granules have different grids.
        DamagedGranuleError: If not one Fmask can be read.
    """
    first, grid, damage = None, None, None
    for granule in granules:
        try:
            found = read_grid(granule.path('Fmask'))
        except DamagedGranuleError as error:
            damage = damage or error
            continue
        if grid is None:
            first, grid = granule, found
        elif found != grid:
            raise GranuleError(
                f'{first.id} and {granule.id} are of one tile but their grids differ: {grid}, '
                f'against {found}; remove the wrong one or download it again.'
            )
    if grid is None:
        raise damage
    return grid


def read_grid(path: Path) -> Grid:
    """Read the grid of one band file.

    Raises:
        GranuleError: If the file is not north-up, or not in a UTM zone.
        DamagedGranuleError: If it cannot be read.
    """
    try:
        with rasterio.open(path) as dataset:
            return grid_of(dataset)
    except RasterioError as error:
        raise unreadable(path, error) from error


def grid_of(dataset: rasterio.DatasetReader) -> Grid:
    """Return the grid of an open band file.

    Raises:
        GranuleError: If it is not north-up, or not in a UTM zone.
        RasterioError: If that is so because the file is cut within its header.
    """
    try:
        return _grid_of(dataset)
    except GranuleError:
        dataset.read(1)
        raise


def _grid_of(dataset: rasterio.DatasetReader) -> Grid:
    transform = dataset.transform
    if transform.b or transform.d or transform.a <= 0 or transform.a != -transform.e:
        raise GranuleError(
            f'{dataset.name} has no north-up grid of square pixels; use HLS granules as published.'
        )
    return Grid(utm_epsg(dataset.crs, dataset.name), transform, dataset.width, dataset.height)


def check_grid(dataset: rasterio.DatasetReader, grid: Grid, source: GranuleId) -> None:
    """Check an open band file against the grid of its tile.

    Raises:
        GranuleError: If they differ; it names ``source``, the granule that ``grid`` came from.
    """
    found = grid_of(dataset)
    if found != grid:
        raise GranuleError(
            f'{Path(dataset.name).name} and {source} are of one tile but their grids differ: '
            f'{found}, against {grid}; remove the wrong granule or download it again.'
        )


def utm_epsg(crs: CRS | None, source: object) -> int:
    """Return the EPSG code of a UTM zone on WGS 84.

    L30 granules carry the zone without a code, as ``UTM Zone 10, Northern Hemisphere`` on an
    unknown datum based upon the WGS 84 ellipsoid; they lie on the grid of the S30 ones all the
    same. Southern tiles stay in the northern zone with negative northings, as published.

    Args:
        crs: Coordinate system of a file.
        source: The file, for the message.

    Raises:
        GranuleError: If it is no UTM zone.
    """
    epsg = None
    if crs:
        try:
            epsg = crs.to_epsg(confidence_threshold=90)
            parameters = crs.to_dict()
        except CRSError:
            parameters = {}
        if epsg is None and parameters.get('proj') == 'utm':
            epsg = (32700 if parameters.get('south') else 32600) + int(parameters['zone'])
    if epsg is None or not 1 <= epsg % 100 <= 60 or epsg // 100 not in (326, 327):
        raise GranuleError(
            f'{source} is in {crs or "no coordinate system"}, but HLS comes in a UTM zone of '
            'WGS 84; use HLS granules as published, without reprojecting them.'
        )
    return epsg


def unreadable(path: os.PathLike[str] | str, error: Exception) -> DamagedGranuleError:
    """Name a damaged band file."""
    return DamagedGranuleError(path, str(error.__cause__ or error).splitlines()[0].rstrip('.'))
