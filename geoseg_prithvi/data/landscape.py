"""A synthetic landscape: what grows where, and what a map of it says.

Everything is a function of absolute UTM coordinates and the seed (hashed lattice noise and hashed
objects), never of the tile, so overlapping tiles show the same ground and any block of any size
can be computed alone. Relief repeats every few kilometres, far faster than on Earth, so that even
a tile of 10 km holds every class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from .spectra import (
    BARE,
    BUILT,
    CLOUDS,
    COVER_INDEX,
    CROPS,
    FIELD_CROPS,
    FLOODED,
    RANGE,
    SNOW,
    TREES,
    VARIANTS,
    WATER,
    hash01,
)

# 10 m pixels of margin around a block: more than any label error or gradient reaches.
_HALO = 6
# Standard deviation of a cubic B-spline surface over uniform random nodes: sqrt(1/12) times
# 151/315, the mean of the sum of the squared weights along an axis.
_NOISE_STD = (1 / 12) ** 0.5 * 151 / 315
# Metres between massifs.
_MASSIF = 6500


@dataclasses.dataclass(frozen=True)
class Block:
    """A north-up pixel grid in UTM metres.

    Attributes:
        left: Easting of the left edge.
        top: Northing of the upper edge.
        height: Rows.
        width: Columns.
        step: Pixel size in metres.
    """

    left: float
    top: float
    height: int
    width: int
    step: float

    @property
    def x(self) -> np.ndarray:
        """Eastings of the pixel centres, ``(width,)``."""
        return self.left + (np.arange(self.width) + 0.5) * self.step

    @property
    def y(self) -> np.ndarray:
        """Northings of the pixel centres, ``(height,)``."""
        return self.top - (np.arange(self.height) + 0.5) * self.step


def _spline(position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first node ``(n,)`` and the four cubic B-spline weights ``(4, n)``."""
    node = np.floor(position).astype(np.int64)
    f = position - node
    weights = np.stack(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]
    )
    return node - 1, (weights / 6).astype(np.float32)


def noise(block: Block, wavelength: float, *key: int | str, octaves: int = 1) -> np.ndarray:
    """Compute a smooth random surface.

    Args:
        block: Where.
        wavelength: Distance of independent values in metres.
        key: Seed and name; equal keys give equal surfaces.
        octaves: Surfaces added, each at half the wavelength and 0.55 of the height of the last.

    Returns:
        ``(height, width)`` float32, mean 0, standard deviation 1, nearly Gaussian.
    """
    total = np.zeros((block.height, block.width), np.float32)
    part = np.empty_like(total)
    for octave in range(octaves):
        spacing = wavelength / 2**octave
        row, wy = _spline(block.y / spacing)
        col, wx = _spline(block.x / spacing)
        rows = np.arange(row.min(), row.max() + 4)
        cols = np.arange(col.min(), col.max() + 4)
        nodes = (hash01(*key, octave, rows[:, None], cols) - 0.5).astype(np.float32)
        # Only sums of the same four products in the same order: bit-equal in every block.
        across = sum(wx[k] * nodes[:, col - cols[0] + k] for k in range(4))
        across *= np.float32(0.55**octave)
        for k in range(4):
            np.take(across, row - rows[0] + k, axis=0, out=part, mode='clip')
            part *= wy[k][:, None]
            total += part
    total *= np.float32(1 / _NOISE_STD / sum(0.55 ** (2 * o) for o in range(octaves)) ** 0.5)
    return total


