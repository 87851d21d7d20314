"""The map on disk: a Cloud-Optimised GeoTIFF and what lies beside it, all of it or nothing.

``map.tif`` is single-band, so that QGIS shows it with its colours and class names at once; what is
continuous goes into ``map_confidence.tif``. Rows are streamed into plain files in a hidden folder
beside the map. When all are there they become COGs, are read back and compared, and move to their
names, the map last: where ``map.tif`` stands, everything beside it is whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio import shutil as rasterio_shutil
from rasterio._err import CPLE_BaseError  # what copy() raises; rasterio.errors does not have it
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from ..errors import OutputExistsError, OutputWriteError
from ..lulc import IGNORE, Legend
from .blend import Block
from .scene import SceneGrid

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
    def work(self) -> Path:
        """Folder of the unfinished files."""
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


class MapWriter:
    """Write a map and its layers block by block; a context manager.

    Args:
        files: Where to.
        grid: The grid of the scene.
        legend: Classes and colours.
        tags: What the files say about their origin.
        layers: Some of :data:`LAYERS`.
        overwrite: Replace an existing map.

    Raises:
        OutputExistsError: If the map is there.
        OutputWriteError: If it cannot be written; nothing is left then.
    """

    def __init__(
        self,
        files: MapFiles,
        grid: SceneGrid,
        legend: Legend,
        *,
        tags: Mapping[str, str],
        layers: Sequence[str] = (),
        overwrite: bool = False,
    ) -> None:
        files.check_free(overwrite)
        self.files = files
        self.grid = grid
        self.legend = legend
        self._tags = dict(tags)
        self._layers = tuple(layers)
        self._bands = layer_names(layers, legend)
        self._rasters: dict[str, rasterio.io.DatasetWriter] = {}
        #: (name, first row, rows, checksum) of all that was written.
        self._written: list[tuple[str, int, int, int]] = []
        #: Pixels of each class in each row of the scene.
        self.counts = np.zeros((grid.height, len(legend)), np.int64)

    def __enter__(self) -> MapWriter:
        with writing(self.files.map):
            shutil.rmtree(self.files.work, ignore_errors=True)  # of a killed run
            self.files.work.mkdir(parents=True)
            self._check_space()
            with _cleanup_on_error(self._abandon):
                self._rasters['map'] = self._create('map', 1)
                if self._bands:
                    self._rasters['confidence'] = self._create('confidence', len(self._bands))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._abandon()

    def write(self, block: Block) -> None:
        """Write finished rows; to be called from the top down, from one thread."""
        classes = classify(block)
        with writing(self.files.map):
            self._put('map', block.row, classes[None])
            if self._bands:
                self._put('confidence', block.row, layer_values(block, self._layers))
        rows = np.arange(len(classes))[:, None] * 256 + classes
        counts = np.bincount(rows.ravel(), minlength=256 * len(classes)).reshape(-1, 256)
        self.counts[block.row : block.row + len(classes)] += counts[:, : len(self.legend)]

    def finish(self, extras: Callable[[Path, MapFiles], None] | None = None) -> None:
        """Make the COGs, check them, and give all files their names.

        Args:
            extras: Called with the folder of the unfinished files and the final names; may
                write further files, by their final name, into the folder.
        """
        work = self.files.work
        with writing(self.files.map):
            for raster in self._rasters.values():
                raster.close()
            self._cog('map', work / self.files.map.name, 'mode')
            names = work / self.files.names.name
            names.write_text(category_names(self.legend), encoding='utf-8')
            if self._bands:
                self._cog('confidence', work / self.files.confidence.name, 'average')
            if extras is not None:
                extras(work, self.files)
            for path in self.files.beside:
                if (work / path.name).exists():
                    (work / path.name).replace(path)
                else:  # of the map that this one replaces
                    path.unlink(missing_ok=True)
            (work / self.files.map.name).replace(self.files.map)
        self._abandon()

    def _check_space(self) -> None:
        # The plain rows are the least that must fit, and better told before than after hours.
        needed = self.grid.height * self.grid.width * (1 + len(self._bands))
        free = shutil.disk_usage(self.files.work).free
        if free < needed:
            self._abandon()
            raise OSError(f'it takes {needed >> 20} MiB and {free >> 20} MiB are free')

    def _create(self, name: str, count: int) -> rasterio.io.DatasetWriter:
        palette = name == 'map'
        with _without_georeference_warning():
            raster = rasterio.open(
                self.files.work / f'{name}.rows.tif',
                'w',
                driver='GTiff',
                dtype='uint8',
                count=count,
                height=self.grid.height,
                width=self.grid.width,
                crs=self.grid.crs,
                transform=self.grid.transform,
                nodata=IGNORE,
                interleave='band',
                bigtiff='IF_SAFER',
                **(dict(photometric='palette') if palette else {}),
            )
        raster.update_tags(**self._tags)
        if palette:
            colors = {i: (*color, 255) for i, color in enumerate(self.legend.colors)}
            raster.write_colormap(1, {**colors, IGNORE: (0, 0, 0, 0)})
            raster.set_band_description(1, 'class')
        else:
            raster.descriptions = self._bands
            raster.scales = [1 / SCALE] * count
        return raster

    def _put(self, name: str, row: int, values: np.ndarray) -> None:
        rows = values.shape[1]
        self._rasters[name].write(values, window=Window(0, row, self.grid.width, rows))
        self._written.append((name, row, rows, zlib.crc32(np.ascontiguousarray(values))))

    def _cog(self, name: str, path: Path, resampling: str) -> None:
        source = self.files.work / f'{name}.rows.tif'
        with _without_georeference_warning():
            rasterio_shutil.copy(
                source,
                path,
                driver='COG',
                blocksize=BLOCK,
                compress='DEFLATE',
                overview_resampling=resampling,
                bigtiff='IF_SAFER',
            )
            # GDAL reports some failures to write only to those who read.
            with rasterio.open(path) as raster:
                for kind, row, rows, checksum in self._written:
                    if kind != name:
                        continue
                    values = raster.read(window=Window(0, row, self.grid.width, rows))
                    if zlib.crc32(values) != checksum:
                        raise OSError(f'rows {row} to {row + rows - 1} do not read back')
        source.unlink()

    def _abandon(self) -> None:
        for raster in self._rasters.values():
            with contextlib.suppress(RasterioError, OSError):
                raster.close()
        self._rasters.clear()
        shutil.rmtree(self.files.work, ignore_errors=True)


def classify(block: Block) -> np.ndarray:
    """Return ``(rows, width)`` uint8 class indices, 255 where nothing was seen."""
    # Over the first of many rows argmax is 10 times slower than comparing whole rows; as with it,
    # the first of equal scores wins.
    best, classes = block.scores[0], torch.zeros_like(block.seen, dtype=torch.uint8)
    for k, score in enumerate(block.scores[1:], start=1):
        classes.masked_fill_(score > best, k)
        best = torch.maximum(best, score)
    return classes.masked_fill_(~block.seen, IGNORE).cpu().numpy()


def layer_values(block: Block, layers: Sequence[str]) -> np.ndarray:
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
    stored = [
        value.mul(SCALE).round_().masked_fill_(~block.seen, IGNORE).byte().cpu() for value in values
    ]
    return np.concatenate([value.numpy() for value in stored])


def category_names(legend: Legend) -> str:
    """Return GDAL's sidecar with the class names."""
    from xml.sax.saxutils import escape

    names = ''.join(f'      <Category>{escape(name)}</Category>\n' for name in legend.names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f'{names}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n'
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
            'and permissions. Nothing was left behind.'
        ) from error


@contextlib.contextmanager
def _cleanup_on_error(clean: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        clean()
        raise


@contextlib.contextmanager
def _without_georeference_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', NotGeoreferencedWarning)
        yield
