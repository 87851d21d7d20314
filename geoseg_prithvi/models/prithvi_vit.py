"""The Prithvi encoder: a vision transformer over space and time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import update_init_info
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..errors import ChipError, ConfigError
from ..hls import BANDS
from ..layout import tokens_to_maps, unfold_time, unfold_time_legacy
from .embeddings import CoordsEmbedding, sincos_positions, stretch_positions
from .lora import add_lora, check_lora, train_only_lora
from .transformer import Block, init_transformer
from .variants import COORDS, get_variant
from .weights import load_prithvi_weights


class PatchEmbed(nn.Module):
    """Cut frames into patches and project each to a token.

    Args:
        in_channels: Bands C of a frame.
        embed_dims: Token width D.
        patch_size: Side of a patch in pixels.
    """

    def __init__(self, in_channels: int, embed_dims: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        kernel = (1, patch_size, patch_size)
        self.proj = nn.Conv3d(in_channels, embed_dims, kernel, kernel)
        nn.init.xavier_uniform_(self.proj.weight.view(embed_dims, -1))

    def grid(self, x: Tensor) -> tuple[int, int, int]:
        """Return the patches ``(T, h, w)`` of an input ``(N, C, T, H, W)``.

        Raises:
            ChipError: If the bands, or the height or width, do not fit.
        """
        channels, t, h, w = x.shape[1:]
        p = self.patch_size
        if channels != self.proj.in_channels:
            raise ChipError(
                f'The input has {channels} bands a frame, but the model was built for '
                f'{self.proj.in_channels}; check in_channels and num_frames of the backbone '
                'against the bands of the dataset.'
            )
        if h % p or w % p:
            raise ChipError(
                f'The input is {h} x {w} px, which is no multiple of the patch of {p} px; set '
                f'size_divisor={p} in HLSDataPreprocessor (it pads, and the result is cut back) '
                f'and use a crop_size that is a multiple of {p}.'
            )
        return t, h // p, w // p

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, T, H, W) -> (N, T*h*w, D)``, time-major."""
        # (N, D, T, h, w) -> (N, T*h*w, D)
        return self.proj(x).flatten(2).transpose(1, 2)


