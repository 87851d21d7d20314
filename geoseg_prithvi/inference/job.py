"""The unfinished map: parts that one or many processes predict, now or in a later run.

Each part of a scene, once its rows are on disk, leaves a mark. Who comes after a crash, or is
another process, passes over marked parts. The folder's name holds a hash of all that the map
depends on, so that marks of another model or scene are not believed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .rows import RowStore
from .windows import Part
from .writer import MapFiles, writing

#: Seconds between looks for the parts of other processes.
POLL = 0.2


@dataclasses.dataclass(frozen=True)
class Share:
    """Which of several processes this one is.

    Attributes:
        rank: 0 to ``world - 1``.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1


class MapJob:
    """The folder of an unfinished map.

    Args:
        files: Names of the map.
        settings: All that the map depends on, as JSON can hold it.
        parts: The parts of the scene.
        shape: Bands, rows and columns of the rows to store.
    """

    def __init__(
        self,
        files: MapFiles,
        settings: Mapping[str, Any],
        parts: list[Part],
        shape: tuple[int, int, int],
    ) -> None:
        text = json.dumps([settings, shape, [(p.start, p.stop) for p in parts]], sort_keys=True)
        self.files = files
        self.parts = parts
        self.folder = files.unfinished / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.rows = RowStore(self.folder / 'rows.u8', *shape)

    def start(self) -> None:
        """Make the folder.

        Raises:
            OutputWriteError: If that is not possible, or the disk has no room for the rows.
        """
        with writing(self.files.map):
            self.folder.mkdir(parents=True, exist_ok=True)
            needed = self.rows.count * self.rows.height * self.rows.width
            free = shutil.disk_usage(self.folder).free
            if free < needed and not self.rows.path.exists():
                self.discard()
                raise OSError(f'it takes {needed >> 20} MiB and {free >> 20} MiB are free')

    def missing(self, share: Share) -> list[int]:
        """Return the numbers of this process's parts that are not done."""
        mine = range(share.rank, len(self.parts), share.world)
        return [number for number in mine if not self._mark(number).exists()]

    def done(self, number: int) -> None:
        """Mark a part whose rows are written."""
        with writing(self.files.map):
            self.rows.sync()
            self._mark(number).touch()

    def wait(self) -> None:
        """Wait until the parts of all processes are done."""
        while any(not self._mark(number).exists() for number in range(len(self.parts))):
            time.sleep(POLL)

    def discard(self) -> None:
        """Remove the folder, and with it what other settings left."""
        shutil.rmtree(self.files.unfinished, ignore_errors=True)

    def _mark(self, number: int) -> Path:
        return self.folder / f'part-{number:05d}.done'
