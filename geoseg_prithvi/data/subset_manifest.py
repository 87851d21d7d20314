"""Which chips a study uses, written down: JSON that every model reads, so that all see the same."""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class ChipTable:
    """What balancing needs of an index, for the N chips of a split.

    Attributes:
        root: The chip folder.
        split: The split, ``None`` for all chips.
        chip_ids: N ids.
        class_pixels: ``(N, K)`` int64, labelled pixels.
        tiles: MGRS tile of each chip.
        classes: K names.
        index_sha256: Hash of the index file.
    """

    root: Path
    split: str | None
    chip_ids: list[str]
    class_pixels: np.ndarray
    tiles: list[str]
    classes: list[str]
    index_sha256: str


def read_chip_table(root: str | os.PathLike[str], split: str | None) -> ChipTable:
    """Read from the index what balancing needs.

    Raises:
        DataNotFoundError: If there is no chip folder or index.
        ChipIndexError: If the index is unreadable or has no chip of the split.
    """
    table = read_index(root, split=split, columns=('chip_id', 'class_pixels', 'tile'))
    classes = list(index_metadata(table)['classes'])
    pixels = table['class_pixels'].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return ChipTable(
        root=Path(root),
        split=split,
        chip_ids=table['chip_id'].to_pylist(),
        class_pixels=pixels.astype(np.int64).reshape(len(table), len(classes)),
        tiles=table['tile'].to_pylist(),
        classes=classes,
        index_sha256=index_hash(root),
    )


def write_subset(
    path: str | os.PathLike[str], table: ChipTable, indices: np.ndarray, **origin: object
) -> None:
    """Write which chips were chosen: a manifest, and beside it their ids as ``.txt``, one a line.

    Args:
        path: The manifest, ``.json``.
        table: All chips that could be chosen.
        indices: Chosen rows.
        **origin: How they were chosen (``fraction``, ``seed``, ...).

    Raises:
        OutputWriteError: If the disk does not take it.
    """
    path = Path(path)
    chosen = [table.chip_ids[i] for i in indices]
    manifest = dict(
        format_version=FORMAT_VERSION,
        split=table.split,
        **origin,
        count=len(chosen),
        of=len(table.chip_ids),
        shares=_shares(table.classes, table.class_pixels[indices]),
        shares_of_all=_shares(table.classes, table.class_pixels),
        index_sha256=table.index_sha256,
        chip_ids=chosen,
    )
    write_bytes(path.with_suffix('.txt'), ('\n'.join(chosen) + '\n').encode())
    write_bytes(path, (json.dumps(manifest, indent=1) + '\n').encode())


def subset_path(
    root: str | os.PathLike[str], fraction: float, seed: int, split: str | None = 'train'
) -> Path:
    """Where the manifest of a label-efficiency subset is kept."""
    return Path(root) / SUBSET_FOLDER / f'{split or "all"}_{fraction!r}_seed{seed}.json'


def load_or_make_subset(
    root: str | os.PathLike[str], fraction: float, seed: int, split: str = 'train'
) -> list[str]:
    """Return the chips of a label-efficiency subset, writing its manifest the first time.

    If the folder cannot be written to, the chips are the same; a warning is logged.

    Args:
        root: The chip folder.
        fraction: Share of the chips of the split, above 0, at most 1.
        seed: 0 or more.
        split: Validation and test chips never shrink in a study; this is ``train``.

    Returns:
        Chip ids in the order of the index.

    Raises:
        ChipIndexError: If a manifest is there, but is damaged or was made for another index.
        ConfigError: If ``fraction`` or ``seed`` is out of range.
    """
    path = subset_path(root, fraction, seed, split)
    if path.is_file():
        return read_manifest(path, root)
    table = read_chip_table(root, split)
    indices = nested_subset(table.class_pixels, fraction, seed)
    try:
        write_subset(path, table, indices, fraction=fraction, seed=seed)
    except OutputWriteError as error:
        logging.getLogger(__name__).warning('The subset is not written down: %s', error)
    return [table.chip_ids[i] for i in indices]


def read_manifest(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> list[str]:
    """Return the chips of a manifest, having checked that it belongs to the index.

    Raises:
        ChipIndexError: If it is no manifest, or was made for another index.
    """
    try:
        manifest = json.loads(Path(path).read_text())
        made_for, chip_ids = manifest['index_sha256'], manifest['chip_ids']
    except (KeyError, TypeError, ValueError) as error:
        raise ChipIndexError(
            f'{path} is no subset manifest ({error}); write it again with tools/balance_data.py.'
        ) from error
    if made_for != index_hash(root):
        raise ChipIndexError(
            f'{path} was made for another {INDEX_NAME} than that of {root}; delete it to have it '
            'made again, and do not compare with results of before.'
        )
    return chip_ids


def index_hash(root: str | os.PathLike[str]) -> str:
    """SHA-256 of the index file of a chip folder."""
    return hashlib.sha256((Path(root) / INDEX_NAME).read_bytes()).hexdigest()


def _shares(classes: Sequence[str], pixels: np.ndarray) -> dict[str, float]:
    counts = pixels.sum(axis=0)
    total = max(int(counts.sum()), 1)
    return {name: round(int(n) / total, 6) for name, n in zip(classes, counts, strict=True)}
