"""The masked autoencoder with which Prithvi is pre-trained."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import ConfigError
from ..layout import patchify, unfold_time, unpatchify
from .embeddings import CoordsEmbedding, sincos_positions
from .geo_encoder_decoder import stack_coords
from .prithvi_vit import PrithviViT
from .transformer import Block, init_transformer
from .weights import LoadReport, check_keys, load_prithvi_weights, read_source, split_layout


class MAEDecoder(nn.Module):
    """Fill in the masked tokens and turn all of them into pixels, ``p*p*C`` a token.

    Args:
        encoder: Gives the grid, patch, bands and coordinates.
        embed_dims: Token width of the decoder.
        depth: Number of blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden width of the MLP over ``embed_dims``.
    """

    def __init__(
        self,
        encoder: PrithviViT,
        embed_dims: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.base_size = encoder.base_size
        self.decoder_embed = nn.Linear(encoder.embed_dims, embed_dims)
        self.mask_token = nn.Parameter(torch.empty(1, 1, embed_dims))
        if 'time' in encoder.coords_encoding:
            self.temporal_embed_dec = CoordsEmbedding(embed_dims)
        if 'location' in encoder.coords_encoding:
            self.location_embed_dec = CoordsEmbedding(embed_dims)
        self.decoder_blocks = nn.ModuleList(
            Block(embed_dims, num_heads, mlp_ratio) for _ in range(depth)
        )
        self.decoder_norm = nn.LayerNorm(embed_dims)
        proj = encoder.patch_embed.proj
        self.decoder_pred = nn.Linear(embed_dims, encoder.patch_size**2 * proj.in_channels)
        self.apply(init_transformer)
        nn.init.normal_(self.mask_token, std=0.02)  # as in arXiv:2111.06377

    def forward(
        self,
        visible: Tensor,
        restore: Tensor,
        grid: tuple[int, int, int],
        temporal_coords: Tensor | None = None,
        location_coords: Tensor | None = None,
    ) -> Tensor:
        """Predict every patch.

        Args:
            visible: ``(N, 1 + V, D)`` from the encoder, the cls token first.
            restore: ``(N, L)``, place of each token among the visible and then the masked ones.
            grid: Patches ``(T, h, w)``.
            temporal_coords: ``(N, T, 2)`` or none, as for the encoder.
            location_coords: ``(N, 2)`` or none.

        Returns:
            ``(N, L, p*p*C)``.
        """
        x = self.decoder_embed(visible)
        n, length = restore.shape
        masked = self.mask_token.to(x).expand(n, length + 1 - x.shape[1], -1)
        tokens = torch.cat([x[:, 1:], masked], dim=1)
        tokens = tokens.gather(1, restore[..., None].expand(-1, -1, self.embed_dims))
        positions = sincos_positions(self.embed_dims, grid, self.base_size).to(tokens)
        tokens = tokens + positions[:, 1:]
        if temporal_coords is not None and hasattr(self, 'temporal_embed_dec'):
            dates = self.temporal_embed_dec(temporal_coords)
            tokens = tokens + dates.repeat_interleave(grid[1] * grid[2], dim=1)
        if location_coords is not None and hasattr(self, 'location_embed_dec'):
            tokens = tokens + self.location_embed_dec(location_coords)[:, None]
        x = torch.cat([x[:, :1] + positions[:, :1], tokens], dim=1)
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]


@MODELS.register_module()
class PrithviMAE(BaseModel):
    """Prithvi's masked autoencoder (arXiv:2111.06377 over space and time).

    Its checkpoint is a valid ``init_cfg`` of :class:`PrithviViT` as it is: parameters carry the
    names of the published v2 files, ``encoder.`` and ``decoder.``.

    Args:
        encoder: Config of a :class:`PrithviViT`, ``type`` may be left out.
        decoder: ``dict(embed_dims=, depth=, num_heads=)``; the default is that of the published
            models.
        mask_ratio: Share of the space-time tokens that are hidden, over 0 and under 1.
        norm_pix_loss: Compare with patches normalised to mean 0 and variance 1 each.
        exclude_nodata: Leave pixels without data (0 in all bands after the normalisation) out of
            the loss; so are clouds in chips cut with ``prepare_data.py --mask-clouds``.
        data_preprocessor: As in mmengine.
        init_cfg: ``dict(type='Pretrained', checkpoint=, sha256=)`` loads encoder and decoder
            strictly, from either published layout.
    """

    def __init__(
        self,
        encoder: Mapping[str, Any],
        decoder: Mapping[str, Any] | None = None,
        mask_ratio: float = 0.75,
        norm_pix_loss: bool = False,
        exclude_nodata: bool = False,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if not 0 < mask_ratio < 1:
            raise ConfigError(f'mask_ratio={mask_ratio} must lie between 0 and 1.')
        self.encoder: PrithviViT = MODELS.build({'type': 'PrithviViT', **encoder})
        self.decoder = MAEDecoder(
            self.encoder, **(decoder or dict(embed_dims=512, depth=8, num_heads=16))
        )
        self.mask_ratio = mask_ratio
        self.norm_pix_loss = norm_pix_loss
        self.exclude_nodata = exclude_nodata

    def init_weights(self) -> None:
        """Load ``init_cfg`` of type ``Pretrained`` strictly, encoder and decoder.

        Raises:
            WeightsNotFoundError: If the checkpoint can be found neither locally nor on the hub.
            CheckpointMismatchError: If it does not fit this model.
        """
        cfg = self.init_cfg
        if self.is_init or not isinstance(cfg, dict) or cfg.get('type') != 'Pretrained':
            super().init_weights()
            return
        load_mae_weights(self, cfg['checkpoint'], cfg.get('sha256'))
        self.is_init = True

    def random_masking(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose the tokens that stay visible: those with the smallest noise.

        Args:
            noise: ``(N, L)``.

        Returns:
            Indices of the visible tokens ``(N, V)``; the place of each token ``(N, L)`` when the
            visible ones come first; the mask ``(N, L)``, 1 where hidden.
        """
        shuffle = noise.argsort(dim=1)
        restore = shuffle.argsort(dim=1)
        kept = int(noise.shape[1] * (1 - self.mask_ratio))
        return shuffle[:, :kept], restore, (restore >= kept).to(noise.dtype)

    def reconstruct(
        self, x: Tensor, noise: Tensor | None = None, **coords: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hide tokens and predict all of them.

        Args:
            x: ``(N, C, T, H, W)``, normalised.
            noise: ``(N, L)``; ``None`` draws it.
            coords: ``temporal_coords`` and ``location_coords``, as for the encoder.

        Returns:
            Predicted patches ``(N, L, p*p*C)`` and the mask ``(N, L)``, 1 where hidden.
        """
        grid = self.encoder.patch_embed.grid(x)
        tokens = self.encoder.embed(x, **coords)
        if noise is None:
            noise = torch.rand(tokens.shape[:2], device=x.device)
        visible, restore, mask = self.random_masking(noise)
        tokens = tokens.gather(1, visible[..., None].expand(-1, -1, tokens.shape[-1]))
        (latent,) = self.encoder.encode(tokens, [self.encoder.depth - 1])
        return self.decoder(latent, restore, grid, **coords), mask

    def reconstruction_loss(
        self, x: Tensor, pred: Tensor, mask: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Mean squared error over the hidden pixels of each sample.

        Args:
            x: ``(N, C, T, H, W)``, normalised.
            pred: ``(N, L, p*p*C)``.
            mask: ``(N, L)``, 1 where hidden.
            valid: ``(N, 1, T, H, W)``, boolean: pixels that count. ``None`` counts all.

        Returns:
            Scalar; 0 where nothing that counts is hidden.
        """
        p = self.encoder.patch_size
        target = patchify(x, p)
        weight = mask[..., None].expand_as(target)
        if valid is not None:
            weight = weight * patchify(valid.expand_as(x), p)
        if self.norm_pix_loss:
            mean, std = _patch_statistics(target)
            target = (target - mean) / std
        error = (pred.float() - target) ** 2
        return (error * weight).sum() / weight.sum().clamp(min=1)

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Tensor]] | tuple[Tensor, Tensor]:
        """Run the autoencoder for mmengine's runner.

        Dates and locations come from ``temporal_coords`` and ``location_coords`` in the samples'
        meta information where the encoder embeds them.

        Args:
            inputs: ``(N, T*C, H, W)``, time-major, normalised.
            data_samples: Samples with meta information, or none.
            mode: ``loss`` returns ``dict(loss=)``. ``predict`` returns a dict for each sample:
                ``original`` and ``reconstructed`` ``(C, T, H, W)``, normalised, ``mask``
                ``(T, H, W)``, 1 where hidden, ``loss``, and ``mean_loss``, that of predicting the
                mean of the visible pixels of each band. Which tokens are hidden follows from
                ``chip_id`` in the meta information alone. ``tensor`` returns the predicted patches
                and the mask.
        """
        x = unfold_time(inputs, self.encoder.num_frames)
        metas = None if data_samples is None else [sample.metainfo for sample in data_samples]
        coords = stack_coords(self.encoder, metas, inputs.device)
        if mode == 'predict':
            return self._predict(x, coords, metas)
        pred, mask = self.reconstruct(x, **coords)
        if mode == 'loss':
            return dict(loss=self.reconstruction_loss(x, pred, mask, self._valid(x)))
        return pred, mask

    def _valid(self, x: Tensor) -> Tensor | None:
        # The preprocessor sets nodata to 0; a pixel that really is at the mean of all bands of a
        # frame, to the digit, is not missed.
        return (x != 0).any(dim=1, keepdim=True) if self.exclude_nodata else None

    def _predict(
        self, x: Tensor, coords: dict[str, Tensor], metas: Sequence[Mapping[str, Any]] | None
    ) -> list[dict[str, Tensor]]:
        grid, p = self.encoder.patch_embed.grid(x), self.encoder.patch_size
        length = grid[0] * grid[1] * grid[2]
        # Seeded by the chip, so that the loss does not depend on batch size or number of ranks.
        seeds = [zlib.crc32(meta.get('chip_id', '').encode()) for meta in metas or [{}] * len(x)]
        generator = torch.Generator()
        noise = torch.stack(
            [torch.rand(length, generator=generator.manual_seed(seed)) for seed in seeds]
        ).to(x.device)
        pred, mask = self.reconstruct(x, noise, **coords)
        target = patchify(x, p)
        mean, std = _patch_statistics(target)
        pixels = pred.float() * std + mean if self.norm_pix_loss else pred.float()
        reconstructed = unpatchify(pixels, grid, p)
        hidden = unpatchify(mask[..., None].expand(-1, -1, p * p), grid, p)  # (N, 1, T, H, W)
        valid = self._valid(x)
        seen = (1 - hidden) if valid is None else (1 - hidden) * valid
        count = seen.sum((2, 3, 4), keepdim=True).clamp(min=1)
        band_mean = (x * seen).sum((2, 3, 4), keepdim=True) / count
        constant = patchify(band_mean.expand_as(x), p)
        if self.norm_pix_loss:
            constant = (constant - mean) / std
        results = []
        for i in range(len(x)):
            one = slice(i, i + 1)
            ok = None if valid is None else valid[one]
            results.append(
                dict(
                    original=x[i],
                    reconstructed=reconstructed[i],
                    mask=hidden[i, 0],
                    loss=self.reconstruction_loss(x[one], pred[one], mask[one], ok),
                    mean_loss=self.reconstruction_loss(x[one], constant[one], mask[one], ok),
                )
            )
        return results


