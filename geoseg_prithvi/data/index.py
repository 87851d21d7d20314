"""``chips.parquet``: what is known of each chip, so that nobody needs to open images to find out.

One row a chip. The file is written last and at once, so a row means that its files are whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import ChipIndexError, DataNotFoundError
from ..hls import BANDS, PIXEL_SIZE
from ..lulc import IO_LULC, Legend
from .files import atomic_path

INDEX_NAME = 'chips.parquet'
#: Raised when a column changes its meaning.
FORMAT_VERSION = 1
#: Key of the JSON document among the file's key-value metadata.
METADATA_KEY = b'geoseg'
SPLITS = ('train', 'val', 'test')

SCHEMA = pa.schema(
    [
        ('chip_id', pa.string()),
        ('image', pa.string()),  # relative to the folder of the index, with forward slashes
        ('label', pa.string()),  # null for a chip without label
        ('tile', pa.string()),
        ('epsg', pa.int32()),
        ('minx', pa.float64()),  # metres in `epsg`
        ('miny', pa.float64()),
        ('maxx', pa.float64()),
        ('maxy', pa.float64()),
        ('lon', pa.float64()),  # centre, degrees
        ('lat', pa.float64()),
        ('dates', pa.list_(pa.string())),  # YYYY-MM-DD, one a frame
        ('sensors', pa.list_(pa.string())),
        ('clear_fraction', pa.list_(pa.float64())),  # share of pixels, one a frame
        ('valid_fraction', pa.float64()),  # share of pixels with data in every band and frame
        ('class_pixels', pa.list_(pa.int64())),  # pixels of each class, ignored ones left out
        # mean share of the winning class over the labelled pixels; null without label
        ('purity', pa.float64()),
        ('block', pa.string()),
        ('split', pa.string()),
    ]
)


def write_index(
    root: str | os.PathLike[str],
    rows: Sequence[dict[str, object]],
    *,
    bands: Sequence[str] = BANDS,
    legend: Legend = IO_LULC,
) -> Path:
    """Write the index of a chip folder.

    Args:
        root: The chip folder.
        rows: One dict a chip with the columns of :data:`SCHEMA`, in the order to be kept.
        bands: Canonical bands of each frame.
        legend: The classes of the labels.

    Returns:
        The path of the index.

    Raises:
        ChipIndexError: If there is no row, or a row does not fit the schema.
        OutputWriteError: If the disk does not take it.
    """
    path = Path(root) / INDEX_NAME
    if not rows:
        raise ChipIndexError(f'{path} would hold no chip at all and was not written.')
    metadata = dict(
        format_version=FORMAT_VERSION,
        legend=legend.name,
        classes=legend.names,
        colors=legend.colors,
        codes=legend.codes,
        bands=list(bands),
        num_frames=len(rows[0]['dates']),
        chip_size=round((rows[0]['maxx'] - rows[0]['minx']) / PIXEL_SIZE),
    )
    try:
        columns = {name: [row[name] for row in rows] for name in SCHEMA.names}
        table = pa.table(columns, schema=SCHEMA)
    except KeyError as error:
        raise ChipIndexError(f'{path} was not written: a row lacks the column {error}.') from None
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ChipIndexError(f'{path} was not written: {error}.') from error
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression='zstd')
    return path


def read_index(
    root: str | os.PathLike[str],
    *,
    split: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Read the index of a chip folder.

    Args:
        root: The chip folder.
        split: Keep only this split.
        columns: Keep only these columns; all by default.

    Returns:
        The rows, in the order they were written.

    Raises:
        DataNotFoundError: If there is no folder or no index.
        ChipIndexError: If the index is unreadable, lacks a column, or has no chip of ``split``.
    """
    root = Path(root)
    path = root / INDEX_NAME
    if not root.is_dir():
        raise DataNotFoundError(
            f'There is no data folder {root}; give the folder that tools/prepare_data.py wrote.'
        )
    if not path.is_file():
        raise DataNotFoundError(
            f'There is no {INDEX_NAME} in {root}; run tools/prepare_data.py first.'
        )
    try:
        present = pq.read_schema(path).names
        wanted = list(columns) if columns is not None else SCHEMA.names
        missing = [name for name in {*wanted, *(['split'] if split else [])} if name not in present]
        if missing:
            raise ChipIndexError(
                f'{path} lacks the column(s) {", ".join(sorted(missing))}; write it again with '
                'tools/prepare_data.py.'
            )
        filters = pc.field('split') == split if split else None
        table = pq.read_table(path, columns=wanted, filters=filters)
    except (pa.ArrowException, OSError) as error:
        raise ChipIndexError(
            f'{path} is no readable Parquet file ({str(error).splitlines()[0].rstrip(".")}); write '
            'it again with tools/prepare_data.py.'
        ) from error
    if split and not len(table):
        found = pq.read_table(path, columns=['split'])['split'].value_counts().to_pylist()
        listing = ', '.join(f'{item["values"]} {item["counts"]}' for item in found)
        raise ChipIndexError(
            f'{path} has no chip in the split {split!r} (it has: {listing}); change split= in the '
            'dataset config or prepare the chips with other split ratios.'
        )
    return table


def index_metadata(table: pa.Table) -> dict[str, object]:
    """Return what holds for all chips of an index: legend, bands, frames, chip size.

    Raises:
        ChipIndexError: If the index was not written by this package.
    """
    try:
        return json.loads(table.schema.metadata[METADATA_KEY])
    except (KeyError, TypeError, ValueError) as error:
        raise ChipIndexError(
            f'The {INDEX_NAME} has no geoseg metadata; write it again with tools/prepare_data.py.'
        ) from error
