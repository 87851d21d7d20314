"""Scenes and models made for the tests of prediction."""

import numpy as np
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import Affine

from geoseg_prithvi.inference.predictor import predict_blocks
from geoseg_prithvi.inference.scene import Rows, Scene, SceneGrid

TRANSFORM = Affine(30, 0, 499_980, 0, -30, 4_200_000)
UTM10 = CRS.from_epsg(32610)


class ArrayScene(Scene):
    """A scene of one frame in memory that notes which rows are read."""

    def __init__(self, pixels, seen=None, crs=None):
        count, height, width = pixels.shape
        super().__init__(
            name='array',
            grid=SceneGrid(crs, TRANSFORM, width, height),
            sources=(),
            num_frames=1,
            bands=[f'B{i}' for i in range(count)],
        )
        self.pixels = pixels
        self.seen = np.ones((height, width), np.float32) if seen is None else seen
        self.reads = []

    def read(self, start, stop):
        self.reads.append((start, stop))
        return Rows(self.pixels[:, start:stop], self.seen[start:stop])


class Identity:
    """A model whose logits are its input."""

    device = torch.device('cpu')

    def __init__(self, num_classes):
        self.num_classes = num_classes
        self.batches = []
        self.metas = []

    def __call__(self, pixels, metas):
        self.batches.append(tuple(pixels.shape))
        self.metas += metas
        return pixels.float()


class Smooth(Identity):
    """A model that sees ``radius`` pixels around each pixel, and zeros beyond its window."""

    def __init__(self, num_classes, radius):
        super().__init__(num_classes)
        self.radius = radius

    def __call__(self, pixels, metas):
        super().__call__(pixels, metas)
        k = 2 * self.radius + 1
        return torch.nn.functional.avg_pool2d(pixels.float(), k, 1, self.radius)


def predict(scene, scorer, tiling, batch_size=5):
    """The scores of a whole scene and where something was seen."""
    with scene:
        blocks = list(predict_blocks(scene, scorer, tiling, batch_size=batch_size))
    row = 0
    for block in blocks:
        assert block.row == row
        row += block.seen.shape[0]
    assert row == scene.grid.height
    scores = torch.cat([block.scores for block in blocks], dim=1).numpy()
    return scores, torch.cat([block.seen for block in blocks]).numpy()


def random_pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(-500, 10_000, shape, dtype=np.int16)


def write_stack(path, pixels, names=None, crs=UTM10, transform=TRANSFORM, **profile):
    """Write a raster of many bands; ``tags`` and ``nodata`` may be among ``profile``."""
    tags = profile.pop('tags', {})
    count, height, width = pixels.shape
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        dtype=pixels.dtype,
        count=count,
        height=height,
        width=width,
        crs=crs,
        transform=transform,
        **{'nodata': -9999, **profile},
    ) as dataset:
        # Before the pixels, so that they stand at the end of the file, where a truncation hits.
        dataset.update_tags(**tags)
        if names is not None:
            dataset.descriptions = names
        dataset.write(pixels)
    return path
