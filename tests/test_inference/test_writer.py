"""The files of a map: whole, on the exact grid, with colours and names, or not there at all."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import Affine

from geoseg_prithvi.errors import OutputExistsError, OutputWriteError
from geoseg_prithvi.inference.area import class_hectares, pixel_hectares
from geoseg_prithvi.inference.blend import Block
from geoseg_prithvi.inference.job import MapJob
from geoseg_prithvi.inference.scene import WGS84, SceneGrid
from geoseg_prithvi.inference.writer import (
    LAYERS,
    MapFiles,
    encode,
    layer_names,
    write_map,
    writing,
)
from geoseg_prithvi.lulc import Legend

from .scenes import TRANSFORM, UTM10

LEGEND = Legend(
    'two & more', (0, 1, 2), ('a < b', 'forest', 'c'), ((1, 2, 3), (0, 99, 0), (9, 9, 9))
)
TAGS = {'GEOSEG_MODEL': 'tiny.py'}


def random_blocks(height, width, k=3, step=37, seed=0):
    """Blocks of probabilities; a stripe of columns is not seen."""
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for row in range(0, height, step):
        rows = min(step, height - row)
        scores = torch.rand(k, rows, width, generator=generator)
        scores = scores / scores.sum(0)
        seen = torch.ones(rows, width, dtype=torch.bool)
        seen[:, 3:5] = False
        blocks.append(Block(row, scores * seen, seen))
    return blocks


def write(path, blocks, grid, layers=(), extras=None, tags=TAGS):
    """Write a map as a run does: rows first, then all files. Returns the pixels of each class."""
    files = MapFiles(path)
    found = []

    def note(work, counts):
        found.append(counts)
        if extras:
            extras(work, counts)

    bands = 1 + len(layer_names(layers, LEGEND))
    job = MapJob(files, {}, [], (bands, grid.height, grid.width))
    job.start()
    try:
        with writing(path):
            for block in blocks:
                job.rows.write(block.row, encode(block, layers).numpy())
        write_map(files, job.folder, job.rows, grid, LEGEND, tags=tags, layers=layers, extras=note)
    finally:
        job.discard()
    return found[0]


def expected_classes(blocks):
    return np.concatenate(
        [np.where(b.seen, b.scores.argmax(0), 255).astype(np.uint8) for b in blocks]
    )


def test_map_is_what_was_written_on_the_exact_grid(tmp_path):
    # A grid whose numbers are no round ones, and turned.
    transform = Affine(1 / 3, 0.1, 1e6 / 7, 0.07, -1 / 3, math.pi * 1e6)
    grid = SceneGrid(UTM10, transform, 700, 1100)
    blocks = random_blocks(1100, 700)
    write(tmp_path / 'map.tif', blocks, grid)
    with rasterio.open(tmp_path / 'map.tif') as raster:
        assert SceneGrid.of(raster) == grid
        assert raster.transform == transform
        np.testing.assert_array_equal(raster.read(1), expected_classes(blocks))
        assert raster.profile['dtype'] == 'uint8'
        assert raster.nodata == 255
        assert raster.count == 1
        assert raster.tags()['GEOSEG_MODEL'] == 'tiny.py'
        colors = raster.colormap(1)
        assert [colors[i] for i in (0, 1, 2, 255)] == [
            (1, 2, 3, 255),
            (0, 99, 0, 255),
            (9, 9, 9, 255),
            (0, 0, 0, 0),
        ]
        # Cloud-Optimised: tiled, overviews, and written in that order.
        assert raster.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
        assert raster.profile['tiled']
        assert raster.overviews(1) == [2, 4]
    names = (tmp_path / 'map.tif.aux.xml').read_text()
    assert '<Category>a &lt; b</Category>' in names
    assert sorted(p.name for p in tmp_path.iterdir()) == ['map.tif', 'map.tif.aux.xml']


def test_overviews_are_classes_by_mode(tmp_path):
    classes = np.zeros((1024, 1024), np.int64)
    classes[:, 512:] = 2  # an average of 0 and 2 would be class 1
    classes[::2, ::2] = 2 - classes[::2, ::2]  # one pixel of four: nearest would take it
    scores = torch.nn.functional.one_hot(torch.from_numpy(classes), 3).permute(2, 0, 1).float()
    block = Block(0, scores, torch.ones(1024, 1024, dtype=torch.bool))
    write(tmp_path / 'map.tif', [block], SceneGrid(UTM10, TRANSFORM, 1024, 1024))
    with rasterio.open(tmp_path / 'map.tif', overview_level=0) as raster:
        overview = raster.read(1)
    assert overview.shape == (512, 512)
    assert (overview[:, :256] == 0).all()
    assert (overview[:, 256:] == 2).all()


def test_layers(tmp_path):
    blocks = random_blocks(50, 40)
    blocks[0].scores[:, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    blocks[0].scores[:, 0, 1] = 1 / 3
    write(tmp_path / 'map.tif', blocks, SceneGrid(UTM10, TRANSFORM, 40, 50), layers=LAYERS)
    scores = torch.cat([b.scores for b in blocks], 1).numpy()
    with rasterio.open(tmp_path / 'map_confidence.tif') as raster:
        values = raster.read()
        assert raster.descriptions == (
            'confidence',
            'entropy',
            'probability of a < b',
            'probability of forest',
            'probability of c',
        )
        assert raster.scales == (1 / 250,) * 5
        assert raster.nodata == 255
        assert raster.tags(ns='IMAGE_STRUCTURE')['LAYOUT'] == 'COG'
    seen = np.ones((50, 40), bool)
    seen[:, 3:5] = False
    assert (values[:, ~seen] == 255).all()
    assert values[:, 0, 0].tolist() == [250, 0, 250, 0, 0]
    assert values[:, 0, 1].tolist() == [83, 250, 83, 83, 83]
    np.testing.assert_array_equal(values[2:, seen], np.rint(scores[:, seen] * 250))
    np.testing.assert_array_equal(values[0, seen], np.rint(scores.max(0)[seen] * 250))
    classes = expected_classes(blocks)
    won = np.take_along_axis(values[2:], np.where(seen, classes, 0)[None].astype(int), 0)[0]
    np.testing.assert_array_equal(values[0], won)


def test_class_counts(tmp_path):
    blocks = random_blocks(80, 40)
    counts = write(tmp_path / 'map.tif', blocks, SceneGrid(UTM10, TRANSFORM, 40, 80))
    classes = expected_classes(blocks)
    expected = np.stack([(classes == k).sum(axis=1) for k in range(3)], axis=1)
    np.testing.assert_array_equal(counts, expected)


def test_existing_map_is_kept_or_replaced_with_all_that_belongs_to_it(tmp_path):
    grid = SceneGrid(UTM10, TRANSFORM, 40, 50)
    path = tmp_path / 'map.tif'
    write(path, random_blocks(50, 40, seed=1), grid, layers=['confidence'])
    old = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r'map\.tif exists already; .*--overwrite'):
        MapFiles(path).check_free(overwrite=False)
    MapFiles(path).check_free(overwrite=True)
    assert path.read_bytes() == old
    blocks = random_blocks(50, 40, seed=2)
    write(path, blocks, grid)
    with rasterio.open(path) as raster:
        np.testing.assert_array_equal(raster.read(1), expected_classes(blocks))
    # The confidence of the old map would be a lie beside the new one.
    assert sorted(p.name for p in tmp_path.iterdir()) == ['map.tif', 'map.tif.aux.xml']


def test_an_error_at_the_end_leaves_nothing(tmp_path):
    def fail(work, counts):
        raise RuntimeError('stop')

    grid = SceneGrid(UTM10, TRANSFORM, 40, 50)
    with pytest.raises(RuntimeError, match='stop'):
        write(tmp_path / 'map.tif', random_blocks(50, 40), grid, extras=fail)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_or_a_file_in_the_way(tmp_path):
    grid = SceneGrid(UTM10, TRANSFORM, 40, 50)
    with pytest.raises(OutputWriteError, match='is a folder; name a file'):
        MapFiles(tmp_path).check_free(overwrite=True)
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputWriteError, match=r'file/map\.tif could not be written'):
        write(tmp_path / 'file' / 'map.tif', random_blocks(50, 40), grid)


FULL_DISK = """
import pathlib, resource, signal, sys
from tests.test_inference.test_writer import *

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
grid = SceneGrid(UTM10, TRANSFORM, 300, 400)
folder = pathlib.Path(sys.argv[1])
for limit in (2_000, 60_000, 150_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write(folder / 'map.tif', random_blocks(400, 300), grid)
    except OutputWriteError as error:
        print(limit, error)
    print(limit, sorted(path.name for path in folder.iterdir()))
"""


def test_full_disk(tmp_path):
    """The system refuses files beyond a size, as a full disk would.

    The plain rows take 120 kB, the map about 45 kB: with 60 kB the rows fail, with 2 kB all, and
    with 150 kB nothing.
    """
    done = subprocess.run(
        [sys.executable, '-c', FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    tight, nothing, tighter, none, enough = done.stdout.splitlines()
    assert tight.startswith(f'2000 {tmp_path}/map.tif could not be written')
    assert tighter.startswith(f'60000 {tmp_path}/map.tif could not be written')
    assert 'check free space' in tight and 'check free space' in tighter
    assert (nothing, none) == ('2000 []', '60000 []')
    assert enough == "150000 ['map.tif', 'map.tif.aux.xml']"


def test_reason_of_the_system_is_told(tmp_path):
    message = r'x\.tif could not be written \(No space left'
    with pytest.raises(OutputWriteError, match=message), writing(tmp_path / 'x.tif'):
        raise OSError(28, 'No space left on device')


def test_no_coordinate_system(tmp_path):
    grid = SceneGrid(None, Affine.identity(), 40, 50)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        write(tmp_path / 'map.tif', random_blocks(50, 40), grid)
    assert pixel_hectares(grid) is None


def test_a_system_without_code_is_kept(tmp_path):
    # As L30 granules carry it.
    crs = CRS.from_wkt(
        'PROJCS["UTM Zone 10, Northern Hemisphere",GEOGCS["Unknown datum based upon the WGS 84 '
        'ellipsoid",DATUM["Not_specified_based_on_WGS_84_spheroid",SPHEROID["WGS 84",6378137,'
        '298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
        'PROJECTION["Transverse_Mercator"],PARAMETER["latitude_of_origin",0],'
        'PARAMETER["central_meridian",-123],PARAMETER["scale_factor",0.9996],'
        'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
    )
    with rasterio.open(
        tmp_path / 'in.tif', 'w', driver='GTiff', dtype='uint8', count=1, height=50, width=40,
        crs=crs, transform=TRANSFORM,
    ) as raster:  # fmt: skip
        raster.write(np.zeros((50, 40), np.uint8), 1)
    with rasterio.open(tmp_path / 'in.tif') as raster:
        grid = SceneGrid.of(raster)
    write(tmp_path / 'map.tif', random_blocks(50, 40), grid)
    with rasterio.open(tmp_path / 'map.tif') as raster:
        assert SceneGrid.of(raster) == grid


def test_hectares():
    counts = np.array([[1, 2, 0], [3, 0, 0]])
    utm = SceneGrid(UTM10, TRANSFORM, 3, 2)
    np.testing.assert_allclose(class_hectares(counts, utm), [0.36, 0.18, 0])
    # The whole ellipsoid: 510,065,621.7 km2 (GRS 80 and WGS 84 agree to this digit).
    globe = SceneGrid(WGS84, Affine(1, 0, -180, 0, -1, 90), 360, 180)
    total = pixel_hectares(globe).sum() * 360
    assert total / 100 == pytest.approx(510_065_621.7, rel=1e-8)
    # US survey feet.
    feet = SceneGrid(CRS.from_epsg(2227), Affine(100, 0, 0, 0, -100, 0), 1, 1)
    assert pixel_hectares(feet)[0] == pytest.approx((100 * 1200 / 3937) ** 2 / 1e4)
