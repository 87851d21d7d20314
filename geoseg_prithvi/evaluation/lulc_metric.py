"""The segmentation metric: scores per class and the confusion matrix, exact on any world size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger, print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable

from ..lulc import IGNORE
from .area_accuracy import adjusted_area, area_adjusted, check_strata, read_area
from .bootstrap import block_intervals, draw_blocks, interval
from .calibration import BINS, confidence_bins, expected_calibration_error, plot_reliability
from .confusion import confusion_matrix, mean_score, scores
from .report import (
    AREA_NOTE,
    POLICY,
    area_rows,
    interval_note,
    plot_confusion,
    score_rows,
    write_area_csv,
    write_confusion_csv,
    write_scores_csv,
)


@dataclasses.dataclass(frozen=True)
class _Image:
    """What is kept of an image: its counts, the block it lies in, its bins of confidence."""

    matrix: np.ndarray
    block: str | None
    bins: np.ndarray | None


@METRICS.register_module()
class LULCMetric(BaseMetric):
    """IoU, F1, precision, recall and accuracy from one int64 confusion matrix.

    Returned, in percent and not rounded: ``mIoU``, ``mF1``, ``mPrecision``, ``mAcc`` (mean
    recall, MMSegmentation's name for it), ``aAcc`` (share of all pixels that are right), and per
    class ``IoU/{class}``, ``F1/{class}``, ``Precision/{class}``, ``Recall/{class}``.
    ``CheckpointHook(save_best='mIoU')`` works.

    ``mIoU_low`` and ``mIoU_high`` bound a 95 % interval: a bootstrap over blocks of ground, where
    the samples name their ``block`` (a key of ``meta_keys``), else over images.

    A class that neither labels nor predictions hold is nan and left out of the means; one that is
    only predicted counts with IoU and F1 of 0. Each image counts once: what a sampler repeats to
    fill the last batch is dropped by its ``img_path``.

    Rank 0 writes ``confusion_{split}.csv`` (counts) and ``confusion_{split}.png`` (percent of each
    row); rows are labels, columns predictions; ``scores_{split}.csv`` with all scores per class and
    the intervals of their IoU; ``reliability_{split}.png`` with ``temperature``, and
    ``area_{split}.csv`` with ``area``.

    Args:
        ignore_index: Label of the pixels that do not count.
        temperature: Measure the calibration of the logits divided by it: ``ECE``, the expected
            calibration error in percent. ``None`` leaves it out, and so does a head with a single
            channel. Not for test-time augmentation, whose samples carry the logits of one view.
        area: CSV of ``tools/predict.py --area``: log accuracy and area weighted by what each class
            covers on that map.
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
        temperature: float | None = None,
        area: str | None = None,
        out_dir: str | None = None,
        collect_device: str = 'gpu',
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix, collect_dir=collect_dir)
        self.ignore_index = ignore_index
        self.temperature = temperature
        self.area = area
        self.out_dir = out_dir

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of each sample.

        Args:
            data_batch: Not used.
            data_samples: Dicts with ``img_path``, ``seg_map_path``, ``gt_sem_seg`` and
                ``pred_sem_seg`` (``data`` of shape ``(1, H, W)``); with ``temperature`` also
                ``seg_logits`` (``(K, H, W)``).
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
            bins = None
            if self.temperature is not None and len(sample['seg_logits']['data']) > 1:
                logits = sample['seg_logits']['data'] / self.temperature
                label = sample['gt_sem_seg']['data'][0].to(logits.device)
                bins = confidence_bins(logits, label, self.ignore_index)
            self.results.append((path, _Image(matrix, sample.get('block'), bins)))

    def compute_metrics(self, results: list[tuple[str, _Image]]) -> dict[str, float]:
        """Add up the matrices, log the table, write the files.

        Args:
            results: Path and counts of each sample, gathered from all ranks.

        Returns:
            The scores in percent.
        """
        classes = self.dataset_meta['classes']
        # By path: sums of floats, and so the numbers, do not depend on the number of ranks.
        images = dict(sorted(dict(results).items()))
        empty = np.zeros((0, len(classes), len(classes)), np.int64)
        matrices = np.array([image.matrix for image in images.values()] or empty)
        by_block = all(image.block is not None for image in images.values())
        blocks = [str(image.block) if by_block else path for path, image in images.items()]
        total = matrices.sum(axis=0)
        score = scores(total)
        intervals = block_intervals(matrices, blocks)

        header, rows = score_rows(score, classes, intervals)
        logger = MMLogger.get_current_instance()
        notes = f'{interval_note(intervals, by_block)}\n{POLICY}'
        print_log(f'per class results (in percent):\n{_table(header, rows)}\n{notes}', logger)
        stem = self._stem(logger)
        if stem is not None:
            self._write(total, classes, stem)
            write_scores_csv(score, intervals, classes, stem('scores', '.csv'))
            print_log(f'Confusion matrix: {stem("confusion", ".csv")} and .png', logger)
        if self.area is not None:
            self._log_area(matrices, blocks, stem, logger)

        metrics = dict(
            aAcc=score.accuracy,
            mIoU=mean_score(score.iou),
            mAcc=mean_score(score.recall),
            mF1=mean_score(score.f1),
            mPrecision=mean_score(score.precision),
            mIoU_low=float(intervals.miou[0]),
            mIoU_high=float(intervals.miou[1]),
        )
        if images and all(image.bins is not None for image in images.values()):
            bins = sum((image.bins for image in images.values()), start=np.zeros((BINS, 3)))
            metrics['ECE'] = expected_calibration_error(bins)
            if stem is not None:
                name = f'temperature {self.temperature:.3g}'
                plot_reliability({name: bins}, stem('reliability', '.png'), title='Reliability')
        per_class = dict(IoU=score.iou, F1=score.f1, Precision=score.precision, Recall=score.recall)
        for name, values in per_class.items():
            metrics |= {f'{name}/{c}': float(v) for c, v in zip(classes, values, strict=True)}
        return {name: 100 * value for name, value in metrics.items()}

    def _stem(self, logger: MMLogger) -> Callable[[str, str], Path] | None:
        """Return how files are named, ``(kind, suffix) -> path``; ``None`` without a folder."""
        if self.out_dir is not None:
            folder = Path(self.out_dir)
        elif logger.log_file is not None:
            folder = Path(logger.log_file).parent
        else:
            print_log('No out_dir and no log file: no files are written.', logger)
            return None
        split = self.dataset_meta.get('split') or 'all'
        return lambda kind, suffix: folder / f'{kind}_{split}{suffix}'

    def _write(
        self, matrix: np.ndarray, classes: Sequence[str], stem: Callable[[str, str], Path]
    ) -> None:
        """Write the confusion matrix as CSV and PNG."""
        split = self.dataset_meta.get('split') or 'all'
        write_confusion_csv(matrix, classes, stem('confusion', '.csv'))
        plot_confusion(
            matrix, classes, stem('confusion', '.png'), title=f'Confusion matrix ({split})'
        )

    def _log_area(
        self,
        matrices: np.ndarray,
        blocks: Sequence[str],
        stem: Callable[[str, str], Path] | None,
        logger: MMLogger,
    ) -> None:
        """Log and write accuracy and area that are weighted by the mapped area."""
        classes = self.dataset_meta['classes']
        mapped = read_area(self.area, classes)
        total = matrices.sum(axis=0)
        check_strata(total, mapped.values, classes)
        found = area_adjusted(total, mapped.values)
        over_blocks = interval(adjusted_area(draw_blocks(matrices, blocks), mapped.values))
        if len(set(blocks)) < 2:
            over_blocks[:] = np.nan
        header, rows = area_rows(found, mapped, classes, over_blocks)
        print_log(f'accuracy of the map:\n{_table(header, rows)}\n{AREA_NOTE}', logger)
        if stem is not None:
            write_area_csv(found, mapped, classes, stem('area', '.csv'), over_blocks)


def _table(header: list[str], rows: list[list[str]]) -> str:
    table = PrettyTable(header, align='r')
    table.align['Class'] = 'l'
    table.add_rows(rows)
    return table.get_string()
