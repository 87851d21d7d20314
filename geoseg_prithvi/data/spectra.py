"""Kinds of synthetic ground: the spectrum of each, and its year. Reflectance is in 1e-4.

The spectra are rounded by hand after typical curves (healthy leaves, straw, soils, roofs, snow);
they are no measurements.
"""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from ..lulc import IO_LULC

WATER, TREES, FLOODED, CROPS, BUILT, BARE, SNOW, CLOUDS, RANGE = range(len(IO_LULC))

# BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2
SPECTRA: dict[str, tuple[int, ...]] = {
    'leaf': (320, 680, 380, 4600, 2200, 1000),
    'needle': (210, 380, 250, 2700, 1200, 550),
    'broadleaf': (260, 520, 300, 3900, 1750, 780),
    'straw': (800, 1150, 1550, 2600, 3200, 2300),
    'mud': (520, 680, 780, 1050, 950, 620),
    'clear': (260, 260, 130, 50, 10, 5),
    'turbid': (520, 780, 620, 280, 50, 20),
    'rock': (1050, 1250, 1450, 1800, 2200, 1950),
    'asphalt': (850, 920, 980, 1150, 1300, 1200),
    'bright roof': (2000, 2200, 2350, 2700, 2600, 2400),
    'tile roof': (850, 1150, 1750, 2350, 2600, 2250),
    'snow': (8300, 8200, 8000, 7200, 1000, 750),
}
#: Mean soil, and the directions in which soils differ: brightness and redness, ``(3, 6)``.
SOIL = np.array(
    [
        (850, 1200, 1600, 2300, 2950, 2450),
        (280, 380, 480, 630, 720, 630),
        (-200, -100, 180, 190, 50, 0),
    ],
    np.float32,
)


@dataclasses.dataclass(frozen=True)
class Cover:
    """A kind of ground and its year.

    Attributes:
        canopy: Spectrum of the green part.
        floor: Spectrum under it.
        soil: Share of the region's soil in the floor.
        low: Green fraction out of season.
        high: Green fraction in season.
        start: Day of year of green-up.
        end: Day of year of browning.
        wet: First and last day on which water stands on the floor.
        spread: Standard deviation of these days between variants.
        vigour: Standard deviation of the log of the green fraction between variants.
        second: Days after which a second season follows, 0 for none.
        mown: Share of the time after a cut.
        grain: How much pixels differ within a stand, 1 for wild land.
    """

    canopy: str
    floor: str
    soil: float
    low: float
    high: float
    start: float = 0.0
    end: float = 366.0
    wet: tuple[float, float] = (0.0, 0.0)
    spread: float = 14.0
    vigour: float = 0.25
    second: float = 0.0
    mown: float = 0.0
    grain: float = 1.0


