"""Errors that finish the user's sentence: which file, what is wrong, what to do.

Every error the user can mend is a :class:`GeosegError` and also the builtin it refines, so
``except FileNotFoundError`` keeps working. Messages are one line. Command-line tools wrap their
``main`` in :func:`report_errors`, which prints that line and exits with code 2.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable


class GeosegError(Exception):
    """Base of all errors caused by the input, the configuration or the machine."""


class DataNotFoundError(GeosegError, FileNotFoundError):
    """A folder or file of the user's data is not there."""


class GranuleError(GeosegError, ValueError):
    """An HLS granule is incomplete, corrupt or does not fit its neighbours."""


class SceneError(GeosegError, ValueError):
    """A scene to predict is unreadable, incomplete or does not suit the model."""


class LabelError(GeosegError, ValueError):
    """A label map cannot serve: no overlap, unknown code, unknown year."""


class ChipError(GeosegError, ValueError):
    """A chip file breaks the chip contract (bands, size, data type, truncated)."""


class LayoutError(ChipError):
    """The order of frames and bands is not stated, or not the one asked for."""


class ChipIndexError(GeosegError, ValueError):
    """``chips.parquet`` is unreadable or lacks what was asked of it."""


class ConfigError(GeosegError, ValueError):
    """A configuration value is outside its legal set."""


class ResultsError(GeosegError, ValueError):
    """A table of results is damaged or lacks what was asked of it."""


class WeightsNotFoundError(GeosegError, FileNotFoundError):
    """Pre-trained weights can be found neither locally nor on the hub."""


class CheckpointMismatchError(GeosegError, ValueError):
    """A checkpoint does not fit the model it is loaded into."""


class UnsafeCheckpointError(GeosegError, ValueError):
    """A checkpoint holds objects other than tensors and plain data."""


class OutputExistsError(GeosegError, FileExistsError):
    """The output is there already and ``--overwrite`` was not given."""


class OutputWriteError(GeosegError, OSError):
    """The output could not be written (disk full, no permission)."""


class DownloadError(GeosegError, OSError):
    """A file of a server did not arrive whole, or a catalogue did not answer as it should."""


class NetworkError(GeosegError, ConnectionError):
    """A server cannot be reached."""


class WrongCredentialsError(GeosegError, PermissionError):
    """A server refuses the user's login."""


class ExtraNotInstalledError(GeosegError, ImportError):
    """A library of an optional extra is not installed."""


class StackNotFoundError(GeosegError, ImportError):
    """Neither of the two MMSegmentation stacks is installed."""


def sentence(error: BaseException) -> str:
    """Return the one line of ``error`` that is meant for the user.

    A data-loader worker wraps an error in its whole traceback; the last line of that is the
    original message behind the name of its class.
    """
    text = str(error).strip() or type(error).__name__
    if text.startswith('Caught '):
        text = text.splitlines()[-1].partition(': ')[2] or text
    return text


def report_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Make a tool's ``main`` end with one clear line and exit code 2 on a :class:`GeosegError`.

    ``GEOSEG_TRACEBACK=1`` in the environment shows the full traceback instead.
    """

    @functools.wraps(main)
    def wrapper(*args: object, **kwargs: object) -> None:
        try:
            main(*args, **kwargs)
        except GeosegError as error:
            if os.environ.get('GEOSEG_TRACEBACK') == '1':
                raise
            print(f'error: {sentence(error)}', file=sys.stderr)
            sys.exit(2)

    return wrapper
