"""Scene in, blended class scores out, a block of rows at a time."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .blend import Block, RowBlender, even_batches
from .overlap import prefetch
from .scene import Rows, Scene
from .windows import Part, Tiling, WindowRow

#: Batches that wait for the model; with the one in work they bound the memory for inputs.
PREFETCHED = 3


class Scorer(Protocol):
    """A model as this module sees it."""

    #: Channels K of the scores.
    num_classes: int
    #: Where it computes.
    device: torch.device

    def __call__(self, pixels: Tensor, metas: list[dict[str, Any]]) -> Tensor:
        """Score boxes.

        Args:
            pixels: ``(N, T*C, box, box)`` int16 on :attr:`device`.
            metas: For each box ``temporal_coords`` and ``location_coords`` as
                :class:`~geoseg_prithvi.models.GeoEncoderDecoder` takes them, where known.

        Returns:
            ``(N, K, box, box)``, to be averaged where boxes overlap.
        """


@dataclasses.dataclass(frozen=True)
class _Batch:
    row: WindowRow
    following: WindowRow | None
    cols: Sequence[int]
    pixels: Tensor
    seen: Tensor
    metas: list[dict[str, Any]]
    last: bool


def predict_blocks(
    scene: Scene, scorer: Scorer, tiling: Tiling, *, batch_size: int = 8, part: Part | None = None
) -> Iterator[Block]:
    """Predict a scene, or a part of it.

    The next batches are read while the model works. What the caller does with a block does not
    overlap: hand it to a :class:`~geoseg_prithvi.inference.overlap.BackgroundWriter`.

    Args:
        scene: An open scene.
        scorer: The model.
        tiling: The windows.
        batch_size: Boxes at once, at most.
        part: One of ``tiling.parts``; ``None`` predicts all.

    Yields:
        Finished rows, from the top down, without gaps; on the scorer's device.
    """
    grid = scene.grid
    device = scorer.device
    if part is None:
        part = Part(tuple(tiling.rows(grid.height)), 0, grid.height)
    blender = RowBlender(
        tiling, grid.height, grid.width, scorer.num_classes, device, first=part.start
    )
    pin = device.type == 'cuda'
    batches = prefetch(_batches(scene, tiling, part.rows, batch_size, pin), PREFETCHED)
    for batch in batches:
        with torch.inference_mode():
            pixels = batch.pixels.to(device, non_blocking=True)
            seen = batch.seen.to(device, non_blocking=True)
            blender.add(batch.row, batch.cols, scorer(pixels, batch.metas), seen)
            block = blender.finish(batch.row, batch.following) if batch.last else None
        if block is not None:
            yield block


def _batches(
    scene: Scene, tiling: Tiling, rows: Sequence[WindowRow], batch_size: int, pin: bool
) -> Iterator[_Batch]:
    cols = np.array(tiling.starts(scene.grid.width))
    groups = even_batches(len(cols), batch_size)
    for (row, following), strip in zip(
        itertools.pairwise([*rows, None]), _strips(scene, tiling, rows), strict=True
    ):
        metas = _metas(scene, tiling, row, cols)
        for group in groups:
            boxes = [slice(col, col + tiling.box) for col in cols[group]]
            pixels = torch.from_numpy(np.stack([strip.pixels[..., box] for box in boxes]))
            seen = torch.from_numpy(np.stack([strip.seen[..., box] for box in boxes]))
            yield _Batch(
                row=row,
                following=following,
                cols=cols[group].tolist(),
                pixels=pixels.pin_memory() if pin else pixels,
                seen=seen.pin_memory() if pin else seen,
                metas=[metas[i] for i in group],
                last=group is groups[-1],
            )


def _strips(scene: Scene, tiling: Tiling, rows: Sequence[WindowRow]) -> Iterator[Rows]:
    """Read the boxes of each row of windows; rows that two of them share are read once."""
    box, height, width = tiling.box, scene.grid.height, scene.grid.width
    # A scene smaller than a box is continued by its mirror image; what the model says there is
    # cut off.
    padding = ((0, max(0, box - height)), (0, max(0, box - width)))
    strip = None
    stop = rows[0].start
    for row in rows:
        new = scene.read(stop, min(row.start + box, height))
        if any(itertools.chain(*padding)):
            new = Rows(
                np.pad(new.pixels, ((0, 0), *padding), mode='symmetric'), np.pad(new.seen, padding)
            )
        if strip is not None:
            dropped = new.seen.shape[0]
            new = Rows(
                np.concatenate([strip.pixels[:, dropped:], new.pixels], axis=1),
                np.concatenate([strip.seen[dropped:], new.seen]),
            )
        strip = new
        stop = min(row.start + box, height)
        yield strip


def _metas(scene: Scene, tiling: Tiling, row: WindowRow, cols: np.ndarray) -> list[dict[str, Any]]:
    """What each box of a row of windows knows of its place and time."""
    meta: dict[str, Any] = dict(
        img_shape=(tiling.box, tiling.box), ori_shape=(tiling.box, tiling.box)
    )
    if scene.dates:
        meta['temporal_coords'] = scene.temporal_coords
    if scene.grid.crs is None:
        return [dict(meta) for _ in cols]
    half = tiling.box / 2
    places = scene.grid.locations(np.full(len(cols), row.start + half), cols + half)
    return [{**meta, 'location_coords': place} for place in places.tolist()]
