"""What has been done of a study: a note in the folder of each run, under a key of all that matters.

A run is finished when its folder holds ``run.json`` with the key of what would be run now. The key
is made of the config, the training chips, the index of the data, the weights to start from and the
code; so a changed config cannot pass for a finished one, and a commit that only touches comments or
documents repeats nothing. A failed run leaves ``failed.json``. Both files appear whole or not at
all. One ``run`` works in a study's folder at a time: it holds a lock that its processes inherit.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

import geoseg_prithvi

from ..data.files import write_bytes
from ..data.index import INDEX_NAME
from ..errors import ConfigError
from ..inference.segmentor import file_sha256
from .runs import Run, data_roots

DONE, FAILED = 'run.json', 'failed.json'
STARTED = 'started.json'
LOCK = 'study.lock'
#: What of the package decides over a result; reports and downloads may change freely.
CODE = (
    'compat.py',
    'hls.py',
    'layout.py',
    'lulc.py',
    'datasets',
    'engine',
    'evaluation',
    'models',
    'data/balance.py',
    'data/chip_io.py',
    'data/class_mix.py',
    'data/class_weights.py',
    'data/draws.py',
    'data/index.py',
    'data/subset_manifest.py',
    'data/subsets.py',
)
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: How the parts of a key are called in messages.
PARTS = {
    'config': 'the config',
    'chips': 'the training chips',
    'data': 'the chip index',
    'weights': 'the weights it starts from',
    'code': 'the code of the package',
}
#: Seconds that processes of a killed study get to notice; torch's loader workers look every 5.
_ORPHANS = 15.0


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a run stands.

    Attributes:
        state: ``done``, ``stale`` (finished, but would be another run now), ``failed``,
            ``running`` or ``missing``.
        key: Its key now; ``None`` if the pre-training that it starts from is not there.
        note: What the run left; ``None`` if there is nothing.
        changed: What makes it stale, in words.
    """

    state: str
    key: dict[str, str] | None
    note: dict[str, Any] | None = None
    changed: list[str] = dataclasses.field(default_factory=list)


class Ledger:
    """Reads and judges the notes of a study's runs.

    Args:
        work_dir: The folder of the study.
        runs: All runs of the study.

    Attributes:
        code: Digest of the package's code when the ledger was opened.
    """

    def __init__(self, work_dir: Path, runs: Sequence[Run]) -> None:
        self.work_dir = work_dir
        self.code = code_hash()
        self._by_name = {run.name: run for run in runs}

    def folder(self, run: Run) -> Path:
        """The folder of a run."""
        return self.work_dir / run.name

    def final_config(self, run: Run) -> Config | None:
        """The config with the checkpoint it starts from; ``None`` if that is not there yet."""
        if run.init is None:
            return run.config
        checkpoint = self.checkpoint(run.init)
        if checkpoint is None:
            return None
        config = copy.deepcopy(run.config)
        config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(checkpoint))
        return config

    def checkpoint(self, name: str) -> Path | None:
        """The checkpoint of a pre-training; ``None`` if it is not finished, or stale."""
        entry = self.look(self._by_name[name])
        if entry.state != 'done':
            return None
        return self.work_dir / name / entry.note['checkpoint']

    def look(self, run: Run, running: bool = False) -> Entry:
        """Judge what stands in the folder of a run.

        Args:
            run: The run.
            running: Whether the study is being run.
        """
        key, folder = self.key(run), self.folder(run)
        done, failed = read_note(folder / DONE), read_note(folder / FAILED)
        if done is not None and done['key'] == key:
            return Entry('done', key, done)
        if done is not None:
            old = done['key']
            changed = [text for part, text in PARTS.items() if not key or old[part] != key[part]]
            return Entry('stale', key, done, changed if key else [PARTS['weights']])
        if failed is not None and (failed['key'] == key or key is None):
            return Entry('failed', key, failed)
        if failed is None and running and (folder / STARTED).is_file():
            return Entry('running', key)
        return Entry('missing', key)

    def key(self, run: Run) -> dict[str, str] | None:
        """What a run depends on, by :data:`PARTS`; ``None`` if its pre-training is not there."""
        config = self.final_config(run)
        if config is None:
            return None
        document = config.to_dict()
        neutral, weights = _neutral(document)
        indices = [Path(root) / INDEX_NAME for root in data_roots(document)]
        return dict(
            config=_digest(neutral),
            chips=_digest(run.chip_ids),
            data=_digest([_content(path) for path in indices if path.is_file()]),
            weights=_digest(weights),
            code=self.code,
        )

    def started(self, name: str) -> float:
        """Unix time at which a run began; now, if it has not."""
        return (read_note(self.work_dir / name / STARTED) or {}).get('time', time.time())

    def owner(self) -> dict[str, Any] | None:
        """Process and slots of the ``run`` at work in the folder; ``None`` if there is none."""
        path = self.work_dir / LOCK
        if not path.is_file():
            return None
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return read_note(path) or {}
        return None

    @contextlib.contextmanager
    def lock(self, jobs: int) -> Iterator[int]:
        """Hold the folder; gives the file descriptor that processes of the study shall inherit.

        Raises:
            ConfigError: If another ``run`` is at work in it.
        """
        self.work_dir.mkdir(parents=True, exist_ok=True)
        path = self.work_dir / LOCK
        with path.open('a+') as file:
            _wait_for(file, path)
            file.truncate(0)
            file.write(json.dumps(dict(pid=os.getpid(), jobs=jobs)))
            file.flush()
            yield file.fileno()


