"""The only place that knows the versions of mmengine, mmcv, mmseg and torch.

Two stacks share the import names ``mmengine``, ``mmcv`` and ``mmseg``: OneDL (maintained) and
OpenMMLab (last releases 2023-25). :func:`prepare_stack` runs once, on ``import geoseg_prithvi``,
and makes either of them load checkpoints safely and import without compiled operators.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import pickle
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from .errors import (
    CheckpointMismatchError,
    ConfigError,
    StackNotFoundError,
    UnsafeCheckpointError,
    WeightsNotFoundError,
)

if TYPE_CHECKING:
    from mmengine.config import Config

STACK = ('mmengine', 'mmcv', 'mmseg')


def prepare_stack() -> None:
    """Check that a stack is there and make it safe.

    Raises:
        StackNotFoundError: If mmengine, mmcv or mmseg cannot be imported.
    """
    missing = [name for name in STACK if importlib.util.find_spec(name) is None]
    if missing:
        raise StackNotFoundError(
            f'geoseg_prithvi needs MMSegmentation, but {", ".join(missing)} cannot be imported; '
            "run: pip install 'geoseg_prithvi[onedl]' (or [openmmlab])."
        )
    if importlib.util.find_spec('mmcv._ext') is None:
        _stand_in_for_compiled_ops()
    warnings.filterwarnings('ignore', message='Fail to import ``MultiScaleDeformableAttention``')
    # OneDL's mmengine answers a refused checkpoint with an unsafe load; this makes torch refuse
    # that too. Whoever set the opposite switch has decided otherwise: torch forbids both at once.
    if 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD' not in os.environ:
        os.environ.setdefault('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    with contextlib.redirect_stdout(io.StringIO()):
        # OneDL's mmseg prints that it does without an optional package of its own.
        import mmseg.datasets  # noqa: F401
    from mmengine.runner.checkpoint import CheckpointLoader

    # The empty prefix is mmengine's loader of local files: load_from, resume and init_cfg use it.
    CheckpointLoader.register_scheme('', load_checkpoint_file, force=True)
    CheckpointLoader.register_scheme(['http://', 'https://'], load_checkpoint_url, force=True)


def _stand_in_for_compiled_ops() -> None:
    """Let ``mmcv.ops`` be imported with ``mmcv-lite``; an operator then fails when it is called."""

    def missing_op(name: str) -> Callable[..., None]:
        if name.startswith('__'):
            raise AttributeError(name)

        def call(*args: object, **kwargs: object) -> None:
            raise RuntimeError(
                f'{name} is a compiled operator of mmcv, but mmcv-lite is installed; '
                'install the full mmcv to use it.'
            )

        return call

    stub = types.ModuleType('mmcv._ext', 'Stand-in: the compiled operators are not installed.')
    stub.__spec__ = importlib.machinery.ModuleSpec('mmcv._ext', loader=None)
    stub.__getattr__ = missing_op  # type: ignore[method-assign]
    sys.modules['mmcv._ext'] = stub


def _history_getattr(owner: type, name: str) -> Callable[..., Any]:
    """Serve the one use that mmengine's checkpoints make of ``getattr``: its own statistics."""
    from mmengine.logging import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise UnsafeCheckpointError(f'it asks for the attribute {name!r} of {owner!r}')


