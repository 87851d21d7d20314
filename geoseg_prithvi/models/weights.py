"""Strict loading of Prithvi weights from every layout in which they are published."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..compat import load_checkpoint_file
from ..errors import CheckpointMismatchError
from ..hls import BANDS
from .hub import fetch_checkpoint
from .lora import is_lora
from .variants import VARIANTS

if TYPE_CHECKING:
    from .prithvi_vit import PrithviViT

_PATCH = 'patch_embed.proj.weight'
#: Decoder keys of the v1 layout, where encoder and decoder share one level.
_V1_DECODER = ('decoder_', 'mask_token', 'temporal_embed_dec.', 'location_embed_dec.')
#: What a segmentor's checkpoint holds beside the backbone.
_SEGMENTOR = ('neck.', 'decode_head.', 'auxiliary_head.', 'data_preprocessor.')


@dataclasses.dataclass
class LoadReport:
    """What became of each key of a checkpoint.

    Attributes:
        source: The file, or ``state dict``.
        loaded: Names of the model's parameters that were loaded.
        dropped: Keys that this model has no use for (decoder, heads).
        recomputed: Keys of fixed positions, which the model computes itself.
        selected: Bands whose pre-trained columns were chosen by name.
        inflated: Bands without a pre-trained column, started from the mean of all columns.
    """

    source: str
    loaded: list[str] = dataclasses.field(default_factory=list)
    dropped: list[str] = dataclasses.field(default_factory=list)
    recomputed: list[str] = dataclasses.field(default_factory=list)
    selected: list[str] = dataclasses.field(default_factory=list)
    inflated: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        text = (
            f'{self.source}: {len(self.loaded)} loaded, {len(self.dropped)} dropped (not part of '
            f'the encoder), {len(self.recomputed)} recomputed (positions)'
        )
        if self.selected or self.inflated:
            text += f'; bands selected: {", ".join(self.selected) or "none"}'
            text += f', inflated: {", ".join(self.inflated) or "none"}'
        return text


def split_layout(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sort the keys of a checkpoint into the encoder's and the others.

    Known layouts: v1 (bare keys), v2 and our own autoencoder (``encoder.``, ``decoder.``),
    segmentors (``backbone.`` beside neck and heads), each bare or under ``state_dict`` or
    ``model``, and with ``module.`` of distributed training before it or not.

    Returns:
        The encoder's tensors under the names of :class:`PrithviViT`, and the others under the
        names of the v2 layout (``decoder.``, ``neck.``, ...).
    """
    state = checkpoint
    for key in ('state_dict', 'model'):
        if isinstance(state.get(key), Mapping):
            state = state[key]
    state = {k.removeprefix('module.'): v for k, v in state.items() if isinstance(v, Tensor)}
    encoder, rest = {}, {}
    for key, value in state.items():
        name = key
        # A segmentor's backbone may hold a whole v2 file: 'backbone.encoder.blocks...'.
        name = name.removeprefix('backbone.').removeprefix('encoder.')
        if name.startswith(_V1_DECODER):
            rest[f'decoder.{name}'] = value
        elif name.startswith(('decoder.', *_SEGMENTOR)):
            rest[name] = value
        else:
            encoder[name] = value
    return encoder, rest


def load_prithvi_weights(
    model: PrithviViT,
    source: str | Path | Mapping[str, Any],
    sha256: str | None = None,
    source_bands: Sequence[str] | None = None,
) -> LoadReport:
    """Load pre-trained or fine-tuned weights into an encoder, all of them or none.

    Args:
        model: The encoder.
        source: A path, ``hf://owner/repo/file[@revision]``, or a state dict, in any layout that
            :func:`split_layout` knows.
        sha256: Expected digest of the file.
        source_bands: Bands of the checkpoint's patch embedding; ``None`` means the six of HLS
            where it has six columns, else the model's own.

    Returns:
        What was loaded, dropped, recomputed, selected and inflated; it is logged as well.

    Raises:
        WeightsNotFoundError: If the file can be found neither locally nor on the hub.
        UnsafeCheckpointError: If the file holds more than tensors and plain data.
        CheckpointMismatchError: If anything is missing, left over or of another shape.
    """
    checkpoint, name = read_source(source, sha256)
    report = LoadReport(name)
    state, rest = split_layout(checkpoint)
    report.dropped = sorted(rest)

    _check_architecture(model, state, report.source)
    if 'pos_embed' in state and not model.learned_positions:
        _check_positions(model, state.pop('pos_embed'), report.source)
        report.recomputed.append('pos_embed')
    state[_PATCH] = _fit_bands(model, state[_PATCH], source_bands, report)

    own = model.state_dict()
    added = {key for key in own if is_lora(key)} if not any(map(is_lora, state)) else set()
    check_keys({key: value for key, value in own.items() if key not in added}, state, report.source)
    # Checked above, key by key; what LoRA adds has its start values.
    model.load_state_dict(state, strict=not added)
    report.loaded = sorted(state)
    print_log(str(report), logger='current')
    return report


