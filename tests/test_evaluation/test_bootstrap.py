import numpy as np
import pytest

from geoseg_prithvi.evaluation import mean_score, scores
from geoseg_prithvi.evaluation.bootstrap import block_intervals, draw_blocks, interval


def images(count, K=3, seed=0):
    return np.random.default_rng(seed).integers(0, 50, (count, K, K))


def test_draws_are_sums_of_whole_blocks():
    matrices = np.zeros((4, 2, 2), int)
    matrices[:, 0, 0] = [1, 10, 100, 1000]  # a digit for each image
    drawn = draw_blocks(matrices, ['a', 'b', 'a', 'c'], draws=200)[:, 0, 0]
    sums = {101: 'a', 10: 'b', 1000: 'c'}
    legal = {x + y + z for x in sums for y in sums for z in sums}
    assert set(drawn.tolist()) == legal


def test_order_of_the_images_does_not_matter():
    matrices, blocks = images(12), [f'{i % 5}' for i in range(12)]
    a = block_intervals(matrices, blocks)
    turned = np.random.default_rng(1).permutation(12)
    b = block_intervals(matrices[turned], [blocks[i] for i in turned])
    np.testing.assert_array_equal(a.iou, b.iou)
    np.testing.assert_array_equal(a.miou, b.miou)
    assert a.blocks == b.blocks == 5


def test_interval_is_that_of_the_draws_scored_one_by_one():
    matrices, blocks = images(8), [str(i) for i in range(8)]
    matrices[:, 2] = matrices[:, :, 2] = 0
    matrices[0, 2, 2] = 5  # class 2 is in one block only: some draws lack it
    drawn = [scores(matrix) for matrix in draw_blocks(matrices, blocks)]
    iou = np.array([score.iou for score in drawn])
    assert np.isnan(iou[:, 2]).any()
    found = block_intervals(matrices, blocks)
    np.testing.assert_allclose(found.iou[:, :2], np.percentile(iou[:, :2], (2.5, 97.5), axis=0))
    np.testing.assert_array_equal(found.iou[:, 2], [1, 1])
    miou = [mean_score(score.iou) for score in drawn]
    np.testing.assert_allclose(found.miou, np.percentile(miou, (2.5, 97.5)))


def test_interval_of_a_mean_is_the_textbook_one():
    """With blocks of 100 pixels each, accuracy of class 0 is a mean over blocks."""
    rng = np.random.default_rng(3)
    right = rng.integers(40, 90, 200)
    matrices = np.zeros((200, 2, 2), int)
    matrices[:, 0, 0], matrices[:, 0, 1] = right, 100 - right
    found = block_intervals(matrices, np.arange(200).astype(str), draws=4000)
    # IoU of class 0 is the share of its pixels that are right, as nothing else is taken for it.
    half = 1.96 * right.std() / 100 / np.sqrt(200)
    mean = right.mean() / 100
    np.testing.assert_allclose(found.iou[:, 0], [mean - half, mean + half], atol=0.15 * half)


def test_pixels_that_are_alike_do_not_feign_certainty():
    """The same images three times in their block: the interval stays as wide."""
    matrices, blocks = images(10), [str(i) for i in range(10)]
    once = block_intervals(matrices, blocks)
    thrice = block_intervals(np.tile(matrices, (3, 1, 1)), blocks * 3)
    np.testing.assert_allclose(once.miou, thrice.miou)


def test_one_block_has_no_interval():
    found = block_intervals(images(4), ['a'] * 4)
    assert found.blocks == 1
    assert np.isnan(found.miou).all() and np.isnan(found.iou).all()


def test_interval_leaves_out_nan():
    values = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_allclose(interval(values)[:, 0], np.percentile([1, 2], (2.5, 97.5)))
    assert np.isnan(interval(values)[:, 1]).all()


@pytest.mark.parametrize('draws', [1, 7])
def test_number_of_draws(draws):
    assert draw_blocks(images(3), ['a', 'b', 'c'], draws=draws).shape == (draws, 3, 3)
