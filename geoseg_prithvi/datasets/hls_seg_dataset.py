"""The dataset of HLS chips: rows of ``chips.parquet`` as MMSegmentation samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..data.index import INDEX_NAME, index_metadata, read_index
from ..errors import ChipIndexError, ConfigError
from ..lulc import IGNORE, IO_LULC
from .subset import select_chips

_COLUMNS = (
    'chip_id',
    'image',
    'label',
    'epsg',
    'minx',
    'miny',
    'maxx',
    'maxy',
    'lon',
    'lat',
    'dates',
    'sensors',
    'class_pixels',
    'block',
)


@DATASETS.register_module()
class HLSSegDataset(BaseSegDataset):
    """Chips of a folder that ``tools/prepare_data.py`` wrote.

    Only ``chips.parquet`` is read on construction; images are opened by the pipeline. Classes and
    colours come from the index, so chips with another legend than IO/Esri serve too.

    Each sample has ``img_path``, ``seg_map_path`` (``None`` for a chip without label), ``chip_id``,
    ``block``, ``dates`` (ISO) and ``sensors`` of the T frames, ``temporal_coords`` (``(T, 2)``
    float32: year, day of year counted from 0), ``location_coords`` (``(2,)`` float32: latitude,
    longitude of the centre in degrees), ``epsg`` and ``bounds`` (west, south, east, north in metres
    of that system), ``class_pixels`` (``(K,)`` int64, labelled pixels of each class),
    ``label_map``, ``reduce_zero_label`` and ``seg_fields``.

    Args:
        data_root: The chip folder.
        split: ``train``, ``val``, ``test``, or ``None`` for all chips.
        num_frames: Frames T that the model expects; the chips must have as many.
        ignore_classes: Names of classes whose pixels count as unlabelled. The others move up:
            K shrinks, and with it ``num_classes`` of the decode head. (The stock
            ``metainfo=dict(classes=...)`` does the same by naming those to keep.)
        subset: Train on fewer chips: ``dict(fraction=0.125, seed=3)``, the path of a manifest
            of ``tools/balance_data.py``, or of a text file with one chip id a line.
        metainfo: As in the base class.
        **kwargs: ``pipeline``, ``test_mode``, ``indices``, ``serialize_data``, ``lazy_init``,
            ``max_refetch`` of the base class.

    Raises:
        DataNotFoundError: If there is no folder, no index, or no subset file.
        ChipIndexError: If the index is unreadable or does not hold what is asked for.
        ConfigError: If an option is outside its legal set.
    """

    METAINFO = IO_LULC.metainfo

    def __init__(
        self,
        data_root: str,
        split: str | None = 'train',
        num_frames: int = 3,
        ignore_classes: Sequence[str] = (),
        subset: Mapping[str, Any] | str | None = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if subset is not None and split != 'train':
            raise ConfigError(
                f'subset= was given for split={split!r}, but only training data may shrink; '
                'remove it, or scores cannot be compared.'
            )
        self.split = split
        self.num_frames = num_frames
        self.subset = subset
        described = index_metadata(read_index(data_root, columns=()))
        if described['num_frames'] != num_frames:
            raise ChipIndexError(
                f'{Path(data_root) / INDEX_NAME} holds chips of {described["num_frames"]} frames, '
                f'but num_frames={num_frames}; change num_frames in the dataset and model config, '
                f'or prepare chips with --frames {num_frames}.'
            )
        self._legend = dict(classes=tuple(described['classes']), palette=described['colors'])
        super().__init__(
            data_root=str(data_root),
            metainfo=self._choose_classes(ignore_classes, metainfo),
            **kwargs,
        )
        # Not through metainfo=, where the base class takes a string for the name of a file.
        self._metainfo['split'] = split

    def _choose_classes(
        self, ignore_classes: Sequence[str], metainfo: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return ``metainfo`` with the classes to keep and their colours."""
        metainfo = dict(metainfo or {})
        names = self._legend['classes']
        kept = metainfo.get('classes', [name for name in names if name not in ignore_classes])
        unknown = sorted({*kept, *ignore_classes} - {*names})
        if unknown:
            raise ConfigError(f'{unknown} is no class of these chips; choose from {list(names)}.')
        if not kept:
            raise ConfigError('ignore_classes leaves no class to learn; keep at least one.')
        colors = dict(zip(names, self._legend['palette'], strict=True))
        return {
            'palette': [list(colors[name]) for name in kept],
            **metainfo,
            'classes': tuple(kept),
        }

    def get_label_map(self, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Map the classes in the files to those of the dataset.

        Overrides the base class, which knows only the classes of the Python class.

        Args:
            new_classes: Names of the classes of the dataset.

        Returns:
            Class in the file -> class index, or :data:`IGNORE` for one left out.
        """
        position = {name: k for k, name in enumerate(new_classes)}
        return {k: position.get(name, IGNORE) for k, name in enumerate(self._legend['classes'])}

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read the rows of the split and choose the subset.

        Returns:
            One dict a chip, in the order of the index.
        """
        table = read_index(self.data_root, split=self.split, columns=_COLUMNS)
        counts = self._class_pixels(table)
        if self.subset is not None:
            chosen = select_chips(self.data_root, table['chip_id'].to_pylist(), self.subset)
            table, counts = table.take(pa.array(chosen)), counts[chosen]
        root = Path(self.data_root)
        locations = np.stack([table['lat'], table['lon']], axis=1).astype(np.float32)
        times = self._temporal_coords(table)
        return [
            dict(
                img_path=str(root / row['image']),
                seg_map_path=row['label'] and str(root / row['label']),
                chip_id=row['chip_id'],
                block=row['block'],
                dates=row['dates'],
                sensors=row['sensors'],
                temporal_coords=times[i],
                location_coords=locations[i],
                epsg=row['epsg'],
                bounds=(row['minx'], row['miny'], row['maxx'], row['maxy']),
                class_pixels=counts[i],
                label_map=self.label_map,
                reduce_zero_label=False,
                seg_fields=[],
            )
            for i, row in enumerate(table.to_pylist())
        ]

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the classes present in a chip, as mmengine's ``ClassBalancedDataset`` asks."""
        return np.flatnonzero(self.get_data_info(idx)['class_pixels']).tolist()

    def _class_pixels(self, table: pa.Table) -> np.ndarray:
        """Labelled pixels of the classes of the dataset, ``(N, K)`` int64."""
        stored = np.asarray(table['class_pixels'].combine_chunks().flatten(), np.int64)
        stored = stored.reshape(len(table), len(self._legend['classes']))
        kept = [
            old for old, new in sorted(self.label_map.items(), key=lambda x: x[1]) if new != 255
        ]
        return stored[:, kept]

    def _temporal_coords(self, table: pa.Table) -> np.ndarray:
        """Year and day of year counted from 0, ``(N, T, 2)`` float32."""
        days = np.asarray(table['dates'].combine_chunks().flatten()).astype('datetime64[D]')
        years = days.astype('datetime64[Y]')
        coords = np.stack([years.astype(int) + 1970, (days - years).astype(int)], axis=-1)
        return coords.astype(np.float32).reshape(len(table), self.num_frames, 2)
