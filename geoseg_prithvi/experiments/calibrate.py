"""Fit a temperature on the validation chips, and store it with the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn

from ..compat import load_checkpoint_file
from ..data.files import atomic_path
from ..errors import ConfigError, OutputExistsError
from ..evaluation.calibration import (
    HIGHEST,
    LOWEST,
    confidence_bins,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    plot_reliability,
)
from ..inference.segmentor import build_segmentor
from ..models.published import SUFFIX, read_published, write_published

#: Pixels that are used at most, evenly from all chips. One number is fitted: more change nothing.
MAX_PIXELS = 1_000_000
_SEED = 0


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A temperature, and what it changes on the pixels that it was fitted on.

    Attributes:
        temperature: Divides the logits.
        pixels: Labelled pixels.
        ece: Expected calibration error before and after, shares.
        nll: Negative log-likelihood before and after, nats.
    """

    temperature: float
    pixels: int
    ece: tuple[float, float]
    nll: tuple[float, float]

    @property
    def at_the_limit(self) -> bool:
        """Whether the best temperature may lie beyond those that are searched."""
        return self.temperature in (LOWEST, HIGHEST)


def calibrate(
    cfg: Config,
    checkpoint: Path,
    out: Path,
    *,
    device: str = 'cpu',
    overwrite: bool = False,
) -> Calibration:
    """Fit the temperature of a model and write the model with it.

    Beside ``out`` goes a reliability plot of before and after, ``.png``.

    Args:
        cfg: The config, with ``val_dataloader``.
        checkpoint: A local checkpoint, or a published model.
        out: The new checkpoint; a copy of the old one but for ``temperature`` in its ``meta``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        overwrite: Replace an existing file.

    Raises:
        OutputExistsError: If the output is there already.
        ConfigError: If there are no validation chips in the config, or ``out`` is of another kind.
        LabelError: If no validation pixel has a label.
        CheckpointMismatchError: If the checkpoint does not fit the config.
    """
    if out.exists() and not overwrite:
        raise OutputExistsError(
            f'{out} exists already; choose another name, or replace it with --overwrite.'
        )
    if (out.suffix == SUFFIX) != (checkpoint.suffix == SUFFIX):
        raise ConfigError(
            f'{out} must end like {checkpoint.name}; tools/publish_model.py changes the format '
            'and keeps the temperature.'
        )
    if cfg.get('val_dataloader') is None:
        raise ConfigError('The config has no val_dataloader; a temperature needs validation chips.')
    model = build_segmentor(cfg, device=device, checkpoint=checkpoint).model
    logits, label = collect_logits(model, cfg.val_dataloader)
    temperature = fit_temperature(logits, label)
    scaled = (logits, logits / temperature)
    bins = [confidence_bins(values.T, label, model.decode_head.ignore_index) for values in scaled]
    before, after = (expected_calibration_error(some) for some in bins)
    _save(checkpoint, out, temperature)
    plot_reliability(
        {'as trained': bins[0], f'temperature {temperature:.3g}': bins[1]},
        out.with_suffix('.png'),
        title='Reliability (validation)',
    )
    likelihoods = tuple(negative_log_likelihood(values, label) for values in scaled)
    return Calibration(temperature, len(label), (before, after), likelihoods)


def collect_logits(
    model: nn.Module, loader_cfg: Mapping, max_pixels: int = MAX_PIXELS
) -> tuple[Tensor, Tensor]:
    """Run a model over chips and keep the logits of labelled pixels.

    Args:
        model: A segmentor, in evaluation mode.
        loader_cfg: The config of the data loader.
        max_pixels: As many at most, drawn with a fixed seed.

    Returns:
        ``(N, K)`` logits and ``(N,)`` classes, on the CPU.
    """
    loader = Runner.build_dataloader(dict(loader_cfg), seed=_SEED)
    most = max(1, max_pixels // len(loader.dataset))
    generator = torch.Generator().manual_seed(_SEED)
    logits, labels = [], []
    for batch in loader:
        with torch.inference_mode():
            results = model.test_step(batch)
        for result in results:
            label = result.gt_sem_seg.data.flatten().cpu()
            counted = torch.nonzero(label != model.decode_head.ignore_index)[:, 0]
            if len(counted) > most:
                counted = counted[torch.randperm(len(counted), generator=generator)[:most]]
            values = result.seg_logits.data.float().flatten(1).cpu()
            if len(values) < 2:
                raise ConfigError(
                    'A temperature wants a channel for each class, but the decode head has a '
                    'single one; set out_channels=num_classes there.'
                )
            logits.append(values[:, counted].T)
            labels.append(label[counted])
    return torch.cat(logits), torch.cat(labels)


def _save(checkpoint: Path, out: Path, temperature: float) -> None:
    if out.suffix == SUFFIX:
        cfg, state, meta = read_published(checkpoint)
        write_published(out, cfg, state, {**meta, 'temperature': temperature})
        return
    saved = load_checkpoint_file(checkpoint)
    if 'state_dict' not in saved:
        saved = dict(state_dict=saved)
    saved['meta'] = {**(saved.get('meta') or {}), 'temperature': temperature}
    with atomic_path(out) as partial:
        torch.save(saved, partial)
