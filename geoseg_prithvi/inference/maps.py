"""From a scene and a model to the files of a map."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import rasterio

from ..errors import SceneError
from ..version import __version__
from .area import write_area
from .describe import draw_map, scene_tags, stac_item
from .inputs import SceneInput, SceneOptions
from .overlap import BackgroundWriter
from .predictor import predict_blocks
from .scene import Scene
from .segmentor import Segmentor, wants_dates, wants_location
from .windows import Tiling
from .writer import MapFiles, MapWriter, write_json

logger = logging.getLogger(__name__)

#: Bytes of decoded blocks that GDAL may keep for writing, and at most for reading and writing
#: together. Its own default is a share of the machine's memory.
WRITE_CACHE, MAX_CACHE = 32 << 20, 512 << 20


@dataclasses.dataclass(frozen=True)
class MapOptions:
    """How maps are made.

    Attributes:
        tiling: The windows.
        batch_size: Windows at once, at most.
        layers: What goes into ``map_confidence.tif``; see
            :data:`~geoseg_prithvi.inference.writer.LAYERS`.
        area: Whether to write hectares of each class.
        overwrite: Replace existing maps.
        tags: Tags about the model.
    """

    tiling: Tiling
    batch_size: int = 8
    layers: Sequence[str] = ()
    area: bool = False
    overwrite: bool = False
    tags: dict[str, str] = dataclasses.field(default_factory=dict)


def make_map(
    source: SceneInput,
    segmentor: Segmentor,
    path: Path,
    scene_options: SceneOptions,
    options: MapOptions,
    progress: Callable[[float], None] = lambda share: None,
) -> MapFiles:
    """Predict a scene and write its map and what goes beside it.

    Args:
        source: The scene.
        segmentor: The model.
        path: The map, ``.tif``.
        scene_options: How the scene is put together.
        options: How the map is made.
        progress: Called with the share done, 0..1.

    Returns:
        The names of the files.

    Raises:
        OutputExistsError: If the map is there.
        OutputWriteError: If it cannot be written.
        SceneError: If the scene lacks what the model needs, or is damaged.
        GranuleError: If the granules do not make a scene.
        LayoutError: If bands are missing or their order is unknown.
    """
    files = MapFiles(path)
    files.check_free(options.overwrite)
    scene = source.open(scene_options)
    check_needs(scene, segmentor)
    tags = {
        'TIFFTAG_SOFTWARE': f'geoseg_prithvi {__version__}',
        'GEOSEG_VERSION': __version__,
        'GEOSEG_LEGEND': segmentor.legend.name,
        **options.tags,
        **scene_tags(scene),
    }
    grid = scene.grid
    writer = MapWriter(
        files,
        grid,
        segmentor.legend,
        tags=tags,
        layers=options.layers,
        overwrite=options.overwrite,
    )

    def extras(work: Path, files: MapFiles) -> None:
        legend = segmentor.legend
        if options.area:
            write_area(work / files.area.name, writer.counts, grid, legend)
        draw_map(work / files.map.name, work / files.picture.name, legend, _title(source, scene))
        if scene.dates:  # a STAC item must have one
            present = [file for file in files.beside if (work / file.name).exists()]
            item = stac_item(files, grid, legend, scene.dates, tags, present)
            write_json(work / files.item.name, item)

    with scene, writer, rasterio.Env(GDAL_CACHEMAX=min(scene.cache_bytes + WRITE_CACHE, MAX_CACHE)):
        with BackgroundWriter(writer.write) as background:
            for block in predict_blocks(
                scene, segmentor, options.tiling, batch_size=options.batch_size
            ):
                background.put(block)
                progress((block.row + block.seen.shape[0]) / grid.height)
        writer.finish(extras)
    return files


def check_needs(scene: Scene, segmentor: Segmentor) -> None:
    """Check that a scene tells the dates and the place that the model embeds.

    Raises:
        SceneError: If it does not.
    """
    if wants_dates(segmentor.model) and not scene.dates:
        raise SceneError(
            f'{scene.name} names no dates, which this model needs; give one a frame with --dates.'
        )
    if wants_location(segmentor.model) and scene.grid.crs is None:
        raise SceneError(
            f'{scene.name} has no coordinate system, but this model needs to know its place; '
            'assign one, e.g. with gdal_edit.py -a_srs EPSG:32610.'
        )


def _title(source: SceneInput, scene: Scene) -> str:
    days = ', '.join(day.isoformat() for day in scene.dates)
    return f'{source.name}   {days}'.rstrip()
