"""What ``browse_data.py`` shows is what is in the chips."""

import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from geoseg_prithvi.data.index import read_index
from geoseg_prithvi.data.overview import read_overview, write_footprints
from geoseg_prithvi.visualization.contact_sheet import ChipStrip, draw_contact_sheet
from geoseg_prithvi.visualization.dataset_page import clear_chart, footprint_chart

TOOL = Path(__file__).parents[2] / 'tools' / 'browse_data.py'


def run(monkeypatch, capsys, *args):
    monkeypatch.setattr(sys, 'argv', ['browse_data.py', *map(str, args)])
    code = 0
    try:
        runpy.run_path(str(TOOL), run_name='__main__')
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def test_overview_counts(chip_folder):
    overview = read_overview(chip_folder)
    table = read_index(chip_folder)
    assert len(overview) == 9
    assert overview.class_pixels.tolist() == table['class_pixels'].to_pylist()
    assert overview.clear.tolist() == table['clear_fraction'].to_pylist()
    assert overview.dates.astype(str).tolist() == table['dates'].to_pylist()
    pixels = overview.split_pixels()
    assert list(pixels) == ['train', 'val', 'test']
    assert sum(p.sum() for p in pixels.values()) == 9 * 32 * 32


def test_footprints_are_where_the_chips_are(chip_folder):
    overview = read_overview(chip_folder)
    centres = overview.rings[:, :4].mean(axis=1)
    assert np.allclose(centres[:, 0], overview.table['lon'].to_numpy(), atol=1e-6)
    assert np.allclose(centres[:, 1], overview.table['lat'].to_numpy(), atol=1e-6)
    assert np.array_equal(overview.rings[:, 0], overview.rings[:, 4])
    # 32 pixels of 30 m are 960 m.
    side = np.hypot(*((overview.rings[:, 2] - overview.rings[:, 1]) * [87_700, 111_000]).T)
    assert np.allclose(side, 960, rtol=0.01)


def test_geopackage_says_the_same(chip_folder, tmp_path):
    raw = pytest.importorskip('pyogrio.raw')
    overview = read_overview(chip_folder)
    path = tmp_path / 'footprints.gpkg'
    write_footprints(overview, path)
    write_footprints(overview, path)  # replaces
    meta, _, shapes, values = raw.read(path)
    assert meta['crs'] == 'EPSG:4326'
    assert meta['geometry_type'] == 'Polygon'
    columns = dict(zip(meta['fields'], values, strict=True))
    assert columns['chip_id'].tolist() == overview.table['chip_id'].to_pylist()
    assert columns['split'].tolist() == overview.splits.tolist()
    assert columns['min_clear'].tolist() == [1.0] * 9
    # WKB: byte order, type, rings, points, then the coordinates.
    points = np.frombuffer(shapes[4], '<f8', offset=13).reshape(-1, 2)
    assert np.array_equal(points, overview.rings[4])
    assert [path.name for path in tmp_path.iterdir()] == ['footprints.gpkg']


def test_sample_is_even_over_the_splits_and_seeded(chip_folder):
    overview = read_overview(chip_folder)
    chosen = overview.sample(6, seed=0)
    assert overview.splits[chosen].tolist() == ['train'] * 2 + ['val'] * 2 + ['test'] * 2
    assert overview.sample(6, seed=0) == chosen
    assert any(overview.sample(6, seed=seed) != chosen for seed in range(1, 6))
    assert sorted(overview.sample(99, seed=0)) == list(range(9))


def test_the_tool_writes_all(chip_folder, tmp_path, monkeypatch, capsys):
    pytest.importorskip('pyogrio')
    code, text, _ = run(monkeypatch, capsys, chip_folder, '--out', tmp_path, '--num', 5)
    assert code == 0
    assert '9 (train 5, val 2, test 2)' in text
    assert '2022-01-20 to 2022-09-17' in text
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *('contact_sheet.png', 'classes.png', 'footprints.png', 'dates.png', 'clear.png'),
        *('index.html', 'footprints.gpkg'),
    }
    page = (tmp_path / 'index.html').read_text()
    assert page.count('<svg') == 4
    # Self-contained: nothing is loaded from elsewhere.
    assert re.findall(r'src="(?!data:)|<link|<script|@import|url\((?!#)', page) == []
    train = read_overview(chip_folder).split_pixels()['train']
    assert f'<td>{100 * train[0] / train.sum():.2f} %</td>' in page
    run(monkeypatch, capsys, chip_folder, '--out', tmp_path, '--num', 5)
    assert (tmp_path / 'index.html').read_text() == page


def test_contact_sheet_shows_the_pictures():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[..., 2] = 255
    strips = [ChipStrip(f'chip {n}', 'day', 'train', [red, blue]) for n in range(3)]
    sheet = draw_contact_sheet(strips, ['a'], [(1, 2, 3)]).astype(int)
    reds = (np.abs(sheet - [255, 0, 0]).sum(axis=2) < 5).sum()
    blues = (np.abs(sheet - [0, 0, 255]).sum(axis=2) < 5).sum()
    assert reds > 10_000
    assert abs(reds - blues) < 0.02 * reds


def test_unknown_clear_share_is_said():
    assert 'not known' in clear_chart(np.full((4, 2), np.nan)).axes[0].texts[0].get_text()


def test_many_footprints_are_a_picture(monkeypatch):
    from geoseg_prithvi.visualization import dataset_page

    monkeypatch.setattr(dataset_page, 'MAX_VECTORS', 3)
    rings = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], float) + np.arange(4)[:, None, None]
    figure = footprint_chart(rings, np.array(['train'] * 4))
    assert all(collection.get_rasterized() for collection in figure.axes[0].collections)


def test_bad_input_is_one_sentence(chip_folder, tmp_path, monkeypatch, capsys):
    code, _, error = run(monkeypatch, capsys, tmp_path / 'absent')
    assert (code, error.count('\n')) == (2, 1)
    code, _, error = run(monkeypatch, capsys, chip_folder, '--num', 0)
    assert (code, error) == (2, 'error: --num is at least 1, not 0.\n')
    copy = tmp_path / 'copy'
    shutil.copytree(chip_folder, copy)
    for path in (copy / 'images').iterdir():
        path.unlink()
    code, _, error = run(monkeypatch, capsys, copy)
    assert code == 2
    assert 'does not exist' in error
