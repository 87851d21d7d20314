"""Parts of a scene: predicted apart, by whom and when it may be, they make the same map."""

import numpy as np
import pytest
import rasterio
import torch

from geoseg_prithvi.errors import OutputExistsError, OutputWriteError
from geoseg_prithvi.inference import MapOptions, SceneOptions, Tiling, build_segmentor, find_scenes
from geoseg_prithvi.inference.job import MapJob, Share
from geoseg_prithvi.inference.maps import make_map
from geoseg_prithvi.inference.predictor import predict_blocks
from geoseg_prithvi.inference.writer import MapFiles
from geoseg_prithvi.layout import channel_names

from .scenes import ArrayScene, Smooth, predict, random_pixels, write_stack


@pytest.mark.parametrize('tiling', [Tiling(4, 1, 2), Tiling(5, 5, 0), Tiling(8, 5, 1)], ids=str)
@pytest.mark.parametrize('rows_per_part', [1, 2, 3, 7])
def test_parts_are_bit_equal_to_the_whole(tiling, rows_per_part):
    for height in (1, 11, 40, 43):
        pixels = random_pixels((2, height, 33))
        whole, _ = predict(ArrayScene(pixels), Smooth(2, 2), tiling)
        parts = tiling.parts(height, rows_per_part)
        assert parts[0].start == 0 and parts[-1].stop == height
        for part in reversed(parts):
            scene = ArrayScene(pixels)
            blocks = list(predict_blocks(scene, Smooth(2, 2), tiling, batch_size=5, part=part))
            found = torch.cat([block.scores for block in blocks], dim=1).numpy()
            assert blocks[0].row == part.start
            np.testing.assert_array_equal(found, whole[:, part.start : part.stop])


def test_numbers_of_the_parts():
    # Rows of windows start at 0, 4, 8, 12; boxes of 8 count up to 2 from their end.
    parts = Tiling(4, 4, 2).parts(20, 2)
    assert [(p.start, p.stop) for p in parts] == [(0, 10), (10, 20)]
    assert [[row.start for row in p.rows] for p in parts] == [[0, 4], [8, 12]]
    # With windows that overlap, a part begins with the row of windows that reaches into it.
    parts = Tiling(4, 3, 2).parts(17, 2)
    assert [(p.start, p.stop) for p in parts] == [(0, 8), (8, 17)]
    assert [[row.start for row in p.rows] for p in parts] == [[0, 3], [3, 6, 9]]


def make(stack, tiny_model, out, **options):
    segmentor = build_segmentor(tiny_model.load(), checkpoint=tiny_model.checkpoint)
    (source,) = find_scenes([stack])
    options = MapOptions(Tiling(12, 9, 2), layers=['entropy'], **options)
    return make_map(source, segmentor, out, SceneOptions(3), options)


@pytest.fixture
def stack(tmp_path):
    return write_stack(tmp_path / 's.tif', random_pixels((18, 100, 40)), channel_names(3))


def test_three_processes_one_after_the_other(tmp_path, tiny_model, stack):
    whole = make(stack, tiny_model, tmp_path / 'whole' / 'map.tif')
    out = tmp_path / 'shared' / 'map.tif'
    for rank in (2, 1, 0):
        files = make(stack, tiny_model, out, share=Share(rank, 3), keep_same=True)
        assert out.exists() == (rank == 0)
    for path in (whole.map, whole.confidence, whole.picture):
        assert path.read_bytes() == (out.parent / path.name).read_bytes()
    assert not files.unfinished.exists()


def test_marks_of_other_settings_are_not_believed(tmp_path):
    files, parts = MapFiles(tmp_path / 'map.tif'), Tiling(4, 4).parts(20, 1)
    job = MapJob(files, dict(model='a'), parts, (1, 20, 20))
    job.start()
    assert job.missing(Share()) == [0, 1, 2, 3, 4]
    assert job.missing(Share(1, 2)) == [1, 3]
    job.rows.write(0, np.ones((1, 4, 20), np.uint8))
    job.done(1)
    assert MapJob(files, dict(model='a'), parts, (1, 20, 20)).missing(Share(1, 2)) == [3]
    assert MapJob(files, dict(model='b'), parts, (1, 20, 20)).missing(Share(1, 2)) == [1, 3]
    assert MapJob(files, dict(model='a'), parts, (2, 20, 20)).missing(Share(1, 2)) == [1, 3]
    job.discard()
    assert list(tmp_path.iterdir()) == []


def test_same_maps_are_kept_and_others_refused(tmp_path, tiny_model, stack):
    out = tmp_path / 'map.tif'
    make(stack, tiny_model, out, tags=dict(GEOSEG_MODEL='a'))
    before = out.stat().st_mtime_ns
    make(stack, tiny_model, out, tags=dict(GEOSEG_MODEL='a'), keep_same=True)
    assert out.stat().st_mtime_ns == before
    for options in (dict(keep_same=True, tags=dict(GEOSEG_MODEL='b')), dict()):
        with pytest.raises(OutputExistsError):
            make(stack, tiny_model, out, **options)
    make(stack, tiny_model, out, tags=dict(GEOSEG_MODEL='b'), keep_same=True, overwrite=True)
    with rasterio.open(out) as raster:
        assert raster.tags()['GEOSEG_MODEL'] == 'b'


def test_no_room_for_the_rows(tmp_path):
    job = MapJob(MapFiles(tmp_path / 'map.tif'), {}, [], (1, 2**31, 2**20))
    with pytest.raises(OutputWriteError, match=r'it takes 2147483648 MiB and \d+ MiB are free'):
        job.start()
    assert list(tmp_path.iterdir()) == []
