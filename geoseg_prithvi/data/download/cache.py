"""Answers kept on disk, so that a second run does not ask again."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from ..files import write_bytes

#: Raised when the content of an answer changes its meaning.
VERSION = 1


class QueryCache:
    """A folder of JSON documents.

    Args:
        folder: Made when first written to.
        days: Answers older than this are asked for again; 0 for never to use an old one.
    """

    def __init__(self, folder: Path, days: float) -> None:
        self._folder = folder
        self._seconds = days * 86400

    def _path(self, key: object) -> Path:
        digest = hashlib.sha256(json.dumps([VERSION, key]).encode()).hexdigest()
        return self._folder / f'{digest[:32]}.json'

    def get(self, key: object) -> Any:
        """Return the answer to ``key``, or ``None``."""
        path = self._path(key)
        try:
            if time.time() - path.stat().st_mtime >= self._seconds:
                return None
            return json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def put(self, key: object, answer: Any) -> None:
        """Keep an answer.

        Raises:
            OutputWriteError: If the disk does not take it.
        """
        write_bytes(self._path(key), json.dumps(answer).encode())
