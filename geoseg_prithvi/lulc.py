"""The legend of the IO/Esri annual land-use/land-cover map: codes, names, colours.

Source: Karra et al. 2021 (IGARSS) and the Impact Observatory annual 10 m v2/v3 product guide;
colours are those of the Esri Living Atlas. A :class:`Legend` carries any other nomenclature too.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .errors import LabelError

#: Index of pixels that neither loss nor metric sees, and nodata of label and map files.
IGNORE = 255


@dataclasses.dataclass(frozen=True)
class Legend:
    """A nomenclature: codes in the source map, and classes 0..K-1 in the order of ``names``.

    Attributes:
        name: Short name, stored with what is written.
        codes: Code of each class in the source map.
        names: Name of each class.
        colors: ``(R, G, B)`` of each class, 0..255.
        nodata_codes: Codes in the source map that mean "no label".
    """

    name: str
    codes: tuple[int, ...]
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    nodata_codes: tuple[int, ...] = (0,)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def metainfo(self) -> dict[str, object]:
        """``classes`` and ``palette`` as MMSegmentation's datasets and visualizers want them."""
        return dict(classes=self.names, palette=[list(color) for color in self.colors])

    @property
    def lookup(self) -> np.ndarray:
        """A ``(256,)`` uint8 table, code -> class index; codes of no class -> :data:`IGNORE`."""
        table = np.full(256, IGNORE, np.uint8)
        table[list(self.codes)] = np.arange(len(self), dtype=np.uint8)
        return table

    def encode(self, codes: np.ndarray, source: object) -> np.ndarray:
        """Turn source codes into class indices.

        Args:
            codes: Any shape, uint8.
            source: The file they come from, for the message.

        Returns:
            uint8 of the same shape: 0..K-1, :data:`IGNORE` where the map has no data.

        Raises:
            LabelError: If a code stands in no legend.
        """
        present = np.flatnonzero(np.bincount(codes.ravel(), minlength=256))
        unknown = sorted(set(present.tolist()) - set(self.codes) - set(self.nodata_codes))
        if unknown:
            raise LabelError(
                f'{source} holds the label code(s) {unknown}, which the legend {self.name!r} does '
                f'not know (codes {sorted(self.codes)}, no data {sorted(self.nodata_codes)}); '
                'pass the right label map, or another legend.'
            )
        return self.lookup[codes]


#: IO/Esri annual LULC. All nine are classes: the published study scores snow and clouds too.
IO_LULC = Legend(
    name='io-lulc-annual',
    codes=(1, 2, 4, 5, 7, 8, 9, 10, 11),
    names=(
        'water',
        'trees',
        'flooded vegetation',
        'crops',
        'built area',
        'bare ground',
        'snow/ice',
        'clouds',
        'rangeland',
    ),
    colors=(
        (26, 91, 171),
        (53, 130, 33),
        (135, 209, 158),
        (255, 219, 92),
        (237, 2, 42),
        (237, 233, 228),
        (242, 250, 255),
        (200, 200, 200),
        (198, 173, 141),
    ),
    nodata_codes=(0, 255),
)
