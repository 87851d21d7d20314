"""A crop that looks for rare classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import TRANSFORMS

from ..errors import ConfigError


@TRANSFORMS.register_module()
class RareClassCrop(RandomCrop):
    """Random crop that in a share of the cases contains a pixel of a rare class.

    In those, one of ``classes`` that the label holds is drawn, each with equal probability, then
    one of its pixels, then a window over it, each with equal probability. Otherwise, and where the
    label holds none of them, it is the stock ``RandomCrop``, which can only avoid crops that one
    class dominates (``cat_max_ratio``).

    Required Keys:

    - img: ``(H, W, C)``.
    - gt_seg_map: ``(H, W)``.

    Modified Keys:

    - img, img_shape, gt_seg_map

    Args:
        crop_size: Height and width, or one number for both.
        classes: Indices of the rare classes.
        prob: Share of the crops that look for them.
        cat_max_ratio: As in ``RandomCrop``, for the other crops.
        ignore_index: Label of the pixels that do not count.

    Raises:
        ConfigError: If ``classes`` is empty or ``prob`` is out of range.
    """

    def __init__(
        self,
        crop_size: int | tuple[int, int],
        classes: Sequence[int],
        prob: float = 0.5,
        cat_max_ratio: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        super().__init__(crop_size, cat_max_ratio, ignore_index)
        if not len(classes):
            raise ConfigError(
                'RareClassCrop needs the indices of the rare classes; classes=[] has none.'
            )
        if not 0 <= prob <= 1:
            raise ConfigError(f'prob must be from 0 to 1, but is {prob}.')
        self.classes = tuple(classes)
        self.prob = prob

    @cache_randomness
    def crop_bbox(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """Draw the window.

        Args:
            results: With ``img`` and ``gt_seg_map``.

        Returns:
            ``(y1, y2, x1, x2)``.
        """
        label = results['gt_seg_map']
        present = np.intersect1d(self.classes, label)
        # The global generator, as in the stock transforms: it is seeded per worker.
        if not len(present) or np.random.rand() >= self.prob:
            return super().crop_bbox(results)
        pixels = np.flatnonzero(label == np.random.choice(present))
        pixel = np.unravel_index(np.random.choice(pixels), label.shape)
        y, x = (
            self._start(int(at), size, length)
            for at, size, length in zip(pixel, self.crop_size, label.shape, strict=True)
        )
        return y, y + self.crop_size[0], x, x + self.crop_size[1]

    @staticmethod
    def _start(at: int, size: int, length: int) -> int:
        """Draw the start of a window of ``size`` within ``length`` that contains ``at``."""
        last = min(at, max(length - size, 0))
        return np.random.randint(min(max(at - size + 1, 0), last), last + 1)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(crop_size={self.crop_size}, classes={self.classes}, '
            f'prob={self.prob}, cat_max_ratio={self.cat_max_ratio})'
        )
