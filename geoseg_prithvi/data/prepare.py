"""From folders of granules and label maps to a chip folder with its index and statistics.

Without label maps the chips are those for self-supervised pre-training.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..errors import ConfigError, GranuleError, LabelError, OutputExistsError
from ..lulc import IO_LULC, Legend
from .cells import cell_offsets, plan_cells
from .chips import ChipOptions, TileTask, cut_tile, finished
from .cluster import running
from .files import remove_partial, write_bytes
from .frames import candidates
from .granules import find_granules, tile_grid
from .index import FORMAT_VERSION, INDEX_NAME, write_index
from .labels import find_labels, labels_over
from .splits import SplitOptions, assign_splits, block_names
from .statistics import STATS_NAME, write_statistics

OPTIONS_NAME = 'prepare.json'


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        rows: The rows of the index.
        skipped: Reason -> cells that gave no chip.
        damaged: Granule left out -> what is wrong with it.
        without_chips: A sentence for each tile and year that gave no chip.
        tasks: Tiles in all, each year of a tile counted.
        resumed: Those that an earlier run had finished.
    """

    rows: list[dict[str, object]]
    skipped: dict[str, int]
    damaged: dict[str, str]
    without_chips: list[str]
    tasks: int
    resumed: int


def prepare(
    granules: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None,
    out: str | os.PathLike[str],
    chips: ChipOptions,
    splits: SplitOptions,
    *,
    years: Sequence[int] | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    strict: bool = False,
    overwrite: bool = False,
    legend: Legend = IO_LULC,
    console: Console | None = None,
) -> Outcome:
    """Cut chips, divide them into splits, and write index and statistics.

    A run that was stopped goes on where it was: a tile whose record and files are there, made with
    the same options from the same files, is not cut again.

    Args:
        granules: Folder of HLS granules, at any depth.
        labels: Folder of annual label maps; ``None`` for chips without labels.
        out: The chip folder.
        chips: What a chip must be like.
        splits: How chips are divided.
        years: Years to use; all that have granules, and labels if wanted, by default.
        workers: Processes on this machine; see :func:`geoseg_prithvi.data.cluster.running`.
        scheduler: Address of a dask scheduler whose workers see the same folders.
        strict: Take a damaged granule for an error instead of leaving it out.
        overwrite: Cut anew if ``out`` holds chips with other options.
        legend: The classes.
        console: Where the progress bar goes; standard error by default.

    Returns:
        What was done.

    Raises:
        GeosegError: If the input is not usable; nothing is in the index then.
    """
    # Absolute, because workers of a scheduler stand in another folder.
    granules, out = Path(granules).absolute(), Path(out).absolute()
    labels = None if labels is None else Path(labels).absolute()
    damaged: dict[str, str] = {}
    tasks, overlapping = plan(
        granules,
        labels,
        out,
        chips,
        splits,
        years=years,
        incomplete=None if strict else damaged,
        legend=legend,
    )
    _claim(out, chips, legend.name if labels else None, overwrite)

    records = {task: finished(task) for task in tasks}
    open_tasks = [task for task, record in records.items() if record is None]
    if open_tasks:
        # Rows of the old index may be about to lose their files.
        (out / INDEX_NAME).unlink(missing_ok=True)
        for task, record in _run(open_tasks, workers, scheduler, console or Console(stderr=True)):
            records[task] = record

    skipped = collections.Counter(dict(overlapping=overlapping))
    for record in records.values():
        skipped.update(record['skipped'])
        damaged.update(record['damaged'])
    rows = [row for record in records.values() for row in record['rows']]
    without_chips = _without_chips(records, chips)
    if not rows:
        raise GranuleError(_why_none(skipped, damaged, without_chips))
    _remove_orphans(out, rows)

    lon, lat = [row['lon'] for row in rows], [row['lat'] for row in rows]
    for row, block in zip(rows, block_names(lon, lat, splits.block_size), strict=True):
        row['block'] = block
    for row, split in zip(rows, assign_splits(rows, splits), strict=True):
        row['split'] = split
    skipped['in the buffer between splits'] = sum(row['split'] is None for row in rows)
    rows = [row for row in rows if row['split'] is not None]
    train = [row for row in rows if row['split'] == 'train']
    class_pixels = np.sum([row['class_pixels'] for row in train], axis=0)
    write_statistics(
        out, [row['sums'] for row in train], class_pixels, legend=legend, bands=chips.bands
    )
    write_index(out, rows, bands=chips.bands, legend=legend)
    return Outcome(
        rows=rows,
        skipped=dict(skipped),
        damaged=dict(sorted(damaged.items())),
        without_chips=without_chips,
        tasks=len(tasks),
        resumed=len(tasks) - len(open_tasks),
    )


