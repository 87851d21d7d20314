"""Files appear whole or not at all: written under another name in the same folder, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import OutputWriteError

#: Prefix of unfinished files; what bears it after a crash is rubbish.
PARTIAL_PREFIX = '.partial-'


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``, renamed to ``path`` when the block ends well.

    Args:
        path: The file to appear; its folder is made if need be.

    Raises:
        OutputWriteError: If the disk is full, the folder not writable, or the like.
    """
    path = Path(path)
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=PARTIAL_PREFIX, suffix=f'-{path.name}', dir=path.parent
        )
        os.close(handle)
        partial = Path(name)
        yield partial
        # mkstemp makes files that only the owner may read.
        partial.chmod(0o666 & ~_UMASK)
        partial.replace(path)
    except OSError as error:
        raise OutputWriteError(
            f'{path} could not be written ({error.strerror or error}); check free space and '
            'permissions.'
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a whole file atomically.

    Raises:
        OutputWriteError: If the disk is full, the folder not writable, or the like.
    """
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def remove_partial(folder: str | os.PathLike[str]) -> None:
    """Delete what a killed run left unfinished in ``folder`` (not below it)."""
    for leftover in Path(folder).glob(f'{PARTIAL_PREFIX}*'):
        leftover.unlink(missing_ok=True)


def _read_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


# The umask can only be read by setting it, which other threads would notice: read it once.
_UMASK = _read_umask()
