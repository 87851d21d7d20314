"""MMSegmentation's vision transformer with natural-image weights, as a baseline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from mmseg.models.backbones import VisionTransformer
from mmseg.registry import MODELS
from torch import Tensor

from ..errors import CheckpointMismatchError, ConfigError
from ..hls import BANDS
from .weights import LoadReport, check_keys, read_source

_PATCH = 'patch_embed.projection.weight'
#: Names of timm -> names of MMSegmentation.
_NAMES = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^blocks\.', 'layers.'),
    (r'\.norm([12])\.', r'.ln\1.'),
    (r'\.attn\.qkv\.', '.attn.attn.in_proj_'),
    (r'\.attn\.proj\.', '.attn.attn.out_proj.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
    (r'^norm\.', 'ln1.'),
)
#: Channels of a natural image, by the bands that show the same colour.
_RGB = ('RED', 'GREEN', 'BLUE')


@MODELS.register_module()
class TimmViT(VisionTransformer):
    """The stock ``VisionTransformer`` that loads weights of timm strictly.

    All frames and bands are channels of one image, so a patch of all dates is one token. The
    patch embedding of three colours is spread over the ``T*C`` channels: RED, GREEN and BLUE of
    each frame get their colour's columns, every other band the mean of the three, and all of them
    are scaled by ``3 / (T*C)``. So a grey patch that does not change gives exactly the token it
    gives in the natural-image network, and the tokens keep the size that the network knows.

    Args:
        num_frames: Frames T of a sample.
        bands: Names of the bands of a frame.
        frozen_stages: -1 trains everything, 0 freezes the embeddings, n also the first n blocks;
            ``num_layers`` freezes the final norm as well.
        init_cfg: ``dict(type='Pretrained', checkpoint=, sha256=)`` loads ``hf://owner/repo/file``
            or a local file of timm's names.
        **kwargs: Of ``mmseg.models.VisionTransformer``.
    """

    def __init__(
        self,
        num_frames: int = 3,
        bands: Sequence[str] = BANDS,
        frozen_stages: int = -1,
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        # As timm builds it: biases everywhere, a norm at the end, eps 1e-6.
        defaults = dict(patch_bias=True, final_norm=True, norm_cfg=dict(type='LN', eps=1e-6))
        super().__init__(
            in_channels=num_frames * len(bands), init_cfg=init_cfg, **{**defaults, **kwargs}
        )
        self.num_frames = num_frames
        self.bands = tuple(bands)
        self.depth = len(self.layers)
        self.frozen_stages = frozen_stages
        if not -1 <= frozen_stages <= self.depth:
            raise ConfigError(
                f'frozen_stages={frozen_stages} must lie between -1 (nothing frozen) and the '
                f'number of blocks, {self.depth}.'
            )
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(self.get_layer_depth(name)[0] > frozen_stages)
            if frozen_stages == self.depth:
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> TimmViT:
        """Switch to training mode; frozen blocks stay in evaluation mode (no drop path)."""
        super().train(mode)
        for block in self.layers[: max(self.frozen_stages, 0)]:
            block.eval()
        return self

    def init_weights(self) -> None:
        """Load ``init_cfg`` of type ``Pretrained`` strictly; leave other types to the base class.

        Raises:
            WeightsNotFoundError: If the checkpoint can be found neither locally nor on the hub.
            CheckpointMismatchError: If it does not fit this model.
        """
        cfg = self.init_cfg
        if not isinstance(cfg, dict) or cfg.get('type') != 'Pretrained':
            super().init_weights()
            return
        load_timm_weights(self, cfg['checkpoint'], sha256=cfg.get('sha256'))
        if hasattr(self, '_params_init_info'):  # mmengine's record of who initialised what
            update_init_info(self, init_info=f'Loaded from {cfg["checkpoint"]}')
        self._is_init = True

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Say how deep in the network a parameter is, for layer-wise learning rates.

        Args:
            param_name: Name of the parameter.
            prefix: What stands before the names of this module's own parameters.

        Returns:
            The layer (0: embeddings, 1 to depth: blocks, depth + 1: the rest) and their number.
        """
        layers = self.depth + 2
        head, _, tail = param_name.removeprefix(prefix).partition('.')
        if head == 'layers':
            return int(tail.partition('.')[0]) + 1, layers
        return (layers - 1 if head == 'ln1' else 0), layers


def load_timm_weights(
    model: TimmViT, source: str | Path | Mapping[str, Any], sha256: str | None = None
) -> LoadReport:
    """Load a vision transformer of timm, all of its encoder or none.

    Args:
        model: The encoder.
        source: A path, ``hf://owner/repo/file[@revision]``, or a state dict.
        sha256: Expected digest of the file.

    Returns:
        What was loaded, dropped (the classifier) and inflated; it is logged as well.

    Raises:
        WeightsNotFoundError: If the file can be found neither locally nor on the hub.
        UnsafeCheckpointError: If the file holds more than tensors and plain data.
        CheckpointMismatchError: If anything is missing, left over or of another shape.
    """
    checkpoint, name = read_source(source, sha256)
    report = LoadReport(name)
    state = {}
    for key, value in checkpoint.items():
        if key.startswith('head.'):
            report.dropped.append(key)
            continue
        for pattern, new in _NAMES:
            key = re.sub(pattern, new, key)
        state[key] = value
    if _PATCH not in state or state[_PATCH].shape[1] != len(_RGB) or 'pos_embed' not in state:
        raise CheckpointMismatchError(
            f'{name} holds no patch_embed.proj.weight of 3 colours or no pos_embed, so it is no '
            'vision transformer of timm; check the path.'
        )
    state[_PATCH] = _spread_colours(state[_PATCH], model.num_frames, model.bands)
    report.selected = [band for band in model.bands if band in _RGB]
    report.inflated = [band for band in model.bands if band not in _RGB]
    state['pos_embed'] = _fit_positions(model, state['pos_embed'])
    check_keys(model.state_dict(), state, name)
    model.load_state_dict(state, strict=True)
    report.loaded = sorted(state)
    print_log(str(report), logger='current')
    return report


def _spread_colours(weight: Tensor, num_frames: int, bands: Sequence[str]) -> Tensor:
    """``(D, 3, p, p) -> (D, T*C, p, p)``, time-major; see :class:`TimmViT`."""
    mean = weight.mean(dim=1)
    frame = [weight[:, _RGB.index(band)] if band in _RGB else mean for band in bands]
    return torch.stack(frame * num_frames, dim=1) * (len(_RGB) / (num_frames * len(bands)))


def _fit_positions(model: TimmViT, positions: Tensor) -> Tensor:
    """Stretch learned positions ``(1, 1 + h*w, D)`` to the grid of the model, as the base does."""
    if positions.shape == model.pos_embed.shape or positions.shape[2] != model.pos_embed.shape[2]:
        return positions
    side = round((positions.shape[1] - 1) ** 0.5)
    grid = tuple(size // model.patch_size for size in model.img_size)
    return model.resize_pos_embed(positions, grid, (side, side), model.interpolate_mode)