@MODELS.register_module()
class PrithviViT(BaseModule):
    """Encoder of Prithvi-EO 1.0 and 2.0.

    See arXiv:2310.18660 and arXiv:2412.02732. Parameters carry the names of the published files.
    Positions are fixed and follow the input: any number of frames and any height and width that
    are multiples of the patch will do.

    Args:
        arch: A name of :data:`~geoseg_prithvi.models.variants.VARIANTS`, or
            ``dict(embed_dims=, depth=, num_heads=, patch_size=, mlp_ratio=)``.
        num_frames: Frames T of a sample.
        img_size: Side in pixels of the image on which positions are laid out: that of the
            pre-training, whatever the size of the input.
        in_channels: Bands C of a frame.
        bands: Names of the bands, by which pre-trained columns of the patch embedding are chosen.
            ``None`` means the six of HLS where ``in_channels`` is 6.
        learned_positions: Keep positions as parameters that are loaded and saved. Prithvi's are
            fixed; this is for checkpoints of others whose ``pos_embed`` differs from them.
        coords_encoding: ``'time'`` and/or ``'location'``: what is embedded beside the pixels. Left
            empty, a named variant has its own. Where the segmentor passes no coordinates they are
            left out, as they sometimes were in pre-training.
        out_indices: Blocks whose output is returned, counted from 0; negative ones from the end.
            Only the output of the last block goes through the final norm.
        drop_path_rate: Stochastic depth, rising linearly from 0 to this over the blocks.
        frozen_stages: -1 trains everything, 0 freezes the embeddings, n also the first n blocks;
            ``depth`` freezes the final norm as well.
        lora: ``dict(rank=, alpha=)`` freezes the encoder and trains low-rank additions to its
            attention instead; see :mod:`~geoseg_prithvi.models.lora`.
        with_cp: Save memory by computing each block again in the backward pass.
        legacy_layout: Read the channels as hls-foundation-os did, frames and bands mixed up; for
            its crop checkpoint only (see :func:`~geoseg_prithvi.layout.unfold_time_legacy`).
        init_cfg: ``dict(type='Pretrained', checkpoint=, sha256=)`` loads ``hf://owner/repo/file``
            or a local file strictly; see :func:`~geoseg_prithvi.models.load_prithvi_weights`.
    """

    def __init__(
        self,
        arch: str | Mapping[str, int | float],
        num_frames: int = 3,
        img_size: int = 224,
        in_channels: int = len(BANDS),
        bands: Sequence[str] | None = None,
        learned_positions: bool = False,
        coords_encoding: Sequence[str] = (),
        out_indices: Sequence[int] = (-1,),
        drop_path_rate: float = 0.0,
        frozen_stages: int = -1,
        lora: Mapping[str, float] | None = None,
        with_cp: bool = False,
        legacy_layout: bool = False,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        variant = get_variant(arch)
        self.embed_dims = variant.embed_dims
        self.depth = variant.depth
        self.num_heads = variant.num_heads
        self.patch_size = variant.patch_size
        self.num_frames = num_frames
        self.coords_encoding = tuple(coords_encoding) or variant.coords_encoding
        self.bands = _check_bands(bands, in_channels)
        self.out_indices = _check_out_indices(out_indices, self.depth)
        self.frozen_stages = frozen_stages
        self.lora = lora
        self.with_cp = with_cp
        self.legacy_layout = legacy_layout
        self._check(img_size)

        self.base_size = (img_size // self.patch_size,) * 2
        self.patch_embed = PatchEmbed(in_channels, self.embed_dims, self.patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, self.embed_dims))
        grid = (num_frames, *self.base_size)
        positions = sincos_positions(self.embed_dims, grid, self.base_size)
        self.learned_positions = learned_positions
        if learned_positions:
            self.pos_embed = nn.Parameter(positions)
        else:
            # Not persistent: fixed numbers that depend on the input must not travel.
            self.register_buffer('pos_embed', positions, persistent=False)
        self._grid = grid
        if 'time' in self.coords_encoding:
            self.temporal_embed_enc = CoordsEmbedding(self.embed_dims)
        if 'location' in self.coords_encoding:
            self.location_embed_enc = CoordsEmbedding(self.embed_dims)
        rates = torch.linspace(0, drop_path_rate, self.depth, device='cpu').tolist()
        self.blocks = nn.ModuleList(
            Block(self.embed_dims, self.num_heads, variant.mlp_ratio, rate) for rate in rates
        )
        self.norm = nn.LayerNorm(self.embed_dims)
        self.apply(init_transformer)
        nn.init.normal_(self.cls_token, std=0.02)  # as in arXiv:2111.06377
        if lora is not None:
            add_lora(self.blocks, *check_lora(lora))
        self._freeze()

    def _check(self, img_size: int) -> None:
        unknown = set(self.coords_encoding) - set(COORDS)
        if unknown:
            raise ConfigError(
                f'coords_encoding={self.coords_encoding} holds {sorted(unknown)}; choose from '
                f'{COORDS}.'
            )
        if not -1 <= self.frozen_stages <= self.depth:
            raise ConfigError(
                f'frozen_stages={self.frozen_stages} must lie between -1 (nothing frozen) and the '
                f'number of blocks, {self.depth}.'
            )
        if self.lora is not None and self.frozen_stages >= 0:
            raise ConfigError(
                f'lora freezes the encoder by itself; leave out frozen_stages={self.frozen_stages}.'
            )
        if img_size % self.patch_size:
            raise ConfigError(
                f'img_size={img_size} is no multiple of the patch of {self.patch_size} px.'
            )

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        frozen: list[nn.Module] = [self.patch_embed, *self.blocks[: self.frozen_stages]]
        frozen += [m for m in self.children() if isinstance(m, CoordsEmbedding)]
        if self.frozen_stages == self.depth:
            frozen.append(self.norm)
        return frozen

    def _freeze(self) -> None:
        if self.lora is not None:
            train_only_lora(self)
            return
        self.cls_token.requires_grad_(self.frozen_stages < 0)
        self.pos_embed.requires_grad_(self.learned_positions and self.frozen_stages < 0)
        for module in self._frozen():
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> PrithviViT:
        """Switch to training mode; frozen parts stay in evaluation mode (no drop path)."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def init_weights(self) -> None:
        """Load ``init_cfg`` of type ``Pretrained`` strictly; leave other types to mmengine.

        Raises:
            WeightsNotFoundError: If the checkpoint can be found neither locally nor on the hub.
            CheckpointMismatchError: If it does not fit this model.
        """
        cfg = self.init_cfg
        if self.is_init or not isinstance(cfg, dict) or cfg.get('type') != 'Pretrained':
            super().init_weights()
            return
        load_prithvi_weights(self, cfg['checkpoint'], sha256=cfg.get('sha256'))
        if hasattr(self, '_params_init_info'):  # mmengine's record of who initialised what
            update_init_info(self, init_info=f'Loaded from {cfg["checkpoint"]}')
        self.is_init = True

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Say how deep in the network a parameter is, for layer-wise learning rates.

        Args:
            param_name: Name of the parameter.
            prefix: What stands before the names of this module's own parameters.

        Returns:
            The layer (0: embeddings, 1 to depth: blocks, depth + 1: the rest) and their number.
        """
        layers = self.depth + 2
        if not param_name.startswith(prefix):
            return layers - 1, layers
        head, _, tail = param_name[len(prefix) :].partition('.')
        if head == 'blocks':
            return int(tail.partition('.')[0]) + 1, layers
        return (layers - 1 if head == 'norm' else 0), layers

    def positions(self, grid: tuple[int, int, int]) -> Tensor:
        """Return the positions ``(1, 1 + T*h*w, D)`` for patches ``(T, h, w)``.

        Raises:
            ConfigError: If positions are learned for another number of frames.
        """
        if grid == self._grid:
            return self.pos_embed
        if self.learned_positions:
            if grid[0] != self._grid[0]:
                raise ConfigError(
                    f'Positions were learned for {self._grid[0]} frames and the input has '
                    f'{grid[0]}; set num_frames to the frames of the chips.'
                )
            return stretch_positions(self.pos_embed, self._grid, grid)
        return sincos_positions(self.embed_dims, grid, self.base_size).to(self.pos_embed)

    def embed(
        self,
        x: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
    ) -> Tensor:
        """Turn pixels into patch tokens with their positions, without the cls token.

        Args:
            x: ``(N, C, T, H, W)``, normalised.
            temporal_coords: ``(N, T, 2)``, year and day of year counted from 0.
            location_coords: ``(N, 2)``, latitude and longitude in degrees.

        Returns:
            ``(N, T*h*w, D)``, time-major.
        """
        grid = t, h, w = self.patch_embed.grid(x)
        tokens = self.patch_embed(x) + self.positions(grid)[:, 1:]
        if temporal_coords is not None and 'time' in self.coords_encoding:
            if temporal_coords.shape[1:] != (t, 2):
                raise ConfigError(
                    f'temporal_coords has the shape {tuple(temporal_coords.shape)}, but (N, {t}, '
                    '2) is expected: year and day of year of each frame.'
                )
            # (N, T, D) -> (N, T*h*w, D)
            dates = self.temporal_embed_enc(temporal_coords)
            tokens = tokens + dates.repeat_interleave(h * w, dim=1)
        if location_coords is not None and 'location' in self.coords_encoding:
            tokens = tokens + self.location_embed_enc(location_coords)[:, None]
        return tokens

    def encode(self, tokens: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Run the blocks over patch tokens.

        Args:
            tokens: ``(N, L, D)`` from :meth:`embed`, all or some of them.
            indices: Blocks whose output is wanted, 0 to depth - 1.

        Returns:
            ``(N, 1 + L, D)`` for each index, the cls token first; the last block's is normed.
        """
        cls_token = self.cls_token + self.pos_embed[:, :1]
        x = torch.cat([cls_token.expand(len(tokens), -1, -1).to(tokens), tokens], dim=1)
        outputs = {}
        for i, block in enumerate(self.blocks[: max(indices) + 1]):
            if self.with_cp and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
            if i in indices:
                outputs[i] = self.norm(x) if i == self.depth - 1 else x
        return [outputs[i] for i in indices]

    def forward_tokens(
        self,
        x: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
    ) -> list[Tensor]:
        """Return the tokens ``(N, 1 + T*h*w, D)`` after each block, the last ones normed.

        Args:
            x: ``(N, C, T, H, W)``, normalised.
            temporal_coords: ``(N, T, 2)``, year and day of year counted from 0.
            location_coords: ``(N, 2)``, latitude and longitude in degrees.
        """
        tokens = self.embed(x, temporal_coords, location_coords)
        return self.encode(tokens, range(self.depth))

    def forward(
        self,
        x: Tensor,
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return one feature map for each of ``out_indices``.

        Args:
            x: ``(N, T*C, H, W)``, time-major, normalised.
            temporal_coords: ``(N, T, 2)``, year and day of year counted from 0.
            location_coords: ``(N, 2)``, latitude and longitude in degrees.

        Returns:
            Maps ``(N, T*D, H / patch, W / patch)``, time-major.
        """
        unfold = unfold_time_legacy if self.legacy_layout else unfold_time
        x = unfold(x, self.num_frames)
        grid = self.patch_embed.grid(x)
        tokens = self.embed(x, temporal_coords, location_coords)
        outputs = self.encode(tokens, self.out_indices)
        return tuple(tokens_to_maps(output[:, 1:], grid) for output in outputs)


def _check_out_indices(out_indices: Sequence[int], depth: int) -> tuple[int, ...]:
    if not out_indices or not all(-depth <= i < depth for i in out_indices):
        raise ConfigError(
            f'out_indices={tuple(out_indices)} must name at least one of the {depth} blocks, '
            f'{-depth} to {depth - 1}.'
        )
    return tuple(i % depth for i in out_indices)


def _check_bands(bands: Sequence[str] | None, in_channels: int) -> tuple[str, ...] | None:
    if bands is None:
        return BANDS if in_channels == len(BANDS) else None
    if len(bands) != in_channels or len(set(bands)) != in_channels:
        raise ConfigError(
            f'bands={tuple(bands)} must be {in_channels} different names, one for each of '
            f'in_channels={in_channels}.'
        )
    return tuple(bands)
