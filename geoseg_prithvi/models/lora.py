"""Low-rank adaptation (arXiv:2106.09685) of the encoder's attention.

A few lines instead of ``peft``: that renames the parameters it wraps, so published weights and
checkpoints of mmengine would no longer fit, and it brings a second framework along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError

#: Parameters that LoRA adds, by the end of their names.
_ADDED = re.compile(r'\.lora_[ab]$')


class LoRALinear(nn.Linear):
    """A linear layer plus ``alpha / rank * B A``; ``weight`` and ``bias`` keep their names.

    Args:
        linear: The layer to adapt; its parameters are taken over.
        rank: Rows of A and columns of B.
        alpha: Weight of the adaptation.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(linear.in_features, linear.out_features, device='meta')
        self.weight, self.bias = linear.weight, linear.bias
        self.scale = alpha / rank
        # B starts at zero: at first the layer does what it did (section 4.1 of the paper).
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in) -> (..., out)``."""
        low = functional.linear(x, self.lora_a)
        return super().forward(x) + self.scale * functional.linear(low, self.lora_b)


def check_lora(lora: Mapping[str, float]) -> tuple[int, float]:
    """Return rank and alpha of ``dict(rank=, alpha=)``; alpha is the rank where it is not given.

    Raises:
        ConfigError: If another key stands there, or a number is not positive.
    """
    rank, alpha = lora.get('rank'), lora.get('alpha', lora.get('rank'))
    if not set(lora) <= {'rank', 'alpha'} or not isinstance(rank, int) or min(rank, alpha) <= 0:
        raise ConfigError(
            f'lora={dict(lora)} must be dict(rank=, alpha=): a whole number and a number, both '
            'over 0, for example dict(rank=16, alpha=16).'
        )
    return rank, float(alpha)


def is_lora(key: str) -> bool:
    """Say whether a parameter of this name is one that LoRA adds."""
    return _ADDED.search(key) is not None


def merge_lora(state: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return a state dict with the adaptations added to the weights, as if LoRA had not been.

    Args:
        state: A state dict with keys that end in ``lora_a`` and ``lora_b``.
        alpha: As in training.
    """
    merged = {key: value for key, value in state.items() if not is_lora(key)}
    for key, a in state.items():
        if key.endswith('.lora_a'):
            layer = key.removesuffix('.lora_a')
            b, weight = state[f'{layer}.lora_b'], state[f'{layer}.weight']
            update = alpha / len(a) * (b.double() @ a.double())
            merged[f'{layer}.weight'] = (weight.double() + update).to(weight.dtype)
    return merged


def add_lora(blocks: nn.ModuleList, rank: int, alpha: float) -> None:
    """Adapt the query, key, value and output projections of transformer blocks, in place."""
    for block in blocks:
        block.attn.qkv = LoRALinear(block.attn.qkv, rank, alpha)
        block.attn.proj = LoRALinear(block.attn.proj, rank, alpha)


def train_only_lora(model: nn.Module) -> None:
    """Freeze every parameter of ``model`` but those that LoRA added."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_lora(name))