def _safe_globals() -> list[Any]:
    """Return what a training checkpoint holds besides tensors and plain data."""
    from mmengine.logging import HistoryBuffer

    scalar = np.float64(0).__reduce__()[0]
    reconstruct = np.empty(0).__reduce__()[0]
    dtypes = [getattr(np.dtypes, name) for name in dir(np.dtypes) if name.endswith('DType')]
    return [
        HistoryBuffer,
        (_history_getattr, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *dtypes,
        # numpy 1 wrote these under numpy.core, numpy 2 writes numpy._core.
        *((f, f'numpy.{core}.multiarray.scalar') for core in ('core', '_core') for f in [scalar]),
        *(
            (f, f'numpy.{core}.multiarray._reconstruct')
            for core in ('core', '_core')
            for f in [reconstruct]
        ),
    ]


def load_checkpoint_file(
    filename: str | os.PathLike[str],
    map_location: Any = 'cpu',
    *,
    mmap: bool = False,
) -> Any:
    """Load a local checkpoint without running any code that it may carry.

    Args:
        filename: A file of ``torch.save``, or ``.safetensors``.
        map_location: As in :func:`torch.load`.
        mmap: Map the file instead of reading it, so that a large state dict is not held twice.

    Returns:
        What was saved: tensors, plain containers, numbers, numpy arrays, mmengine's log history;
        ``state_dict`` and ``meta`` of a published model.

    Raises:
        WeightsNotFoundError: If there is no such file.
        UnsafeCheckpointError: If the file holds other objects.
        CheckpointMismatchError: If the file is no checkpoint or is truncated.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise WeightsNotFoundError(
            f'The checkpoint {path} does not exist; put the file there, or give the right path in '
            'load_from, resume or init_cfg.'
        )
    try:
        if path.suffix == '.safetensors':
            return _load_safetensors(path, str(map_location or 'cpu'))
        mmap = mmap and zipfile.is_zipfile(path)  # torch before 1.6 wrote another format
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, UnsafeCheckpointError) as error:
        reason = str(error).split('WeightsUnpickler error:')[-1].strip().splitlines()[0]
        raise UnsafeCheckpointError(
            f'{path} was not loaded: it holds more than tensors and plain data ({reason}), and '
            'loading that could run code; use a checkpoint you made yourself, or keep only its '
            'state_dict in a trusted environment.'
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, SafetensorError) as error:
        reason = str(error).partition('\n')[0] or type(error).__name__
        raise CheckpointMismatchError(
            f'{path} is no whole checkpoint ({reason}); copy or download it again, or use an '
            'earlier one.'
        ) from error


def load_checkpoint_url(url: str, map_location: Any = 'cpu') -> Any:
    """Download a checkpoint into torch's cache, once, and load it without running its code.

    Args:
        url: ``http://`` or ``https://``.
        map_location: As in :func:`torch.load`.

    Raises:
        WeightsNotFoundError: If it cannot be downloaded.
        UnsafeCheckpointError: If it holds other objects than tensors and plain data.
        CheckpointMismatchError: If it is no checkpoint.
    """
    path = Path(torch.hub.get_dir()) / 'checkpoints' / Path(urlparse(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise WeightsNotFoundError(
                f'{url} could not be downloaded ({error}); download it by hand and give its path.'
            ) from error
    return load_checkpoint_file(path, map_location)


def _load_safetensors(path: Path, device: str) -> Any:
    state = load_file(path, device=device)
    with safe_open(path, 'pt') as file:
        header = file.metadata() or {}
    # A published model (tools/publish_model.py) tells of its classes as a training checkpoint does.
    return dict(state_dict=state, meta=json.loads(header['meta'])) if 'meta' in header else state


def prepare_devices(cfg: Config) -> None:
    """Make ``cfg`` run on the devices of this machine; does nothing where there is a GPU.

    Without one, mmengine's ``pytorch`` launcher would call CUDA: the gloo group is started here
    instead and the model wrapper told to stay on the CPU.

    Raises:
        ConfigError: For another launcher on a machine without GPU.
    """
    if torch.cuda.is_available() or cfg.get('launcher', 'none') == 'none':
        return
    if cfg.launcher != 'pytorch':
        raise ConfigError(
            f'--launcher {cfg.launcher} needs GPUs and this machine shows none; use '
            'tools/dist_train.sh (--launcher pytorch), which also runs on CPU.'
        )
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    cfg.setdefault(
        'model_wrapper_cfg',
        dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False),
    )
