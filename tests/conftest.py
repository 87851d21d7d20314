"""Small real files that many tests share: granules, a label map, a chip folder."""

import dataclasses
import datetime as dt
import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from geoseg_prithvi.data.chips import ChipOptions
from geoseg_prithvi.data.frames import equal_windows
from geoseg_prithvi.data.prepare import prepare
from geoseg_prithvi.data.splits import SplitOptions
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


@dataclasses.dataclass(frozen=True)
class World:
    """A made-up tile: its size and what its granules hold."""

    size: int = 96
    tile: str = '10SEG'
    #: (day of the year, sensor); two in each third of the year.
    passes: tuple = (
        (20, 'L30'),
        (60, 'S30'),
        (140, 'S30'),
        (200, 'L30'),
        (260, 'S30'),
        (320, 'L30'),
    )


def write_world(root, world=World(), *, origin=ORIGIN, seed=0):
    """Write granules below ``root/granules`` and a label map below ``root/labels``.

    The value of band b on pass p at (row, column) is ``1000 * p + 100 * b + noise``. The label has
    all nine classes in patches of 8 x 8 pixels (24 x 24 of its own).
    """
    rng = np.random.default_rng(seed)
    size = world.size
    for number, (day, sensor) in enumerate(world.passes):
        noise = rng.integers(0, 100, (6, size, size))
        bands = 1000 * number + 100 * np.arange(6)[:, None, None] + noise
        fmask = np.full((size, size), 64, np.uint8)  # low aerosol, clear
        write_granule(
            root / 'granules',
            granule_name(world.tile, day, sensor),
            bands.astype(np.int16),
            fmask,
            origin=origin,
        )
    patches = rng.choice(IO_LULC.codes, (size // 8, size // 8))
    codes = np.kron(patches, np.ones((24, 24))).astype(np.uint8)
    write_tif(root / 'labels' / '10S_20220101-20230101.tif', codes, origin, 10.0, nodata=0)
    return root / 'granules', root / 'labels'


@pytest.fixture(scope='session')
def _world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.fixture(scope='session')
def granule_folder(_world):
    """Six clear granules of tile 10SEG in 2022, 96 x 96 pixels; read-only."""
    return _world[0]


@pytest.fixture(scope='session')
def label_folder(_world):
    """The label map over :func:`granule_folder`, all nine classes; read-only."""
    return _world[1]


@pytest.fixture(scope='session')
def chip_folder(granule_folder, label_folder, tmp_path_factory):
    """Nine chips of 32 pixels and 3 frames (train 5, val 2, test 2), with index and statistics."""
    out = tmp_path_factory.mktemp('chips')
    prepare(
        granule_folder,
        label_folder,
        out,
        ChipOptions(windows=equal_windows(3), chip_size=32),
        SplitOptions(block_size=960.0, ratio=(0.56, 0.22, 0.22)),
    )
    return out
