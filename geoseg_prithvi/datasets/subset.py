"""Which chips of the training split are used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.balance import nested_subset
from ..errors import ChipIndexError, ConfigError, DataNotFoundError


def select_chips(
    chip_ids: Sequence[str], class_pixels: np.ndarray, subset: Mapping[str, Any] | str
) -> np.ndarray:
    """Find the rows of a subset.

    Args:
        chip_ids: Ids of the N chips to choose from.
        class_pixels: ``(N, K)`` labelled pixels of each class.
        subset: ``dict(fraction=, seed=)``, or the path of a text file with one chip id a line or
            a JSON manifest with a list ``chip_ids``.

    Returns:
        Sorted positions in ``chip_ids``.

    Raises:
        ConfigError: If ``subset`` is none of these.
        DataNotFoundError: If the file is not there.
        ChipIndexError: If the file names a chip that is not among ``chip_ids``, or none.
    """
    if isinstance(subset, Mapping):
        if set(subset) != {'fraction', 'seed'}:
            raise ConfigError(
                f'subset={dict(subset)} is not understood; write dict(fraction=0.125, seed=0) or '
                'the path of a file with chip ids.'
            )
        return nested_subset(class_pixels, subset['fraction'], subset['seed'])
    position = {chip_id: i for i, chip_id in enumerate(chip_ids)}
    wanted = _read_ids(Path(subset))
    unknown = [chip_id for chip_id in wanted if chip_id not in position]
    if unknown:
        raise ChipIndexError(
            f'{subset} names {len(unknown)} chip(s) that the training split does not hold, such '
            f'as {unknown[0]}; it was made for other chips.'
        )
    if not wanted:
        raise ChipIndexError(f'{subset} names no chip.')
    return np.unique([position[chip_id] for chip_id in wanted])


def _read_ids(path: Path) -> list[str]:
    if not path.is_file():
        raise DataNotFoundError(f'There is no subset file {path}; check subset= in the config.')
    text = path.read_text()
    if path.suffix != '.json':
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return json.loads(text)['chip_ids']
    except (KeyError, TypeError, ValueError):
        raise ChipIndexError(
            f'{path} is no manifest: a JSON object with a list "chip_ids" is expected.'
        ) from None
