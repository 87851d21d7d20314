"""Train, validation and test by blocks of ground, so that no chip is scored next door.

Blocks lie in latitude and longitude, on one lattice for the whole Earth: rows of equal height,
each divided into columns as wide as the row is high. So a chip is in the same block whatever tile,
zone or year it comes from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from rasterio.crs import CRS
from scipy.spatial import cKDTree

from ..errors import ConfigError
from .cells import EARTH_RADIUS, box_in, to_sphere
from .index import SPLITS

#: Random divisions of the blocks that are tried; the best one is kept.
TRIALS = 2000
#: Chips closer than this, in metres, beyond what was asked for are rounding.
TOLERANCE = 0.5


@dataclasses.dataclass(frozen=True)
class SplitOptions:
    """How chips are divided.

    Attributes:
        ratio: Shares of train, val and test.
        val_tiles: MGRS tiles held out as a whole for validation.
        test_tiles: MGRS tiles held out as a whole for testing.
        block_size: Side of a block in metres.
        buffer: Metres that must lie between chips of different splits.
        seed: Of the division of the blocks.
    """

    block_size: float
    ratio: tuple[float, float, float] = (0.7, 0.15, 0.15)
    val_tiles: tuple[str, ...] = ()
    test_tiles: tuple[str, ...] = ()
    buffer: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.ratio) != 3 or min(self.ratio) < 0 or self.ratio[0] <= 0:
            raise ConfigError(
                f'The split ratio {self.ratio} is not three shares of train, val and test; none '
                'may be negative, and train not 0.'
            )
        if self.block_size <= 0 or self.buffer < 0:
            raise ConfigError(
                f'Blocks of {self.block_size:g} m with a buffer of {self.buffer:g} m make no '
                'sense; the one must be above 0, the other not below.'
            )
        both = sorted(set(self.val_tiles) & set(self.test_tiles))
        if both:
            raise ConfigError(f'The tile {both[0]} cannot be in --val-tiles and --test-tiles.')


def block_names(lon: Sequence[float], lat: Sequence[float], size: float) -> list[str]:
    """Name the block of each point, ``{row}_{column}``.

    Args:
        lon: Degrees east.
        lat: Degrees north.
        size: Side of a block in metres.
    """
    height = math.degrees(size / EARTH_RADIUS)
    rows = np.floor(np.asarray(lat) / height)
    # Never narrower than on the equator; a block at the pole goes round.
    middle = np.cos(np.radians(((rows + 0.5) * height).clip(-89.9, 89.9)))
    columns = np.floor(np.asarray(lon) * middle / height)
    return [f'{row:.0f}_{column:.0f}' for row, column in zip(rows, columns, strict=True)]


def assign_splits(rows: Sequence[Mapping[str, object]], options: SplitOptions) -> list[str | None]:
    """Divide chips into splits.

    Of :data:`TRIALS` random divisions of the blocks the one is taken that comes nearest to the
    ratio for the number of chips and for the pixels of each class. Then chips too close to another
    split are left out: of train beside val and test, of val beside test.

    Args:
        rows: The columns ``tile, block, class_pixels, lon, lat, epsg, minx, miny, maxx, maxy``.
        options: How.

    Returns:
        ``train``, ``val``, ``test``, or None for a chip in the buffer.

    Raises:
        ConfigError: If there are fewer blocks than splits, or a held-out tile has no chip.
    """
    held = dict.fromkeys(options.val_tiles, 'val') | dict.fromkeys(options.test_tiles, 'test')
    tiles = {row['tile'] for row in rows}
    for tile in held:
        if tile not in tiles:
            raise ConfigError(
                f'The held-out tile {tile} has no chip (tiles with chips: '
                f'{", ".join(sorted(tiles))}); change --val-tiles or --test-tiles.'
            )
    splits: list[str | None] = [held.get(row['tile']) for row in rows]
    ratio = [
        share if name not in held.values() else 0.0
        for name, share in zip(SPLITS, options.ratio, strict=True)
    ]
    free = [i for i, split in enumerate(splits) if split is None]
    if not free:
        raise ConfigError('All tiles are held out for val or test; leave at least one for train.')
    of_block = _divide_blocks([rows[i] for i in free], ratio, options)
    for i in free:
        splits[i] = of_block[rows[i]['block']]
    return _apply_buffer(rows, splits, options.buffer)


def _divide_blocks(
    rows: Sequence[Mapping[str, object]], ratio: Sequence[float], options: SplitOptions
) -> dict[str, str]:
    """Give each block a split."""
    names = sorted({row['block'] for row in rows})
    wanted = [(split, share) for split, share in zip(SPLITS, ratio, strict=True) if share > 0]
    if len(names) < len(wanted):
        raise ConfigError(
            f'The chips lie in {len(names)} block(s) of {options.block_size:g} m, which cannot be '
            f'divided into {", ".join(split for split, _ in wanted)}; choose a smaller '
            '--block-size, another --split-ratio, or hold out whole tiles.'
        )
    position = {name: i for i, name in enumerate(names)}
    of_row = np.asarray([position[row['block']] for row in rows])
    # What is to be shared out, one column each: chips, and pixels of each class that occurs.
    amounts = np.column_stack(
        [np.ones(len(rows)), np.asarray([row['class_pixels'] for row in rows], float)]
    )
    amounts = amounts[:, amounts.sum(0) > 0] / amounts.sum(0)[amounts.sum(0) > 0]
    per_block = np.zeros((len(names), amounts.shape[1]))
    np.add.at(per_block, of_row, amounts)

    shares = np.asarray([share for _, share in wanted])
    shares = shares / shares.sum()
    rng = np.random.default_rng(options.seed)
    best, best_error = None, np.inf
    for _ in range(TRIALS):
        order = rng.permutation(len(names))
        filled = per_block[order].cumsum(0)
        ends = _ends(filled[:, 0] - per_block[order, 0] / 2, shares)
        # (S, A) what each split has of each amount
        got = np.diff(np.vstack([np.zeros(filled.shape[1]), filled[np.asarray(ends) - 1]]), axis=0)
        # Relative, so that a class that a small split lacks weighs as much as one it has twice.
        error = np.abs(got / shares[:, None] - 1).sum()
        if error < best_error:
            best, best_error = (order, ends), error
    order, ends = best
    result = {}
    start = 0
    for (split, _), end in zip(wanted, ends, strict=True):
        result.update({names[block]: split for block in order[start:end]})
        start = end
    return result


def _ends(middles: np.ndarray, shares: np.ndarray) -> list[int]:
    """Cut a sequence of blocks where ``shares`` are reached; no part is left empty.

    Args:
        middles: For each block, the share of chips up to its middle.
        shares: Of the parts, summing to 1.

    Returns:
        The end of each part.
    """
    ends = [int(end) for end in np.searchsorted(middles, np.cumsum(shares)[:-1])]
    count = len(shares)
    start = 0
    for part in range(count - 1):
        start = min(max(ends[part], start + 1), len(middles) - (count - 1 - part))
        ends[part] = start
    return [*ends, len(middles)]


def _apply_buffer(
    rows: Sequence[Mapping[str, object]], splits: Sequence[str | None], buffer: float
) -> list[str | None]:
    """Leave out chips that overlap, or come within ``buffer`` of, a split that outranks theirs."""
    result = list(splits)
    boxes = np.asarray([[row['minx'], row['miny'], row['maxx'], row['maxy']] for row in rows])
    epsg = np.asarray([row['epsg'] for row in rows])
    points = to_sphere([row['lon'] for row in rows], [row['lat'] for row in rows])
    side = float((boxes[:, 2] - boxes[:, 0]).max())
    # Centres farther apart than this are of chips that are farther apart than the buffer.
    reach = 1.02 * math.sqrt(2) * (side + buffer)
    for weak, strong in (('val', ('test',)), ('train', ('val', 'test'))):
        ours = np.asarray([i for i, split in enumerate(result) if split == weak], np.int64)
        theirs = np.asarray([i for i, split in enumerate(result) if split in strong], np.int64)
        if not len(ours) or not len(theirs):
            continue
        near = cKDTree(points[ours]).sparse_distance_matrix(
            cKDTree(points[theirs]), reach, output_type='ndarray'
        )
        one, other = ours[near['i']], theirs[near['j']]
        gaps = np.empty(len(near))
        for a, b in {(int(epsg[i]), int(epsg[j])) for i, j in zip(one, other, strict=True)}:
            these = (epsg[one] == a) & (epsg[other] == b)
            there = box_in(CRS.from_epsg(b), boxes[other[these]], CRS.from_epsg(a))
            gaps[these] = _gap(boxes[one[these]], there)
        for i in one[gaps < buffer - TOLERANCE]:
            result[i] = None
    return result


def _gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the gap between rectangles, the larger of that in x and in y; below 0 they overlap."""
    return np.maximum(a[:, :2] - b[:, 2:], b[:, :2] - a[:, 2:]).max(axis=1)
