"""The map on disk: a Cloud-Optimised GeoTIFF and what lies beside it, all of it or nothing.

``map.tif`` is single-band, so that QGIS shows it with its colours and class names at once; what is
continuous goes into ``map_confidence.tif``. All files are made in a hidden folder beside the map,
read back and compared, and moved to their names, the map last: where ``map.tif`` stands, everything
beside it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio import shutil as rasterio_shutil
from rasterio._err import CPLE_BaseError  # what copy() raises; rasterio.errors does not have it
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window
from torch import Tensor

from ..data.chip_io import category_names
from ..errors import OutputExistsError, OutputWriteError, SceneError
from ..lulc import IGNORE, Legend
from .blend import Block
from .rows import RowStore
from .scene import SceneGrid, open_raster

#: Confidence, entropy and probabilities are stored as ``round(250 * p)``, 255 is nodata.
SCALE = 250
#: Side of the blocks of a COG, and the size below which no further overview is made.
BLOCK = 512
#: What ``map_confidence.tif`` can hold.
LAYERS = ('confidence', 'entropy', 'probabilities')


@dataclasses.dataclass(frozen=True)
class MapFiles:
    """The names of a map and of what lies beside it.

    Attributes:
        map: The map, ``.tif``.
    """

    map: Path

    @property
    def unfinished(self) -> Path:
        """Folder of what is not finished."""
        return self.map.with_name(f'.unfinished-{self.map.name}')

    @property
    def names(self) -> Path:
        """Class names, where GDAL looks for them."""
        return self.map.with_name(f'{self.map.name}.aux.xml')

    @property
    def confidence(self) -> Path:
        """Confidence, entropy, probabilities."""
        return self.map.with_name(f'{self.map.stem}_confidence.tif')

    @property
    def picture(self) -> Path:
        """The map as a picture, with its legend."""
        return self.map.with_suffix('.png')

    @property
    def item(self) -> Path:
        """STAC item."""
        return self.map.with_suffix('.json')

    @property
    def area(self) -> Path:
        """Hectares of each class."""
        return self.map.with_name(f'{self.map.stem}_area.csv')

    @property
    def zones(self) -> Path:
        """Hectares of each class in each zone."""
        return self.map.with_name(f'{self.map.stem}_zones.csv')

    @property
    def beside(self) -> list[Path]:
        """Everything but the map."""
        return [self.names, self.confidence, self.picture, self.item, self.area, self.zones]

    def check_free(self, overwrite: bool) -> None:
        """Refuse to replace a map.

        Raises:
            OutputExistsError: If the map is there and ``overwrite`` is not set.
            OutputWriteError: If a folder bears its name.
        """
        if self.map.is_dir():
            raise OutputWriteError(f'{self.map} is a folder; name a file, e.g. {self.map}/map.tif.')
        if self.map.exists() and not overwrite:
            raise OutputExistsError(
                f'{self.map} exists already; choose another name, or replace it with --overwrite.'
            )


def layer_names(layers: Sequence[str], legend: Legend) -> list[str]:
    """Names of the bands of ``map_confidence.tif``."""
    names = [layer for layer in LAYERS[:2] if layer in layers]
    if 'probabilities' in layers:
        names += [f'probability of {name}' for name in legend.names]
    return names


def encode(block: Block, layers: Sequence[str]) -> Tensor:
    """Return ``(1 + B, rows, width)`` uint8: class indices and :func:`layer_values`."""
    classes = classify(block)[None]
    return torch.cat([classes, layer_values(block, layers)]) if layers else classes


def write_map(
    files: MapFiles,
    work: Path,
    rows: RowStore,
    grid: SceneGrid,
    legend: Legend,
    *,
    tags: Mapping[str, str],
    layers: Sequence[str] = (),
    extras: Callable[[Path, np.ndarray], None] | None = None,
) -> None:
    """Make the files of a map from its finished rows.

    Args:
        files: Their names.
        work: Folder for unfinished files, on the disk of the map.
        rows: What :func:`encode` returned for all rows.
        grid: The grid of the scene.
        legend: Classes and colours.
        tags: What the files say about their origin.
        layers: Some of :data:`LAYERS`.
        extras: Called with ``work`` and the pixels of each class in each row, ``(height, K)``; may
            write further files of ``files`` into ``work``, under their final names.

    Raises:
        OutputWriteError: If the disk does not take it.
    """
    with writing(files.map):
        counts = _class_counts(rows, len(legend))
        _write_cog(work / files.map.name, rows, (0, 1), grid, tags, 'mode', legend)
        (work / files.names.name).write_text(category_names(legend), encoding='utf-8')
        names = layer_names(layers, legend)
        if names:
            bands = (1, 1 + len(names))
            _write_cog(work / files.confidence.name, rows, bands, grid, tags, 'average', names)
        if extras is not None:
            extras(work, counts)
        for path in files.beside:
            if (work / path.name).exists():
                (work / path.name).replace(path)
            else:  # of the map that this one replaces
                path.unlink(missing_ok=True)
        (work / files.map.name).replace(files.map)


def _class_counts(rows: RowStore, num_classes: int) -> np.ndarray:
    counts = np.empty((rows.height, num_classes), np.int64)
    for start, values in rows.chunks(0, 1):
        keys = np.arange(values.shape[1])[:, None] * 256 + values[0]
        found = np.bincount(keys.ravel(), minlength=256 * len(keys)).reshape(-1, 256)
        counts[start : start + len(keys)] = found[:, :num_classes]
    return counts


def _write_cog(
    path: Path,
    rows: RowStore,
    bands: tuple[int, int],
    grid: SceneGrid,
    tags: Mapping[str, str],
    resampling: str,
    content: Legend | Sequence[str],
) -> None:
    """Write some bands of the rows; ``content`` is the legend of classes or the names of layers."""
    plain = path.with_name(f'{path.stem}.plain.tif')
    classes = isinstance(content, Legend)
    checksums = []
    with _without_georeference_warning():
        with rasterio.open(
            plain,
            'w',
            driver='GTiff',
            dtype='uint8',
            count=bands[1] - bands[0],
            height=grid.height,
            width=grid.width,
            crs=grid.crs,
            transform=grid.transform,
            nodata=IGNORE,
            interleave='band',
            bigtiff='IF_SAFER',
            **(dict(photometric='palette') if classes else {}),
        ) as raster:
            raster.update_tags(**tags)
            if isinstance(content, Legend):
                raster.update_tags(GEOSEG_CLASSES=json.dumps(content.names))
                colors = {i: (*color, 255) for i, color in enumerate(content.colors)}
                raster.write_colormap(1, {**colors, IGNORE: (0, 0, 0, 0)})
                raster.set_band_description(1, 'class')
            else:
                raster.descriptions = content
                raster.scales = [1 / SCALE] * len(content)
            for row, values in rows.chunks(*bands):
                window = Window(0, row, grid.width, values.shape[1])
                raster.write(values, window=window)
                checksums.append((window, zlib.crc32(values)))
        rasterio_shutil.copy(
            plain,
            path,
            driver='COG',
            blocksize=BLOCK,
            compress='DEFLATE',
            overview_resampling=resampling,
            bigtiff='IF_SAFER',
        )
        plain.unlink()
        # GDAL reports some failures to write only to those who read.
        with rasterio.open(path) as raster:
            for window, checksum in checksums:
                if zlib.crc32(raster.read(window=window)) != checksum:
                    raise OSError(f'row {window.row_off} does not read back as it was written')


def classify(block: Block) -> Tensor:
    """Return ``(rows, width)`` uint8 class indices, 255 where nothing was seen."""
    # Over the first of many rows argmax is 10 times slower than comparing whole rows; as with it,
    # the first of equal scores wins.
    best, classes = block.scores[0], torch.zeros_like(block.seen, dtype=torch.uint8)
    for k, score in enumerate(block.scores[1:], start=1):
        classes.masked_fill_(score > best, k)
        best = torch.maximum(best, score)
    return classes.masked_fill_(~block.seen, IGNORE)


def layer_values(block: Block, layers: Sequence[str]) -> Tensor:
    """Return ``(B, rows, width)`` uint8 in the order of :func:`layer_names`.

    The confidence is the probability of the winning class, the entropy that of all classes
    divided by its maximum ``log K``; 0 to :data:`SCALE` stand for 0 to 1, 255 for nodata.
    """
    scores = block.scores.clamp(0, 1)
    values = []
    if 'confidence' in layers:
        values.append(scores.amax(dim=0, keepdim=True))
    if 'entropy' in layers:
        entropy = scores.new_zeros(scores.shape[1:])
        for score in scores:
            entropy -= score * score.clamp_min(1e-12).log()
        values.append(entropy[None].div_(math.log(max(len(scores), 2))).clamp_(0, 1))
    if 'probabilities' in layers:
        values.append(scores)
    return torch.cat(values).mul_(SCALE).round_().masked_fill_(~block.seen, IGNORE).byte()


def read_legend(path: Path) -> Legend:
    """Read names and colours of the classes from a map.

    Raises:
        SceneError: If the file is unreadable or does not carry them.
    """
    with open_raster(path) as raster:
        tags = raster.tags()
        names = json.loads(tags.get('GEOSEG_CLASSES', '[]'))
        if not names or raster.dtypes != ('uint8',):
            raise SceneError(f'{path} does not name its classes; give a map of tools/predict.py.')
        colors = raster.colormap(1)
    return Legend(
        name=tags.get('GEOSEG_LEGEND', ''),
        codes=tuple(range(len(names))),
        names=tuple(names),
        colors=tuple(colors[k][:3] for k in range(len(names))),
    )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that people can read."""
    path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures to write into the sentence for the user.

    Raises:
        OutputWriteError: Instead of what GDAL or the system raised.
    """
    try:
        yield
    except (OutputExistsError, OutputWriteError):
        raise
    except (OSError, RasterioError, CPLE_BaseError) as error:
        reason = str(error.__cause__ or getattr(error, 'strerror', None) or error)
        raise OutputWriteError(
            f'{path} could not be written ({reason.splitlines()[0].rstrip(".")}); check free space '
            'and permissions.'
        ) from error


@contextlib.contextmanager
def _without_georeference_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        yield