def _patch_statistics(target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch; 1e-6 as in the code of arXiv:2111.06377."""
    variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def load_mae_weights(
    model: PrithviMAE, source: str | Path | Mapping[str, Any], sha256: str | None = None
) -> LoadReport:
    """Load encoder and decoder, all of both or nothing, from either published layout.

    Args:
        model: The autoencoder.
        source: As for :func:`~geoseg_prithvi.models.load_prithvi_weights`.
        sha256: Expected digest of the file.

    Raises:
        WeightsNotFoundError: If the file can be found neither locally nor on the hub.
        CheckpointMismatchError: If anything is missing, left over or of another shape.
    """
    checkpoint, name = read_source(source, sha256)
    _, rest = split_layout(checkpoint)
    state = {k.removeprefix('decoder.'): v for k, v in rest.items() if k.startswith('decoder.')}
    position = state.pop('decoder_pos_embed', None)
    check_keys(model.decoder.state_dict(), state, name)
    report = load_prithvi_weights(model.encoder, checkpoint)
    model.decoder.load_state_dict(state)
    report.source = name
    report.loaded = [f'encoder.{k}' for k in report.loaded] + [f'decoder.{k}' for k in state]
    report.dropped = [k for k in report.dropped if not k.startswith('decoder.')]
    if position is not None:
        report.recomputed.append('decoder.decoder_pos_embed')
    return report
