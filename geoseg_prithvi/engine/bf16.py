"""Mixed precision in bfloat16, where the device computes in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPERS


def computes_in_bfloat16(device: torch.device) -> bool:
    """Say whether ``device`` has bfloat16 units; CPUs count as not having them.

    Many CPUs only emulate bfloat16, and a result that depends on the CPU's model cannot be
    repeated elsewhere.
    """
    return device.type == 'cuda' and torch.cuda.is_bf16_supported(including_emulation=False)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """The stock wrapper under bfloat16 autocast, falling back to float32.

    mmengine's ``AmpOptimWrapper`` refuses to run on CPU and needs loss scaling for float16.
    bfloat16 has the exponents of float32, so there is no loss scaling, and the same config trains
    on a GPU server and on a laptop.

    Args:
        enabled: ``None`` asks :func:`computes_in_bfloat16`; ``True`` and ``False`` decide.
        **kwargs: As for :class:`mmengine.optim.OptimWrapper`.
    """

    def __init__(self, *, enabled: bool | None = None, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.enabled = enabled

    @contextlib.contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        """Autocast the forward pass of one training step."""
        device = next(model.parameters()).device
        enabled = computes_in_bfloat16(device) if self.enabled is None else self.enabled
        with (
            super().optim_context(model),
            torch.autocast(device.type, torch.bfloat16, enabled=enabled),
        ):
            yield

    # mmengine compiles the whole training step, and the tracer fails on its parameter groups.
    @torch.compiler.disable
    def update_params(self, *args: Any, **kwargs: Any) -> None:
        """Backward pass and step, never traced."""
        super().update_params(*args, **kwargs)