def _wait_for(file: Any, path: Path) -> None:
    deadline = time.monotonic() + _ORPHANS
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = (read_note(path) or {}).get('pid', 0)
            # The owner is dead, but not yet all of its processes.
            if _alive(owner) or time.monotonic() > deadline:
                raise ConfigError(
                    f'Another run of this study is at work in {path.parent} (process {owner}); '
                    'wait for it, or give another --work-dir.'
                ) from None
        time.sleep(0.2)


def _alive(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_note(path: Path) -> dict[str, Any] | None:
    """Read a JSON note; ``None`` if it is not there or no note."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def write_note(path: Path, note: dict[str, Any]) -> None:
    """Write a JSON note; it appears whole or not at all.

    Raises:
        OutputWriteError: If the disk does not take it.
    """
    write_bytes(path, (json.dumps(note, indent=1) + '\n').encode())


def code_hash() -> str:
    """Digest of the package's code that decides over results, without comments and docstrings."""
    root = Path(geoseg_prithvi.__file__).parent
    files = [
        path
        for part in CODE
        for path in ([root / part] if part.endswith('.py') else sorted((root / part).rglob('*.py')))
    ]
    return _digest([(path.relative_to(root).as_posix(), _bare_code(path)) for path in files])


def _bare_code(path: Path) -> str:
    return _digest_code(path, path.stat().st_mtime_ns)


@functools.cache
def _digest_code(path: Path, modified: int) -> str:
    """Digest of a module as it is now: a study may go on while somebody edits the package."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return _digest(ast.unparse(tree))


def _neutral(document: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A config without the paths that may change while it stays the same, and its local weights.

    Data folders count by their index, local checkpoints by their content, work dirs not at all.
    """
    weights = []

    def walk(item: Any) -> Any:
        if isinstance(item, dict):
            return {
                key: walk(value)
                for key, value in item.items()
                if key not in ('work_dir', 'data_root')
            }
        if isinstance(item, list | tuple):
            return [walk(value) for value in item]
        if isinstance(item, str) and item.endswith(('.pth', '.pt', '.safetensors')):
            path = Path(item)
            if path.is_file():
                weights.append(_content(path))
                return 'local weights'
        return item

    return walk(document), weights


def _content(path: Path) -> str:
    """SHA-256 of a file."""
    stat = path.stat()
    return _hash_once(path, stat.st_mtime_ns, stat.st_size)


@functools.cache
def _hash_once(path: Path, modified: int, size: int) -> str:
    """Read a file once, as long as its modification time and size stay the same."""
    return file_sha256(path)


def _digest(document: Any) -> str:
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
