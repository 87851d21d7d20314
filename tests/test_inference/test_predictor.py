"""A scene comes out of windows, batches and blending as if it had been predicted in one piece."""

import itertools
import threading
import time

import numpy as np
import pytest
import torch

from geoseg_prithvi.errors import SceneError
from geoseg_prithvi.inference.blend import even_batches
from geoseg_prithvi.inference.windows import Tiling

from .scenes import UTM10, ArrayScene, Identity, Smooth, predict, random_pixels

TILINGS = [Tiling(4, stride, halo) for stride in range(1, 5) for halo in range(3)]


@pytest.mark.parametrize('batch_size', [1, 5])
@pytest.mark.parametrize('tiling', TILINGS, ids=str)
def test_identity_at_every_height_and_width(tiling, batch_size):
    # Heights 1 to 3 windows with their halos; each meets three widths, all remainders occur.
    longest = 3 * tiling.box
    for height in range(1, longest + 1):
        for width in {height, longest + 1 - height, (7 * height) % longest + 1}:
            pixels = random_pixels((2, height, width), seed=height)
            scores, seen = predict(ArrayScene(pixels), Identity(2), tiling, batch_size)
            np.testing.assert_allclose(scores, pixels, rtol=1e-5, err_msg=f'{height} x {width}')
            assert seen.all()


def test_identity_at_all_pairs_of_height_and_width():
    tiling = Tiling(3, 2, 1)
    for height, width in itertools.product(range(1, 16), repeat=2):
        pixels = random_pixels((1, height, width))
        scores, _ = predict(ArrayScene(pixels), Identity(1), tiling)
        np.testing.assert_allclose(scores, pixels, rtol=1e-5, err_msg=f'{height} x {width}')


@pytest.mark.parametrize('tiling', [Tiling(8, 5, 2), Tiling(8, 8, 0), Tiling(7, 1, 3)], ids=str)
def test_constant_model_gives_constant_scores(tiling):
    class Constant(Identity):
        def __call__(self, pixels, metas):
            return (
                torch.tensor([0.25, 0.75])
                .view(1, 2, 1, 1)
                .expand(len(pixels), 2, *pixels.shape[-2:])
            )

    scores, _ = predict(ArrayScene(random_pixels((3, 31, 45))), Constant(2), tiling)
    np.testing.assert_allclose(scores[0], 0.25, rtol=1e-6)
    np.testing.assert_allclose(scores[1], 0.75, rtol=1e-6)


def test_shifting_the_origin_shifts_the_map():
    pixels = random_pixels((2, 40, 41))
    tiling = Tiling(8, 6, 2)
    whole, _ = predict(ArrayScene(pixels), Identity(2), tiling)
    shifted, _ = predict(ArrayScene(pixels[:, 1:, 1:]), Identity(2), tiling)
    np.testing.assert_allclose(shifted, whole[:, 1:, 1:], rtol=1e-5)


def test_a_model_that_sees_less_than_the_halo_is_seamless():
    pixels = random_pixels((2, 53, 47))
    in_one_piece = Smooth(2, radius=3)(torch.from_numpy(pixels)[None], [])[0].numpy()
    for tiling in (Tiling(8, 8, 3), Tiling(8, 5, 3), Tiling(5, 1, 4)):
        scores, _ = predict(ArrayScene(pixels), Smooth(2, radius=3), tiling)
        np.testing.assert_allclose(scores, in_one_piece, rtol=1e-4)


def test_a_halo_smaller_than_what_the_model_sees_leaves_seams():
    # The counter-check of the test above.
    pixels = random_pixels((2, 53, 47))
    in_one_piece = Smooth(2, radius=3)(torch.from_numpy(pixels)[None], [])[0].numpy()
    scores, _ = predict(ArrayScene(pixels), Smooth(2, radius=3), Tiling(8, 8, 2))
    assert not np.allclose(scores, in_one_piece, rtol=1e-4)