def plan(
    granules: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None,
    out: Path,
    chips: ChipOptions,
    splits: SplitOptions,
    *,
    years: Sequence[int] | None = None,
    incomplete: dict[str, str] | None = None,
    legend: Legend = IO_LULC,
) -> tuple[list[TileTask], int]:
    """Check the input and list the work.

    Held-out tiles take precedence on ground that several tiles show, test before val; then tiles
    go by name.

    Args:
        granules: As for :func:`prepare`.
        labels: As for :func:`prepare`.
        out: The chip folder.
        chips: What a chip must be like.
        splits: How chips are divided.
        years: Years to use; all that have both labels and granules by default.
        incomplete: Takes granules that lack a band, with what they lack. Without it, that and any
            other damage is an error.
        legend: The classes.

    Returns:
        The tasks, ordered by tile and year, and the number of cells left out because an
        earlier tile has their ground.

    Raises:
        GeosegError: If the input is not usable.
    """
    tiles = find_granules(granules, chips.bands, incomplete)
    maps = [] if labels is None else find_labels(labels)
    for tile in (*splits.val_tiles, *splits.test_tiles):
        if tile not in tiles:
            raise ConfigError(
                f'There is no granule of the held-out tile {tile} (tiles: {", ".join(tiles)}); '
                'change --val-tiles or --test-tiles.'
            )
    pictured = {granule.id.acquired.year for found in tiles.values() for granule in found}
    if years is None and labels is None:
        years = sorted(pictured)
    elif years is None:
        years = sorted(pictured & {label.year for label in maps})
        if not years:
            raise LabelError(
                f'No year has both granules ({", ".join(map(str, sorted(pictured)))}) and a label '
                f'map ({", ".join(sorted({str(label.year) for label in maps}))}); add label maps '
                'of the years of the granules.'
            )

    grids = {tile: tile_grid(found) for tile, found in tiles.items()}
    rank = dict.fromkeys(splits.val_tiles, 1) | dict.fromkeys(splits.test_tiles, 0)
    order = sorted(tiles, key=lambda tile: (rank.get(tile, 2), tile))
    cells = plan_cells({tile: grids[tile] for tile in order}, chips.chip_size, chips.stride)

    tasks = []
    overlapping = 0
    for tile in sorted(tiles):
        grid, kept = grids[tile], cells[tile]
        for year in years:
            of_year = tuple(g for g in tiles[tile] if g.id.acquired.year == year)
            # An empty window is better told before the work than in its midst.
            candidates([g.id for g in of_year or tiles[tile]], chips.windows, year, tile)
            over = () if labels is None else tuple(labels_over(maps, grid, year, tile))
            overlapping += int((~kept).sum())
            tops = cell_offsets(grid.height, chips.chip_size, chips.stride)
            lefts = cell_offsets(grid.width, chips.chip_size, chips.stride)
            chosen = tuple((tops[i], lefts[j]) for i, j in np.argwhere(kept))
            if chosen:
                tasks.append(
                    TileTask(
                        tile,
                        year,
                        grid,
                        of_year,
                        over,
                        chosen,
                        chips,
                        legend,
                        out,
                        strict=incomplete is None,
                    )
                )
    return tasks, overlapping


def _claim(out: Path, chips: ChipOptions, legend: str | None, overwrite: bool) -> None:
    """Make ``out`` ready; refuse a folder of chips that were cut with other options."""
    path = out / OPTIONS_NAME
    document = dict(format_version=FORMAT_VERSION, legend=legend, **chips.document())
    content = (json.dumps(document, indent=2) + '\n').encode()
    if path.is_file() and path.read_bytes() != content and not overwrite:
        raise OutputExistsError(
            f'{out} holds chips that were cut with other options (see {path}); choose another '
            'folder, or give --overwrite to cut them anew.'
        )
    if not path.is_file() and (out / INDEX_NAME).is_file():
        raise OutputExistsError(f'{out} holds chips of another tool; choose another folder.')
    for folder in (out, out / 'images', out / 'labels', out / '.tasks'):
        remove_partial(folder)
    if not path.is_file() or path.read_bytes() != content:
        (out / INDEX_NAME).unlink(missing_ok=True)
        write_bytes(path, content)


def _run(
    tasks: Sequence[TileTask], workers: int, scheduler: str | None, console: Console
) -> Iterator[tuple[TileTask, dict[str, object]]]:
    """Run tasks, yielding each as it ends, under a progress bar."""
    progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('ETA'),
        TimeRemainingColumn(),
        console=console,
    )
    with running(cut_tile, tasks, workers, scheduler) as results, progress:
        bar = progress.add_task('cutting tiles', total=len(tasks))
        for result in results:
            yield result
            progress.advance(bar)


def _without_chips(records: Mapping[TileTask, dict[str, object]], chips: ChipOptions) -> list[str]:
    """Say for each tile and year that gave no chip why it gave none."""
    of_tile = collections.defaultdict(list)
    for task, record in records.items():
        of_tile[task.tile, task.year].append(record)
    sentences = []
    for (tile, year), found in sorted(of_tile.items()):
        if any(record['rows'] for record in found):
            continue
        best = np.max([record['best_clear'] for record in found], axis=0)
        shares = ', '.join(
            f'{share:.0%} in {window}' for window, share in zip(chips.windows, best, strict=True)
        )
        skipped = sum(
            (collections.Counter(record['skipped']) for record in found), collections.Counter()
        )
        sentences.append(
            f'Tile {tile} has no chip of {year} ({_listing(skipped)}); the clearest granule over '
            f'any chip shows {shares}'
        )
    return sentences


def _why_none(
    skipped: Mapping[str, int], damaged: Mapping[str, str], without_chips: Sequence[str]
) -> str:
    more = f', and {len(without_chips) - 3} tiles more' if len(without_chips) > 3 else ''
    lost = f' Damaged granules, left out: {", ".join(damaged)}.' if damaged else ''
    return (
        f'Not one chip came of it ({_listing(skipped)}). {". ".join(without_chips[:3])}{more}.'
        f'{lost} Add granules or labels, or lower --min-clear or --min-valid.'
    )


def _listing(skipped: Mapping[str, int]) -> str:
    return ', '.join(f'{reason}: {count}' for reason, count in skipped.items() if count)


def _remove_orphans(out: Path, rows: Sequence[dict[str, object]]) -> None:
    """Remove what earlier runs cut from other inputs and this one did not."""
    for key, folder in (('image', 'images'), ('label', 'labels')):
        known = {Path(row[key]).name for row in rows if row[key]}
        for path in (out / folder).glob('*'):
            if path.name.removesuffix('.aux.xml') not in known:
                path.unlink()
    # The statistics belong to the index that is about to be written.
    (out / STATS_NAME).unlink(missing_ok=True)
