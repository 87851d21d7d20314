"""The transformer block of encoder and decoder, with the parameter names of the published files."""

from __future__ import annotations

from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention over all tokens, space and time together.

    Args:
        dims: Token width D.
        num_heads: Heads; D is a multiple of it.
    """

    def __init__(self, dims: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dims, 3 * dims)
        self.proj = nn.Linear(dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, L, D) -> (N, L, D)``."""
        n, length, dims = x.shape
        # (N, L, 3*D) -> (N, L, 3, heads, D/heads) -> 3 x (N, heads, L, D/heads)
        qkv = self.qkv(x).view(n, length, 3, self.num_heads, dims // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).reshape(n, length, dims))


class Mlp(nn.Module):
    """Two linear layers with a GELU between them.

    Args:
        dims: Token width D.
        hidden_dims: Width between the layers.
    """

    def __init__(self, dims: int, hidden_dims: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dims, hidden_dims)
        self.fc2 = nn.Linear(hidden_dims, dims)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., D) -> (..., D)``."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block.

    Args:
        dims: Token width D.
        num_heads: Heads of the attention.
        mlp_ratio: Hidden width of the MLP over D.
        drop_path: Probability that a sample skips a branch in training, 0 to 1.
    """

    def __init__(
        self, dims: int, num_heads: int, mlp_ratio: float = 4.0, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        # eps 1e-5 (torch's default), not the 1e-6 of most ViTs: the reference vectors tell.
        self.norm1 = nn.LayerNorm(dims)
        self.attn = Attention(dims, num_heads)
        self.norm2 = nn.LayerNorm(dims)
        self.mlp = Mlp(dims, int(dims * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(N, L, D) -> (N, L, D)``."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


def init_transformer(module: nn.Module) -> None:
    """Initialise linear layers (Xavier uniform, bias 0) as the masked-autoencoder papers do."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
