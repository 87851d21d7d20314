"""Several models as one: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..errors import CheckpointMismatchError, ConfigError
from .segmentor import Segmentor, build_segmentor, wants_dates, wants_location


class Ensemble:
    """Scorer of windows whose scores are the mean over several segmentors.

    Args:
        members: With the same classes, frames and bands, on one device.

    Raises:
        CheckpointMismatchError: If their classes, or the coordinates they want, differ.
    """

    def __init__(self, members: Sequence[Segmentor]) -> None:
        first = members[0]
        for other in members[1:]:
            if other.legend != first.legend:
                raise CheckpointMismatchError(
                    f'The models of an ensemble have different classes ({first.legend.names} and '
                    f'{other.legend.names}); take models of the same data.'
                )
            if any(wants(other.model) != wants(first.model) for wants in _WANTS):
                raise CheckpointMismatchError(
                    'Some models of the ensemble embed dates or locations and others do not; take '
                    'models of one config.'
                )
        self.members = list(members)
        self.model = first.model
        self.legend = first.legend
        self.num_classes = first.num_classes
        self.device = first.device

    def __call__(self, pixels: Tensor, metas: list[dict[str, Any]]) -> Tensor:
        """Return class probabilities ``(N, K, box, box)`` of int16 ``(N, T*C, box, box)``."""
        total = self.members[0](pixels, metas)
        for member in self.members[1:]:
            total = total + member(pixels, metas)
        return total / len(self.members)


_WANTS = (wants_dates, wants_location)


def build_ensemble(models: Sequence[tuple[Config, Path]], **options: Any) -> Segmentor | Ensemble:
    """Build the segmentor of each config and checkpoint; one alone stays as it is.

    Args:
        models: Config and checkpoint of each.
        **options: ``device``, ``tta`` and ``bf16`` of :func:`~.segmentor.build_segmentor`, which
            says what may go wrong too.
    """
    members = [build_segmentor(cfg, checkpoint=path, **options) for cfg, path in models]
    return members[0] if len(members) == 1 else Ensemble(members)


@MODELS.register_module()
class SegEnsemble(BaseModel):
    """Segmentors of MMSegmentation as one model that can be tested, not trained.

    The logits of its results are the logarithm of the mean probabilities, so that their softmax
    are the mean probabilities.

    Args:
        members: Configs of the segmentors.
        temperatures: Each divides the logits of a member before the softmax.

    Raises:
        ConfigError: If a member has a single output channel.
    """

    def __init__(self, members: Sequence[dict], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(MODELS.build(member) for member in members)
        self.temperatures = list(temperatures)
        self.out_channels = self.members[0].out_channels
        if self.out_channels < 2:
            raise ConfigError(
                'An ensemble wants a channel for each class, but the decode head has a single one; '
                'set out_channels=num_classes there.'
            )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refuse: members differ in their preprocessing, so only :meth:`test_step` makes sense."""
        raise ConfigError('An ensemble can be tested, but neither trained nor exported.')

    def test_step(self, data: dict[str, Any]) -> list:
        """Return the samples with the mean of what the members say.

        Args:
            data: A batch of the loader.
        """
        total: list[Tensor] = []
        for member, temperature in zip(self.members, self.temperatures, strict=True):
            # The results are the samples of the batch, which the next member fills anew.
            results = member.test_step(data)
            shares = [(r.seg_logits.data.float() / temperature).softmax(dim=0) for r in results]
            total = [a + b for a, b in zip(total, shares, strict=True)] if total else shares
        for result, shares in zip(results, total, strict=True):
            # Zero has no logarithm.
            logits = (shares / len(self.members)).clamp_min(torch.finfo(torch.float32).tiny).log()
            result.set_data(
                dict(
                    seg_logits=PixelData(data=logits),
                    pred_sem_seg=PixelData(data=logits.argmax(dim=0, keepdim=True)),
                )
            )
        return results
