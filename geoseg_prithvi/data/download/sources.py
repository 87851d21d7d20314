"""Where HLS and the label maps can be had."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ...errors import ConfigError
from .access import Access, earthdata, planetary_computer

PLANETARY_COMPUTER_URL = 'https://planetarycomputer.microsoft.com/api/stac/v1'
LPDAAC_URL = 'https://cmr.earthdata.nasa.gov/stac/LPCLOUD'
#: Names of the two HLS V2.0 collections (L30, S30) at LP DAAC and at Planetary Computer.
HLS_COLLECTIONS: tuple[tuple[str, str], ...] = (
    ('HLSL30_2.0', 'HLSS30_2.0'),
    ('hls2-l30', 'hls2-s30'),
)
LABEL_COLLECTION = 'io-lulc-annual-v02'
#: Key of the map among the assets of an item of :data:`LABEL_COLLECTION`.
LABEL_ASSET = 'data'


@dataclasses.dataclass(frozen=True)
class Source:
    """A STAC API and the way to its files.

    Attributes:
        url: Root of the API.
        access: Makes the login.
        collections: Names of the HLS collections, if known.
    """

    url: str
    access: Callable[[], Access]
    collections: tuple[str, ...] = ()

    @classmethod
    def named(cls, name: str) -> Source:
        """Return ``lpdaac``, ``planetary-computer``, or the STAC API at an address.

        Raises:
            ConfigError: If it is none of these.
        """
        if name == 'lpdaac':
            return cls(LPDAAC_URL, earthdata, HLS_COLLECTIONS[0])
        if name == 'planetary-computer' or name.rstrip('/') == PLANETARY_COMPUTER_URL:
            return cls(PLANETARY_COMPUTER_URL, planetary_computer, HLS_COLLECTIONS[1])
        if name.startswith(('http://', 'https://')):
            return cls(name.rstrip('/'), Access)
        raise ConfigError(
            f'{name!r} is no source; use lpdaac, planetary-computer or the address of a STAC API.'
        )

    @classmethod
    def of_labels(cls, name: str) -> Source:
        """Return where the labels come from if HLS comes from ``name``: LP DAAC has none."""
        return cls.named('planetary-computer' if name == 'lpdaac' else name)
