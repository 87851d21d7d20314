"""The page of a map, in a real browser without network."""

import base64
import io

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from geoseg_prithvi.errors import OutputExistsError, SceneError
from geoseg_prithvi.inference import page as page_module
from geoseg_prithvi.inference.page import write_page
from geoseg_prithvi.inference.scene import SceneGrid
from geoseg_prithvi.layout import channel_names

from .browser import CHROMIUM, Browser
from .scenes import TRANSFORM, UTM10, random_pixels, write_stack
from .test_writer import LEGEND, TAGS, Block, write

DATES = '2022-04-01,2022-07-02'


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A map of 60 x 80 px with known pixels, its confidence, image and label, and their page."""
    folder = tmp_path_factory.mktemp('page')
    scores = torch.zeros(3, 60, 80)
    scores[0] = 1
    scores[:, 10, 20] = torch.tensor([0.1, 0.7, 0.2])
    scores[:, 50, 70] = torch.tensor([0.2, 0.2, 0.6])
    seen = torch.ones(60, 80, dtype=torch.bool)
    seen[0, 0] = False
    tags = dict(TAGS, GEOSEG_DATES=DATES)
    grid = SceneGrid(UTM10, TRANSFORM, 80, 60)
    write(folder / 'map.tif', [Block(0, scores, seen)], grid, ['confidence'], tags=tags)
    image = write_stack(folder / 'image.tif', random_pixels((12, 60, 80)), channel_names(2))
    label = np.full((1, 60, 80), 2, np.uint8)
    label[0, 10, 20] = 1
    write_stack(folder / 'label.tif', label, nodata=255)
    write_page(folder / 'map.tif', folder / 'map.html', image=image, label=folder / 'label.tif')
    return folder


@pytest.fixture(scope='module')
def browser(made, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip('no Chromium; on Debian: apt-get install chromium')
    browser = Browser(tmp_path_factory.mktemp('profile'))
    browser.open(made / 'map.html')
    yield browser
    browser.close()


def on_screen(browser, row, column):
    """Where the centre of a pixel of the map is shown."""
    x, y, w, h = browser.run(
        "(() => { const b = document.getElementById('world').getBoundingClientRect();"
        ' return [b.x, b.y, b.width, b.height]; })()'
    )
    return x + (column + 0.5) / 80 * w, y + (row + 0.5) / 60 * h


def text(browser, name):
    return browser.run(f"document.getElementById('{name}').textContent")


def shown(browser, row, column):
    """The colour that is seen there."""
    picture = Image.open(io.BytesIO(base64.b64decode(browser.screenshot()))).convert('RGB')
    return picture.getpixel(tuple(round(v) for v in on_screen(browser, row, column)))


def test_read_out_at_known_pixels(browser):
    expected = {
        (10, 20): ('forest', '0.70', 'forest'),
        (50, 70): ('c', '0.60', 'c'),
        (30, 40): ('a < b', '1.00', 'c'),
        (0, 0): ('no data', 'no data', 'c'),
    }
    for (row, column), (name, confidence, label) in expected.items():
        browser.mouse('Moved', *on_screen(browser, row, column))
        x, y = TRANSFORM.c + 30 * column + 15, TRANSFORM.f - 30 * row - 15
        assert text(browser, 'readout').split('\n') == [
            f'class: {name}',
            f'confidence: {confidence}',
            f'label: {label}',
            f'row {row}, column {column}',
            f'x {x:.1f}, y {y:.1f}',
        ]
    browser.mouse('Moved', 2, 400)
    assert text(browser, 'readout') == 'Outside the map.'


def test_swipe_shows_image_on_the_left_and_map_on_the_right(browser):
    assert shown(browser, 30, 70) == (1, 2, 3)  # class 0
    left = shown(browser, 30, 10)
    assert left != (1, 2, 3)
    handle = on_screen(browser, 40, 39.5)
    browser.drag(handle, on_screen(browser, 40, 5))
    assert shown(browser, 30, 10) == (1, 2, 3)
    browser.drag(on_screen(browser, 40, 5), on_screen(browser, 40, 75))
    assert shown(browser, 30, 10) == left
    assert shown(browser, 30, 70) != (1, 2, 3)
    browser.drag(on_screen(browser, 40, 75), handle)


def choose(browser, name, value, event):
    browser.run(
        f"(() => {{ const e = document.getElementById('{name}'); e.value = '{value}';"
        f" e.dispatchEvent(new Event('{event}')); }})()"
    )


def test_layers_opacity_and_frames(browser):
    choose(browser, 'layer', 'label', 'change')
    assert shown(browser, 30, 70) == (9, 9, 9)  # class 2
    choose(browser, 'layer', 'confidence', 'change')
    assert shown(browser, 30, 70) == (250, 230, 60)  # the end of the ramp
    choose(browser, 'layer', 'prediction', 'change')
    choose(browser, 'opacity', 0, 'input')
    april = shown(browser, 30, 70)
    choose(browser, 'frame', 1, 'change')
    july = shown(browser, 30, 70)
    assert len({april, july, (1, 2, 3)}) == 3
    choose(browser, 'opacity', 100, 'input')
    assert shown(browser, 30, 70) == (1, 2, 3)
    options = browser.run("[...document.getElementById('frame').options].map((o) => o.text)")
    assert options == DATES.split(',')


def test_legend_with_areas(browser):
    rows = browser.run(
        "[...document.getElementById('legend').rows].map((r) => [...r.cells].map(c => c.innerText))"
    )
    assert [row[1:] for row in rows] == [
        ['a < b', '431.7', '100.0 %'],
        ['forest', '0.1', '0.0 %'],
        ['c', '0.1', '0.0 %'],
    ]


def test_wheel_zooms_at_the_pointer_and_dragging_moves(browser):
    point = on_screen(browser, 20, 60)
    browser.mouse('Wheel', *point, deltaX=0, deltaY=-300)
    assert np.allclose(on_screen(browser, 20, 60), point, atol=1)
    zoomed = on_screen(browser, 20, 61)[0] - on_screen(browser, 20, 60)[0]
    browser.drag(point, (point[0] + 50, point[1] - 30))
    assert np.allclose(on_screen(browser, 20, 60), (point[0] + 50, point[1] - 30), atol=1)
    browser.run('fit()')
    plain = on_screen(browser, 20, 61)[0] - on_screen(browser, 20, 60)[0]
    assert zoomed == pytest.approx(2 * plain)


def test_no_error_in_the_console_and_no_request(browser):
    assert browser.console == []
    assert [
        url for url in browser.requests if not url.startswith(('file:', 'blob:', 'data:'))
    ] == []


def test_a_large_map_is_thinned(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, 'CHUNK', 7)
    values = torch.arange(50 * 40).reshape(50, 40) % 3
    scores = torch.nn.functional.one_hot(values, 3).permute(2, 0, 1).float()
    block = Block(0, scores, torch.ones(50, 40, dtype=torch.bool))
    write(tmp_path / 'map.tif', [block], SceneGrid(UTM10, TRANSFORM, 40, 50))
    grid = SceneGrid(UTM10, TRANSFORM, 40, 50)
    for step in (1, 2, 3, 4, 9):
        classes, counts = page_module._classes(tmp_path / 'map.tif', grid, step, 3)
        np.testing.assert_array_equal(classes, values[::step, ::step])
        np.testing.assert_array_equal(counts.sum(0), np.bincount(values.ravel()))


def test_bad_input(made, tmp_path):
    with pytest.raises(OutputExistsError, match=r'map\.html exists already'):
        write_page(made / 'map.tif', made / 'map.html')
    other = write_stack(tmp_path / 'other.tif', random_pixels((12, 60, 81)), channel_names(2))
    for name in ('image', 'label'):
        with pytest.raises(SceneError, match=r'other\.tif .*is not on the grid of the map'):
            write_page(made / 'map.tif', tmp_path / 'p.html', **{name: other})
    with pytest.raises(SceneError, match=r'image\.tif does not name its classes'):
        write_page(made / 'image.tif', tmp_path / 'p.html')
    assert not (tmp_path / 'p.html').exists()
    assert rasterio.open(made / 'map.tif').tags()['GEOSEG_CLASSES'].startswith('["a < b"')
    assert LEGEND.names[0] in (made / 'map.html').read_text()
