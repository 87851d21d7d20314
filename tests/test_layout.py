"""Frames and bands, patches and maps: exact positions, numpy and torch alike."""

import numpy as np
import pytest
import torch

from geoseg_prithvi import layout
from geoseg_prithvi.errors import LayoutError


def _cube(n=2, c=6, t=3, h=4, w=6):
    """Return (N, C, T, H, W) in which every value is different."""
    return np.arange(n * c * t * h * w, dtype=np.float32).reshape(n, c, t, h, w)


@pytest.fixture(params=['numpy', 'torch'])
def convert(request):
    return (lambda x: x) if request.param == 'numpy' else torch.from_numpy


def test_time_is_folded_frame_by_frame(convert):
    cube = _cube()
    folded = layout.fold_time(convert(cube))
    for t in range(3):
        for band in range(6):
            assert (np.asarray(folded)[:, t * 6 + band] == cube[:, band, t]).all()
    assert (np.asarray(layout.unfold_time(folded, 3)) == cube).all()


def test_a_single_sample_without_batch_axis_folds_too():
    cube = _cube()[0]
    assert (layout.unfold_time(layout.fold_time(cube), 3) == cube).all()


def test_channels_that_are_no_whole_frames_are_refused():
    with pytest.raises(LayoutError, match='17 channels cannot be 3 frames'):
        layout.unfold_time(np.zeros((1, 17, 2, 2)), 3)
    with pytest.raises(LayoutError, match='17 channels cannot be 3 frames'):
        layout.unfold_time_legacy(np.zeros((1, 17, 2, 2)), 3)


def test_legacy_unfold_shows_the_historical_mistake():
    # A time-major chip, channel = 10 * frame + band.
    chip = np.array([10 * t + c for t in range(3) for c in range(6)]).reshape(18, 1, 1)
    mixed = layout.unfold_time_legacy(chip, 3)[..., 0, 0]
    assert mixed[0].tolist() == [0, 1, 2]  # "band 0" was blue, green and red of frame 0
    assert mixed[2].tolist() == [10, 11, 12]


def test_tokens_become_maps_and_return(convert):
    t, h, w, d = 3, 2, 5, 4
    tokens = np.arange(2 * t * h * w * d, dtype=np.float32).reshape(2, t * h * w, d)
    maps = layout.tokens_to_maps(convert(tokens), (t, h, w))
    assert maps.shape == (2, t * d, h, w)
    # token of frame 1, row 1, column 3 -> channels 4..7 of pixel (1, 3)
    assert (np.asarray(maps)[:, 4:8, 1, 3] == tokens[:, 1 * 10 + 1 * 5 + 3]).all()
    assert (np.asarray(layout.maps_to_tokens(maps, 3)) == tokens).all()


def test_band_major_puts_the_frames_of_a_channel_together(convert):
    maps = np.arange(3 * 4, dtype=np.float32).reshape(1, 12, 1, 1)
    order = np.asarray(layout.band_major(convert(maps), 3)).ravel().tolist()
    assert order == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


def test_patches_hold_their_pixels_row_by_row_bands_last(convert):
    cube = _cube(h=4, w=6)
    patches = layout.patchify(convert(cube), 2)
    assert patches.shape == (2, 3 * 2 * 3, 2 * 2 * 6)
    # frame 2, patch row 1, patch column 2; pixel (1, 0) in it; band 4
    expected = cube[:, 4, 2, 1 * 2 + 1, 2 * 2 + 0]
    token, value = 2 * 6 + 1 * 3 + 2, (1 * 2 + 0) * 6 + 4
    assert (np.asarray(patches)[:, token, value] == expected).all()
    assert (np.asarray(layout.unpatchify(patches, (3, 2, 3), 2)) == cube).all()


def test_channel_names():
    assert layout.channel_names(2, ('RED', 'NIR')) == ['t0_RED', 't0_NIR', 't1_RED', 't1_NIR']


def test_channels_are_found_by_name_wherever_they_stand():
    names = layout.channel_names(2)
    shuffled = names[::-1]
    order = layout.channel_order(shuffled, 2, source='a.tif')
    assert [shuffled[i] for i in order] == names


def test_a_missing_name_is_told():
    names = layout.channel_names(2)[:-1]
    with pytest.raises(LayoutError, match=r'a\.tif has 11 bands but none is called t1_SWIR_2'):
        layout.channel_order(names, 2, source='a.tif')


def test_a_name_that_stands_twice_is_refused():
    with pytest.raises(LayoutError, match='names a band twice'):
        layout.channel_order([*layout.channel_names(1), 't0_RED'], 1, source='a.tif')


def test_a_file_without_names_is_not_guessed():
    with pytest.raises(LayoutError, match="layout='time-major'"):
        layout.channel_order([None] * 6, 1, source='a.tif')


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('time-major', [0, 1, 2, 3]), ('band-major', [0, 2, 1, 3])],
)
def test_a_stated_layout_is_followed(name, expected):
    order = layout.channel_order([None] * 4, 2, ('A', 'B'), source='a.tif', layout=name)
    assert order == expected


def test_a_stated_layout_that_does_not_fit_is_refused():
    with pytest.raises(LayoutError, match='7 bands, but num_frames=1 x 6 bands = 6'):
        layout.channel_order([None] * 7, 1, source='a.tif', layout='time-major')
