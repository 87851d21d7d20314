"""What is in a chip folder, as numbers and as footprints, from the index alone."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform

from ..errors import DataNotFoundError, ExtraNotInstalledError
from ..lulc import Legend
from .files import atomic_path
from .index import SPLITS, index_metadata, read_index

#: Columns that a footprint carries into the GIS.
ATTRIBUTES = ('chip_id', 'split', 'tile', 'block', 'valid_fraction', 'purity')


@dataclasses.dataclass(frozen=True)
class Overview:
    """The chips of a folder.

    Attributes:
        table: The index.
        legend: The classes.
        num_frames: T.
        splits: ``(N,)`` split of each chip.
        class_pixels: ``(N, K)`` int64, labelled pixels of each class.
        dates: ``(N, T)`` ``datetime64[D]``.
        clear: ``(N, T)`` clear share of each frame, 0..1, NaN where it is not known.
        rings: ``(N, 5, 2)`` closed outlines, longitude and latitude in degrees.
    """

    table: pa.Table
    legend: Legend
    num_frames: int
    splits: np.ndarray
    class_pixels: np.ndarray
    dates: np.ndarray
    clear: np.ndarray
    rings: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    def split_pixels(self) -> dict[str, np.ndarray]:
        """Return split -> ``(K,)`` pixels of each class, of the splits that have chips."""
        return {
            split: self.class_pixels[self.splits == split].sum(axis=0)
            for split in SPLITS
            if (self.splits == split).any()
        }

    def sample(self, count: int, seed: int) -> list[int]:
        """Draw chips evenly over the splits that there are.

        Returns:
            Positions, ordered by split and then as in the index.
        """
        rng = np.random.default_rng(seed)
        pools = [rng.permutation(np.flatnonzero(self.splits == split)) for split in SPLITS]
        # One of each split in turn, until there are enough.
        turns = [(turn, rank) for rank, pool in enumerate(pools) for turn in range(len(pool))]
        chosen = [(rank, pools[rank][turn]) for turn, rank in sorted(turns)[:count]]
        return [int(position) for _, position in sorted(chosen)]


def read_overview(root: str | os.PathLike[str]) -> Overview:
    """Read the index of a chip folder.

    Raises:
        DataNotFoundError: If there is no folder or no index.
        ChipIndexError: If the index is unreadable.
    """
    table = read_index(root)
    described = index_metadata(table)
    legend = Legend(
        described['legend'],
        tuple(described['codes']),
        tuple(described['classes']),
        tuple(tuple(color) for color in described['colors']),
    )
    count, frames = len(table), described['num_frames']
    return Overview(
        table,
        legend,
        frames,
        np.array(table['split'].to_pylist()),
        _matrix(table, 'class_pixels', count).astype(np.int64),
        _matrix(table, 'dates', count).astype('datetime64[D]'),
        _matrix(table, 'clear_fraction', count).astype(np.float64),
        _rings(table, Path(root)),
    )


def write_footprints(overview: Overview, path: str | os.PathLike[str]) -> None:
    """Write the outlines as a GeoPackage in longitude and latitude.

    A GeoPackage and not GeoParquet, which the QGIS of common Linux distributions does not open.
    Beside :data:`ATTRIBUTES` each has ``dates``, ``min_clear`` and ``main_class``.

    Raises:
        ExtraNotInstalledError: If pyogrio is not installed.
        OutputWriteError: If the disk does not take it.
    """
    try:
        from pyogrio.raw import write
    except ImportError:
        raise ExtraNotInstalledError(
            "Writing footprints needs pyogrio; run: pip install 'geoseg_prithvi[data]'."
        ) from None
    table = overview.table
    columns = {name: table[name].to_numpy() for name in ATTRIBUTES}
    columns['dates'] = np.array([','.join(row) for row in overview.dates.astype(str)], object)
    columns['min_clear'] = overview.clear.min(axis=1)
    names = np.array(overview.legend.names, object)
    main = names[overview.class_pixels.argmax(axis=1)]
    columns['main_class'] = np.where(overview.class_pixels.any(axis=1), main, '')
    with atomic_path(path) as partial:
        partial.unlink()  # a GeoPackage is made anew, not written into an empty file
        write(
            partial,
            geometry=np.array([_polygon_wkb(ring) for ring in overview.rings], object),
            field_data=list(columns.values()),
            fields=list(columns),
            geometry_type='Polygon',
            crs='EPSG:4326',
            driver='GPKG',
            layer='chips',
        )


def _matrix(table: pa.Table, column: str, count: int) -> np.ndarray:
    """Return a column of lists of equal length as ``(N, length)``; null becomes NaN."""
    values = table[column].combine_chunks().flatten()
    return values.to_numpy(zero_copy_only=False).reshape(count, -1)


def _rings(table: pa.Table, root: Path) -> np.ndarray:
    box = {name: table[name].to_numpy() for name in ('minx', 'miny', 'maxx', 'maxy')}
    x = np.stack([box[name] for name in ('minx', 'maxx', 'maxx', 'minx', 'minx')], axis=1)
    y = np.stack([box[name] for name in ('miny', 'miny', 'maxy', 'maxy', 'miny')], axis=1)
    rings = np.empty((len(table), 5, 2))
    # Imported chips may be in a system without a code; their files have it.
    systems = [
        code or _crs_of(root / image)
        for code, image in zip(table['epsg'].to_pylist(), table['image'].to_pylist(), strict=True)
    ]
    groups: dict[int | str, list[int]] = {}
    for position, system in enumerate(systems):
        groups.setdefault(system, []).append(position)
    for system, positions in groups.items():
        lon, lat = transform(
            CRS.from_user_input(system), 'EPSG:4326', x[positions].ravel(), y[positions].ravel()
        )
        rings[positions, :, 0] = np.reshape(lon, (-1, 5))
        rings[positions, :, 1] = np.reshape(lat, (-1, 5))
    return rings


def _crs_of(path: Path) -> str:
    try:
        with rasterio.open(path) as dataset:
            return dataset.crs.to_wkt()
    except RasterioError as error:
        raise DataNotFoundError(
            f'{path} cannot be read ({error}); import the chips again.'
        ) from error


def _polygon_wkb(ring: Sequence[Sequence[float]]) -> bytes:
    """Return a polygon of one ring as little-endian WKB."""
    head = np.array([3, 1, len(ring)], '<u4').tobytes()
    return b'\x01' + head + np.asarray(ring, '<f8').tobytes()
