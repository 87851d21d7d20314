"""Study files: which models learn from which share of the data, checked before anything runs.

A study file is a Python config of mmengine (``_base_`` works) with these keys:

- ``title``: heading of the report.
- ``iterations``: training iterations of every run, whatever its share of the data.
- ``experiments``: name -> ``dict(config=, label=, init=, cfg_options=)``. ``config`` is a path
  relative to the study file; ``label`` is shown in figures (default: the name); ``init`` names a
  pre-training whose checkpoint starts the backbone; ``cfg_options`` are dotted keys, as on the
  command line.
- ``pretraining`` (optional): name -> ``dict(config=, cfg_options=)``, each trained once, before.
- ``fractions``, ``seeds``: by default 1, 1/2, 1/4, 1/8 and 0 to 4.
- ``validations``: how often a run is validated (default 10), evenly over its iterations.
- ``cfg_options`` (optional): the same for every experiment, applied before its own.
- ``baseline`` (optional): the experiment that others are compared with; by default the first.
- ``work_dir`` (optional): by default ``work_dirs/<name of the study file>``, from the current
  folder, like every work dir.

Names that begin with an underscore are the file's own.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..errors import ConfigError, DataNotFoundError

FRACTIONS = (1.0, 0.5, 0.25, 0.125)
SEEDS = (0, 1, 2, 3, 4)
VALIDATIONS = 10

_KEYS = {
    'title',
    'iterations',
    'experiments',
    'pretraining',
    'fractions',
    'seeds',
    'validations',
    'cfg_options',
    'baseline',
    'work_dir',
}
_EXPERIMENT_KEYS = {'config', 'label', 'init', 'cfg_options'}
_PRETRAINING_KEYS = {'config', 'cfg_options'}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One model of a study.

    Attributes:
        name: Names its folder.
        label: Shown in tables and figures.
        config: The config with all options merged, not yet fitted to the study's iterations.
        init: The pre-training whose checkpoint starts the backbone.
    """

    name: str
    label: str
    config: Config
    init: str | None


@dataclasses.dataclass(frozen=True)
class Study:
    """A study file that makes sense by itself; its data are checked by :mod:`.runs`.

    Attributes:
        path: The study file.
        title: Heading of the report.
        work_dir: Where all runs go.
        iterations: Training iterations of every run.
        validations: Validations of every run.
        fractions: Shares of the training chips, descending.
        seeds: Seeds, ascending.
        pretraining: Configs of what is trained before, by name.
        experiments: The models, in the order of the file.
        baseline: Name of the experiment that others are compared with.
    """

    path: Path
    title: str
    work_dir: Path
    iterations: int
    validations: int
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    pretraining: dict[str, Config]
    experiments: tuple[Experiment, ...]
    baseline: str


