"""The runs of a study: experiments x fractions x seeds, each with the config it is trained with."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..data.index import read_index
from ..data.subset_manifest import load_or_make_subset, read_chip_table
from ..errors import ConfigError, DataNotFoundError
from .study import Experiment, Study

PHASES = ('train', 'val', 'test')
#: Arguments of a scheduler that count iterations.
_COUNTS = ('begin', 'end', 'T_max', 'total_iters', 'step_size')


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One training, and the test of what came out, in a folder of its own.

    Attributes:
        name: Its folder below the work dir, ``runs/unet/0.125/seed3``.
        config: What it is trained with, but for the checkpoint it starts from.
        init: Name of the pre-training run whose checkpoint starts the backbone.
        chip_ids: The training chips; ``None`` in a pre-training.
        experiment: Name of the experiment; empty in a pre-training.
        label: Label of the experiment.
        fraction: Share of the training chips.
        seed: Seed of the subset, the initial weights, the order and the augmentation.
    """

    name: str
    config: Config
    init: str | None = None
    chip_ids: tuple[str, ...] | None = None
    experiment: str = ''
    label: str = ''
    fraction: float = 1.0
    seed: int = 0

    @property
    def is_pretraining(self) -> bool:
        """Whether others start from it, and it is not tested."""
        return not self.experiment


def expand(study: Study) -> list[Run]:
    """List all runs in the order of running: pre-trainings, then seed by seed.

    The manifests of all subsets are written here, before any run, so that runs side by side read
    the same files.

    Raises:
        DataNotFoundError: If the data of a config are not there.
        ChipIndexError: If their index is unreadable or lacks a split, or a manifest belongs to
            another index.
        ConfigError: If a config cannot serve in a study, a subset would be empty, or the
            experiments do not see the same data.
    """
    for name, config in study.pretraining.items():
        _check_data_folders(config, f'pretraining {name}')
    for experiment in study.experiments:
        _check_experiment(study, experiment)
    _check_same_data(study)

    root = study.experiments[0].config.train_dataloader.dataset.data_root
    everything = tuple(read_chip_table(root, 'train').chip_ids)
    subsets = {
        (fraction, seed): everything
        if fraction == 1
        else tuple(load_or_make_subset(root, fraction, seed))
        for fraction in study.fractions
        for seed in study.seeds
    }
    runs = [
        Run(name=_pretraining_name(name), config=copy.deepcopy(config))
        for name, config in study.pretraining.items()
    ]
    for seed in study.seeds:
        for fraction in study.fractions:
            for experiment in study.experiments:
                runs.append(
                    Run(
                        name=f'runs/{experiment.name}/{fraction!r}/seed{seed}',
                        config=_run_config(study, experiment, fraction, seed),
                        init=experiment.init and _pretraining_name(experiment.init),
                        chip_ids=subsets[fraction, seed],
                        experiment=experiment.name,
                        label=experiment.label,
                        fraction=fraction,
                        seed=seed,
                    )
                )
    return runs


def data_roots(config: Any) -> list[str]:
    """Every ``data_root`` of the loaders of a config, however deep datasets are nested."""
    found = []
    if isinstance(config, dict):
        for key, value in config.items():
            found += [value] if key == 'data_root' and value else data_roots(value)
    elif isinstance(config, list | tuple):
        for value in config:
            found += data_roots(value)
    return found


def _pretraining_name(name: str) -> str:
    return f'pretraining/{name}'


def _run_config(study: Study, experiment: Experiment, fraction: float, seed: int) -> Config:
    """Fit a config to the study: last, so that no option can undo what makes runs comparable."""
    cfg = copy.deepcopy(experiment.config)
    _set_iterations(cfg, study)
    cfg.randomness = dict(seed=seed)
    cfg.train_dataloader.dataset.subset = (
        None if fraction == 1 else dict(fraction=fraction, seed=seed)
    )
    # The checkpoint that is best on validation is the one tested, and the only one kept: an
    # interrupted run starts anew, as mmengine does not save the state of random generators.
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook',
        by_epoch=False,
        interval=-1,
        save_last=False,
        save_best='mIoU',
        rule='greater',
    )
    return cfg


def _set_iterations(cfg: Config, study: Study) -> None:
    """Train for the study's iterations, with the schedule of the config stretched to fit."""
    scale = study.iterations / cfg.train_cfg.max_iters
    cfg.train_cfg.max_iters = study.iterations
    cfg.train_cfg.val_interval = study.iterations // study.validations
    cfg.train_cfg.val_begin = 1
    for scheduler in _schedulers(cfg):
        for key in _COUNTS:
            if scheduler.get(key):  # no warm-up vanishes: a part of no iteration is an error
                scheduler[key] = max(round(scheduler[key] * scale), 1)
        if 'milestones' in scheduler:
            scheduler.milestones = [round(value * scale) for value in scheduler.milestones]


def _schedulers(cfg: Config) -> list[Any]:
    found = cfg.get('param_scheduler') or []
    return [found] if isinstance(found, dict) else list(found)


def _check_experiment(study: Study, experiment: Experiment) -> None:
    cfg, name = experiment.config, f'{study.path}: experiment {experiment.name}'
    if 'max_iters' not in (cfg.get('train_cfg') or {}):
        raise ConfigError(
            f'{name} is not trained by iterations; set train_cfg to an IterBasedTrainLoop.'
        )
    if any(scheduler.get('by_epoch', True) for scheduler in _schedulers(cfg)):
        raise ConfigError(f'{name} has a schedule in epochs; set by_epoch=False there.')
    for phase in PHASES:
        dataset = (cfg.get(f'{phase}_dataloader') or {}).get('dataset') or {}
        if dataset.get('type') != 'HLSSegDataset' or not dataset.get('data_root'):
            raise ConfigError(
                f'{name} has no HLSSegDataset with a data_root as {phase}_dataloader.dataset.'
            )
    _check_data_folders(cfg, name)
    for phase in PHASES:
        dataset = cfg[f'{phase}_dataloader'].dataset
        read_index(dataset.data_root, split=dataset.get('split', 'train'), columns=('chip_id',))
    if cfg.train_dataloader.dataset.get('subset') is not None:
        raise ConfigError(f'{name} sets a subset of its own; the study chooses it, remove it.')
    if experiment.init is not None and cfg.model.get('backbone', {}).get('type') != 'PrithviViT':
        raise ConfigError(
            f'{name} has init={experiment.init!r}, but its backbone is no PrithviViT; remove init.'
        )


def _check_data_folders(cfg: Config, name: str) -> None:
    for root in data_roots({key: cfg.get(key) for key in cfg if key.endswith('_dataloader')}):
        if not Path(root).is_dir():
            raise DataNotFoundError(
                f'There is no data folder {root} ({name}); make it with tools/prepare_data.py, or '
                'set data_root in cfg_options.'
            )


def _check_same_data(study: Study) -> None:
    """All models see the same chips and classes, or their scores could not be compared."""

    def data(experiment: Experiment, phase: str) -> dict[str, Any]:
        dataset = experiment.config[f'{phase}_dataloader'].dataset.to_dict()
        keys = ('data_root', 'split', 'ignore_classes', 'metainfo')
        return {key: dataset[key] for key in keys if key in dataset}

    first = study.experiments[0]
    for experiment in study.experiments[1:]:
        for phase in PHASES:
            if data(experiment, phase) != data(first, phase):
                raise ConfigError(
                    f'{study.path}: {experiment.name} and {first.name} differ in '
                    f'{phase}_dataloader.dataset ({data(experiment, phase)} and '
                    f'{data(first, phase)}); give all experiments the same data.'
                )
