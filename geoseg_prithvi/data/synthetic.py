"""A small world in the true formats: HLS V2.0 granules and IO/Esri annual label maps.

The ground comes from :mod:`.landscape`; this module flies over it (dates, clouds, shadows, haze,
swath edges, sensor noise) and writes what LP DAAC and Impact Observatory deliver.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window
from scipy.special import ndtri

from ..errors import ConfigError, OutputExistsError
from ..hls import BANDS, FILL, FMASK_FILL, PIXEL_SIZE, SCALE, TILE_SIZE, Fmask, GranuleId
from ..lulc import IO_LULC
from .files import atomic_path, write_bytes
from .landscape import Block, Ground, cloud_spots, make_ground, noise
from .spectra import COVERS, SOIL, SPECTRA, VARIANTS, cover_table, hash01

#: Neighbours in zone 10 (California): columns E to G, rows F to J.
DEFAULT_TILES: tuple[str, ...] = tuple(f'10S{col}{row}' for row in 'FGHJ' for col in 'EFG')
# Pixels along a block that is computed at once: bounds the memory of the 10 m fields.
_BLOCK = 512
# What thick cloud and haze add, BLUE to SWIR_2.
_CLOUD = np.array((5300, 5200, 5150, 5400, 4000, 3000), np.float32)[:, None, None]
_HAZE = np.array((2600, 2000, 1600, 1300, 600, 350), np.float32)[:, None, None]
# L30 against S30 after HLS's band-pass adjustment: what remains differs by 2 % or so.
_GAIN = {
    'L30': np.array((1.02, 1.01, 1.0, 0.98, 1.01, 1.02), np.float32)[:, None, None],
    'S30': np.array((0.99, 1.0, 1.01, 1.02, 0.99, 0.98), np.float32)[:, None, None],
}
_NOISE = {'L30': 22.0, 'S30': 32.0}
# Deviation between two looks, of all bands together and of each alone.
_LOOK, _BAND = 0.12, 0.05


def tile_origin(tile: str) -> tuple[int, float, float]:
    """Return the EPSG code and the upper left corner ``(easting, northing)`` of an MGRS tile.

    Sentinel-2 tiles begin on the 100 km square, moved outwards to a multiple of 60 m.

    Raises:
        ConfigError: If ``tile`` is no MGRS tile of the northern hemisphere.
    """
    try:
        zone, (band, col, row) = int(tile[:-3]), tile[-3:]
        easting = ['ABCDEFGH', 'JKLMNPQR', 'STUVWXYZ'][(zone - 1) % 3].index(col) + 1
        square = ('ABCDEFGHJKLMNPQRSTUV'.index(row) - 5 * (zone % 2 == 0)) % 20
        south = 'NPQRSTUVWX'.index(band) * 8 * 1105.74 / 1000  # 100 km squares to the band's edge
        if not 1 <= zone <= 60:
            raise ValueError
    except ValueError:
        raise ConfigError(
            f'{tile} is no MGRS tile of the northern hemisphere; use one such as 10SEG.'
        ) from None
    while square + 1 < south:
        square += 20
    # Rows lettered beyond the band's edges belong to other bands and are given as they come.
    return 32600 + zone, easting * 1e5 // 60 * 60, -(-(square + 1) * 1e5 // 60 * 60)


@dataclasses.dataclass(frozen=True)
class Scene:
    """One acquisition of a tile: its name, and what the sky was like.

    Attributes:
        granule: Tile, time and sensor.
        cover: Share of the sky under cloud, 0 to 1.
        edge: Share of the tile beyond the slanted edge of the swath.
    """

    granule: GranuleId
    cover: float
    edge: float


def schedule(tile: str, year: int, dates: int, seed: int) -> list[Scene]:
    """Plan the acquisitions of a tile over one year, evenly spread and in order of time.

    Three in a row hold a clear, a broken and an overcast sky in random order. Tiles of one
    column see the same days, as on one orbit.
    """
    scenes = []
    for i in range(dates):
        u = hash01(seed, tile[:-2] + tile[-2], year, i, np.arange(4))
        v = hash01(seed, tile, year, i, np.arange(4))
        day = 8 + (i + 0.15 + 0.7 * u[0]) * 350 / dates
        sensor = 'L30' if u[1] < 0.45 else 'S30'
        overpass = dt.timedelta(days=int(day), hours=18, minutes=35 if sensor == 'L30' else 58)
        acquired = dt.datetime(year, 1, 1) + overpass + dt.timedelta(seconds=int(600 * u[2]))
        turn = int(3 * hash01(seed, tile, year, i // 3)) + int(i % 3) * (1 + (i // 3) % 2)
        cover = (0.01 + 0.06 * v[0], 0.1 + 0.25 * v[0], 0.6 + 0.4 * v[0])[turn % 3]
        edge = 0.1 + 0.4 * v[2] if v[1] < 0.3 else 0.0
        scenes.append(Scene(GranuleId(tile, acquired, sensor), float(cover), float(edge)))
    return scenes


def _smooth(x: np.ndarray, low: float, high: float) -> np.ndarray:
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def _zenith(day: int) -> float:
    """Sun zenith angle at half past ten at about 38 degrees north, in radians."""
    return np.deg2rad(38 + 22 * np.cos(2 * np.pi * (day - 355) / 365))


def _mean_of(table: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """Average ``table[cover]`` over ``3 x 3`` pixels without ever holding it at 10 m."""
    columns = (
        table[cover[0::3, k::3]] + table[cover[1::3, k::3]] + table[cover[2::3, k::3]]
        for k in range(3)
    )
    return sum(columns) / np.float32(9)


def _covered(cover: np.ndarray, *names: str) -> np.ndarray:
    """Share ``(h, w)`` of some covers in the 30 m pixels."""
    chosen = np.repeat([name in names for name in COVERS], VARIANTS).astype(np.float32)
    return _mean_of(chosen, cover)


def reflectance(ground: Ground, seed: int, year: int, day: int) -> tuple[np.ndarray, ...]:
    """Show the ground on one day through a clear sky.

    Args:
        ground: The landscape.
        seed: Of the world.
        year: Of the scene.
        day: Day of year, 1 to 366.

    Returns:
        Reflectance ``(6, h, w)`` float32 in 1e-4, share of snow and of water ``(h, w)``, 0..1.
    """
    parts = np.moveaxis(_mean_of(cover_table(seed, year, day), ground.cover), -1, 0)
    soil = SOIL[0][:, None, None] + np.tensordot(SOIL[1:].T, ground.soil, 1)
    water = _covered(ground.cover, 'lake', 'river')
    land = 1 - water
    # Stands have gaps with soil, litter in them and shade; none of it is alike in two pixels.
    straw = np.array(SPECTRA['straw'], np.float32)[:, None, None]
    vary = ground.vary * parts[7] * land
    gaps = np.clip(0.2 + 0.22 * vary[0], 0, 0.8) * land
    litter = np.clip(0.1 + 0.14 * vary[2], 0, 0.5) * land
    bands = parts[:6] + parts[6] * soil
    bands += gaps * (soil - bands)
    bands += litter * (straw - bands)
    bands *= np.exp(0.2 * vary[1])
    # Seasonal snow above a line that is lowest in February; something always stands out of it.
    line = 1.15 - 0.65 * np.cos(2 * np.pi * (day - 40) / 365)
    line += 0.4 * (hash01(seed, year, day, 'snow') - 0.5)
    snow = np.clip((ground.relief + 0.05 * ground.vary[0] - line) / 0.08, 0, 0.85) * land
    bands += snow * (np.array(SPECTRA['snow'], np.float32)[:, None, None] - bands)
    # The sun stands in the south-east; HLS is not corrected for relief.
    rise = (ground.slope[1] - ground.slope[0]) * np.float32(0.7)
    light = np.clip(1 + 0.3 * np.tan(_zenith(day)) * rise, 0.35, 1.6)
    return bands * light, np.maximum(snow, _covered(ground.cover, 'firn')), water


def observe(scene: Scene, ground: Ground, block: Block, tile: Block, seed: int) -> np.ndarray:
    """Take the picture of one block.

    Args:
        scene: The acquisition.
        ground: What lies there.
        block: Where, on the 30 m grid.
        tile: The tile, for the edge of the swath.
        seed: Of the world.

    Returns:
        ``(7, h, w)`` int16: six bands x 10000 (fill -9999) and Fmask (fill 255).
    """
    when = scene.granule.acquired
    key = f'{scene.granule.sensor}{when:%Y%j}{scene.granule.tile[-2]}'
    day = when.timetuple().tm_yday
    bands, snow, water = reflectance(ground, seed, when.year, day)
    # No two looks at a pixel agree: view angle, moisture, half a pixel of misregistration.
    bands *= np.exp(_LOOK * noise(block, 32, seed, key, 'look'))

    def sky(wavelength: float, name: str, octaves: int, at: Block = block) -> np.ndarray:
        return noise(at, wavelength, seed, key, name, octaves=octaves)

    # Clouds, and the same clouds seen from where their shadows fall (sun in the south-east).
    height = 900 + 1500 * float(hash01(seed, key, 'height'))
    shift = 0.7 * height * float(np.tan(_zenith(day)))
    limit = float(ndtri(1 - scene.cover))

    def cloud(at: Block) -> np.ndarray:
        return sky(3500, 'cloud', 5, at) - limit + (limit + 3.2) * cloud_spots(at, seed, key)

    thick = cloud(block)
    sunward = dataclasses.replace(block, left=block.left + shift, top=block.top - shift)
    shadow = cloud(sunward)
    opacity = 0.95 * _smooth(thick, -0.1, 0.7)
    shade = 0.55 * _smooth(shadow, 0.0, 0.6)
    # Fair-weather cumulus, a few pixels each: Fmask sees only the thickest of it.
    few = float(ndtri(0.92 - 0.24 * hash01(seed, key, 'few')))
    puffs = 0.75 * _smooth(sky(260, 'cumulus', 2), few, few + 1)
    shade += (1 - shade) * 0.55 * _smooth(sky(260, 'cumulus', 2, sunward), few, few + 1)
    veil = 0.3 * _smooth(sky(5000, 'cirrus', 3), 0.8, 2.2) * (hash01(seed, key, 'veil') < 0.5)
    murk = float(hash01(seed, key, 'haze')) ** 2 * 0.28
    haze = murk * (1 + 0.5 * sky(6000, 'haze', 2)) - 0.012  # over-corrected where negative

    bands = bands * (1 - shade) * _GAIN[scene.granule.sensor]
    bands *= 1 + 0.08 * (hash01(seed, key, 'correction', np.arange(6)[:, None, None]) - 0.5)
    bands += haze * (_HAZE - 0.4 * bands)
    bands += (1 - (1 - opacity) * (1 - puffs) * (1 - veil)) * (_CLOUD - bands)
    rng = np.random.default_rng(
        [
            seed,
            int(when.replace(tzinfo=dt.timezone.utc).timestamp()),
            *map(ord, scene.granule.tile),
            int(block.left),
            int(block.top),
        ]
    )
    bands += rng.standard_normal(bands.shape, np.float32) * (
        _NOISE[scene.granule.sensor] + _BAND * bands
    )

    cloudy, shaded = (opacity > 0.2) | (puffs > 0.6), (shadow > 0.1)
    near = ((thick > -0.3) & (opacity > 0)) | (shadow > -0.1)
    fmask = np.where(cloudy, np.uint8(Fmask.CLOUD), np.uint8(0))
    fmask |= np.where(shaded & ~cloudy, np.uint8(Fmask.SHADOW), np.uint8(0))
    fmask |= np.where(near & ~cloudy & ~shaded, np.uint8(Fmask.ADJACENT), np.uint8(0))
    fmask |= np.where((snow > 0.5) & ~cloudy, np.uint8(Fmask.SNOW), np.uint8(0))
    fmask |= np.where((water > 0.5) & ~cloudy, np.uint8(Fmask.WATER), np.uint8(0))
    level = np.digitize(haze + veil, (0.0, 0.05, 0.1)).astype(np.uint8)
    fmask |= np.where(cloudy, np.uint8(3), level) << np.uint8(6)

    out = np.empty((len(BANDS) + 1, block.height, block.width), np.int16)
    out[:-1] = np.clip(np.rint(bands), -2000, 16000)
    out[-1] = fmask
    if scene.edge:
        # Both satellites descend towards the south-west: the edge leans 13 degrees from north.
        tilt = np.float64(0.23) * (tile.top - block.y)[:, None]
        across = block.x[None] - tile.left + tilt
        span = tile.width * PIXEL_SIZE + 0.23 * tile.height * PIXEL_SIZE
        out[:, across < scene.edge * span] = FILL
        out[-1, out[0] == FILL] = FMASK_FILL
    return out


def _blocks(tile: Block, size: int) -> Iterator[tuple[slice, slice, Block]]:
    """Divide a tile: row and column slices, and the block."""
    step = tile.step
    for top in range(0, tile.height, size):
        for left in range(0, tile.width, size):
            h, w = min(size, tile.height - top), min(size, tile.width - left)
            at = Block(tile.left + left * step, tile.top - top * step, h, w, step)
            yield slice(top, top + h), slice(left, left + w), at


def _write_granule(folder: Path, scene: Scene, pixels: np.ndarray, epsg: int, tile: Block) -> None:
    """Write the seven files of a granule; ``pixels`` as from :func:`observe`."""
    granule = scene.granule
    fill = pixels[-1] == FMASK_FILL
    cloudy = (pixels[-1] & int(Fmask.CLOUD) != 0) & ~fill
    tags = {
        'SENSING_TIME': f'{granule.acquired:%Y-%m-%dT%H:%M:%S}.000000Z',
        'SPATIAL_COVERAGE': str(round(100 * float(1 - fill.mean()))),
        'CLOUD_COVERAGE': str(round(100 * float(cloudy.sum() / max(1, (~fill).sum())))),
        'ULX': f'{tile.left:.0f}',
        'ULY': f'{tile.top:.0f}',
        'NROWS': str(tile.height),
        'NCOLS': str(tile.width),
        'SPATIAL_RESOLUTION': f'{PIXEL_SIZE:.0f}',
    }
    profile = dict(
        driver='GTiff',
        height=tile.height,
        width=tile.width,
        count=1,
        crs=f'EPSG:{epsg}',
        transform=from_origin(tile.left, tile.top, PIXEL_SIZE, PIXEL_SIZE),
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress='deflate',
        zlevel=1,
        predictor=2,
    )
    for band, plane in zip((*BANDS, 'Fmask'), pixels, strict=True):
        path = folder / str(granule) / granule.band_file(band)
        if path.exists():
            continue
        bits = band == 'Fmask'
        kind = dict(dtype='uint8', nodata=FMASK_FILL) if bits else dict(dtype='int16', nodata=FILL)
        with (
            atomic_path(path) as partial,
            rasterio.open(partial, 'w', **profile, **kind) as dataset,
        ):
            dataset.write(plane.astype(kind['dtype']), 1)
            dataset.set_band_description(1, band)
            if not bits:
                dataset.scales, dataset.offsets = (SCALE,), (0.0,)
                tags |= dict(scale_factor=str(SCALE), add_offset='0', _FillValue=str(FILL))
            dataset.update_tags(**tags)


def _open_labels(path: Path, tiles: Sequence[tuple[int, Block]]) -> rasterio.io.DatasetWriter:
    """Create the empty label map that covers the tiles: one file a zone, band and year."""
    left, top = min(t.left for _, t in tiles), max(t.top for _, t in tiles)
    right = max(t.left + t.width * t.step for _, t in tiles)
    bottom = min(t.top - t.height * t.step for _, t in tiles)
    dataset = rasterio.open(
        path,
        'w',
        driver='GTiff',
        dtype='uint8',
        count=1,
        nodata=0,
        width=round((right - left) / 10),
        height=round((top - bottom) / 10),
        crs=f'EPSG:{tiles[0][0]}',
        transform=from_origin(left, top, 10, 10),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress='deflate',
        sparse_ok=True,  # the ground between small tiles takes no space
        bigtiff='if_safer',
    )
    dataset.write_colormap(
        1, {0: (0, 0, 0)} | dict(zip(IO_LULC.codes, IO_LULC.colors, strict=True))
    )
    return dataset


def make_world(
    out: str | Path,
    tiles: Sequence[str] = DEFAULT_TILES,
    years: Sequence[int] = (2022,),
    dates_per_year: int = 9,
    size: int = 512,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write granules to ``out/granules`` and label maps to ``out/labels``.

    The same arguments give the same world; an interrupted call goes on where it stopped.

    Args:
        out: The folder.
        tiles: MGRS tiles of the northern hemisphere, e.g. ``10SEG``.
        years: Calendar years.
        dates_per_year: Acquisitions of each tile and year.
        size: Rows and columns of a tile, from its upper left corner; 3660 is a whole one.
        seed: Of the landscape and the weather.
        progress: Called with the number of finished granules and of all.

    Raises:
        ConfigError: If a tile, the size or a number of dates is impossible.
        OutputExistsError: If ``out`` holds granules not made with these arguments.
    """
    out = Path(out)
    if not 1 <= size <= TILE_SIZE or not 1 <= dates_per_year <= 120 or not tiles or not years:
        raise ConfigError(
            f'A world of {len(tiles)} tiles of {size} pixels, {len(years)} years and '
            f'{dates_per_year} dates a year cannot be made; give at least one of each, at most '
            f'{TILE_SIZE} pixels and 120 dates.'
        )
    places = {}
    for tile in tiles:
        epsg, left, top = tile_origin(tile)
        places[tile] = epsg, Block(left, top, size, size, PIXEL_SIZE)
    settings = dict(
        version=1, tiles=list(tiles), years=list(years), dates=dates_per_year, size=size, seed=seed
    )
    note = out / 'world.json'
    found = json.loads(note.read_text()) if note.exists() else None
    if found != settings and (out / 'granules').exists():
        raise OutputExistsError(
            f'{out} holds granules made with other settings, or real ones (see {note}); give '
            'another folder or remove that one.'
        )
    write_bytes(note, json.dumps(settings, indent=1).encode())

    done, total = 0, len(tiles) * len(years) * dates_per_year
    for year in years:
        for zone in sorted({tile[:-2] for tile in tiles}):
            members = {tile: place for tile, place in places.items() if tile[:-2] == zone}
            path = out / 'labels' / f'{zone}_{year}0101-{year + 1}0101.tif'
            if path.exists():
                done += len(members) * dates_per_year
                if progress:
                    progress(done, total)
                continue
            with atomic_path(path) as partial, _open_labels(partial, [*members.values()]) as map_:
                for tile, (epsg, area) in members.items():
                    scenes = schedule(tile, year, dates_per_year, seed)
                    for _ in _write_tile(out / 'granules', map_, scenes, epsg, area, seed, year):
                        done += 1
                        if progress:
                            progress(done, total)


def _write_tile(
    folder: Path,
    label_map: rasterio.io.DatasetWriter,
    scenes: Sequence[Scene],
    epsg: int,
    area: Block,
    seed: int,
    year: int,
) -> Iterator[None]:
    """Write one tile's labels and granules; yields after each granule."""
    codes = np.array(IO_LULC.codes, np.uint8)
    west, north = (
        round((area.left - label_map.bounds.left) / 10),
        round((label_map.bounds.top - area.top) / 10),
    )
    blocks = []
    for rows, cols, block in _blocks(area, _BLOCK):
        ground = make_ground(block, seed, year)
        where = Window(
            west + 3 * cols.start, north + 3 * rows.start, 3 * block.width, 3 * block.height
        )
        label_map.write(codes[ground.label], 1, window=where)
        ground.label = codes[:0]  # written; a whole tile of it would take 120 MB
        blocks.append((rows, cols, block, ground))
    for scene in scenes:
        pixels = np.empty((len(BANDS) + 1, area.height, area.width), np.int16)
        for rows, cols, block, ground in blocks:
            pixels[:, rows, cols] = observe(scene, ground, block, area, seed)
        _write_granule(folder, scene, pixels, epsg, area)
        yield