def read_source(
    source: str | Path | Mapping[str, Any], sha256: str | None = None
) -> tuple[Mapping[str, Any], str]:
    """Return the checkpoint itself and a name for messages; see :func:`load_prithvi_weights`."""
    if isinstance(source, Mapping):
        return source, 'state dict'
    return load_checkpoint_file(fetch_checkpoint(source, sha256), mmap=True), str(source)


def check_keys(own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str) -> None:
    """Compare names and shapes.

    Raises:
        CheckpointMismatchError: For the first key that is missing, left over or of another shape.
    """
    for key in sorted(own.keys() | state.keys()):
        if key not in state:
            problem = f'has no {key}'
        elif key not in own:
            problem = f'holds {key}, which the model has no place for'
        elif own[key].shape != state[key].shape:
            shapes = f'{tuple(state[key].shape)}, the model {tuple(own[key].shape)}'
            problem = f'has {key} of shape {shapes}'
        else:
            continue
        raise CheckpointMismatchError(f'{source} {problem}; {_advice(key)}, or load other weights.')


def _advice(key: str) -> str:
    if '_embed_enc.' in key or '_embed_dec.' in key:
        return "set coords_encoding=('time', 'location') as the checkpoint has it"
    if is_lora(key):
        return 'set lora to the rank that the checkpoint was trained with'
    if key.startswith('decoder_') or key == 'mask_token':
        return 'set decoder= to the size of the checkpoint and in_channels to its bands'
    return 'set arch to the variant that the checkpoint was made with'


def _check_architecture(model: PrithviViT, state: Mapping[str, Tensor], source: str) -> None:
    """Compare width, depth, patch and head count, each with its own sentence."""
    if _PATCH not in state or 'cls_token' not in state:
        raise CheckpointMismatchError(
            f'{source} holds no {_PATCH} or no cls_token, so it is no Prithvi encoder; check the '
            'path.'
        )
    blocks = [re.match(r'blocks\.(\d+)\.', key) for key in state]
    depth = 1 + max((int(match[1]) for match in blocks if match), default=-1)
    embed_dims, _, *kernel = state[_PATCH].shape
    for what, key, found, own in (
        ('embed_dims', _PATCH, embed_dims, model.embed_dims),
        ('depth', f'blocks.{depth - 1}', depth, model.depth),
        ('patch_size', _PATCH, kernel, [1, model.patch_size, model.patch_size]),
    ):
        if found != own:
            raise CheckpointMismatchError(
                f'{source} has {what} {found} (see {key}), but the model has {own}; set arch to '
                'the variant that the checkpoint was made with.'
            )
    # The weights do not show the number of heads; the table of published models does.
    heads = {
        v.num_heads
        for v in VARIANTS.values()
        if (v.embed_dims, v.depth, v.patch_size) == (embed_dims, depth, model.patch_size)
    }
    if heads and model.num_heads not in heads:
        raise CheckpointMismatchError(
            f'{source} has the size of a published Prithvi (see blocks.0.attn.qkv.weight), which '
            f'has {heads.pop()} heads, but the model has {model.num_heads}; correct num_heads.'
        )


def _check_positions(model: PrithviViT, position: Tensor, source: str) -> None:
    """Refuse positions that are not the fixed ones; those of another grid cannot be compared."""
    expected = model.pos_embed
    if position.shape[1:] != expected.shape[1:] or expected.is_meta:
        return
    # 1e-2: room for files stored in half precision.
    if not torch.allclose(position.float(), expected.float().to(position.device), atol=1e-2):
        raise CheckpointMismatchError(
            f'{source}: pos_embed is not the fixed sin-cos table of Prithvi; set '
            'learned_positions=True in the backbone config to load it as it is.'
        )


def _fit_bands(
    model: PrithviViT, weight: Tensor, source_bands: Sequence[str] | None, report: LoadReport
) -> Tensor:
    """Choose the columns of the patch embedding ``(D, C, 1, p, p)`` by band name."""
    columns = weight.shape[1]
    if source_bands is None:
        source_bands = BANDS if columns == len(BANDS) else model.bands
    if source_bands is None or model.bands is None:
        if columns == model.patch_embed.proj.in_channels:
            return weight
        raise CheckpointMismatchError(
            f'{report.source}: {_PATCH} has {columns} bands, the model '
            f'{model.patch_embed.proj.in_channels}; name them with bands= in the backbone config '
            'so that the right columns can be chosen.'
        )
    if len(source_bands) != columns:
        raise CheckpointMismatchError(
            f'{report.source}: {_PATCH} has {columns} bands, but {len(source_bands)} are named; '
            'set source_bands to the bands of the checkpoint.'
        )
    if tuple(source_bands) == model.bands:
        return weight
    position = {band: i for i, band in enumerate(source_bands)}
    report.selected = [band for band in model.bands if band in position]
    report.inflated = [band for band in model.bands if band not in position]
    if not report.selected:
        raise CheckpointMismatchError(
            f'{report.source}: {_PATCH} has the bands {", ".join(source_bands)} and none of the '
            f"model's {', '.join(model.bands)}; correct bands in the backbone config."
        )
    mean = weight.mean(dim=1)
    return torch.stack(
        [weight[:, position[b]] if b in position else mean for b in model.bands], dim=1
    )
