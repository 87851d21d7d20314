"""Checkpoints that were fine-tuned with hls-foundation-os (MMSegmentation 0.x)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmseg.models import EncoderDecoder

from ..errors import ConfigError
from .prithvi_vit import PrithviViT
from .weights import LoadReport, check_keys, load_prithvi_weights, read_source, split_layout


def load_hls_foundation(
    model: EncoderDecoder, source: str | Path | Mapping[str, Any]
) -> tuple[LoadReport, dict[str, Any]]:
    """Load a whole segmentor of hls-foundation-os strictly: backbone, neck and heads.

    The parameters keep their names; what changes is that fixed positions are no longer stored,
    and that depth, shapes and leftovers are checked, which that code did not.

    Args:
        model: A segmentor with :class:`~geoseg_prithvi.models.PrithviViT`,
            ``ConvTransformerTokensToEmbeddingNeck`` and the heads of the original config.
        source: A path, ``hf://owner/repo/file[@revision]`` or the checkpoint itself.

    Returns:
        What was loaded, and ``classes`` and ``palette`` if the checkpoint names them.

    Raises:
        ConfigError: If the backbone is no PrithviViT.
        CheckpointMismatchError: If anything is missing, left over or of another shape.
    """
    backbone = model.backbone
    if not isinstance(backbone, PrithviViT):
        raise ConfigError(
            f'The backbone of the config is {type(backbone).__name__}; use PrithviViT.'
        )
    checkpoint, name = read_source(source)
    _, rest = split_layout(checkpoint)
    own = {
        k: v
        for k, v in model.state_dict().items()
        if not k.startswith(('backbone.', 'data_preprocessor.'))
    }
    check_keys(own, rest, name)
    report = load_prithvi_weights(backbone, checkpoint)
    model.load_state_dict(rest, strict=False)  # checked above, key by key
    report.source = name
    report.loaded = [f'backbone.{key}' for key in report.loaded] + sorted(rest)
    report.dropped = []
    theirs, ours = checkpoint.get('meta') or {}, {}
    if theirs.get('CLASSES') is not None:
        ours['classes'] = tuple(str(name) for name in theirs['CLASSES'])  # numbers, for floods
    if theirs.get('PALETTE') is not None:
        ours['palette'] = theirs['PALETTE']
    return report, ours


def save_converted(model: EncoderDecoder, dataset_meta: Mapping[str, Any], path: Path) -> None:
    """Write a converted model as a training checkpoint, atomically.

    Args:
        model: The segmentor that :func:`load_hls_foundation` filled.
        dataset_meta: What it returned beside the report.
        path: The ``.pth`` file.
    """
    checkpoint = dict(meta=dict(dataset_meta=dict(dataset_meta)), state_dict=model.state_dict())
    partial = path.with_name(f'{path.name}.{os.getpid()}.part')
    try:
        torch.save(checkpoint, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
