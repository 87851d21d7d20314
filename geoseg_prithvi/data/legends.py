"""Legends of public chip collections, and of files that users bring."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import ConfigError
from ..lulc import IO_LULC, Legend

#: Legends by name. Crops: codes of the dataset card of multi-temporal-crop-classification, colours
#: of USDA's Cropland Data Layer. Burn scars: codes of the card of hls_burn_scars, -1 is no data.
LEGENDS: dict[str, Legend] = {
    'io-lulc-annual': IO_LULC,
    'crops': Legend(
        name='crops',
        codes=tuple(range(1, 14)),
        names=(
            'natural vegetation',
            'forest',
            'corn',
            'soybeans',
            'wetlands',
            'developed/barren',
            'open water',
            'winter wheat',
            'alfalfa',
            'fallow/idle cropland',
            'cotton',
            'sorghum',
            'other',
        ),
        colors=(
            (233, 255, 190),
            (147, 204, 147),
            (255, 211, 0),
            (38, 112, 0),
            (128, 179, 179),
            (156, 156, 156),
            (77, 112, 163),
            (168, 112, 0),
            (255, 168, 227),
            (191, 191, 122),
            (255, 38, 38),
            (255, 158, 15),
            (0, 175, 77),
        ),
        nodata_codes=(0, 255),
    ),
    'burn-scars': Legend(
        name='burn-scars',
        codes=(0, 1),
        names=('not burned', 'burn scar'),
        colors=((214, 204, 173), (166, 42, 22)),
        nodata_codes=(255,),
    ),
}


def load_legend(name: str) -> Legend:
    """Return a legend by name, or read it from a JSON file with the fields of :class:`Legend`.

    Raises:
        ConfigError: If it is neither.
    """
    if name in LEGENDS:
        return LEGENDS[name]
    try:
        document = json.loads(Path(name).read_text(encoding='utf-8'))
        colors = tuple(tuple(int(v) for v in color) for color in document['colors'])
        legend = Legend(
            name=str(document['name']),
            codes=tuple(int(code) for code in document['codes']),
            names=tuple(str(text) for text in document['names']),
            colors=colors,
            nodata_codes=tuple(int(code) for code in document.get('nodata_codes', (0,))),
        )
    except FileNotFoundError:
        raise ConfigError(
            f'There is no legend {name!r}; use one of {sorted(LEGENDS)} or a JSON file.'
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f'{name} is no legend ({type(error).__name__}: {error}); it needs name, codes, names, '
            'colors and, if not [0], nodata_codes.'
        ) from None
    codes = (*legend.codes, *legend.nodata_codes)
    if (
        not len(legend.codes) == len(legend.names) == len(colors)
        or len(set(codes)) < len(codes)
        or not all(0 <= code <= 255 for code in codes)
        or not all(len(color) == 3 and all(0 <= v <= 255 for v in color) for color in colors)
    ):
        raise ConfigError(
            f'{name} is no legend: it needs as many codes as names and colours, codes from 0 to '
            '255 that differ from each other, and colours of three numbers from 0 to 255.'
        )
    return legend
