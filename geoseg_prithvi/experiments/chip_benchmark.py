"""How long ``tools/prepare_data.py`` takes, against the floor: decoding each band once and writing.

All times are by the clock. The command is timed as a user sees it, the start of Python included.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import psutil
import rasterio
from rasterio.windows import Window

from ..data.cells import cell_offsets
from ..data.chip_io import write_chip
from ..data.granules import Granule, find_granules, tile_grid
from ..data.index import read_index, write_index
from ..data.synthetic import make_world
from ..errors import ConfigError
from ..hls import BANDS

#: Tiles that do not overlap, so that each has the same number of chips.
TILES = ('10SEF', '10SEH', '10SGF', '10SGH')
CHIP_SIZE = 224
FRAMES = 3


@dataclasses.dataclass(frozen=True)
class ChipTiming:
    """What was measured for some tiles.

    Attributes:
        tiles: Number of tiles.
        chips: Number of chips.
        floor: Seconds of decoding three granules a tile and writing the chips.
        command: Seconds of the command.
        memory: Largest resident memory of any of its processes, in MB.
    """

    tiles: int
    chips: int
    floor: float
    command: float
    memory: float


def time_chips(
    tool: Path, folder: Path, count: int, *, size: int = 3660, dates: int = 3, workers: int = 2
) -> ChipTiming:
    """Make tiles that are not there yet, and time both.

    Args:
        tool: ``tools/prepare_data.py``.
        folder: Holds the tiles; what is written besides is removed.
        count: Tiles, 1 to 4.
        size: Pixels along a tile.
        dates: Acquisitions of a tile.
        workers: Processes of the floor, ``--workers`` of the command.

    Raises:
        ConfigError: If there are not so many tiles, or the command fails.
    """
    if not 1 <= count <= len(TILES):
        raise ConfigError(f'Chips are timed for 1 to {len(TILES)} tiles, not {count}.')
    world = folder / 'world'
    shutil.rmtree(world, ignore_errors=True)
    for tile in TILES[:count]:
        kept = folder / f'{tile}_{size}_{dates}'
        make_world(kept, [tile], dates_per_year=dates, size=size)
        shutil.copytree(kept, world / tile, copy_function=os.link)
    out = folder / 'chips'
    try:
        floor = _time_floor(world, out, workers)
        shutil.rmtree(out)
        command, memory = time_command(
            [tool, world, world, out, '--min-clear=0', '--min-valid=0', f'--workers={workers}']
        )
        chips = read_index(out).num_rows
    finally:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(world)
    return ChipTiming(count, chips, floor, command, memory)


def time_command(arguments: Iterable[str | Path]) -> tuple[float, float]:
    """Run a Python script.

    Returns:
        Seconds, and the largest resident memory of it or of a process below it, in MB.

    Raises:
        ConfigError: If it fails; its message has been printed then.
    """
    start = time.perf_counter()
    process = psutil.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.DEVNULL)
    memory = 0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in (process, *process.children(recursive=True)):
                memory = max(memory, one.memory_info().rss)
        time.sleep(0.05)
    if process.returncode:
        raise ConfigError(f'The command ended with {process.returncode}; see above.')
    return time.perf_counter() - start, memory / 1e6


def _time_floor(world: Path, out: Path, workers: int) -> float:
    """Decode and write with nothing else; each process has strips of the tiles."""
    jobs = []
    for granules in find_granules(world).values():
        rows = list(cell_offsets(tile_grid(granules).height, CHIP_SIZE, CHIP_SIZE))
        jobs += [
            (granules[:FRAMES], [int(row) for row in strip], out)
            for strip in np.array_split(rows, workers)
            if len(strip)
        ]
    start = time.perf_counter()
    # Forks, because the start of the processes is no part of the floor.
    context = multiprocessing.get_context('fork')
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        list(pool.map(_decode_and_write, jobs))
    return time.perf_counter() - start


def _decode_and_write(job: tuple[Sequence[Granule], Sequence[int], Path]) -> None:
    granules, rows, out = job
    grid = tile_grid(granules)
    strip = Window(0, rows[0], grid.width, rows[-1] + CHIP_SIZE - rows[0])
    pixels = np.empty((len(granules) * len(BANDS), strip.height, strip.width), np.int16)
    for frame, granule in enumerate(granules):
        with rasterio.open(granule.path('Fmask')) as dataset:
            dataset.read(1, window=strip)
        for band, name in enumerate(BANDS):
            with rasterio.open(granule.path(name)) as dataset:
                dataset.read(1, window=strip, out=pixels[frame * len(BANDS) + band])
    for row in rows:
        for column in cell_offsets(grid.width, CHIP_SIZE, CHIP_SIZE):
            top = row - rows[0]
            write_chip(
                out / f'{granules[0].id.tile}_{row}_{column}.tif',
                np.ascontiguousarray(pixels[:, top : top + CHIP_SIZE, column : column + CHIP_SIZE]),
                transform=grid.transform,
                crs=grid.crs,
                dates=[granule.date for granule in granules],
                sensors=[granule.id.sensor for granule in granules],
            )


def time_index(folder: Path, num_rows: int = 100_000) -> float:
    """Return the seconds that it takes to read one split of an index of so many rows.

    Args:
        folder: Where the index is written, and removed again.
        num_rows: Rows.
    """
    rows = [
        dict(
            chip_id=f'{i}',
            image=f'images/{i}.tif',
            label=f'labels/{i}.tif',
            tile='10SEG',
            epsg=32610,
            minx=0.0,
            miny=0.0,
            maxx=6720.0,
            maxy=6720.0,
            lon=-123.0,
            lat=38.0,
            dates=['2022-01-20', '2022-05-20', '2022-09-17'],
            sensors=['L30', 'S30', 'S30'],
            clear_fraction=[1.0, i / num_rows, 1.0],
            valid_fraction=1.0,
            class_pixels=[i % 50176] * 9,
            purity=0.9,
            block=f'{i // 9}',
            split=('train', 'val', 'test')[i % 3],
        )
        for i in range(num_rows)
    ]
    index = write_index(folder, rows)
    start = time.perf_counter()
    read_index(folder, split='train')
    took = time.perf_counter() - start
    index.unlink()
    return took
