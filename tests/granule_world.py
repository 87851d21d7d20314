"""A made-up tile in the true formats: HLS granules and a label map with known values."""

import datetime as dt

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from geoseg_prithvi.hls import BANDS, FILL, GranuleId
from geoseg_prithvi.lulc import IO_LULC

#: Upper left corner of tile 10SEG and of the label map, metres in EPSG:32610.
ORIGIN = (499_980.0, 4_200_000.0)


def write_tif(path, pixels, origin=ORIGIN, pixel=30.0, crs=32610, nodata=None, **profile):
    """Write one band, by default on the grid of tile 10SEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        dtype=pixels.dtype,
        count=1,
        height=pixels.shape[0],
        width=pixels.shape[1],
        transform=Affine(pixel, 0, origin[0], 0, -pixel, origin[1]),
        crs=CRS.from_epsg(crs) if isinstance(crs, int) else crs,
        nodata=nodata,
        **profile,
    ) as dataset:
        dataset.write(pixels, 1)
    return path


def write_granule(root, name, bands, fmask, **where):
    """Write a granule; ``bands`` is ``(6, H, W)`` int16 in canonical order."""
    granule, _ = GranuleId.parse(name)
    folder = root / str(granule)
    for band, pixels in zip(BANDS, bands, strict=True):
        write_tif(folder / granule.band_file(band), pixels, nodata=FILL, **where)
    write_tif(folder / granule.band_file('Fmask'), fmask, nodata=255, **where)
    return folder


def granule_name(tile, day, sensor='S30', year=2022):
    """Name the granule of a tile on a day of the year, counted from 1."""
    time = dt.datetime(year, 1, 1, 18, 30) + dt.timedelta(days=day - 1)
    return str(GranuleId(tile, time, sensor))


#: (day of the year, sensor); two in each third of the year.
PASSES = (
    (20, 'L30'),
    (60, 'S30'),
    (140, 'S30'),
    (200, 'L30'),
    (260, 'S30'),
    (320, 'L30'),
)


def band_values(number, size):
    """Pixels ``(6, H, W)`` int16 of pass ``number``: ``1000 * pass + 100 * band + (0..96)``."""
    row, column = np.mgrid[:size, :size]
    texture = (7 * row + 3 * column) % 97
    return (1000 * number + 100 * np.arange(6)[:, None, None] + texture).astype(np.int16)


def write_world(root, *, tile='10SEG', size=96, passes=PASSES, year=2022, seed=0, **where):
    """Write granules below ``root/granules`` and a label map below ``root/labels``.

    All is clear. The label has all nine classes in patches of 8 x 8 pixels (24 x 24 of its own).
    """
    for number, (day, sensor) in enumerate(passes):
        write_granule(
            root / 'granules',
            granule_name(tile, day, sensor, year),
            band_values(number, size),
            np.full((size, size), 64, np.uint8),  # low aerosol, clear
            **where,
        )
    patches = np.random.default_rng(seed).choice(IO_LULC.codes, (size // 8, size // 8))
    codes = patches.repeat(24, 0).repeat(24, 1).astype(np.uint8)
    label = f'{tile[:3]}_{year}0101-{year + 1}0101.tif'
    write_tif(root / 'labels' / label, codes, nodata=0, **{**where, 'pixel': 10.0})
    return root / 'granules', root / 'labels'
