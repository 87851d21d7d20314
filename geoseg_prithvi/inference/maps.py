"""From a scene and a model to the files of a map."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio import Env
from rasterio.errors import RasterioError
from torch import Tensor

from ..errors import SceneError
from ..version import __version__
from .area import write_area
from .describe import draw_map, scene_tags, stac_item
from .inputs import SceneInput, SceneOptions
from .job import POLL, MapJob, Share
from .overlap import BackgroundWriter
from .predictor import predict_blocks
from .scene import Scene
from .segmentor import Segmentor, wants_dates, wants_location
from .windows import Tiling
from .writer import MapFiles, encode, layer_names, write_json, write_map, writing
from .zones import Zone, write_zones

logger = logging.getLogger(__name__)

#: Rows of windows that are done again after a kill, at most; each part computes one or two more
#: than it would in one piece.
ROWS_PER_PART = 64
#: Bytes of decoded blocks that GDAL may keep for writing, and at most for reading. Its own default
#: is a share of the machine's memory.
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
        zones: Polygons, to write hectares of each class in each.
        overwrite: Replace existing maps.
        keep_same: Pass over existing maps that would come out the same.
        tags: Tags about the model.
        share: Which part of the work is this process's.
    """

    tiling: Tiling
    batch_size: int = 8
    layers: Sequence[str] = ()
    area: bool = False
    zones: Sequence[Zone] = ()
    overwrite: bool = False
    keep_same: bool = False
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    share: Share = dataclasses.field(default_factory=Share)


def make_map(
    source: SceneInput,
    segmentor: Segmentor,
    path: Path,
    scene_options: SceneOptions,
    options: MapOptions,
    progress: Callable[[float], None] = lambda share: None,
) -> MapFiles:
    """Predict a scene and write its map and what goes beside it.

    Where several processes share the scene, all return when their part is done, and the first one
    when the map is there.

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
    if not options.keep_same:
        files.check_free(options.overwrite)
    scene = source.open(scene_options)
    check_needs(scene, segmentor)
    if options.zones and scene.grid.crs is None:
        raise SceneError(
            f'{scene.name} has no coordinate system, so no zone can be found in it; leave out '
            '--zones.'
        )
    tags = {
        'TIFFTAG_SOFTWARE': f'geoseg_prithvi {__version__}',
        'GEOSEG_VERSION': __version__,
        'GEOSEG_LEGEND': segmentor.legend.name,
        **options.tags,
        **scene_tags(scene),
    }
    if options.keep_same and files.map.is_file() and not options.overwrite:
        if has_tags(files.map, tags):
            logger.info('%s is there already.', files.map)
            return files
        files.check_free(overwrite=False)

    job = plan_job(files, scene, segmentor, options, tags)
    job.start()
    try:
        _predict_parts(job, scene, segmentor, options, progress)
        if options.share.rank == 0:
            job.wait()
            _finish(job, source.name, scene, segmentor, options, tags)
            job.discard()
    except Exception:
        # What others of several processes have done stays; so it does on Ctrl-C and kill.
        if options.share.world == 1:
            job.discard()
        raise
    return files


def plan_job(
    files: MapFiles, scene: Scene, segmentor: Segmentor, options: MapOptions, tags: dict[str, str]
) -> MapJob:
    """Divide a scene into parts and say what its map depends on."""
    grid, tiling = scene.grid, options.tiling
    rows = len(tiling.starts(grid.height))
    parts = tiling.parts(grid.height, min(ROWS_PER_PART, -(-rows // options.share.world)))
    settings = dict(
        tags=tags,
        tiling=dataclasses.astuple(tiling),
        layers=list(options.layers),
        sources=[(str(f.resolve()), f.stat().st_size, f.stat().st_mtime) for f in scene.files],
        mask_clouds=scene.mask_clouds,
        on_error=scene.on_error,
    )
    bands = 1 + len(layer_names(options.layers, segmentor.legend))
    return MapJob(files, settings, parts, (bands, grid.height, grid.width))


def _predict_parts(
    job: MapJob,
    scene: Scene,
    segmentor: Segmentor,
    options: MapOptions,
    progress: Callable[[float], None],
) -> None:
    # The writer only copies and writes. Were it to compute, libgomp would keep threads for it too,
    # find more of them than cores, and put the model's own to sleep between any two operations.
    def write(rows: tuple[int, Tensor]) -> None:
        with writing(job.files.map):
            job.rows.write(rows[0], rows[1].cpu().numpy())

    numbers = job.missing(options.share)
    total = sum(job.parts[number].stop - job.parts[number].start for number in numbers)
    done = 0
    with scene, Env(GDAL_CACHEMAX=min(scene.cache_bytes, MAX_CACHE)):
        for number in numbers:
            with BackgroundWriter(write) as background:
                for block in predict_blocks(
                    scene,
                    segmentor,
                    options.tiling,
                    batch_size=options.batch_size,
                    part=job.parts[number],
                ):
                    background.put((block.row, encode(block, options.layers)))
                    done += block.seen.shape[0]
                    progress(done / total)
            job.done(number)


def _finish(
    job: MapJob,
    name: str,
    scene: Scene,
    segmentor: Segmentor,
    options: MapOptions,
    tags: dict[str, str],
) -> None:
    files, grid, legend = job.files, scene.grid, segmentor.legend

    def extras(work: Path, counts: np.ndarray) -> None:
        if options.area:
            write_area(work / files.area.name, counts, grid, legend)
        if options.zones:
            write_zones(work / files.zones.name, work / files.map.name, options.zones, legend)
        days = ', '.join(day.isoformat() for day in scene.dates)
        confidence = work / files.confidence.name if 'confidence' in options.layers else None
        title = f'{name}   {days}'
        draw_map(work / files.map.name, work / files.picture.name, legend, title, confidence)
        if scene.dates:  # a STAC item must have one
            present = [file for file in files.beside if (work / file.name).exists()]
            item = stac_item(files, grid, legend, scene.dates, tags, present)
            write_json(work / files.item.name, item)

    with Env(GDAL_CACHEMAX=WRITE_CACHE):
        write_map(
            files,
            job.folder,
            job.rows,
            grid,
            legend,
            tags=tags,
            layers=options.layers,
            extras=extras,
        )


def has_tags(path: Path, tags: dict[str, str]) -> bool:
    """Say whether a map bears these tags, and thus is of the same model and scene."""
    try:
        with rasterio.open(path) as raster:
            found = raster.tags()
    except RasterioError:
        return False
    return all(found.get(key) == value for key, value in tags.items())


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


def wait_for_maps(maps: Sequence[Path], tags: dict[str, str]) -> None:
    """Wait until maps of this model are there that other processes make."""
    while not all(path.is_file() and has_tags(path, tags) for path in maps):
        time.sleep(POLL)
