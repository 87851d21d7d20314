"""How well a masked autoencoder fills in what it was not shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmseg.registry import METRICS


@METRICS.register_module()
class ReconstructionMetric(BaseMetric):
    """Mean reconstruction loss over the chips, beside that of the simplest guess.

    Returned: ``val/mse``, the loss of :class:`PrithviMAE` over the hidden pixels, and
    ``val/visible_mean``, the loss of predicting the mean of the visible pixels of each band under
    the same masks. ``CheckpointHook(save_best='val/mse', rule='less')`` works.

    Each chip counts once: what a sampler repeats to fill the last batch is dropped by its
    ``img_path``.

    Args:
        collect_device: ``gpu`` gathers through the process group, which works on gloo and CPU
            too; ``cpu`` goes through files in ``collect_dir``, which all ranks must share.
        prefix: What stands before the names instead of ``val``.
        collect_dir: See ``collect_device``.
    """

    # Logs show the numbers of validation under these names beside those of training. "loss" in a
    # name would make mmengine log its mean over several validations.
    default_prefix = 'val'

    def __init__(
        self,
        collect_device: str = 'gpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict]) -> None:
        """Keep the losses of each chip.

        Args:
            data_batch: ``data_samples`` with ``img_path``.
            data_samples: Dicts with ``loss`` and ``mean_loss``, as :class:`PrithviMAE` predicts.
        """
        for sample, result in zip(data_batch['data_samples'], data_samples, strict=True):
            losses = float(result['loss']), float(result['mean_loss'])
            self.results.append((sample.img_path, losses))

    def compute_metrics(self, results: list[tuple[str, tuple[float, float]]]) -> dict[str, float]:
        """Average over the chips.

        Args:
            results: Path and the two losses of each chip, gathered from all ranks.

        Returns:
            The two means.
        """
        losses, visible_mean = zip(*dict(results).values(), strict=True)
        return dict(
            mse=sum(losses) / len(losses), visible_mean=sum(visible_mean) / len(visible_mean)
        )
