"""Print the table of variants of docs/models.md."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.models import VARIANTS, PrithviViT

CONFIGS = Path(__file__).parents[1] / 'configs'
FRAMES, SIZE = 3, 224
GIB = 2**30


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    return parser.parse_args()


def configs() -> dict[str, str]:
    """Return the shortest named config of each variant."""
    found: dict[str, str] = {}
    for path in sorted(CONFIGS.glob('prithvi*_lulc.py'), key=lambda path: len(path.name)):
        found.setdefault(Config.fromfile(path).model.backbone.arch, path.name)
    return found


def measure(arch: str) -> tuple[int, int, int]:
    """Return parameters, floating-point operations of a chip, and bytes kept for backward.

    Nothing is computed: all tensors are on the meta device. The bytes are those of the tensors
    that autograd keeps for one chip in float32, without the parameters themselves.
    """
    with torch.device('meta'):
        model = PrithviViT(arch=arch, num_frames=FRAMES, img_size=SIZE)
        chip = torch.empty(1, FRAMES * 6, SIZE, SIZE)
    tokens = 1 + FRAMES * (SIZE // model.patch_size) ** 2
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        pairs = tensor.ndim > 2 and tensor.shape[-2:] == (tokens, tokens)
        if not pairs and not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        alive += model(chip)
    parameters = sum(p.numel() for p in model.parameters())
    return parameters, counter.get_total_flops(), sum(kept.values())


@report_errors
def main() -> None:
    """Measure every variant."""
    parse_args()
    names = configs()
    print(
        '| variant | parameters (M) | GFLOPs | memory to train (GiB) | config | on the hub |\n'
        '|---|---|---|---|---|---|'
    )
    for arch, variant in VARIANTS.items():
        parameters, flops, kept = measure(arch)
        # Weights, gradients and the two moments of AdamW, 4 bytes each.
        fixed, chip = parameters * 16 / GIB, kept / GIB
        print(
            f'| `{arch}` | {parameters / 1e6:.1f} | {flops / 1e9:.0f} '
            f'| {fixed:.1f} + {chip:.2f} a chip | `{names[arch]}` | `{variant.repo}` |'
        )


if __name__ == '__main__':
    main()
