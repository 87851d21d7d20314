"""Losses for imbalanced classes, where MMSegmentation's own fall short.

Its ``LovaszLoss`` serves as it is, and so does its ``CrossEntropyLoss`` on the OneDL stack. But (as
of OneDL 1.4.2 and OpenMMLab 1.2.2) ``FocalLoss`` fails on the CPU and needs compiled operators on
the GPU, ``DiceLoss`` counts ignored pixels and adds all classes up before it divides, so that
common ones rule, and ``CrossEntropyLoss(class_weight=)`` fails on ignored pixels on the OpenMMLab
stack. These two have none of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional


class _ClassWeighted(nn.Module):
    """What both losses share: the weights, the factor and the name.

    Args:
        class_weight: ``(K,)``, see :mod:`geoseg_prithvi.data.class_weights`; all 1 if not given.
        loss_weight: Factor of the whole loss.
        loss_name: Name in the log; it must start with ``loss_`` to be trained on.
    """

    class_weight: Tensor | None

    def __init__(
        self, class_weight: Sequence[float] | None, loss_weight: float, loss_name: str
    ) -> None:
        super().__init__()
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer('class_weight', weight, persistent=False)
        self.loss_weight = loss_weight
        self.loss_name = loss_name

    def _weights(self, num_classes: int, like: Tensor) -> Tensor:
        if self.class_weight is None:
            return like.new_ones(num_classes)
        return self.class_weight.to(like)


@MODELS.register_module()
class SoftmaxFocalLoss(_ClassWeighted):
    """Focal loss (Lin et al., ICCV 2017) on softmax probabilities, weighted by class.

    ``w_y (1 - p_y)**gamma * -log p_y``, summed over the labelled pixels and divided by the sum of
    their ``w_y``. ``gamma=0`` is the weighted cross-entropy.

    Args:
        gamma: How much less the pixels count that are right already.
        class_weight: ``(K,)`` weights ``w``; all 1 if not given.
        loss_weight: Factor of the whole loss.
        loss_name: Name in the log.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        class_weight: Sequence[float] | None = None,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_focal',
    ) -> None:
        super().__init__(class_weight, loss_weight, loss_name)
        self.gamma = gamma

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: ``(N, K, H, W)`` logits.
            label: ``(N, H, W)`` classes.
            weight: ``(N, H, W)`` weight of each pixel, from a pixel sampler.
            ignore_index: Label of the pixels that do not count.
            **kwargs: Not used.

        Returns:
            A scalar; 0 if no pixel is labelled.
        """
        cls_score = cls_score.float()
        label = label.long()
        nll = functional.cross_entropy(
            cls_score, label, reduction='none', ignore_index=ignore_index
        )
        valid = label != ignore_index
        pixel_weight = self._weights(cls_score.shape[1], nll)[label * valid] * valid
        focus = -torch.expm1(-nll)  # 1 - p_y
        loss = pixel_weight * focus**self.gamma * nll
        if weight is not None:
            loss = loss * weight
        return self.loss_weight * loss.sum() / pixel_weight.sum().clamp(min=1e-6)


@MODELS.register_module()
class MultiClassDiceLoss(_ClassWeighted):
    """One minus the mean Dice coefficient of the classes that the batch holds.

    ``dice_c = (2 sum p_c t_c + eps) / (sum p_c + sum t_c + eps)`` over all labelled pixels of the
    batch, so each class counts alike whatever its area.

    Args:
        class_weight: ``(K,)`` weights of the mean; all 1 if not given.
        eps: Keeps classes of a few pixels from dividing by almost nothing.
        loss_weight: Factor of the whole loss.
        loss_name: Name in the log.
    """

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        eps: float = 1.0,
        loss_weight: float = 1.0,
        loss_name: str = 'loss_dice',
    ) -> None:
        super().__init__(class_weight, loss_weight, loss_name)
        self.eps = eps

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> Tensor:
        """Compute the loss.

        Args:
            cls_score: ``(N, K, H, W)`` logits.
            label: ``(N, H, W)`` classes.
            weight: ``(N, H, W)`` weight of each pixel, from a pixel sampler.
            ignore_index: Label of the pixels that do not count.
            **kwargs: Not used.

        Returns:
            A scalar; 0 if no pixel is labelled.
        """
        num_classes = cls_score.shape[1]
        mask = (label != ignore_index).float()
        truth = functional.one_hot(label * mask.long(), num_classes).movedim(-1, 1).float()
        counted = mask if weight is None else mask * weight
        counted = counted.unsqueeze(1)  # (N, 1, H, W)
        prob = cls_score.float().softmax(dim=1)
        prob, truth = prob * counted, truth * counted

        axes = (0, 2, 3)
        area = truth.sum(axes)
        dice = (2 * (prob * truth).sum(axes) + self.eps) / (prob.sum(axes) + area + self.eps)
        class_weight = self._weights(num_classes, dice) * (area > 0)
        loss = ((1 - dice) * class_weight).sum() / class_weight.sum().clamp(min=1e-6)
        return self.loss_weight * loss
