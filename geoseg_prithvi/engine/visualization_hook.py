"""Pictures of validation and test samples while training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ..errors import ConfigError
from ..hls import BANDS
from ..visualization import FALSE_COLOR, draw_panel


class SampleDrawingHook(Hook):
    """What the hooks that draw the first samples of a run share.

    Args:
        num_samples: Samples to draw in each validation and test run; 0 draws none.
        bands: Names of the bands in the order of the channels of one frame.
        composite: The three bands shown as red, green and blue.
    """

    priority = 'LOW'

    def __init__(
        self,
        num_samples: int = 4,
        bands: Sequence[str] = BANDS,
        composite: Sequence[str] = FALSE_COLOR,
    ) -> None:
        self.num_samples = num_samples
        self.bands = tuple(bands)
        self.composite = tuple(composite)
        self._drawn = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Count from 0 again."""
        self._drawn = 0

    @staticmethod
    def frame_titles(meta: Mapping[str, Any], num_frames: int) -> list[str]:
        """Name each frame by its date and sensor, where they are known."""
        dates = meta.get('dates') or [f'frame {t}' for t in range(num_frames)]
        sensors = meta.get('sensors') or [''] * num_frames
        return [f'{d}  {s}'.strip() for d, s in zip(dates, sensors, strict=True)]


@HOOKS.register_module()
class HLSVisualizationHook(SampleDrawingHook):
    """Draw frames in false colour, label and prediction of the first samples, side by side.

    The pictures go to the runner's visualizer (by default ``vis_data/vis_image`` in the folder of
    the run) as ``val_{chip_id}_{iteration}.png`` and ``test_{chip_id}_{iteration}.png``. They are
    made of what the model was given, so they show the sample after the transforms.

    MMSegmentation's own hook opens the image file as RGB, which 18 bands are not.

    Args:
        num_samples: Samples to draw in each validation and test run; 0 draws none.
        bands: Names of the bands in the order of the channels of one frame.
        composite: The three bands shown as red, green and blue.

    Raises:
        ConfigError: If the channels do not fit ``bands``, or ``composite`` is not among them.
    """

    def before_test_epoch(self, runner: Runner) -> None:
        """Count from 0 again."""
        self._drawn = 0

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the samples of a validation batch."""
        self._draw(runner, data_batch, outputs, 'val')

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        """Draw the samples of a test batch."""
        self._draw(runner, data_batch, outputs, 'test')

    @master_only
    def _draw(
        self, runner: Runner, data_batch: dict, outputs: Sequence[SegDataSample], phase: str
    ) -> None:
        inputs = data_batch['inputs']
        if isinstance(inputs[0], (list, tuple)):
            inputs = inputs[0]  # test-time augmentation: its first view is the image as it is
        for chip, sample in zip(inputs, outputs, strict=True):
            if self._drawn >= self.num_samples:
                return
            self._drawn += 1
            chip_id = sample.metainfo.get('chip_id', f'sample{self._drawn}')
            panel = self._panel(chip, sample, chip_id, runner.visualizer.dataset_meta)
            # Not runner.iter: outside training that builds the training loop, and on rank 0 alone.
            done = runner.message_hub.get_info('iter', -1) + 1
            runner.visualizer.add_image(f'{phase}_{chip_id}', panel, done)

    def _panel(
        self, chip: torch.Tensor, sample: SegDataSample, chip_id: str, meta: dict
    ) -> np.ndarray:
        if chip.shape[0] % len(self.bands):
            raise ConfigError(
                f'{chip.shape[0]} channels are no multiple of the {len(self.bands)} bands '
                f'{list(self.bands)}; set bands of HLSVisualizationHook as in LoadHLSChip.'
            )
        num_frames = chip.shape[0] // len(self.bands)
        maps = {}
        if 'gt_sem_seg' in sample:
            maps['label'] = sample.gt_sem_seg.data[0].cpu().numpy()
        maps['prediction'] = sample.pred_sem_seg.data[0].cpu().numpy()
        return draw_panel(
            chip.cpu().numpy(),
            maps,
            meta['classes'],
            meta['palette'],
            frame_titles=self.frame_titles(sample.metainfo, num_frames),
            bands=self.bands,
            composite=self.composite,
            title=chip_id,
        )
