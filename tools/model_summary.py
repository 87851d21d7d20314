"""Print the table of variants of docs/models.md, or the revisions of their weights on the hub."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from mmengine.config import Config
from torch.utils.flop_counter import FlopCounterMode

from geoseg_prithvi.data.files import write_bytes
from geoseg_prithvi.errors import report_errors
from geoseg_prithvi.models import VARIANTS, PrithviViT, current_revision

CONFIGS = Path(__file__).parents[1] / 'configs'
FRAMES, SIZE = 3, 224
GIB = 2**30


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--revisions',
        action='store_true',
        help='compare the revisions pinned in the configs with those on the hub now',
    )
    parser.add_argument(
        '--pin', action='store_true', help='the same, and write the latter into the configs'
    )
    parser.add_argument('--configs', type=Path, default=CONFIGS, help='folder (%(default)s)')
    return parser.parse_args()


def revisions(folder: Path, pin: bool) -> None:
    """Print each checkpoint of the configs at the hub's current revision, and pin it there."""
    texts = {path: path.read_text() for path in sorted(folder.rglob('*.py'))}
    urls = set()
    for text in texts.values():
        joined = re.sub(r"'\s*\n\s*'", '', text)  # a string may go on in the next line
        urls |= {tuple(url.partition('@')[::2]) for url in re.findall(r"'(hf://[^']+)'", joined)}
    for url, pinned in sorted(urls):
        current = current_revision(url)
        state = 'pinned' if pinned == current else f'the config has {pinned or "none"}'
        print(f'{url}@{current}  {state}')
        repo, _, file = url.rpartition('/')
        for path, text in texts.items():
            if pin and f'{repo}/' in text:
                texts[path] = re.sub(
                    rf"(?<=['/]){re.escape(file)}(@\w+)?'", f"{file}@{current}'", text
                )
    for path, text in texts.items():
        if text != path.read_text():
            write_bytes(path, text.encode())
            print(f'written: {path}')


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
    """Measure every variant, or ask the hub."""
    args = parse_args()
    if args.revisions or args.pin:
        revisions(args.configs, args.pin)
        return
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
