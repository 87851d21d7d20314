"""What is added to the patch tokens: fixed 3-D positions, dates and locations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Longest wavelength of the sin-cos tables over 2 pi (arXiv:1706.03762).
_BASE = 10000


def _frequencies(dims: int) -> Tensor:
    # In float32 as in the reference: a year (2020) times a frequency in float64 would move the
    # phase of a published model by 1e-4.
    omega = torch.arange(dims // 2, dtype=torch.float32) / (dims / 2.0)
    return 1.0 / _BASE**omega


def _sincos(position: Tensor, omega: Tensor) -> Tensor:
    """``(...) -> (..., 2 * len(omega))``: all sines, then all cosines."""
    phase = position[..., None] * omega
    return torch.cat([phase.sin(), phase.cos()], dim=-1)


def sincos_positions(
    embed_dims: int, grid: tuple[int, int, int], base_size: tuple[int, int]
) -> Tensor:
    """Build the fixed positions of the cls token and of a grid of patches.

    6/16 of the channels tell the column, 6/16 the row and 4/16 the frame. Frames are counted, so
    any number of them has its own table; rows and columns are those of the pre-training grid and
    are stretched onto another one by bicubic interpolation with aligned corners, as the published
    code does.

    Args:
        embed_dims: D, a multiple of 16.
        grid: Patches ``(T, h, w)`` of the input.
        base_size: Patches ``(h, w)`` of the pre-training image.

    Returns:
        ``(1, 1 + T*h*w, D)`` float32; the cls token's is zero.
    """
    t = grid[0]
    h, w = base_size
    sixteenth = embed_dims // 16
    columns = _sincos(torch.arange(w), _frequencies(6 * sixteenth))
    rows = _sincos(torch.arange(h), _frequencies(6 * sixteenth))
    frames = _sincos(torch.arange(t), _frequencies(4 * sixteenth))
    table = torch.cat(
        [
            columns[None, None].expand(t, h, -1, -1),
            rows[None, :, None].expand(t, -1, w, -1),
            frames[:, None, None].expand(-1, h, w, -1),
        ],
        dim=-1,
    ).reshape(1, t * h * w, embed_dims)
    table = torch.cat([table.new_zeros(1, 1, embed_dims), table], dim=1)
    return stretch_positions(table, (t, h, w), grid)


def stretch_positions(
    positions: Tensor, grid: tuple[int, int, int], new_grid: tuple[int, int, int]
) -> Tensor:
    """Interpolate rows and columns bicubically, with aligned corners as the published code does.

    Args:
        positions: ``(1, 1 + T*h*w, D)``, the cls token's first.
        grid: Patches ``(T, h, w)`` of ``positions``.
        new_grid: Patches ``(T, h', w')``, the same T.
    """
    if grid == new_grid:
        return positions
    dims = positions.shape[-1]
    # (1, T*h*w, D) -> (T, D, h, w) -> (T, D, h', w') -> (1, T*h'*w', D)
    maps = positions[:, 1:].reshape(*grid, dims).permute(0, 3, 1, 2)
    maps = functional.interpolate(maps, size=new_grid[1:], mode='bicubic', align_corners=True)
    patches = maps.permute(0, 2, 3, 1).reshape(1, -1, dims)
    return torch.cat([positions[:, :1], patches], dim=1)


class CoordsEmbedding(nn.Module):
    """Sin-cos embedding of a pair of numbers, half of the channels each, times a learned scale.

    Args:
        embed_dims: D, a multiple of 4.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        # 0.1: the start value of the reference; a published model brings its own.
        self.scale = nn.Parameter(torch.full((1,), 0.1))
        self.register_buffer('omega', _frequencies(embed_dims // 2), persistent=False)

    def forward(self, coords: Tensor) -> Tensor:
        """Embed ``(..., 2)`` as ``(..., D)``.

        Always in float32: a bfloat16 year is only good to 8 years.
        """
        first, second = coords.float().unbind(-1)
        omega = self.omega.float()
        embedding = torch.cat([_sincos(first, omega), _sincos(second, omega)], dim=-1)
        return self.scale * embedding
