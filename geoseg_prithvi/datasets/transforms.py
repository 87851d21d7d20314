"""Loading transforms; everything after them is MMSegmentation's own.

An image travels as ``(H, W, T*C)`` int16, time-major, which the stock transforms take for an image
of many channels: frames and bands stay together whatever happens to rows and columns. It is a view
on the ``(T*C, H, W)`` array of the file, so that ``PackSegInputs`` has nothing to copy.

Stock transforms that serve: ``RandomFlip``, ``RandomCrop`` (also with ``cat_max_ratio``),
``RandomRotFlip`` for right angles, ``RandomCutOut``, ``PackSegInputs``. All eight orientations with
equal probability::

    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomRotFlip', rotate_prob=0.0, flip_prob=1.0),

Stock transforms that do not: ``RandomRotate`` and ``RandomRotFlip(rotate_prob=...)`` run, but mix
nodata with its neighbours, and OpenCV fills the new corners with ``pad_val`` in every fourth
channel only and with 0, a legal reflectance, in the others; ``Pad`` refuses more than four channels
(the data preprocessor pads); ``Resize`` and ``RandomResize`` mix nodata with its neighbours unless
``interpolation='nearest'``; what is made for RGB (``PhotoMetricDistortion``, ``CLAHE``, ...) fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ..data.chip_io import read_chip, read_label
from ..errors import ChipError
from ..hls import BANDS
from ..lulc import IGNORE


@TRANSFORMS.register_module()
class LoadHLSChip(BaseTransform):
    """Read a chip, finding its bands by name.

    Required Keys:

    - img_path

    Added Keys:

    - img: ``(H, W, T*C)`` int16, time-major, reflectance x 10000, nodata -9999.
    - img_shape, ori_shape: ``(H, W)``.

    Args:
        num_frames: Frames T of the chips.
        bands: Canonical names of the bands to read, in this order.
        layout: How to read a file that does not name its bands: ``time-major`` or ``band-major``.

    Raises:
        ChipError: If the file is truncated, or its data type or bands are not those of a chip.
        DataNotFoundError: If it is not there.
    """

    def __init__(
        self, num_frames: int = 3, bands: Sequence[str] = BANDS, layout: str | None = None
    ) -> None:
        self.num_frames = num_frames
        self.bands = tuple(bands)
        self.layout = layout

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the image to ``results``."""
        chip = read_chip(results['img_path'], self.num_frames, bands=self.bands, layout=self.layout)
        results['img'] = chip.transpose(1, 2, 0)  # (T*C, H, W) -> (H, W, T*C), a view
        results['img_shape'] = results['ori_shape'] = chip.shape[1:]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_frames={self.num_frames}, bands={self.bands}, '
            f'layout={self.layout!r})'
        )


@TRANSFORMS.register_module()
class LoadHLSLabel(BaseTransform):
    """Read the label of a chip.

    Required Keys:

    - seg_map_path
    - label_map: Class in the file -> class index, :data:`IGNORE` to leave it out; ``None`` or
      absent reads the file as it is.
    - ori_shape (optional): ``(H, W)`` of the chip, which the label must have too.

    Added Keys:

    - gt_seg_map: ``(H, W)`` uint8, 255 where there is no label.

    Modified Keys:

    - seg_fields

    Raises:
        ChipError: If the chip has no label, or the file is truncated, differs in size from the
            chip, or holds a class that is not in ``label_map``.
        DataNotFoundError: If it is not there.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the label to ``results``."""
        path = results['seg_map_path']
        if path is None:
            raise ChipError(
                f'{results["img_path"]} has no label; take LoadHLSLabel out of the pipeline, or '
                'prepare the chips with label maps.'
            )
        label = read_label(path)
        shape = results.get('ori_shape', label.shape)
        if label.shape != shape:
            raise ChipError(
                f'{path} is {label.shape[0]} x {label.shape[1]} pixels, but its chip is '
                f'{shape[0]} x {shape[1]}; prepare the chips again.'
            )
        label_map = results.get('label_map')
        if label_map is not None:
            known = np.zeros(256, bool)
            known[[*label_map, IGNORE]] = True
            present = np.bincount(label.ravel(), minlength=256) > 0
            unknown = np.flatnonzero(present & ~known)
            if unknown.size:
                raise ChipError(
                    f'{path} holds the class(es) {unknown.tolist()}, which its legend of '
                    f'{len(label_map)} classes lacks; prepare the chips again.'
                )
            table = np.full(256, IGNORE, np.uint8)
            table[list(label_map)] = list(label_map.values())
            label = table[label]
        results['gt_seg_map'] = label
        results.setdefault('seg_fields', []).append('gt_seg_map')
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
