"""One safetensors file that holds a trained model and all that is needed to use it.

The header carries the config (a Python literal, which is read and never run) and ``meta``: what
``tools/publish_model.py`` knows of the classes, the normalisation, the scores and the data.
"""

from __future__ import annotations

import ast
import json
import os
import pprint
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..compat import load_checkpoint_file
from ..errors import CheckpointMismatchError, ConfigError, UnsafeCheckpointError
from ..version import __version__
from .hub import fetch_checkpoint

SUFFIX = '.safetensors'
#: Entries of a config that belong to the run and the machine it came from.
_OF_THE_RUN = ('work_dir', 'load_from', 'resume', 'launcher', 'custom_imports')


def is_published(path: str | os.PathLike[str]) -> bool:
    """Say whether a path or ``hf://`` URL names a file that :func:`read_published` may read."""
    name = str(path)
    if name.startswith('hf:'):
        name = name.partition('@')[0]
    return name.endswith(SUFFIX)


def write_published(
    path: str | os.PathLike[str],
    cfg: Config,
    state: Mapping[str, Tensor],
    meta: Mapping[str, Any],
) -> None:
    """Write a model as one file, atomically.

    Args:
        path: The file, ``.safetensors``.
        cfg: The config of the model and its data.
        state: The state dict.
        meta: ``dataset_meta`` (``classes``, ``palette``) and whatever else a user should know;
            plain data.

    Raises:
        ConfigError: If the name has another ending, or the config holds more than plain data.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ConfigError(f'{path} must end in {SUFFIX}.')
    plain = {key: value for key, value in cfg.to_dict().items() if key not in _OF_THE_RUN}
    text = pprint.pformat(plain, width=100, sort_dicts=False)
    _check_types(plain, path)
    try:
        same = ast.literal_eval(text) == plain
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise ConfigError(
            f'The config of {path.name} holds more than strings, numbers, lists and dicts, so it '
            'cannot be stored; write classes as type names.'
        )
    header = dict(
        format='pt', geoseg_prithvi=__version__, config=text, meta=json.dumps(meta, indent=1)
    )
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    partial = path.with_name(f'{path.name}.{os.getpid()}.part')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, partial, metadata=header)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_published(path: str | os.PathLike[str]) -> tuple[Config, dict[str, Tensor], dict]:
    """Read a published model; no code runs, whatever the file holds.

    Args:
        path: The file, or ``hf://owner/repo/file[@revision]``.

    Returns:
        The config, the state dict and ``meta``.

    Raises:
        WeightsNotFoundError: If the file can be found neither locally nor on the hub.
        CheckpointMismatchError: If it is truncated, or safetensors of another kind.
        UnsafeCheckpointError: If its config names classes outside the registries.
    """
    local = fetch_checkpoint(path if isinstance(path, str) else Path(path))
    cfg = read_config(local)
    saved = load_checkpoint_file(local)
    return cfg, saved['state_dict'], saved['meta']


def read_config(path: Path) -> Config:
    """Read the config of a published model, without its weights; see :func:`read_published`."""
    try:
        with safe_open(path, 'pt') as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        reason = str(error).partition('\n')[0]
        raise CheckpointMismatchError(
            f'{path} is no whole checkpoint ({reason}); copy or download it again.'
        ) from error
    try:
        plain = ast.literal_eval(header['config'])
    except (KeyError, ValueError, SyntaxError) as error:
        raise CheckpointMismatchError(
            f'{path} holds weights but no config, so it is no published model; give a config and '
            'the checkpoint, or write the file with tools/publish_model.py.'
        ) from error
    _check_types(plain, path)
    # mmengine's runner writes the config into the work dir under this name.
    return Config(plain, cfg_text=header['config'], filename=str(path.with_suffix('.py')))


def _check_types(item: Any, path: Path) -> None:
    """Refuse ``type='package.name'``: the registries would import and call it, whatever it is."""
    if isinstance(item, Mapping):
        name = item.get('type')
        if isinstance(name, str) and not re.fullmatch(r'\w+', name):
            raise UnsafeCheckpointError(
                f'{path} was not used: its config asks for type={name!r}, which could run code; '
                'only names of registered components may stand there.'
            )
        item = item.values()
    if isinstance(item, str):
        return
    if hasattr(item, '__iter__'):
        for value in item:
            _check_types(value, path)
