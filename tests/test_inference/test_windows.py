"""The windows cover every scene, and their weights add up."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg_prithvi.errors import ConfigError
from geoseg_prithvi.inference.windows import Tiling, WindowRow


def total_weight(tiling: Tiling, length: int) -> np.ndarray:
    total = np.zeros(max(length, tiling.box))
    for start in tiling.starts(length):
        total[start : start + tiling.box] += tiling.weight(start, length)
    return total[:length]


def test_the_numbers_of_the_docstring():
    tiling = Tiling(size=4, stride=4, halo=2)
    assert tiling.box == 8
    assert tiling.starts(20) == [0, 4, 8, 12]
    assert list(tiling.rows(20)) == [
        WindowRow(0, 6),
        WindowRow(4, 10),
        WindowRow(8, 14),
        WindowRow(12, 20),
    ]
    assert tiling.starts(21) == [0, 4, 8, 12, 13]
    counts = [tiling.weight(start, 20).nonzero()[0] + start for start in tiling.starts(20)]
    assert [(int(c[0]), int(c[-1]) + 1) for c in counts] == [(0, 6), (6, 10), (10, 14), (14, 20)]


def test_starts_of_small_axes():
    tiling = Tiling(size=15, stride=13)
    assert [tiling.starts(n) for n in (1, 14, 15, 16, 28, 29)] == [
        [0],
        [0],
        [0],
        [0, 1],
        [0, 13],
        [0, 13, 14],
    ]


def test_weight_is_a_squared_sine_over_the_overlap():
    weight = Tiling(size=6, stride=4, halo=1).weight(4, 100)
    rise = [np.sin(np.pi / 8) ** 2, np.sin(3 * np.pi / 8) ** 2]
    np.testing.assert_allclose(weight, [0, *rise, 1, 1, *rise[::-1], 0], rtol=1e-6)


def test_neighbours_at_their_regular_distance_add_up_to_one():
    tiling = Tiling(size=8, stride=5, halo=2)
    length = tiling.box + 4 * tiling.stride  # the last box lies on the regular grid
    np.testing.assert_allclose(total_weight(tiling, length), 1, rtol=1e-6)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_pixel_is_covered_and_no_box_leaves_the_scene(data):
    size = data.draw(st.integers(1, 40))
    tiling = Tiling(size, data.draw(st.integers(1, size)), data.draw(st.integers(0, size // 2)))
    length = data.draw(st.integers(1, 3 * tiling.box))
    starts = tiling.starts(length)
    assert starts[0] == 0
    assert all(b > a for a, b in itertools.pairwise(starts))
    assert starts[-1] + tiling.box == max(length, tiling.box)
    assert total_weight(tiling, length).min() > 0

    # Rows said to be final get nothing from later windows.
    for row, later in zip(tiling.rows(length), starts[1:], strict=False):
        assert not tiling.weight(later, length)[: row.done - later].any()


@pytest.mark.parametrize(('size', 'stride'), [(8, 0), (8, 9), (8, -1)])
def test_bad_stride(size, stride):
    with pytest.raises(ConfigError, match=f'stride={stride} .*choose 1 to 8'):
        Tiling(size, stride)


def test_of_crop():
    assert Tiling.of_crop(224, 16) == Tiling(size=192, stride=144, halo=16)
    assert Tiling.of_crop(1, 0) == Tiling(1, 1)
    with pytest.raises(ConfigError, match=r'halo=112 leaves nothing of a crop of 224 px'):
        Tiling.of_crop(224, 112)
    with pytest.raises(ConfigError, match='negative'):
        Tiling(8, 8, -1)
