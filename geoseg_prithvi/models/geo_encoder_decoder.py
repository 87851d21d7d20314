"""MMSegmentation's EncoderDecoder that hands dates and locations to the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from rasterio.warp import transform
from torch import Tensor, nn

from ..errors import ConfigError

Meta = dict[str, Any]


@MODELS.register_module()
class GeoEncoderDecoder(EncoderDecoder):
    """EncoderDecoder for backbones with ``coords_encoding``; any other backbone works as ever.

    Dates and locations come from the meta information of the samples, so name the keys in
    ``meta_keys`` of ``PackSegInputs``:

    * ``temporal_coords`` ``(T, 2)``: year and day of year counted from 0, for each frame;
    * ``location_coords`` ``(2,)``: latitude and longitude of the centre, in degrees;
    * ``epsg`` and ``bounds`` (west, south, east, north in that coordinate system), optional:
      where the image lies. In sliding-window inference each window then has the location of its
      own centre; else all share the centre of the image.
    """

    def extract_feat(self, inputs: Tensor, metas: Sequence[Meta] | None = None) -> Any:
        """Run backbone and neck.

        Args:
            inputs: ``(N, T*C, H, W)``.
            metas: Meta information of each sample; ``None`` leaves coordinates out.
        """
        x = self.backbone(inputs, **stack_coords(self.backbone, metas, inputs.device))
        return self.neck(x) if self.with_neck else x

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[Meta]) -> Tensor:
        """Return the logits ``(N, K, H, W)``."""
        x = self.extract_feat(inputs, batch_img_metas)
        return self.decode_head.predict(x, batch_img_metas, self.test_cfg)

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """Return the losses of all heads."""
        x = self.extract_feat(inputs, [sample.metainfo for sample in data_samples])
        losses = self._decode_head_forward_train(x, data_samples)
        if self.with_auxiliary_head:
            losses.update(self._auxiliary_head_forward_train(x, data_samples))
        return losses

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        metas = None if data_samples is None else [sample.metainfo for sample in data_samples]
        return self.decode_head.forward(self.extract_feat(inputs, metas))

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[Meta]) -> Tensor:
        """Average the logits of overlapping windows, each with its own location.

        Windows stand as in MMSegmentation: on the stride of ``test_cfg``, the last ones flush
        with the border.
        """
        n, _, height, width = inputs.shape
        logits = inputs.new_zeros((n, self.out_channels, height, width))
        count = inputs.new_zeros((1, 1, height, width))
        crop_h, crop_w = self.test_cfg.crop_size
        stride_h, stride_w = self.test_cfg.stride
        for top in _starts(height, crop_h, stride_h):
            for left in _starts(width, crop_w, stride_w):
                bottom, right = min(top + crop_h, height), min(left + crop_w, width)
                window = (..., slice(top, bottom), slice(left, right))
                centre = ((top + bottom) / 2, (left + right) / 2)
                metas = [_window_meta(meta, *centre) for meta in batch_img_metas]
                for meta in metas:
                    # a torch.Size here is how the heads of MMSegmentation know a window
                    meta['img_shape'] = inputs[window].shape[-2:]
                logits[window] += self.encode_decode(inputs[window], metas)
                count[window] += 1
        return logits / count


@torch.compiler.disable
def stack_coords(
    backbone: nn.Module, metas: Sequence[Meta] | None, device: torch.device
) -> dict[str, Tensor]:
    """Return the coordinates that ``backbone`` embeds, from the samples' meta information.

    Args:
        backbone: Says in ``coords_encoding`` what it embeds; one without it embeds nothing.
        metas: Meta information of each sample; ``None`` leaves coordinates out.
        device: Where the tensors go.

    Returns:
        ``temporal_coords`` ``(N, T, 2)`` and ``location_coords`` ``(N, 2)``, as embedded.

    Raises:
        ConfigError: If a sample does not carry what the backbone embeds.
    """
    wanted = getattr(backbone, 'coords_encoding', ())
    coords = {}
    for what, key in (('time', 'temporal_coords'), ('location', 'location_coords')):
        if what not in wanted or metas is None:
            continue
        if any(key not in meta for meta in metas):
            raise ConfigError(
                f"The backbone embeds {key}, but the samples do not carry it; add '{key}' to "
                'meta_keys of PackSegInputs, or use a backbone without coords_encoding.'
            )
        values = np.array([meta[key] for meta in metas], np.float32)
        coords[key] = torch.from_numpy(values).to(device)
    return coords


def _starts(length: int, crop: int, stride: int) -> list[int]:
    """First pixels of the windows: length 15, crop 8, stride 6 -> 0, 6, 7."""
    last = max(length - crop, 0)
    return [*range(0, last, stride), last]


@torch.compiler.disable
def _window_meta(meta: Meta, row: float, col: float) -> Meta:
    """Copy ``meta`` with the location of a window, whose centre is given in pixels."""
    if meta.get('epsg') is None or 'bounds' not in meta:
        return dict(meta)
    height, width = meta['img_shape']  # without the padding, which is below and to the right
    flip = meta['flip_direction'] if meta.get('flip') else None  # of test-time augmentation
    row = height - row if flip == 'vertical' else row
    col = width - col if flip == 'horizontal' else col
    west, south, east, north = meta['bounds']
    x = west + (east - west) * col / width
    y = north - (north - south) * row / height
    (lon,), (lat,) = transform(f'EPSG:{meta["epsg"]}', 'EPSG:4326', [x], [y])
    return {**meta, 'location_coords': (lat, lon)}