def test_two_halves_equal_the_whole_away_from_the_cut():
    pixels = random_pixels((2, 64, 30))
    tiling, radius = Tiling(8, 6, 2), 2
    whole, _ = predict(ArrayScene(pixels), Smooth(2, radius), tiling)
    upper, _ = predict(ArrayScene(pixels[:, :31]), Smooth(2, radius), tiling)
    lower, _ = predict(ArrayScene(pixels[:, 31:]), Smooth(2, radius), tiling)
    np.testing.assert_allclose(upper[:, :-radius], whole[:, : 31 - radius], rtol=1e-4)
    np.testing.assert_allclose(lower[:, radius:], whole[:, 31 + radius :], rtol=1e-4)


def test_unseen_pixels_carry_no_weight():
    pixels = random_pixels((1, 20, 20))
    seen = np.ones((20, 20), np.float32)
    seen[5:9, 3:18] = 0
    seen[12:, 12:] = 1 / 3  # one frame of three is enough
    scores, some = predict(ArrayScene(pixels, seen), Identity(1), Tiling(6, 4, 1))
    np.testing.assert_array_equal(some, seen > 0)
    np.testing.assert_allclose(scores[0], np.where(seen > 0, pixels[0], 0), rtol=1e-5)


def test_every_row_is_read_once():
    scene = ArrayScene(random_pixels((1, 50, 9)))
    predict(scene, Identity(1), Tiling(6, 4, 1))
    assert scene.reads[0] == (0, 8)
    assert [a for _, a in scene.reads[:-1]] == [b for b, _ in scene.reads[1:]]
    assert scene.reads[-1][1] == 50


def test_batches_stay_in_their_row_of_windows():
    assert [len(b) for b in even_batches(22, 8)] == [8, 7, 7]
    assert [len(b) for b in even_batches(3, 8)] == [3]
    scorer = Identity(1)
    predict(ArrayScene(random_pixels((1, 8, 28))), scorer, Tiling(4, 4), batch_size=5)
    assert scorer.batches == [(4, 1, 4, 4), (3, 1, 4, 4)] * 2


def test_each_window_has_its_own_place():
    scorer = Identity(1)
    scene = ArrayScene(random_pixels((1, 8, 200)), crs=UTM10)
    predict(scene, scorer, Tiling(8, 8))
    # The central meridian of zone 10 is 123 degrees west, at 500 km, which is 20 m east of here.
    places = np.array([meta['location_coords'] for meta in scorer.metas])
    assert places.shape == (25, 2)
    np.testing.assert_allclose(places[:, 0], 37.9465, atol=1e-3)
    metres = 111_320 * np.cos(np.radians(places[0, 0]))
    np.testing.assert_allclose((places[:, 1] + 123) * metres, np.arange(25) * 240 + 100, rtol=3e-3)


def test_an_error_of_the_reader_arrives_and_its_thread_ends():
    class Broken(ArrayScene):
        def read(self, start, stop):
            if start > 10:
                raise SceneError('broken at 11')
            return super().read(start, stop)

    before = threading.active_count()
    with pytest.raises(SceneError, match='broken at 11'):
        predict(Broken(random_pixels((1, 40, 9))), Identity(1), Tiling(4, 4))
    assert threading.active_count() == before


def test_reading_overlaps_with_predicting():
    pause = 0.02

    class Slow(ArrayScene):
        def read(self, start, stop):
            time.sleep(pause)
            return super().read(start, stop)

    class SlowModel(Identity):
        def __call__(self, pixels, metas):
            time.sleep(pause)
            return super().__call__(pixels, metas)

    start = time.perf_counter()
    predict(Slow(random_pixels((1, 80, 4))), SlowModel(1), Tiling(4, 4))
    # 20 reads and 20 predictions: 0.8 s one after the other, 0.42 s side by side.
    assert time.perf_counter() - start < 0.6
