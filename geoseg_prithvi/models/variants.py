"""The published Prithvi models: one row each.

Source: the ``config.json`` files in the repositories ``ibm-nasa-geospatial/Prithvi-EO-*`` on the
Hugging Face hub, and the papers arXiv:2310.18660 (v1) and arXiv:2412.02732 (v2).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ..errors import ConfigError

#: Legal entries of ``coords_encoding``: the date of each frame, the location of the chip.
COORDS: tuple[str, ...] = ('time', 'location')


@dataclasses.dataclass(frozen=True)
class Variant:
    """The shape of a Prithvi encoder and where its weights are published.

    Attributes:
        embed_dims: Token width D.
        depth: Number of transformer blocks.
        num_heads: Attention heads.
        patch_size: Side of a patch in pixels; a patch covers one frame.
        mlp_ratio: Hidden width of the MLP over ``embed_dims``.
        num_frames: Frames seen in pre-training.
        img_size: Side of the pre-training image in pixels.
        coords_encoding: What is embedded beside the pixels, of :data:`COORDS`.
        repo: Repository on the Hugging Face hub, empty where nothing is published.
        filename: File of the weights in that repository.
    """

    embed_dims: int
    depth: int
    num_heads: int
    patch_size: int = 16
    mlp_ratio: float = 4.0
    num_frames: int = 4
    img_size: int = 224
    coords_encoding: tuple[str, ...] = ()
    repo: str = ''
    filename: str = ''

    @property
    def checkpoint(self) -> str:
        """The published weights as a checkpoint URL, ``hf://owner/repo/file``."""
        return f'hf://{self.repo}/{self.filename}'


_HUB = 'ibm-nasa-geospatial/Prithvi-EO'

VARIANTS: dict[str, Variant] = {
    'v1-100M': Variant(
        768, 12, 12, num_frames=3, repo=f'{_HUB}-1.0-100M', filename='Prithvi_EO_V1_100M.pt'
    ),
    'v2-tiny-TL': Variant(
        192,
        12,
        3,
        coords_encoding=COORDS,
        repo=f'{_HUB}-2.0-tiny-TL',
        filename='Prithvi_EO_V2_tiny_TL.pt',
    ),
    'v2-100M-TL': Variant(
        768,
        12,
        12,
        coords_encoding=COORDS,
        repo=f'{_HUB}-2.0-100M-TL',
        filename='Prithvi_EO_V2_100M_TL.pt',
    ),
    'v2-300M': Variant(1024, 24, 16, repo=f'{_HUB}-2.0-300M', filename='Prithvi_EO_V2_300M.pt'),
    'v2-300M-TL': Variant(
        1024,
        24,
        16,
        coords_encoding=COORDS,
        repo=f'{_HUB}-2.0-300M-TL',
        filename='Prithvi_EO_V2_300M_TL.pt',
    ),
    'v2-600M': Variant(
        1280, 32, 16, patch_size=14, repo=f'{_HUB}-2.0-600M', filename='Prithvi_EO_V2_600M.pt'
    ),
    'v2-600M-TL': Variant(
        1280,
        32,
        16,
        patch_size=14,
        coords_encoding=COORDS,
        repo=f'{_HUB}-2.0-600M-TL',
        filename='Prithvi_EO_V2_600M_TL.pt',
    ),
}


def get_variant(arch: str | Mapping[str, int | float]) -> Variant:
    """Look up a variant by name, or make one from its numbers.

    Args:
        arch: A key of :data:`VARIANTS`, or a mapping with ``embed_dims``, ``depth``, ``num_heads``
            and optionally ``patch_size`` and ``mlp_ratio``.

    Raises:
        ConfigError: If the name is unknown, a number is missing or the numbers do not fit.
    """
    if isinstance(arch, str):
        if arch not in VARIANTS:
            raise ConfigError(
                f'There is no Prithvi called {arch!r}; use one of {", ".join(VARIANTS)}, or '
                'dict(embed_dims=, depth=, num_heads=, patch_size=, mlp_ratio=).'
            )
        return VARIANTS[arch]
    required = {'embed_dims', 'depth', 'num_heads'}
    given = set(arch)
    if not required <= given <= required | {'patch_size', 'mlp_ratio'}:
        raise ConfigError(
            f'arch has the keys {sorted(given)}; it needs {sorted(required)} and may have '
            'mlp_ratio and patch_size.'
        )
    variant = Variant(**arch)  # type: ignore[arg-type]
    if variant.embed_dims % 16 or variant.embed_dims % variant.num_heads:
        raise ConfigError(
            f'embed_dims={variant.embed_dims} must be a multiple of 16 (3-D positions) and of '
            f'num_heads={variant.num_heads}.'
        )
    return variant
