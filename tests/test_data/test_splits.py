import collections
import math

import numpy as np
import pytest
from rasterio.warp import transform

from geoseg_prithvi.data.splits import SplitOptions, assign_splits, block_names
from geoseg_prithvi.errors import ConfigError

SIDE = 960.0  # chips of 32 pixels


def make_rows(rows=20, columns=20, *, tile='10SEG', block=2 * SIDE, epsg=32610, left=500_000.0):
    """A field of touching chips; a rare class lives in the northern tenth only."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(rows):
        for j in range(columns):
            minx, maxy = left + SIDE * j, 4_200_000.0 - SIDE * i
            (lon,), (lat,) = transform(
                f'EPSG:{epsg}', 'EPSG:4326', [minx + SIDE / 2], [maxy - SIDE / 2]
            )
            common = int(rng.integers(0, 1024))
            rare = 50 if i < rows / 10 else 0
            made.append(
                dict(
                    tile=tile,
                    epsg=epsg,
                    minx=minx,
                    miny=maxy - SIDE,
                    maxx=minx + SIDE,
                    maxy=maxy,
                    lon=lon,
                    lat=lat,
                    class_pixels=[common, 1024 - common, rare, *[0] * 6],
                )
            )
    names = block_names([r['lon'] for r in made], [r['lat'] for r in made], block)
    return [row | dict(block=name) for row, name in zip(made, names, strict=True)]


def options(**changes):
    return SplitOptions(**(dict(block_size=2 * SIDE) | changes))


def test_blocks_are_square_metres_everywhere():
    """At 60 degrees north, 10 km blocks: 10 km of latitude and 20 km worth of longitude degrees."""
    degree = 111_195.0
    lat = np.arange(60.0, 60.5, 0.001)
    names = block_names(np.full_like(lat, 20.0), lat, 10_000)
    heights = collections.Counter(names).values()
    assert math.isclose(sorted(heights)[-1] * 0.001 * degree, 10_000, rel_tol=0.02)
    lon = np.arange(20.0, 21.0, 0.001)
    names = block_names(lon, np.full_like(lon, 60.0), 10_000)
    widths = collections.Counter(names).values()
    assert math.isclose(sorted(widths)[-1] * 0.001 * degree / 2, 10_000, rel_tol=0.02)


def test_block_does_not_depend_on_tile_or_zone():
    assert block_names([-120.0], [38.0], 5000) == block_names([-120.0, 5.0], [38.0, 1.0], 5000)[:1]


def test_a_block_has_one_split_and_all_chips_have_one():
    rows = make_rows()
    splits = assign_splits(rows, options())
    of_block = collections.defaultdict(set)
    for row, split in zip(rows, splits, strict=True):
        of_block[row['block']].add(split)
    assert {len(found) for found in of_block.values()} == {1}
    assert set(splits) == {'train', 'val', 'test'}


def test_ratio_holds_for_chips_and_for_a_rare_class():
    rows = make_rows()
    splits = np.array(assign_splits(rows, options(ratio=(0.6, 0.2, 0.2))))
    rare = np.array([row['class_pixels'][2] for row in rows])
    for name, share in (('train', 0.6), ('val', 0.2), ('test', 0.2)):
        assert abs((splits == name).mean() - share) < 0.03
        assert abs(rare[splits == name].sum() / rare.sum() - share) < 0.11


def test_seed_decides():
    rows = make_rows()
    assert assign_splits(rows, options(seed=1)) == assign_splits(rows, options(seed=1))
    assert assign_splits(rows, options(seed=1)) != assign_splits(rows, options(seed=2))


def test_as_many_blocks_as_splits_leaves_none_empty():
    rows = make_rows(1, 3, block=SIDE)
    assert len({row['block'] for row in rows}) == 3
    assert sorted(assign_splits(rows, options())) == ['test', 'train', 'val']


def test_too_few_blocks():
    rows = make_rows(2, 2, block=100_000.0)
    with pytest.raises(ConfigError, match=r'lie in 1 block\(s\).*--block-size'):
        assign_splits(rows, options(block_size=100_000.0))


def test_a_split_with_share_0_gets_nothing():
    splits = assign_splits(make_rows(), options(ratio=(0.8, 0.2, 0.0)))
    assert set(splits) == {'train', 'val'}


def gaps(rows, splits, one, others):
    """The least Chebyshev gap in metres between chips of two groups."""
    box = np.array([[r['minx'], r['miny'], r['maxx'], r['maxy']] for r in rows])
    splits = np.array([str(split) for split in splits])
    a, b = box[splits == one][:, None], box[np.isin(splits, others)][None]
    return np.maximum(a[..., :2] - b[..., 2:], b[..., :2] - a[..., 2:]).max(-1).min()


@pytest.mark.parametrize('buffer', [0.0, 500.0, 960.0, 1500.0])
def test_buffer(buffer):
    rows = make_rows(block=5 * SIDE)
    splits = assign_splits(rows, options(block_size=5 * SIDE, buffer=buffer))
    assert gaps(rows, splits, 'train', ['val', 'test']) >= buffer
    assert gaps(rows, splits, 'val', ['test']) >= buffer
    dropped = splits.count(None)
    assert dropped == 0 if buffer == 0 else 0 < dropped < 300
    # Test chips are never the ones to go.
    assert splits.count('test') == assign_splits(rows, options(block_size=5 * SIDE)).count('test')


def test_overlapping_chips_never_meet_across_splits():
    """Stride of half a chip: those astride the border of two splits go."""
    rows = make_rows(block=5 * SIDE)
    shifted = make_rows(block=5 * SIDE, left=500_000.0 + SIDE / 2)
    splits = assign_splits(rows + shifted, options(block_size=5 * SIDE))
    assert None in splits
    assert gaps(rows + shifted, splits, 'train', ['val', 'test']) >= 0
    assert gaps(rows + shifted, splits, 'val', ['test']) >= 0


def test_buffer_across_the_zone_border():
    """Chips of zone 11 beside chips of zone 10 that are held out."""
    west = make_rows(4, 4, tile='10SGG', left=760_000.0)
    xs, ys = transform('EPSG:32610', 'EPSG:32611', [760_000.0 + 4 * SIDE + 200], [4_200_000.0])
    east = make_rows(4, 8, tile='11SKB', epsg=32611, left=xs[0])
    for row in east:  # to the same latitude
        row['miny'] += ys[0] - 4_200_000.0
        row['maxy'] += ys[0] - 4_200_000.0
        x, y = (row['minx'] + row['maxx']) / 2, (row['miny'] + row['maxy']) / 2
        (row['lon'],), (row['lat'],) = transform('EPSG:32611', 'EPSG:4326', [x], [y])
    wide = options(test_tiles=('10SGG',), ratio=(1.0, 0.0, 0.0), buffer=1000.0)
    splits = assign_splits(west + east, wide)
    assert splits[:16] == ['test'] * 16
    grid = np.array([split is None for split in splits[16:]]).reshape(4, 8)
    assert grid[:, 0].all()  # next to zone 10
    assert not grid[:, 3:].any()  # beyond 2 chips


def test_held_out_tiles():
    rows = make_rows() + make_rows(5, 5, tile='10SFG', left=600_000.0)
    splits = assign_splits(rows, options(test_tiles=('10SFG',)))
    assert splits[400:] == ['test'] * 25
    # The others are divided between train and val alone, 70 : 15.
    assert set(splits[:400]) == {'train', 'val'}
    assert abs(splits[:400].count('val') / 400 - 0.15 / 0.85) < 0.03


def test_bad_options():
    rows = make_rows(3, 3)
    with pytest.raises(ConfigError, match='held-out tile 10SZZ has no chip'):
        assign_splits(rows, options(test_tiles=('10SZZ',)))
    with pytest.raises(ConfigError, match='leave at least one for train'):
        assign_splits(rows, options(test_tiles=('10SEG',)))
    with pytest.raises(ConfigError, match='--val-tiles and --test-tiles'):
        options(test_tiles=('10SEG',), val_tiles=('10SEG',))
    with pytest.raises(ConfigError, match='split ratio'):
        options(ratio=(0.0, 0.5, 0.5))
    with pytest.raises(ConfigError, match='make no sense'):
        options(block_size=0.0)
