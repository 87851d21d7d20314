"""Pictures of what a masked autoencoder fills in while it is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.dist import master_only
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ..visualization.reconstruction import draw_reconstruction
from .visualization_hook import SampleDrawingHook


@HOOKS.register_module()
class MAEVisualizationHook(SampleDrawingHook):
    """Draw the first validation chips of :class:`PrithviMAE`: original, masked, reconstructed.

    The pictures go to the runner's visualizer (by default ``vis_data/vis_image`` in the folder of
    the run) as ``val_{chip_id}_{iteration}.png``. The same patches are hidden each time, so that
    one can leaf through the iterations.

    Args:
        num_samples: Chips to draw in each validation; 0 draws none.
        bands: Names of the bands in the order of the channels of one frame.
        composite: The three bands shown as red, green and blue.

    Raises:
        ConfigError: If ``composite`` is not among ``bands``.
    """

    @master_only
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[Mapping[str, Tensor]] | None = None,
    ) -> None:
        """Draw the chips of a validation batch."""
        for sample, result in zip(data_batch['data_samples'], outputs, strict=True):
            if self._drawn >= self.num_samples:
                return
            self._drawn += 1
            meta = sample.metainfo
            chip_id = meta.get('chip_id', f'sample{self._drawn}')
            original, reconstructed, hidden = (
                result[key].float().cpu().numpy() for key in ('original', 'reconstructed', 'mask')
            )
            picture = draw_reconstruction(
                original,
                reconstructed,
                hidden,
                frame_titles=self.frame_titles(meta, original.shape[1]),
                bands=self.bands,
                composite=self.composite,
                title=chip_id,
            )
            done = runner.message_hub.get_info('iter', -1) + 1
            runner.visualizer.add_image(f'val_{chip_id}', picture, done)
