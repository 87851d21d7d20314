"""Necks between the maps of the encoder ``(N, T*D, h, w)`` and the stock heads of MMSegmentation.

They stand in a list, ``neck=[dict(type='TemporalFuse', ...), dict(type='ProgressiveUpsample',
...)]``, which mmengine builds as a Sequential.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import ConfigError
from ..layout import band_major

#: Group norm: the same in training and in testing, and good for any batch size.
_NORM = dict(type='GN', num_groups=8)
_ACT = dict(type='GELU')


def _check_count(name: str, maps: Sequence[Tensor], count: int) -> None:
    if len(maps) != count:
        raise ConfigError(
            f'{name} was built for {count} feature map(s) and got {len(maps)}; give in_channels '
            'one entry for each of the out_indices of the backbone.'
        )


@MODELS.register_module()
class TemporalFuse(BaseModule):
    """Fuse the frames of each map by a 1 x 1 convolution, ``T*D -> D'`` channels.

    Args:
        in_channels: ``T*D`` of the map; a list for several maps, each with weights of its own.
        out_channels: ``D'``.
        norm_cfg: Normalisation after the convolution, as in mmcv.
        act_cfg: Activation after that.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int,
        norm_cfg: dict | None = _NORM,
        act_cfg: dict | None = _ACT,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        channels = [in_channels] if isinstance(in_channels, int) else in_channels
        self.convs = nn.ModuleList(
            ConvModule(c, out_channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg) for c in channels
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Fuse ``(N, T*D, h, w)`` to ``(N, D', h, w)``, each map."""
        _check_count('TemporalFuse', maps, len(self.convs))
        return tuple(conv(x) for conv, x in zip(self.convs, maps, strict=True))


@MODELS.register_module()
class ProgressiveUpsample(BaseModule):
    """Double the resolution step by step while the channels shrink.

    A step is a 4 x 4 transposed convolution with stride 2: it sees its neighbours, learns detail
    below the patch, and costs half of bilinear upsampling followed by a 3 x 3 convolution. With
    patches of 16 px, three steps end at half of the input's resolution; the head's logits are
    resized from there.

    Args:
        in_channels: Channels of the map.
        channels: Channels after each step, e.g. ``(128, 96, 64)``.
        norm_cfg: Normalisation after each step, as in mmcv.
        act_cfg: Activation after that.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        in_channels: int = 256,
        channels: Sequence[int] = (128, 96, 64),
        norm_cfg: dict = _NORM,
        act_cfg: dict = _ACT,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        steps = [
            nn.Sequential(
                nn.ConvTranspose2d(before, after, kernel_size=4, stride=2, padding=1, bias=False),
                build_norm_layer(norm_cfg, after)[1],
                build_activation_layer(act_cfg),
            )
            for before, after in pairwise((in_channels, *channels))
        ]
        self.steps = nn.Sequential(*steps)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Upsample one map ``(N, D', h, w)`` to ``(N, channels[-1], h * 2**steps, ...)``."""
        _check_count('ProgressiveUpsample', maps, 1)
        return (self.steps(maps[0]),)


class Norm2d(nn.Module):
    """Layer norm over the channels of a map, with the parameter names of hls-foundation-os.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(channels, eps=1e-6)  # 1e-6 there; the reference vectors agree

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W) -> (N, C, H, W)``."""
        return self.ln(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class ConvTransformerTokensToEmbeddingNeck(BaseModule):
    """Neck of hls-foundation-os, for the checkpoints that were fine-tuned with that code.

    Four doublings at full width: 16 times the resolution, and a dozen times the cost of the
    encoder at 2304 channels. For new models use :class:`ProgressiveUpsample`.

    Args:
        embed_dim: ``T*D``, channels of the map.
        output_embed_dim: Channels of the result.
        num_frames: Frames T; those checkpoints hold all frames of channel 0 first.
        init_cfg: As in mmengine.
    """

    def __init__(
        self,
        embed_dim: int,
        output_embed_dim: int,
        num_frames: int = 3,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_frames = num_frames

        def quadruple(channels: int) -> nn.Sequential:
            return nn.Sequential(
                nn.ConvTranspose2d(channels, output_embed_dim, kernel_size=2, stride=2),
                Norm2d(output_embed_dim),
                nn.GELU(),
                nn.ConvTranspose2d(output_embed_dim, output_embed_dim, kernel_size=2, stride=2),
            )

        self.fpn1 = quadruple(embed_dim)
        self.fpn2 = quadruple(output_embed_dim)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor]:
        """Upsample one map ``(N, T*D, h, w)``, time-major, to ``(N, D', 16*h, 16*w)``."""
        _check_count('ConvTransformerTokensToEmbeddingNeck', maps, 1)
        return (self.fpn2(self.fpn1(band_major(maps[0], self.num_frames))),)