def objects(
    block: Block, pitch: float, reach: float, *key: int | str
) -> Iterator[tuple[int, int, np.ndarray, tuple[slice, slice], np.ndarray, np.ndarray]]:
    """Yield the objects of a jittered lattice, one a cell, that may reach into a block.

    Args:
        block: Where.
        pitch: Size of a cell in metres.
        reach: Half the size of an object's window in metres.
        key: Seed and name.

    Yields:
        Easting and northing; eight uniform numbers; the object's window in the block; and the
        offsets from it in metres, ``(1, w)`` to the east and ``(h, 1)`` to the north.
    """
    xs, ys = block.x, block.y
    cols = np.arange((xs[0] - reach) // pitch, (xs[-1] + reach) // pitch + 1).astype(int)
    rows = np.arange((ys[-1] - reach) // pitch, (ys[0] + reach) // pitch + 1).astype(int)
    for row in rows:
        for col in cols:
            u = hash01(*key, row, col, np.arange(10))
            x, y = round((col + 0.2 + 0.6 * u[8]) * pitch), round((row + 0.2 + 0.6 * u[9]) * pitch)
            inside = np.flatnonzero(np.abs(ys - y) < reach), np.flatnonzero(np.abs(xs - x) < reach)
            if all(len(index) for index in inside):
                h, w = (slice(index[0], index[-1] + 1) for index in inside)
                dx, dy = (xs[w] - x).astype(np.float32), (ys[h] - y).astype(np.float32)
                yield x, y, u, (h, w), dx[None], dy[:, None]


def _bump(d2: np.ndarray, radius: float) -> np.ndarray:
    """1 at the centre, 0 with zero slope from ``radius`` on; ``d2`` is the squared distance."""
    return np.maximum(0, 1 - d2 / np.float32(radius**2)) ** 2


def cloud_spots(block: Block, seed: int, scene: str | None = None) -> np.ndarray:
    """Find the places where clouds hang in most scenes.

    Args:
        block: Where.
        seed: Of the world.
        scene: Key of a scene; each place is cloudy in 85 % of them. ``None`` gives all places.

    Returns:
        ``(height, width)`` float32, 0 outside to 1 in the middle.
    """
    field = np.zeros((block.height, block.width), np.float32)
    for x, y, u, window, dx, dy in objects(block, _MASSIF, 3400, seed, 'massif'):
        if scene is None or hash01(seed, scene, 'spot', x, y) < 0.85:
            away, angle = 1500 + 1000 * u[3], 2 * np.pi * u[4]
            east, north = (
                dx - np.float32(away * np.cos(angle)),
                dy - np.float32(away * np.sin(angle)),
            )
            hang = _bump((east * np.float32(0.75 + 0.5 * u[5])) ** 2 + north**2, 400 + 180 * u[6])
            field[window] = np.maximum(field[window], hang)
    return field


@dataclasses.dataclass
class Ground:
    """What does not change within a year, on ``3h x 3w`` pixels of 10 m and ``h x w`` of 30 m.

    Attributes:
        label: Class indices as a map gives them, errors included, 10 m, uint8.
        cover: ``cover * VARIANTS + variant``, 10 m, uint16.
        relief: Elevation in km, 30 m.
        slope: Rise to the east and to the north, ``(2, h, w)``, 30 m.
        soil: Soil brightness and redness, ``(2, h, w)``, 30 m.
        vary: Within-class variation of gaps, shade and litter, ``(3, h, w)``, 30 m.
    """

    label: np.ndarray
    cover: np.ndarray
    relief: np.ndarray
    slope: np.ndarray
    soil: np.ndarray
    vary: np.ndarray


def mean3(a: np.ndarray) -> np.ndarray:
    """Average ``3 x 3`` pixels, ``(3h, 3w, ...) -> (h, w, ...)``."""
    rows = a[0::3] + a[1::3] + a[2::3]
    return (rows[:, 0::3] + rows[:, 1::3] + rows[:, 2::3]) / np.float32(9)


def _relief(block: Block, seed: int) -> np.ndarray:
    """Elevation in km: a massif every 6 km or so, hills between them."""
    hills = noise(block, 2600, seed, 'hills', octaves=3)
    ridges = 1 - np.abs(noise(block, 1500, seed, 'ridges', octaves=4))
    massif = np.zeros_like(hills)
    ragged = noise(block, 2200, seed, 'ragged', octaves=4)
    for _, _, u, window, dx, dy in objects(block, _MASSIF, 3400, seed, 'massif'):
        cos, sin = np.float32(np.cos(np.pi * u[2])), np.float32(np.sin(np.pi * u[2]))
        d2 = (cos * dx - sin * dy) ** 2 + (sin * dx + cos * dy) ** 2 * np.float32(1.2 + 1.6 * u[7])
        d2 = d2 * np.exp(0.45 * ragged[window]) + 60_000 * ragged[window]
        peak = np.float32(1.35 + 0.3 * u[1]) * _bump(np.maximum(d2, 0), 2300 + 1000 * u[0])
        massif[window] = np.maximum(massif[window], peak)
    return massif * (0.75 + 0.4 * ridges) + 0.06 * hills + 0.1


def _distance(field: np.ndarray, flattest: float) -> np.ndarray:
    """Distance in metres to the zero line of a field on 10 m pixels."""
    north, east = np.gradient(field, np.float32(10))
    return np.abs(field) / np.maximum(np.hypot(north, east), np.float32(flattest))


def _farms(block: Block, seed: int) -> tuple[np.ndarray, ...]:
    """Parcels: a hash of each ``(h, w)``, metres to its edge, metres to the next lane."""
    shape = (block.height, block.width)
    bend_x, bend_y = (45 * noise(block, 500, seed, 'bend', axis) for axis in 'xy')
    first, second = np.full(shape, 1e12, np.float32), np.full(shape, 1e12, np.float32)
    nearest = np.zeros(shape, np.int32)
    off_x, off_y = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    farms = []
    for x, y, u, window, dx, dy in objects(block, 2000, 3000, seed, 'farm'):
        px, py = dx + bend_x[window], dy + bend_y[window]
        d2 = px**2 + py**2
        closer = d2 < first[window]
        second[window] = np.where(closer, first[window], np.minimum(second[window], d2))
        first[window] = np.where(closer, d2, first[window])
        nearest[window] = np.where(closer, np.int32(len(farms)), nearest[window])
        off_x[window] = np.where(closer, px, off_x[window])
        off_y[window] = np.where(closer, py, off_y[window])
        farms.append((np.pi * u[0], 300 + 500 * u[1], 200 + 250 * u[2], x, y))
    angle, long, short, x, y = (np.array(column) for column in zip(*farms, strict=True))
    cos, sin = np.cos(angle).astype(np.float32)[nearest], np.sin(angle).astype(np.float32)[nearest]
    long, short = long.astype(np.float32)[nearest], short.astype(np.float32)[nearest]
    x, y = x[nearest], y[nearest]
    v = (sin * off_x + cos * off_y) / short
    row = np.floor(v).astype(np.int64)
    u = (cos * off_x - sin * off_y) / long + hash01(seed, 'brick', x, y, row).astype(np.float32)
    col = np.floor(u).astype(np.int64)
    edge = np.minimum((0.5 - np.abs(u - col - 0.5)) * long, (0.5 - np.abs(v - row - 0.5)) * short)
    lane = (np.sqrt(second) - np.sqrt(first)) / 2
    return hash01(seed, 'parcel', x, y, row, col), edge, lane


class _Canvas:
    """Classes, covers and variants of 10 m pixels, painted from the ground up."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.cls = np.full(shape, RANGE, np.uint8)
        self.cover = np.full(shape, COVER_INDEX['pasture'], np.uint8)
        self.variant = np.full(shape, VARIANTS // 2, np.uint8)

    def lay(
        self,
        where: np.ndarray,
        cls: int | np.ndarray,
        cover: str | np.ndarray,
        variant: np.ndarray | None = None,
        window: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Paint a cover where ``where`` is true, within ``window``."""
        index = COVER_INDEX[cover] if isinstance(cover, str) else cover
        for target, value in ((self.cls, cls), (self.cover, index), (self.variant, variant)):
            if value is not None:
                view = target[window]
                np.copyto(view, np.asarray(value).astype(np.uint8), where=where)


def _towns(block: Block, seed: int, canvas: _Canvas, plain: np.ndarray) -> None:
    """Build towns on the plain: streets, roofs, yards, parks."""
    ragged = noise(block, 350, seed, 'suburb', octaves=2)
    for x, y, u, window, dx, dy in objects(block, 3400, 1700, seed, 'town'):
        radius = np.float32(350 + 750 * u[0] ** 2)
        reach = np.sqrt(dx**2 + dy**2) + 0.25 * radius * ragged[window]
        town = (reach < radius) & plain[window]
        cos, sin = np.float32(np.cos(np.pi * u[1])), np.float32(np.sin(np.pi * u[1]))
        along, cross = cos * dx - sin * dy, sin * dx + cos * dy
        quarter = hash01(seed, 'quarter', x, y, along // 130, cross // 85)
        lot = hash01(seed, 'lot', x, y, along // 26, cross // 22)
        street = (along % 130 < 14) | (cross % 85 < 12)
        dense = np.clip(1.25 - reach / radius, 0.3, 1)
        variant = hash01('lot', (lot * 2**40).astype(np.int64)) * VARIANTS
        canvas.lay(town, BUILT, 'yard', variant, window)
        canvas.lay(town & (lot < 0.75 * dense), BUILT, 'tile roof', None, window)
        canvas.lay(town & (lot < 0.3 * dense), BUILT, 'bright roof', None, window)
        canvas.lay(town & (quarter < 0.08), RANGE, 'pasture', None, window)
        canvas.lay(town & (quarter < 0.04), TREES, 'deciduous', None, window)
        canvas.lay(town & (street | (quarter > 0.93)), BUILT, 'asphalt', None, window)


def _paint(block: Block, relief: np.ndarray, seed: int, year: int) -> _Canvas:
    """Cover a block of 10 m pixels: wild land, then farms, towns and water."""

    def n(wavelength: float, name: str, octaves: int = 1) -> np.ndarray:
        return noise(block, wavelength, seed, name, octaves=octaves)

    def steps(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, VARIANTS - 1)

    canvas = _Canvas(relief.shape)
    rough = n(300, 'rough', 2)
    dry = n(2400, 'dry', 3) + 0.15 * rough
    flank = np.clip(np.minimum(relief - 0.3, 0.95 - relief) / 0.2 + 1, 0, 1)
    wood = n(2000, 'wood', 3) + 1.5 * flank - 0.25 * dry
    arable = n(2800, 'arable', 2) - 5 * np.maximum(relief - 0.25, 0)
    kind = n(2000, 'kind', 2) + 1.2 * (relief - 0.5)
    region = 4.5 * n(7000, 'region')
    soft = steps(8 + region + 2.4 * n(900, 'variant', 2) + 1.5 * rough)

    # Rangeland and bare ground along a gradient of drought and height.
    anywhere = np.ones(relief.shape, bool)
    canvas.lay(anywhere, RANGE, 'pasture', soft)
    canvas.lay(dry > 0.1, RANGE, 'dry grass', steps(14 + region - 7 * dry + rough))
    canvas.lay(n(1100, 'shrub', 2) > 0.7, RANGE, 'shrub', soft)
    canvas.lay(relief > 0.8, RANGE, 'alpine meadow', soft)
    canvas.lay(dry > 1.5, BARE, 'bare soil', soft)
    forest = wood > 0.24
    canvas.lay(forest, TREES, 'deciduous', soft)
    canvas.lay(forest & (kind > 0.3), TREES, 'conifer')
    canvas.lay(forest & (kind < -0.9), TREES, 'open woodland')
    canvas.lay(relief + 0.08 * rough > 1.05, BARE, 'rock', soft)

    # Farmland: a crop and a planting date for each parcel, grass or hedges along the edges.
    parcel, edge, lane = _farms(block, seed)
    rotation = hash01('rotation', year, (parcel * 2**40).astype(np.int64))
    crop = np.array([COVER_INDEX[name] for name in FIELD_CROPS])
    sown = 10 * (hash01('sown', year, (parcel * 2**40).astype(np.int64)) - 0.5)
    farmed = (arable > -0.35) & (wood < 1.0) & (relief < 0.42)
    sown = steps(8 + region + sown)
    canvas.lay(farmed, CROPS, crop[(rotation * len(crop)).astype(int)], sown)
    canvas.lay(farmed & (parcel < 0.1), RANGE, 'pasture')
    canvas.lay(farmed & (parcel > 0.96), TREES, 'deciduous')
    canvas.lay(farmed & (edge < 5), RANGE, 'dry grass')
    canvas.lay(farmed & (edge < 5) & (n(1300, 'hedge') > 0.5), TREES, 'deciduous')
    canvas.lay((lane < 5) & (relief < 0.6), BUILT, 'asphalt')

    # Water and what grows along it.
    river = _distance(n(3600, 'river', 2) + 0.22 * n(700, 'meander', 2), 2e-4)
    brook = _distance(n(1500, 'brook', 2), 5e-4)
    width = np.maximum(95 + 30 * n(2500, 'width'), 30)
    basin = n(1900, 'lake', 3) - 3 * np.maximum(relief - 0.15, 0)
    soak = n(1300, 'soak', 2)
    low = relief < 0.32 + 0.03 * rough
    _towns(block, seed, canvas, low & (river > width + 60) & (basin < 1.35))
    marsh = ((river < width + 220 + 200 * soak) & (soak > 0.25)) | (basin > 1.32 - 0.15 * soak)
    marsh &= low
    canvas.lay(marsh, FLOODED, 'wet meadow', soft)
    canvas.lay(marsh & (rough > 0.5), FLOODED, 'swamp')
    canvas.lay(marsh & (soak + 0.4 * rough > 0.4), FLOODED, 'reed')
    canvas.lay((river < width + 35) & low & (n(900, 'bar') > 1.0), BARE, 'bare soil')
    canvas.lay((brook < 5) & (relief < 0.8), WATER, 'river', soft)
    canvas.lay((river < width) & low, WATER, 'river', soft)
    canvas.lay((basin > 1.5) & low, WATER, 'lake', soft)
    canvas.lay(relief + 0.05 * rough > 1.38, SNOW, 'firn', soft)
    return canvas


def _variation(block: Block, seed: int, name: str) -> np.ndarray:
    """Patches of some hundred metres, and what differs from pixel to pixel."""
    patches = noise(block, 400, seed, name, octaves=3)
    return 0.5 * patches + 0.87 * noise(block, 32, seed, name, 'grain')


def make_ground(block: Block, seed: int, year: int) -> Ground:
    """Compute the landscape of one block.

    Args:
        block: The block on the 30 m grid.
        seed: Of the world.
        year: Crops rotate; everything else stays.
    """
    h, w = 3 * block.height, 3 * block.width
    fine = Block(
        block.left - 10 * _HALO, block.top + 10 * _HALO, h + 2 * _HALO, w + 2 * _HALO, 10.0
    )
    core = slice(_HALO, _HALO + h), slice(_HALO, _HALO + w)
    relief = _relief(fine, seed)
    south, east = np.gradient(relief, np.float32(0.01))
    canvas = _paint(fine, relief, seed, year)

    # The map: clouds hide the ground, outlines are off by a pixel or so, some patches are wrong.
    patch = noise(fine, 220, seed, 'patch', octaves=2)
    label = np.where(patch > 2.3, np.uint8(RANGE), canvas.cls)
    hidden = cloud_spots(fine, seed) + 0.06 * patch > 0.3
    label = np.where(hidden, np.uint8(CLOUDS), label)
    rows, cols = np.ogrid[core]
    down, right = (
        np.rint(np.clip(noise(fine, 140, seed, 'shift', axis), -4, 4)).astype(int)[core]
        for axis in 'yx'
    )
    return Ground(
        label=label[rows + down, cols + right],
        cover=canvas.cover[core] * np.uint16(VARIANTS) + canvas.variant[core],
        relief=mean3(relief[core]),
        slope=np.stack([mean3(east[core]), -mean3(south[core])]),
        soil=np.stack([noise(block, 9000, seed, f'soil {k}', octaves=3) for k in range(2)]),
        vary=np.stack([_variation(block, seed, f'vary {k}') for k in range(3)]),
    )