COVERS: dict[str, Cover] = {
    'lake': Cover('leaf', 'clear', 0.0, 0.0, 0.02),
    'river': Cover('leaf', 'turbid', 0.0, 0.0, 0.04),
    'conifer': Cover('needle', 'straw', 0.5, 0.78, 0.85, 110, 290),
    'deciduous': Cover('broadleaf', 'straw', 0.3, 0.25, 0.88, 112, 292, spread=17),
    'open woodland': Cover('needle', 'straw', 0.4, 0.42, 0.68, 60, 210, spread=21, vigour=0.3),
    'reed': Cover('leaf', 'straw', 0.1, 0.08, 0.75, 145, 270, (0, 150), spread=20),
    'wet meadow': Cover('leaf', 'mud', 0.1, 0.3, 0.7, 100, 240, (250, 366), spread=22),
    'swamp': Cover('broadleaf', 'mud', 0.0, 0.2, 0.75, 120, 290, (0, 170), spread=17),
    'winter cereal': Cover('leaf', 'straw', 0.4, 0.05, 0.88, 60, 165, spread=22, grain=0.5),
    'maize': Cover('leaf', 'straw', 0.75, 0.03, 0.9, 160, 265, spread=22, grain=0.5),
    'rice': Cover('leaf', 'straw', 0.3, 0.03, 0.88, 165, 262, (105, 170), spread=20, grain=0.5),
    'alfalfa': Cover(
        'leaf', 'straw', 0.6, 0.35, 0.8, 75, 310, spread=20, vigour=0.35, mown=0.3, grain=0.5
    ),
    'double crop': Cover(
        'leaf', 'straw', 0.8, 0.05, 0.8, 45, 130, spread=20, second=135, grain=0.5
    ),
    'fallow': Cover('leaf', 'straw', 0.85, 0.03, 0.3, 60, 160, spread=22, vigour=0.5, grain=0.5),
    'orchard': Cover('broadleaf', 'straw', 0.6, 0.2, 0.62, 95, 300, spread=17, grain=0.5),
    'asphalt': Cover('leaf', 'asphalt', 0.05, 0.03, 0.08),
    'bright roof': Cover('leaf', 'bright roof', 0.0, 0.01, 0.03),
    'tile roof': Cover('leaf', 'tile roof', 0.0, 0.02, 0.05),
    'yard': Cover('broadleaf', 'asphalt', 0.6, 0.35, 0.6, 90, 300),
    'bare soil': Cover('leaf', 'rock', 0.8, 0.02, 0.1, 60, 150, vigour=0.5),
    'rock': Cover('needle', 'rock', 0.15, 0.03, 0.1, 130, 260, vigour=0.5),
    'firn': Cover('needle', 'snow', 0.3, 0.0, 0.02),
    'dry grass': Cover('leaf', 'straw', 0.45, 0.08, 0.62, 50, 150, spread=22, vigour=0.35),
    'pasture': Cover('leaf', 'straw', 0.2, 0.35, 0.68, 70, 300, spread=22, vigour=0.3, grain=0.5),
    'shrub': Cover('needle', 'straw', 0.6, 0.28, 0.5, 65, 200, spread=20, vigour=0.35),
    'alpine meadow': Cover('leaf', 'rock', 0.3, 0.05, 0.62, 160, 260, vigour=0.3),
}
COVER_INDEX = {name: i for i, name in enumerate(COVERS)}
FIELD_CROPS = (
    'winter cereal',
    'maize',
    'rice',
    'alfalfa',
    'double crop',
    'orchard',
    'fallow',
)
#: Variants of each cover, from late and sparse to early and vigorous.
VARIANTS = 16


def hash01(*keys: int | str | np.ndarray) -> np.ndarray:
    """Hash strings, integers and arrays of them to uniform float64 numbers in [0, 1).

    The mixing steps are those of SplitMix64 (Steele et al. 2014).
    """
    h = np.array([0x9E3779B97F4A7C15], np.uint64)
    for key in keys:
        value = zlib.crc32(key.encode()) if isinstance(key, str) else key
        h = (h ^ np.asarray(value).astype(np.int64).astype(np.uint64)) + np.uint64(
            0x9E3779B97F4A7C15
        )
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h = h ^ (h >> np.uint64(31))
    uniform = (h >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform if any(np.ndim(key) for key in keys) else uniform[0]


def cover_table(seed: int, year: int, day: int) -> np.ndarray:
    """Compute the reflectance of every variant of every cover on one day.

    Args:
        seed: Of the world.
        year: Of the scene.
        day: Day of year, 1 to 366.

    Returns:
        ``(covers * VARIANTS, 8)`` float32: six bands without the soil's part, the soil's share,
        the grain.
    """
    table = np.zeros((len(COVERS), VARIANTS, 8), np.float32)
    variant = np.arange(VARIANTS)
    # Rank and chance together have a standard deviation of about 1.
    rank = np.linspace(-1.2, 1.2, VARIANTS)
    for i, (name, c) in enumerate(COVERS.items()):
        u = (hash01(seed, name, year, np.arange(4)[:, None], variant) - 0.5) * 2.4
        when = day + c.spread * (rank + u[0])
        season = sum(
            1 / (1 + np.exp(-(when - c.start - later) / 9))
            - 1 / (1 + np.exp(-(when - c.end - later) / 9))
            for later in {0.0, c.second}
        )
        green = (c.low + (c.high - c.low) * season) * np.exp(c.vigour * (rank + u[1]))
        cut = hash01(seed, year, 'cut', variant, (day + 3 * variant) // 20) < c.mown
        green = np.clip(np.where(cut, 0.35 * green, green), 0, 0.95)
        depth = 0.35 + 0.25 * u[3]
        water = np.where((when > c.wet[0]) & (when < c.wet[1]), depth, 0)
        ground = (1 - green) * (1 - water)
        floor = (
            (green, SPECTRA[c.canopy]),
            (ground * (1 - c.soil), SPECTRA[c.floor]),
            ((1 - green) * water, SPECTRA['clear']),
        )
        mixed = sum(np.outer(share, spectrum) for share, spectrum in floor)
        table[i, :, :6] = mixed * (1 + 0.1 * u[2])[:, None]
        table[i, :, 6] = ground * c.soil
        table[i, :, 7] = c.grain
    return table.reshape(-1, 8)