def load_study(path: str | os.PathLike[str], work_dir: str | None = None) -> Study:
    """Read a study file and the configs it names.

    Args:
        path: The study file.
        work_dir: In place of the one in the file.

    Raises:
        DataNotFoundError: If the file, or a config it names, does not exist.
        ConfigError: If anything in it is unknown, missing, double or out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFoundError(f'The study file {path} does not exist; see configs/studies/.')
    _refuse_double_keys(path)
    try:
        text = Config.fromfile(path).to_dict()
    except (SyntaxError, TypeError, KeyError, AttributeError, NameError, OSError) as error:
        raise ConfigError(f'{path} cannot be used: {error}.') from error
    found = {key: value for key, value in text.items() if not key.startswith('_')}
    _check_keys(found, _KEYS, {'title', 'iterations', 'experiments'}, str(path))

    iterations = _count(found['iterations'], 'iterations', path)
    validations = _count(found.get('validations', VALIDATIONS), 'validations', path)
    common = _options(found.get('cfg_options', {}), 'cfg_options', path)
    pretraining = {
        name: _read_config(path, entry['config'], [entry.get('cfg_options', {})])
        for name, entry in _entries(found, 'pretraining', _PRETRAINING_KEYS, path)
    }
    experiments = tuple(
        Experiment(
            name=name,
            label=entry.get('label', name),
            config=_read_config(path, entry['config'], [common, entry.get('cfg_options', {})]),
            init=entry.get('init'),
        )
        for name, entry in _entries(found, 'experiments', _EXPERIMENT_KEYS, path)
    )
    if not experiments:
        raise ConfigError(f'{path} names no experiment; add one to experiments=.')
    baseline = found.get('baseline', experiments[0].name)
    _check_names(path, experiments, pretraining, baseline)
    return Study(
        path=path,
        title=found['title'],
        work_dir=Path(work_dir or found.get('work_dir') or f'work_dirs/{path.stem}').absolute(),
        iterations=iterations,
        validations=min(validations, iterations),
        fractions=_fractions(found.get('fractions', FRACTIONS), path),
        seeds=_seeds(found.get('seeds', SEEDS), path),
        pretraining=pretraining,
        experiments=experiments,
        baseline=baseline,
    )


def _refuse_double_keys(path: Path) -> None:
    """Python keeps the last of two equal keys of a dict display and says nothing."""
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError as error:
        raise ConfigError(f'{path} is no Python file: {error}.') from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            names = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            double = next((name for name in names if names.count(name) > 1), None)
            if double is not None:
                raise ConfigError(
                    f'{path} names {double!r} twice in one dict (line {node.lineno}); give each '
                    'its own name.'
                )


def _check_keys(found: Mapping, known: set[str], needed: set[str], where: str) -> None:
    unknown, missing = sorted(found.keys() - known), sorted(needed - found.keys())
    if unknown:
        raise ConfigError(
            f'{where} has the unknown key {unknown[0]!r}; known are {", ".join(sorted(known))}.'
        )
    if missing:
        raise ConfigError(f'{where} lacks the key {missing[0]!r}; add it.')


def _entries(
    found: Mapping, key: str, known: set[str], path: Path
) -> list[tuple[str, dict[str, Any]]]:
    """Check the form of ``experiments`` or ``pretraining``."""
    entries = found.get(key, {})
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise ConfigError(f'{path}: {key} must be name -> dict(config=...).')
    for name, entry in entries.items():
        if not re.fullmatch(r'\w[\w.-]*', name):
            raise ConfigError(
                f'{path}: {name!r} cannot name a folder; use letters, digits, ".", "_" and "-".'
            )
        _check_keys(entry, known, {'config'}, f'{path}: {key}.{name}')
        _options(entry.get('cfg_options', {}), f'{key}.{name}.cfg_options', path)
    return list(entries.items())


def _options(options: Any, where: str, path: Path) -> dict[str, Any]:
    if not isinstance(options, dict):
        raise ConfigError(f"{path}: {where} must be a dict of dotted keys, {{'model.x': 1}}.")
    return options


def _read_config(study: Path, config: str, options: list[dict[str, Any]]) -> Config:
    path = Path(os.path.normpath(study.parent / config))
    if not path.is_file():
        raise DataNotFoundError(f'{study} names the config {config}, but {path} does not exist.')
    try:
        cfg = Config.fromfile(path)
        for some in options:
            cfg.merge_from_dict(some)
    except (SyntaxError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ConfigError(f'{path} cannot be used as {study} asks: {error}.') from error
    return cfg


def _check_names(
    path: Path, experiments: tuple[Experiment, ...], pretraining: Mapping, baseline: str
) -> None:
    labels = [experiment.label for experiment in experiments]
    for experiment in experiments:
        if labels.count(experiment.label) > 1:
            raise ConfigError(
                f'{path} gives two experiments the label {experiment.label!r}; figures could not '
                'tell them apart.'
            )
        if experiment.init is not None and experiment.init not in pretraining:
            raise ConfigError(
                f'{path}: init of {experiment.name} is {experiment.init!r}, which is none of the '
                f'pretraining ({", ".join(pretraining) or "there is none"}).'
            )
    unused = pretraining.keys() - {experiment.init for experiment in experiments}
    if unused:
        raise ConfigError(
            f'{path}: no experiment starts from the pretraining {min(unused)!r}; remove it or name '
            'it as init= of one.'
        )
    names = [experiment.name for experiment in experiments]
    if baseline not in names:
        raise ConfigError(f'{path}: baseline={baseline!r} is none of {", ".join(names)}.')


def _count(value: Any, key: str, path: Path) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f'{path}: {key} must be a whole number of at least 1, but is {value!r}.')
    return value


def _fractions(values: Any, path: Path) -> tuple[float, ...]:
    _check_list(values, 'fractions', path)
    for value in values:
        if type(value) not in (int, float) or not 0 < value <= 1:
            raise ConfigError(
                f'{path}: a fraction must be above 0 and at most 1 (all of the data), but one is '
                f'{value!r}.'
            )
    return tuple(sorted(map(float, values), reverse=True))


def _seeds(values: Any, path: Path) -> tuple[int, ...]:
    _check_list(values, 'seeds', path)
    for value in values:
        if type(value) is not int or value < 0:
            raise ConfigError(
                f'{path}: a seed must be a whole number from 0, but one is {value!r}.'
            )
    return tuple(sorted(values))


def _check_list(values: Any, key: str, path: Path) -> None:
    if not isinstance(values, list | tuple) or not values:
        raise ConfigError(f'{path}: {key} must be a list with at least one number.')
    double = next((value for value in values if values.count(value) > 1), None)
    if double is not None:
        raise ConfigError(f'{path}: {key} has {double!r} twice.')
