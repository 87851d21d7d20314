import numpy as np
import pytest

from geoseg_prithvi.lulc import IO_LULC
from geoseg_prithvi.visualization import draw_panel, legend_patches


def count(panel, color):
    return int((panel == np.array(color, np.uint8)).all(-1).sum())


@pytest.mark.parametrize(('frames', 'size'), [(1, (32, 32)), (3, (64, 64)), (4, (20, 60))])
def test_label_and_prediction_are_shown_in_their_colours(frames, size):
    chip = np.random.default_rng(0).integers(0, 3000, (6 * frames, *size)).astype(np.int16)
    label, prediction = np.full(size, 3, np.uint8), np.full(size, 4)
    panel = draw_panel(
        chip,
        {'label': label, 'prediction': prediction},
        IO_LULC.names,
        IO_LULC.colors,
        frame_titles=[f'2022-0{t + 1}-01' for t in range(frames)],
        title='chip_0',
    )
    assert panel.dtype == np.uint8
    assert panel.shape[2] == 3
    crops, built, water = (count(panel, IO_LULC.colors[k]) for k in (3, 4, 0))
    # Two maps of one colour each and, for every class, a swatch in the legend.
    picture = 250**2 * size[0] / size[1]
    assert crops > picture
    assert built > picture
    assert 50 < water < 1000


def test_every_class_has_an_entry():
    patches = legend_patches(IO_LULC.names, IO_LULC.colors)
    assert [patch.get_label() for patch in patches] == list(IO_LULC.names)
    assert patches[0].get_facecolor()[:3] == pytest.approx((26 / 255, 91 / 255, 171 / 255))


def test_titles_and_frames_must_agree():
    with pytest.raises(ValueError, match='frames'):
        draw_panel(
            np.zeros((12, 8, 8), np.int16), {}, (), (), frame_titles=['a', 'b', 'c', 'd', 'e']
        )
