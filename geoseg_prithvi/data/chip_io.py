"""Read and write the GeoTIFFs of one chip: the stacked image and its label.

Both are assembled in memory and appear on disk whole. GDAL keeps category names of a GeoTIFF in
the sidecar ``<name>.tif.aux.xml`` (its PAM file), from where ``gdalinfo``, rasterio's copies and
QGIS take them; a label without its sidecar still has its colours.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader, MemoryFile
from rasterio.transform import Affine

from ..errors import ChipError, DataNotFoundError, LayoutError
from ..hls import BANDS, FILL
from ..layout import channel_names, channel_order
from ..lulc import IGNORE, IO_LULC, Legend
from .files import write_bytes

#: Larger rasters (prediction maps) are tiled; smaller ones are one strip a band, which is the
#: fastest to read whole.
TILED_ABOVE = 1024


def write_chip(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    *,
    transform: Affine,
    crs: CRS,
    dates: Sequence[str],
    sensors: Sequence[str],
    bands: Sequence[str] = BANDS,
) -> None:
    """Write a chip's image: band-interleaved ZSTD with band names, dates and sensors.

    Args:
        path: ``images/{chip_id}.tif``; replaced if there.
        pixels: ``(T*C, H, W)`` int16, time-major, reflectance x 10000, nodata -9999.
        transform: Pixel to map coordinates.
        crs: The tile's UTM zone.
        dates: ISO date of each frame, ``YYYY-MM-DD``.
        sensors: ``L30`` or ``S30`` of each frame.
        bands: Canonical band names, in the order of each frame.

    Raises:
        ChipError: If ``pixels`` has another data type, or frames, dates and sensors differ in
            number.
        OutputWriteError: If the disk does not take it.
    """
    if pixels.dtype != np.int16:
        raise ChipError(f'{path} was to be written as {pixels.dtype}; chips are int16.')
    if pixels.ndim != 3 or len(pixels) != len(dates) * len(bands) or len(sensors) != len(dates):
        raise ChipError(
            f'{path} was to be written with shape {pixels.shape} for {len(dates)} dates, '
            f'{len(sensors)} sensors and {len(bands)} bands; (T*C, H, W) is expected.'
        )
    count, height, width = pixels.shape
    with MemoryFile() as memory:
        with memory.open(
            driver='GTiff',
            dtype='int16',
            count=count,
            height=height,
            width=width,
            transform=transform,
            crs=crs,
            nodata=FILL,
            interleave='band',
            compress='zstd',
            predictor=2,
            **_blocks(height, width),
        ) as dataset:
            dataset.descriptions = channel_names(len(dates), bands)
            dataset.update_tags(
                GEOSEG_LAYOUT='time-major',
                GEOSEG_DATES=','.join(dates),
                GEOSEG_SENSORS=','.join(sensors),
            )
            dataset.write(pixels)
        write_bytes(path, bytes(memory.getbuffer()))


def write_label(
    path: str | os.PathLike[str],
    classes: np.ndarray,
    *,
    transform: Affine,
    crs: CRS,
    legend: Legend = IO_LULC,
) -> None:
    """Write a label or a prediction map, with colours and class names.

    Args:
        path: The GeoTIFF; replaced if there, together with its ``.aux.xml``.
        classes: ``(H, W)`` uint8, 0..K-1, 255 for ignore.
        transform: Pixel to map coordinates.
        crs: Coordinate system of ``transform``.
        legend: Names and colours of the classes.

    Raises:
        ChipError: If ``classes`` is not a 2-D uint8 array.
        OutputWriteError: If the disk does not take it.
    """
    if classes.dtype != np.uint8 or classes.ndim != 2:
        raise ChipError(
            f'{path} was to be written as {classes.dtype} with shape {classes.shape}; labels are '
            'uint8 (H, W).'
        )
    height, width = classes.shape
    colors = {index: (*color, 255) for index, color in enumerate(legend.colors)}
    with MemoryFile() as memory:
        with memory.open(
            driver='GTiff',
            dtype='uint8',
            count=1,
            height=height,
            width=width,
            transform=transform,
            crs=crs,
            nodata=IGNORE,
            compress='zstd',
            photometric='palette',
            **_blocks(height, width),
        ) as dataset:
            dataset.write_colormap(1, {**colors, IGNORE: (0, 0, 0, 0)})
            dataset.update_tags(GEOSEG_LEGEND=legend.name)
            dataset.write(classes, 1)
        content = bytes(memory.getbuffer())
    # The sidecar first: once the map is there, its names are too.
    path = Path(path)
    write_bytes(path.with_name(f'{path.name}.aux.xml'), category_names(legend).encode())
    write_bytes(path, content)


def read_chip(
    path: str | os.PathLike[str],
    num_frames: int,
    *,
    bands: Sequence[str] = BANDS,
    layout: str | None = None,
) -> np.ndarray:
    """Read the frames and bands of a chip, found by their names.

    Args:
        path: The chip's image.
        num_frames: Frames wanted, from the first.
        bands: Canonical bands wanted, in this order.
        layout: ``time-major`` or ``band-major``, only for a file that does not name its bands.

    Returns:
        ``(T*C, H, W)`` int16, time-major.

    Raises:
        DataNotFoundError: If there is no such file.
        LayoutError: If a band is missing or the order is unknown.
        ChipError: If the file is truncated or not int16.
    """
    with _quick_env():
        try:
            with rasterio.open(path) as dataset:
                try:
                    order = channel_order(
                        dataset.descriptions, num_frames, bands, source=path, layout=layout
                    )
                except LayoutError:
                    dataset.read()  # a file cut within its header has lost its names: say that
                    raise
                _check_dtype(dataset, 'int16', path)
                if order == list(range(dataset.count)):
                    return dataset.read()
                return dataset.read([position + 1 for position in order])
        except RasterioError as error:
            raise _unreadable(path, error) from error


def read_label(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a label.

    Returns:
        ``(H, W)`` uint8, 0..K-1, 255 for ignore.

    Raises:
        DataNotFoundError: If there is no such file.
        ChipError: If the file is truncated, not uint8, or has more than one band.
    """
    with _quick_env():
        try:
            with rasterio.open(path) as dataset:
                if dataset.count != 1:
                    raise ChipError(f'{path} has {dataset.count} bands; a label has 1.')
                _check_dtype(dataset, 'uint8', path)
                return dataset.read(1)
        except RasterioError as error:
            raise _unreadable(path, error) from error


