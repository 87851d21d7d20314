"""From what the user names to scenes: folders of granules, stacked rasters, lists of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from ..data.frames import SeasonWindow, candidates, check_windows, choose_frames, equal_windows
from ..data.granules import Granule, check_grid, find_granules, tile_grid, unreadable
from ..errors import ConfigError, DataNotFoundError, GranuleError, SceneError
from ..hls import BANDS, fmask_clear
from ..layout import channel_order
from .scene import Scene, SceneGrid, Source, open_raster

logger = logging.getLogger(__name__)

#: Ends of the names of stacked rasters.
RASTER_SUFFIXES = ('.tif', '.tiff', '.vrt')


@dataclasses.dataclass(frozen=True)
class SceneOptions:
    """How scenes are put together.

    Attributes:
        num_frames: Frames T that the model takes.
        bands: Names of its C bands.
        dates: Date of each frame: chooses granules, or dates a raster that names none.
        year: Year of the frames, for granules; ``None`` takes the last one that has all.
        windows: Season windows, one a frame; ``None`` divides the year equally.
        layout: How to read a raster that does not name its bands.
        mask_clouds: Whether clouded pixels count as not seen.
        on_error: ``raise``, or ``nodata`` to go on past damaged parts of a file.
    """

    num_frames: int
    bands: Sequence[str] = BANDS
    dates: Sequence[dt.date] | None = None
    year: int | None = None
    windows: Sequence[SeasonWindow] | None = None
    layout: str | None = None
    mask_clouds: bool = False
    on_error: str = 'raise'

    def __post_init__(self) -> None:
        for name, values in (('dates', self.dates), ('windows', self.windows)):
            if values is not None and len(values) != self.num_frames:
                raise ConfigError(
                    f'{len(values)} {name} were given, but the model takes {self.num_frames} '
                    'frames; give one a frame.'
                )
        if self.windows is not None:
            check_windows(self.windows)


@dataclasses.dataclass(frozen=True)
class SceneInput:
    """A scene that can be opened.

    Attributes:
        name: Names the map where several are made.
        open: Returns the scene, with its frames chosen.
    """

    name: str
    open: Callable[[SceneOptions], Scene]


def find_scenes(inputs: Sequence[Path]) -> list[SceneInput]:
    """Find the scenes behind paths.

    Args:
        inputs: Each a folder of HLS granules (one scene a tile), a folder of stacked rasters, a
            stacked raster or VRT, or a text file that lists such paths, one a line and relative
            to itself.

    Raises:
        DataNotFoundError: If there is nothing under a path.
        SceneError: If two scenes bear one name, so that their maps would too.
    """
    scenes = [scene for path in inputs for scene in _scenes_of(path)]
    names = [scene.name for scene in scenes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SceneError(
            f'Two scenes are called {twice[0]}, so their maps would be too; predict them apart.'
        )
    return scenes


def _scenes_of(path: Path) -> list[SceneInput]:
    if path.is_dir():
        rasters = sorted(p for p in path.iterdir() if p.suffix.lower() in RASTER_SUFFIXES)
        if rasters and not any(p.name.startswith('HLS.') for p in rasters):
            return [_stack_input(p) for p in rasters]
        return [
            SceneInput(tile, lambda options, g=granules: open_granules(g, options))
            for tile, granules in find_granules(path).items()
        ]
    if not path.is_file():
        raise DataNotFoundError(
            f'The input {path} does not exist; give a folder of HLS granules, a stacked GeoTIFF '
            'or VRT, or a text file that lists such paths.'
        )
    if path.suffix.lower() == '.txt':
        lines = [line.strip() for line in path.read_text().splitlines()]
        listed = [path.parent / line for line in lines if line and not line.startswith('#')]
        if not listed:
            raise DataNotFoundError(f'The list {path} names no input; write one path a line.')
        return [scene for entry in listed for scene in _scenes_of(entry)]
    return [_stack_input(path)]


def _stack_input(path: Path) -> SceneInput:
    return SceneInput(path.stem, lambda options: open_stack(path, options))


def open_stack(path: Path, options: SceneOptions) -> Scene:
    """Make a scene of a raster that holds all bands of all frames.

    Bands are found by name (``t0_BLUE``), dates in the tag ``GEOSEG_DATES``, as chips have them.

    Raises:
        SceneError: If the file is unreadable, not int16, or its dates do not fit.
        LayoutError: If a band is missing or the order is unknown.
    """
    with open_raster(path) as dataset:
        order = channel_order(
            dataset.descriptions,
            options.num_frames,
            options.bands,
            source=path,
            layout=options.layout,
        )
        kinds = sorted(set(dataset.dtypes))
        if kinds != ['int16']:
            raise SceneError(
                f'{path} holds {", ".join(kinds)}, but int16 reflectance x 10000 is expected; '
                'convert it.'
            )
        grid = SceneGrid.of(dataset)
        tags = dataset.tags()
    if grid.crs is None:
        logger.warning('%s has no coordinate system; neither will its map.', path)
    return Scene(
        name=str(path),
        grid=grid,
        sources=[Source(path, tuple(i + 1 for i in order), tuple(range(len(order))))],
        num_frames=options.num_frames,
        bands=options.bands,
        dates=options.dates or _tag_dates(path, tags, options.num_frames),
        sensors=[s for s in tags.get('GEOSEG_SENSORS', '').split(',') if s][: options.num_frames],
        mask_clouds=options.mask_clouds,
        on_error=options.on_error,
    )


def _tag_dates(path: Path, tags: dict[str, str], num_frames: int) -> list[dt.date]:
    texts = [text for text in tags.get('GEOSEG_DATES', '').split(',') if text]
    try:
        dates = [dt.date.fromisoformat(text) for text in texts[:num_frames]]
    except ValueError as error:
        raise SceneError(f'The tag GEOSEG_DATES of {path} is no list of dates: {error}.') from None
    if dates and len(dates) < num_frames:
        raise SceneError(
            f'{path} names {len(dates)} dates for {num_frames} frames; give all with --dates.'
        )
    return dates


def open_granules(granules: Sequence[Granule], options: SceneOptions) -> Scene:
    """Make a scene of the granules of one tile, with one granule a frame.

    As for training chips, each season window gives the clearest of its granules, here over the
    whole tile.

    Raises:
        GranuleError: If there is no granule for a frame, the grids differ, or a file is damaged.
    """
    grid = tile_grid(granules)
    frames = (
        _given_frames(granules, options) if options.dates else _season_frames(granules, options)
    )
    for granule in frames:
        for band in options.bands:
            path = granule.path(band)
            try:
                with rasterio.open(path) as dataset:
                    check_grid(dataset, grid, granules[0].id)
            except RasterioError as error:
                raise unreadable(path, error) from error
    channels = [granule.path(band) for granule in frames for band in options.bands]
    return Scene(
        name=f'T{granules[0].id.tile}',
        grid=SceneGrid(grid.crs, grid.transform, grid.width, grid.height),
        sources=[Source(path, (1,), (channel,)) for channel, path in enumerate(channels)],
        num_frames=options.num_frames,
        bands=options.bands,
        dates=[granule.id.acquired.date() for granule in frames],
        sensors=[granule.id.sensor for granule in frames],
        fmasks=[granule.path('Fmask') for granule in frames],
        mask_clouds=options.mask_clouds,
        on_error=options.on_error,
    )


def _given_frames(granules: Sequence[Granule], options: SceneOptions) -> list[Granule]:
    groups = []
    for day in options.dates or ():
        group = [i for i, granule in enumerate(granules) if granule.id.acquired.date() == day]
        if not group:
            known = ', '.join(sorted({granule.date for granule in granules}))
            raise GranuleError(
                f'Tile {granules[0].id.tile} has no granule of {day}; it has {known}.'
            )
        groups.append(group)
    return _clearest(granules, groups)


def _season_frames(granules: Sequence[Granule], options: SceneOptions) -> list[Granule]:
    windows = options.windows or equal_windows(options.num_frames)
    tile, ids = granules[0].id.tile, [granule.id for granule in granules]
    years = sorted({granule.acquired.year for granule in ids}, reverse=True)
    if options.year is not None:
        return _clearest(granules, candidates(ids, windows, options.year, tile))
    for year in years[:-1]:
        try:
            return _clearest(granules, candidates(ids, windows, year, tile))
        except GranuleError as error:
            logger.info('%s', error)
    return _clearest(granules, candidates(ids, windows, years[-1], tile))


def _clearest(granules: Sequence[Granule], groups: Sequence[Sequence[int]]) -> list[Granule]:
    """Take the clearest granule of each group."""
    clear = np.zeros((len(granules), 1))
    for i in sorted({i for group in groups if len(group) > 1 for i in group}):
        path = granules[i].path('Fmask')
        try:
            with rasterio.open(path) as dataset:
                clear[i] = fmask_clear(dataset.read(1)).mean()
        except RasterioError as error:
            raise unreadable(path, error) from error
    return [granules[i] for i in choose_frames(clear, groups)[0]]
