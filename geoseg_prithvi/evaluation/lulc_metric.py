"""The segmentation metric: scores per class and the confusion matrix, exact on any world size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable

from ..lulc import IGNORE
from .confusion import confusion_matrix, mean_score, scores
from .report import POLICY, plot_confusion, score_rows, write_confusion_csv


@METRICS.register_module()
class LULCMetric(BaseMetric):
    """IoU, F1, precision, recall and accuracy from one int64 confusion matrix.

    Returned, in percent and not rounded: ``mIoU``, ``mF1``, ``mPrecision``, ``mAcc`` (mean
    recall, MMSegmentation's name for it), ``aAcc`` (share of all pixels that are right), and per
    class ``IoU/{class}``, ``F1/{class}``, ``Precision/{class}``, ``Recall/{class}``.
    ``CheckpointHook(save_best='mIoU')`` works.

    A class that neither labels nor predictions hold is nan and left out of the means; one that is
    only predicted counts with IoU and F1 of 0. Each image counts once: what a sampler repeats to
    fill the last batch is dropped by its ``img_path``.

    Rank 0 writes ``confusion_{split}.csv`` (counts) and ``confusion_{split}.png`` (percent of each
    row); rows are labels, columns predictions.

    Args:
        ignore_index: Label of the pixels that do not count.
        out_dir: Folder for the files; by default that of the runner's log.
        collect_device: ``gpu`` gathers through the process group, which works on gloo and CPU
            too; ``cpu`` goes through files in ``collect_dir``, which all ranks must share.
        prefix: Put before each name, as ``{prefix}/mIoU``.
        collect_dir: See ``collect_device``.

    Raises:
        LabelError: If a label is outside the classes.
        ConfigError: If a prediction is outside the classes.
    """

    # BaseMetric warns when it finds no prefix; the names shall be MMSegmentation's, without one.
    default_prefix = ''

    def __init__(
        self,
        ignore_index: int = IGNORE,
        out_dir: str | None = None,
        collect_device: str = 'gpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.ignore_index = ignore_index
        self.out_dir = out_dir

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each sample.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``img_path``, ``seg_map_path``, ``gt_sem_seg`` and
                ``pred_sem_seg`` (``data`` of shape ``(1, H, W)``).
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            path = sample['img_path']
            matrix = confusion_matrix(
                sample['gt_sem_seg']['data'].cpu().numpy(),
                sample['pred_sem_seg']['data'].cpu().numpy(),
                num_classes,
                ignore_index=self.ignore_index,
                source=sample.get('seg_map_path', path),
            )
            self.results.append((path, matrix))

    def compute_metrics(self, results: list[tuple[str, np.ndarray]]) -> dict[str, float]:
        """Add up the matrices, log the table, write the files.

        Args:
            results: Path and ``(K, K)`` matrix of each sample, gathered from all ranks.

        Returns:
            The scores in percent.
        """
        classes = self.dataset_meta['classes']
        empty = np.zeros((len(classes), len(classes)), np.int64)
        total = sum(dict(results).values(), start=empty)
        score = scores(total)

        header, rows = score_rows(score, classes)
        table = PrettyTable(header, align='r')
        table.align['Class'] = 'l'
        table.add_rows(rows)
        logger = MMLogger.get_current_instance()
        print_log(f'per class results (in percent):\n{table.get_string()}\n{POLICY}', logger)
        self._write(total, classes, logger)

        metrics = dict(
            aAcc=score.accuracy,
            mIoU=mean_score(score.iou),
            mAcc=mean_score(score.recall),
            mF1=mean_score(score.f1),
            mPrecision=mean_score(score.precision),
        )
        per_class = dict(IoU=score.iou, F1=score.f1, Precision=score.precision, Recall=score.recall)
        for name, values in per_class.items():
            metrics |= {f'{name}/{c}': float(v) for c, v in zip(classes, values, strict=True)}
        return {name: 100 * value for name, value in metrics.items()}

    def _write(self, matrix: np.ndarray, classes: Sequence[str], logger: MMLogger) -> None:
        """Write the confusion matrix as CSV and PNG."""
        if self.out_dir is not None:
            folder = Path(self.out_dir)
        elif logger.log_file is not None:
            folder = Path(logger.log_file).parent
        else:
            print_log('No out_dir and no log file: the confusion matrix is not written.', logger)
            return
        split = self.dataset_meta.get('split') or 'all'
        path = folder / f'confusion_{split}.csv'
        write_confusion_csv(matrix, classes, path)
        plot_confusion(
            matrix, classes, path.with_suffix('.png'), title=f'Confusion matrix ({split})'
        )
        print_log(f'Confusion matrix: {path} and .png', logger)