def _quick_env() -> rasterio.Env:
    """No look at the neighbours of a file: a chip folder can hold 100,000 of them."""
    return rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN='EMPTY_DIR')


def _check_dtype(dataset: DatasetReader, dtype: str, path: object) -> None:
    found = sorted(set(dataset.dtypes))
    if found != [dtype]:
        raise ChipError(f'{path} holds {", ".join(found)}, but {dtype} is expected.')


def _unreadable(
    path: str | os.PathLike[str], error: RasterioError
) -> ChipError | DataNotFoundError:
    if not Path(path).exists():
        return DataNotFoundError(f'{path} does not exist; run tools/prepare_data.py again.')
    reason = str(error.__cause__ or error).splitlines()[0].rstrip('.')
    return ChipError(
        f'{path} cannot be read, it is truncated or damaged ({reason}); delete it and run '
        'tools/prepare_data.py again.'
    )


def _blocks(height: int, width: int) -> dict[str, object]:
    if max(height, width) > TILED_ABOVE:
        return dict(tiled=True, blockxsize=512, blockysize=512)
    return dict(blockysize=height)


def category_names(legend: Legend) -> str:
    """Return the sidecar in which GDAL and QGIS look for the class names of a map."""
    names = ''.join(f'      <Category>{escape(name)}</Category>\n' for name in legend.names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f'{names}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n'
    )
