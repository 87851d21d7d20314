"""Which chips a study uses, written down: JSON that every model reads, so that all see the same."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import ChipIndexError, OutputWriteError
from .files import write_bytes
from .index import INDEX_NAME, index_metadata, read_index
from .subsets import nested_subset

#: Raised when a field changes its meaning.
FORMAT_VERSION = 1
#: Folder of the manifests inside a chip folder.
SUBSET_FOLDER = 'subsets'


def read_chip_table(
    root: str | os.PathLike[str], split: str | None
) -> tuple[list[str], np.ndarray, list[str], list[str]]:
    """Read from the index what balancing needs.

    Args:
        root: The chip folder.
        split: ``train``, ``val``, ``test``, or ``None`` for all.

    Returns:
        Chip ids ``(N,)``, labelled pixels ``(N, K)`` int64, tile of each chip, names of the
        classes.

    Raises:
        DataNotFoundError: If there is no chip folder or index.
        ChipIndexError: If the index is unreadable or has no chip of the split.
    """
    table = read_index(root, split=split, columns=('chip_id', 'class_pixels', 'tile'))
    classes = list(index_metadata(table)['classes'])
    pixels = table['class_pixels'].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return (
        table['chip_id'].to_pylist(),
        pixels.astype(np.int64).reshape(len(table), len(classes)),
        table['tile'].to_pylist(),
        classes,
    )


def write_manifest(
    path: str | os.PathLike[str],
    root: str | os.PathLike[str],
    *,
    indices: np.ndarray,
    chip_ids: Sequence[str],
    class_pixels: np.ndarray,
    classes: Sequence[str],
    split: str | None,
    **origin: object,
) -> dict[str, object]:
    """Write which chips were chosen, how, and what they hold.

    Args:
        path: The JSON file.
        root: The chip folder.
        indices: Chosen rows.
        chip_ids: Ids of all chips that could be chosen.
        class_pixels: Their ``(N, K)`` labelled pixels.
        classes: Names of the classes.
        split: Split that the chips are of.
        **origin: How they were chosen (``fraction``, ``seed``, ...).

    Returns:
        What was written.

    Raises:
        OutputWriteError: If the disk does not take it.
    """
    chosen = class_pixels[indices].sum(axis=0)
    manifest = dict(
        format_version=FORMAT_VERSION,
        split=split,
        **origin,
        count=len(indices),
        of=len(chip_ids),
        shares=_shares(classes, chosen),
        shares_of_all=_shares(classes, class_pixels.sum(axis=0)),
        index_sha256=index_hash(root),
        chip_ids=[chip_ids[i] for i in indices],
    )
    write_bytes(path, (json.dumps(manifest, indent=1) + '\n').encode())
    return manifest


def load_or_make_subset(
    root: str | os.PathLike[str], fraction: float, seed: int, split: str = 'train'
) -> list[str]:
    """Return the chips of a label-efficiency subset, writing its manifest the first time.

    The manifest is ``{root}/subsets/{split}_{fraction}_seed{seed}.json``. If the folder cannot be
    written to, the chips are the same all the same; a warning is logged.

    Args:
        root: The chip folder.
        fraction: Share of the chips of the split, above 0, at most 1.
        seed: 0 or more.
        split: Validation and test chips never shrink in a study; this is ``train``.

    Returns:
        Chip ids in the order of the index.

    Raises:
        ChipIndexError: If a manifest is there, but was made for another index.
        ConfigError: If ``fraction`` or ``seed`` is out of range.
    """
    path = Path(root) / SUBSET_FOLDER / f'{split}_{fraction:g}_seed{seed}.json'
    if path.is_file():
        return _read(path, root)
    chip_ids, pixels, _, classes = read_chip_table(root, split)
    indices = nested_subset(pixels, fraction, seed)
    try:
        write_manifest(
            path,
            root,
            indices=indices,
            chip_ids=chip_ids,
            class_pixels=pixels,
            classes=classes,
            split=split,
            fraction=fraction,
            seed=seed,
        )
    except OutputWriteError as error:
        logging.getLogger(__name__).warning('The subset is not written down: %s', error)
    return [chip_ids[i] for i in indices]


def index_hash(root: str | os.PathLike[str]) -> str:
    """SHA-256 of the index file of a chip folder."""
    return hashlib.sha256((Path(root) / INDEX_NAME).read_bytes()).hexdigest()


def _read(path: Path, root: str | os.PathLike[str]) -> list[str]:
    try:
        manifest = json.loads(path.read_text())
        made_for, chip_ids = manifest['index_sha256'], manifest['chip_ids']
    except (KeyError, TypeError, ValueError) as error:
        raise ChipIndexError(
            f'{path} is no subset manifest ({error}); delete it to have it made again.'
        ) from error
    if made_for != index_hash(root):
        raise ChipIndexError(
            f'{path} was made for another {INDEX_NAME} than the one there now; delete it to have '
            'it made again, and do not compare with results of before.'
        )
    return chip_ids


def _shares(classes: Sequence[str], pixels: np.ndarray) -> dict[str, float]:
    total = max(int(pixels.sum()), 1)
    return {name: round(int(n) / total, 6) for name, n in zip(classes, pixels, strict=True)}
