"""From int16 reflectance on the host to a normalised batch on the device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from mmseg.utils import stack_batch
from torch import Tensor

from ..errors import ChipError, ConfigError, DataNotFoundError
from ..hls import FILL, Normalization, normalization
from ..lulc import IGNORE


# In mmengine's own registry: there its BaseModel looks, whatever the default scope is.
@MODELS.register_module()
class HLSDataPreprocessor(BaseDataPreprocessor):
    """Stack chips, move them to the device, normalise them there, and set nodata to 0.

    Chips travel as they are stored (int16) and become float32 on the device. Nodata and padding
    become 0 after the normalisation: the mean of each band.

    Args:
        normalization: ``'v1'``, ``'v2'``, the name of a variant such as ``'v2-300M-TL'``, the path
            of a JSON file ``{"mean": [...], "std": [...]}`` (statistics of your own chips), or
            ``dict(mean=, std=)``; one value a band, in the units of the files.
        num_frames: Frames T; the values are repeated for each.
        nodata: Value of the file that stands for "not observed".
        size: Height and width to which the batch is padded, right and bottom.
        size_divisor: Where ``size`` is not given, pad to a multiple of this: of the patch. In
            testing MMSegmentation cuts the padding off the result.
        seg_pad_val: Label of padded pixels.
        test_cfg: ``size`` or ``size_divisor`` in testing, where they differ.
        non_blocking: Do not wait for the copy to the device (wants pinned memory).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        normalization: str | Mapping[str, Sequence[float]] = 'v1',
        num_frames: int = 3,
        nodata: float = FILL,
        size: tuple[int, int] | None = None,
        size_divisor: int = 16,
        seg_pad_val: int = IGNORE,
        test_cfg: dict | None = None,
        non_blocking: bool = False,
    ) -> None:
        super().__init__(non_blocking)
        values = read_normalization(normalization)
        # Repeated for each frame, broadcast over (N, T*C, H, W).
        for name, numbers in (('mean', values.mean), ('std', values.std)):
            repeated = torch.tensor(numbers, dtype=torch.float32).repeat(num_frames)
            self.register_buffer(name, repeated.view(1, -1, 1, 1), persistent=False)
        self.num_frames = num_frames
        self.nodata = nodata
        self.seg_pad_val = seg_pad_val
        self.train_pad = _padding(size, size_divisor)
        self.test_pad = self.train_pad if test_cfg is None else _padding(**test_cfg)

    # mmengine compiles whole training steps; lists of samples are nothing to trace.
    @torch.compiler.disable
    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Turn what the data loader gives into what the model takes.

        Args:
            data: ``inputs``, chips ``(T*C, H, W)`` of any number type, and ``data_samples`` or
                none.
            training: Whether labels are padded with the images.

        Returns:
            ``inputs`` ``(N, T*C, H, W)`` float32, and ``data_samples``.

        Raises:
            ChipError: If the chips do not have T*C channels.
        """
        data = self.cast_data(data)
        inputs, samples = list(data['inputs']), data.get('data_samples')
        for chip in inputs:
            if len(chip) != self.mean.numel():
                raise ChipError(
                    f'A chip has {len(chip)} channels, but num_frames={self.num_frames} x '
                    f'{self.mean.numel() // self.num_frames} bands = {self.mean.numel()} are '
                    'expected; check num_frames and normalization of the data_preprocessor '
                    'against the dataset.'
                )
        if training:
            batch, padded = stack_batch(
                inputs,
                samples,
                pad_val=self.nodata,
                seg_pad_val=self.seg_pad_val,
                **self.train_pad,
            )
            samples = samples and padded
        else:
            # Labels stay as they are: the result is cut back to them.
            batch, paddings = stack_batch(inputs, pad_val=self.nodata, **self.test_pad)
            for sample, padding in zip(samples or (), paddings, strict=False):
                sample.set_metainfo(padding)
        return dict(inputs=self.normalize(batch), data_samples=samples)

    def normalize(self, batch: Tensor) -> Tensor:
        """Normalise ``(N, T*C, H, W)`` in the units of the files; nodata becomes 0."""
        missing = batch == self.nodata
        return (batch - self.mean).div_(self.std).masked_fill_(missing, 0)


def _padding(
    size: tuple[int, int] | None = None, size_divisor: int | None = None
) -> dict[str, Any]:
    # MMSegmentation's stack_batch takes exactly one of the two.
    return dict(size=size) if size is not None else dict(size_divisor=size_divisor or 1)


def read_normalization(source: str | Mapping[str, Sequence[float]]) -> Normalization:
    """Return the mean and standard deviation that a config asks for.

    Args:
        source: A generation, variant, JSON file or mapping; see :class:`HLSDataPreprocessor`.

    Raises:
        DataNotFoundError: If the JSON file is not there.
        ConfigError: If the values are missing, of unequal number or not positive.
    """
    if isinstance(source, str) and not source.endswith('.json'):
        return normalization(source)
    values: Any = source
    if isinstance(source, str):
        try:
            values = json.loads(Path(source).expanduser().read_text())
        except FileNotFoundError:
            raise DataNotFoundError(
                f'The statistics {source} are not there; write them with tools/prepare_data.py, or '
                "set normalization='v1' or 'v2' in the data_preprocessor."
            ) from None
        except ValueError as error:
            raise ConfigError(f'{source} is no valid JSON ({error}); write it again.') from None
    try:
        mean, std = (tuple(float(v) for v in values[key]) for key in ('mean', 'std'))
    except (KeyError, TypeError, ValueError):
        mean = std = ()
    if not mean or len(mean) != len(std) or min(std) <= 0:
        raise ConfigError(
            f'normalization={source} must give one mean and one positive std a band, as '
            '{"mean": [...], "std": [...]}.'
        )
    return Normalization(mean, std)
