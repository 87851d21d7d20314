"""Facts of Harmonized Landsat Sentinel-2 (HLS) V2.0: bands, Fmask bits, file names, scaling.

Source, unless stated otherwise: HLS Product User Guide v2.0 (Masek et al., NASA LP DAAC).
This module knows nothing of the rest of the package and imports neither torch nor rasterio.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import re

import numpy as np

from .errors import ConfigError, GranuleError

#: Canonical band names in the order of Prithvi's channels.
BANDS: tuple[str, ...] = ('BLUE', 'GREEN', 'RED', 'NIR_NARROW', 'SWIR_1', 'SWIR_2')

#: Canonical band -> band in the file name, per sensor. The NIR is the narrow one (S30 B8A, not
#: the broad B08): Prithvi was pre-trained on it, and it is what matches L30 B05.
SENSOR_BANDS: dict[str, dict[str, str]] = {
    'L30': dict(zip(BANDS, ('B02', 'B03', 'B04', 'B05', 'B06', 'B07'), strict=True)),
    'S30': dict(zip(BANDS, ('B02', 'B03', 'B04', 'B8A', 'B11', 'B12'), strict=True)),
}

#: Reflectance is stored as int16 x 10000. Small negatives over water and shadow are real data;
#: 0 is a legal value and never means nodata.
SCALE = 1e-4
#: Fill value of the reflectance bands.
FILL = -9999
#: Fill value of Fmask.
FMASK_FILL = 255
#: Pixel size in metres, and rows and columns of a full tile.
PIXEL_SIZE = 30.0
TILE_SIZE = 3660


class Fmask(enum.IntFlag):
    """Bits of the HLS V2.0 quality layer. Bit 0 (cirrus) is unused in V2.0."""

    CLOUD = 1 << 1
    ADJACENT = 1 << 2
    SHADOW = 1 << 3
    SNOW = 1 << 4
    WATER = 1 << 5


#: Bits 6-7 of Fmask: aerosol level.
AEROSOL_SHIFT = 6
AEROSOL_LEVELS: tuple[str, ...] = ('climatology', 'low', 'moderate', 'high')

#: A pixel with any of these flags does not show the ground. Snow and water are ground.
OBSCURED = Fmask.CLOUD | Fmask.ADJACENT | Fmask.SHADOW


def fmask_clear(fmask: np.ndarray, obscured: Fmask = OBSCURED) -> np.ndarray:
    """Say where the ground is seen.

    Args:
        fmask: Any shape, uint8, as read from the file (never interpolated).
        obscured: The flags that make a pixel unclear.

    Returns:
        Boolean array of the same shape; fill pixels are not clear.
    """
    return (fmask != FMASK_FILL) & ((fmask & np.uint8(obscured)) == 0)


def fmask_aerosol(fmask: np.ndarray) -> np.ndarray:
    """Return the aerosol level, 0 to 3, an index into :data:`AEROSOL_LEVELS`."""
    return fmask >> AEROSOL_SHIFT


_NAME = re.compile(
    r'HLS\.(?P<sensor>L30|S30)\.T(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z]{2})'
    r'\.(?P<date>\d{7}T\d{6})\.v2\.0(?:\.(?P<band>B\d{2}|B8A|Fmask|[A-Z]{3}))?(?:\.tif)?$'
)


@dataclasses.dataclass(frozen=True, order=True)
class GranuleId:
    """The name of one HLS granule, without band and extension.

    Attributes:
        tile: MGRS tile without the leading ``T``, e.g. ``10SEG``.
        acquired: Acquisition time, UTC.
        sensor: ``L30`` or ``S30``.
    """

    tile: str
    acquired: dt.datetime
    sensor: str

    @classmethod
    def parse(cls, name: str) -> tuple[GranuleId, str | None]:
        """Split a granule's or a band file's name into the granule and the band.

        Args:
            name: For example ``HLS.S30.T10SEG.2022123T190919.v2.0.B8A.tif``.

        Returns:
            The granule, and the band as it stands in the name (``None`` for a bare granule).

        Raises:
            GranuleError: If ``name`` is no HLS V2.0 name.
        """
        match = _NAME.match(name)
        if match is None:
            raise GranuleError(
                f'{name} is no HLS V2.0 name; expected '
                'HLS.{L30|S30}.T{MGRS}.{YYYYDDD}T{HHMMSS}.v2.0.{band}.tif.'
            )
        try:
            acquired = dt.datetime.strptime(match['date'], '%Y%jT%H%M%S')
        except ValueError as error:
            raise GranuleError(f'{name} has an impossible acquisition time: {error}.') from None
        return cls(match['tile'], acquired, match['sensor']), match['band']

    def __str__(self) -> str:
        return f'HLS.{self.sensor}.T{self.tile}.{self.acquired:%Y%jT%H%M%S}.v2.0'

    def band_file(self, band: str) -> str:
        """Return the file name of a canonical band (``NIR_NARROW``) or of ``Fmask``."""
        return f'{self}.{SENSOR_BANDS[self.sensor].get(band, band)}.tif'


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Per-band mean and standard deviation in the units of the files (reflectance x 10000)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


#: Statistics of the pre-training data, from the ``config.json`` published with the weights
#: (Prithvi-EO-1.0-100M and Prithvi-EO-2.0-300M).
NORMALIZATION: dict[str, Normalization] = {
    'v1': Normalization(
        (775.0, 1081.0, 1229.0, 2497.0, 2204.0, 1611.0),
        (1282.0, 1270.0, 1399.0, 1368.0, 1292.0, 1155.0),
    ),
    'v2': Normalization(
        (1087.0, 1342.0, 1433.0, 2734.0, 1958.0, 1363.0),
        (2248.0, 2179.0, 2178.0, 1850.0, 1242.0, 1049.0),
    ),
}


def normalization(variant: str) -> Normalization:
    """Return the pre-training statistics for ``v1``, ``v2`` or a variant such as ``v2-300M-TL``.

    Raises:
        ConfigError: If the variant is of neither generation.
    """
    generation = variant.partition('-')[0]
    if generation not in NORMALIZATION:
        raise ConfigError(
            f'No normalisation is known for {variant!r}; use one of {sorted(NORMALIZATION)}, '
            'a variant name that starts with one of them, or your own statistics.'
        )
    return NORMALIZATION[generation]
