"""Chip folders whose every value can be known beforehand."""

import numpy as np
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geoseg_prithvi.data.chip_io import write_chip, write_label
from geoseg_prithvi.data.index import write_index
from geoseg_prithvi.hls import BANDS
from geoseg_prithvi.lulc import IO_LULC

SIZE = 16
DATES = ('2022-03-01', '2022-07-15', '2023-01-01')
SENSORS = ('L30', 'S30', 'L30')


def chip_pixels(index):
    """Pixel = 1000 * (frame, band) position + row + column / 16 of its own chip."""
    rows, columns = np.indices((SIZE, SIZE))
    channels = np.arange(3 * len(BANDS))[:, None, None]
    return (1000 * channels + 16 * rows + columns + 300 * index).astype(np.int16)


def chip_label(index):
    """Class = the row, shifted by the chip; one pixel has no label."""
    label = np.repeat((np.arange(SIZE) + index) % 9, SIZE).reshape(SIZE, SIZE).astype(np.uint8)
    label[0, 0] = 255
    return label


def write_chips(root, splits, legend=IO_LULC):
    crs = CRS.from_epsg(32610)
    rows = []
    for i, split in enumerate(splits):
        chip_id = f'chip_{i}'
        west, north = 500_000 + 30 * SIZE * i, 4_000_000
        transform = from_origin(west, north, 30, 30)
        write_chip(
            root / f'images/{chip_id}.tif',
            chip_pixels(i),
            transform=transform,
            crs=crs,
            dates=DATES,
            sensors=SENSORS,
        )
        label = chip_label(i)
        label[(label != 255) & (label >= len(legend))] = 255
        write_label(root / f'labels/{chip_id}.tif', label, transform=transform, crs=crs)
        rows.append(
            dict(
                chip_id=chip_id,
                image=f'images/{chip_id}.tif',
                label=f'labels/{chip_id}.tif',
                tile='10SEG',
                epsg=32610,
                minx=west,
                miny=north - 30 * SIZE,
                maxx=west + 30 * SIZE,
                maxy=north,
                lon=-123.0 + i,
                lat=36.0 + i / 2,
                dates=list(DATES),
                sensors=list(SENSORS),
                clear_fraction=[1.0, 0.9, 0.8],
                valid_fraction=1.0,
                class_pixels=np.bincount(label[label != 255], minlength=len(legend)).tolist(),
                purity=0.9,
                block=f'b{i}',
                split=split,
            )
        )
    write_index(root, rows, legend=legend)
    return root
