"""Which chips of the training split are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.subset_manifest import load_or_make_subset, read_manifest
from ..errors import ChipIndexError, ConfigError, DataNotFoundError


def select_chips(
    root: str | Path, chip_ids: Sequence[str], subset: Mapping[str, Any] | str
) -> np.ndarray:
    """Find the rows of a subset.

    Args:
        root: The chip folder.
        chip_ids: Ids of the N chips to choose from.
        subset: ``dict(fraction=, seed=)``, whose manifest is written on first use and read by every
            model after that; or the path of a manifest (JSON), or of a text file with one chip id
            a line.

    Returns:
        Sorted positions in ``chip_ids``.

    Raises:
        ConfigError: If ``subset`` is none of these.
        DataNotFoundError: If the file is not there.
        ChipIndexError: If the file names a chip that is not among ``chip_ids``, or none, or was
            made for another index.
    """
    position = {chip_id: i for i, chip_id in enumerate(chip_ids)}
    wanted = _read_ids(root, subset)
    unknown = [chip_id for chip_id in wanted if chip_id not in position]
    if unknown:
        raise ChipIndexError(
            f'{subset} names {len(unknown)} chip(s) that the training split does not hold, such '
            f'as {unknown[0]}; it was made for other chips.'
        )
    if not wanted:
        raise ChipIndexError(f'{subset} names no chip.')
    return np.unique([position[chip_id] for chip_id in wanted])


def _read_ids(root: str | Path, subset: Mapping[str, Any] | str) -> list[str]:
    if isinstance(subset, Mapping):
        if set(subset) != {'fraction', 'seed'}:
            raise ConfigError(
                f'subset={dict(subset)} is not understood; write dict(fraction=0.125, seed=0) or '
                'the path of a file with chip ids.'
            )
        return load_or_make_subset(root, subset['fraction'], subset['seed'])
    path = Path(subset)
    if not path.is_file():
        raise DataNotFoundError(f'There is no subset file {path}; check subset= in the config.')
    if path.suffix == '.json':
        return read_manifest(path, root)
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]
