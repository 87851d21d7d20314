"""How much of the model's own speed is left when it maps a scene."""

from __future__ import annotations

import dataclasses
import datetime as dt
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import from_origin

from ..hls import BANDS, FILL, PIXEL_SIZE
from ..layout import channel_names
from .inputs import SceneInput, SceneOptions, open_stack
from .maps import MapOptions, make_map
from .segmentor import Segmentor
from .windows import Tiling

#: Seconds that the model alone is timed over, before the scene and again after it.
SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What :func:`measure` found.

    Attributes:
        windows: Windows of the scene.
        model: Windows a second of the model alone, in full batches from memory.
        scene: Windows a second of the whole run: reading, predicting, blending, writing, COG.
        memory: Peak of the process in MiB.
    """

    windows: int
    model: float
    scene: float
    memory: float

    @property
    def ratio(self) -> float:
        """Share of the model's speed that is left."""
        return self.scene / self.model


def measure(
    segmentor: Segmentor,
    tiling: Tiling,
    folder: Path,
    *,
    size: tuple[int, int],
    num_frames: int,
    bands: Sequence[str] = BANDS,
    batch_size: int = 8,
) -> Throughput:
    """Time the model alone, and a scene of random land.

    Args:
        segmentor: The model.
        tiling: The windows.
        folder: An empty folder for the scene and its map.
        size: Rows and columns of the scene.
        num_frames: Frames T.
        bands: Names of the C bands.
        batch_size: Windows at once.
    """
    scene = write_random_scene(folder / 'scene.tif', size, num_frames, bands)
    options = SceneOptions(num_frames, bands, dates=[dt.date(2022, 1, 1)] * num_frames)
    windows = len(tiling.starts(size[0])) * len(tiling.starts(size[1]))
    before = time_model(segmentor, tiling.box, num_frames, bands, batch_size)
    start = time.perf_counter()
    make_map(
        SceneInput('scene', lambda given: open_stack(scene, given)),
        segmentor,
        folder / 'map.tif',
        options,
        MapOptions(tiling, batch_size),
    )
    seconds = time.perf_counter() - start
    # On both sides of the scene, for machines that slow down or have other work.
    after = time_model(segmentor, tiling.box, num_frames, bands, batch_size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Throughput(windows, 2 / (1 / before + 1 / after), windows / seconds, peak)


def time_model(
    segmentor: Segmentor, side: int, num_frames: int, bands: Sequence[str], batch_size: int
) -> float:
    """Return the windows a second that the model makes of batches in its own memory."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch_size, num_frames * len(bands), side, side)
    pixels = torch.randint(0, 5000, shape, dtype=torch.int16, generator=generator)
    pixels = pixels.to(segmentor.device)
    meta = dict(temporal_coords=[[2022, 0]] * num_frames, location_coords=[0.0, 0.0])
    metas = [meta] * batch_size
    with torch.inference_mode():
        for limit in (1.0, SECONDS):  # the first is to warm up
            batches, seconds, start = 0, 0.0, _clock(segmentor.device)
            while seconds < limit:
                for _ in range(5):
                    segmentor(pixels, metas)
                batches, seconds = batches + 5, _clock(segmentor.device) - start
    return batches * batch_size / seconds


def _clock(device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def write_random_scene(
    path: Path, size: tuple[int, int], num_frames: int, bands: Sequence[str]
) -> Path:
    """Write smooth land with noise, tiled and compressed as HLS granules are."""
    rng = np.random.default_rng(0)
    height, width = size
    names = channel_names(num_frames, bands)
    with rasterio.open(
        path,
        'w',
        driver='GTiff',
        dtype='int16',
        count=len(names),
        height=height,
        width=width,
        crs=CRS.from_epsg(32610),
        transform=from_origin(500_000, 4_200_000, PIXEL_SIZE, PIXEL_SIZE),
        nodata=FILL,
        interleave='band',
        tiled=True,
        blockxsize=256,
        blockysize=256,
        compress='deflate',
        predictor=2,
        bigtiff='IF_SAFER',
    ) as raster:
        raster.descriptions = names
        for band in range(1, len(names) + 1):
            coarse = rng.integers(200, 4000, (height // 64 + 1, width // 64 + 1), dtype=np.int16)
            land = coarse.repeat(64, 0).repeat(64, 1)[:height, :width]
            raster.write(land + rng.integers(-60, 60, land.shape, dtype=np.int16), band)
    return path
