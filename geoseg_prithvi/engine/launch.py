"""What the command-line tools share: the config of a run, with the user's options merged."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..compat import prepare_devices
from ..errors import ConfigError, DataNotFoundError


def load_run_config(
    config: str | Config,
    *,
    work_dir: str | None = None,
    options: dict[str, Any] | None = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and settle its work dir (option, else config, else ``work_dirs/<name>``).

    Args:
        config: Path of the config file, or the config of a published model.
        work_dir: Where logs and checkpoints go.
        options: Dotted keys that replace values of the file.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        A config ready for ``Runner.from_cfg`` on the devices of this machine.

    Raises:
        DataNotFoundError: If there is no such file.
        ConfigError: If the file cannot be read as a config, or an option does not fit it.
    """
    path = Path(config.filename if isinstance(config, Config) else config)
    if not isinstance(config, Config) and not path.is_file():
        raise DataNotFoundError(f'The config {config} does not exist; see configs/ for those here.')
    try:
        cfg = config if isinstance(config, Config) else Config.fromfile(config)
        cfg.merge_from_dict(options or {})
    except (SyntaxError, TypeError, KeyError, AttributeError, OSError) as error:
        raise ConfigError(f'{path} cannot be used: {error}.') from error
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / path.stem)
    prepare_devices(cfg)
    return cfg


def latest_checkpoint(work_dir: str | Path) -> str | None:
    """Find the newest whole training checkpoint of a work dir, ``None`` if there is none.

    mmengine writes neither its checkpoints nor its ``last_checkpoint`` note atomically: a kill in
    that moment leaves a truncated file or an empty note. A checkpoint is a zip archive, whose
    directory comes last, so a truncated one shows.
    """

    def number(path: Path) -> int:
        return int(path.stem.rpartition('_')[2])

    found = [
        path
        for kind in ('iter', 'epoch')
        for path in Path(work_dir).glob(f'{kind}_*.pth')
        if path.stem.rpartition('_')[2].isdecimal()
    ]
    whole = (path for path in sorted(found, key=number, reverse=True) if zipfile.is_zipfile(path))
    newest = next(whole, None)
    return None if newest is None else str(newest)
