"""What to fetch for an area and a year, before anything is fetched."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ...errors import ConfigError, GranuleError
from ..frames import SeasonWindow, candidates, check_windows
from .area import Area
from .cache import QueryCache
from .clarity import Pick, check_clear, least_cloudy, look_at_all, pick
from .http import HttpClient
from .search import Catalogue, by_tile, iter_files
from .sources import Source
from .transfer import RemoteFile, check_space, fetch_all, with_sizes

#: Folder below the output for the answers of catalogues.
CACHE_NAME = '.queries'


@dataclasses.dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        area: The ground.
        year: Calendar year of images and labels.
        windows: The season windows.
        source: ``lpdaac``, ``planetary-computer`` or the address of a STAC API.
        label_source: The same for the labels; by default ``source``, and Planetary Computer for
            LP DAAC, which has no labels; ``none`` for no labels.
        max_granules: Most granules of a tile and window.
        min_clear: Least share of the area that they must show, 0..1.
        probe: Look at the Fmask of so many granules of each tile and window, the least cloudy as
            stated; 0 to trust what is stated.
    """

    area: Area
    year: int
    windows: tuple[SeasonWindow, ...]
    source: str = 'lpdaac'
    label_source: str | None = None
    max_granules: int = 3
    min_clear: float = 0.5
    probe: int = 20

    def __post_init__(self) -> None:
        check_windows(self.windows)
        if not 0 <= self.min_clear <= 1:
            raise ConfigError(f'--min-clear is a share from 0 to 1, not {self.min_clear:g}.')
        if self.max_granules < 1 or self.probe < 0:
            raise ConfigError('--max-granules must be at least 1, and --probe at least 0.')


@dataclasses.dataclass(frozen=True)
class Plan:
    """What will be fetched.

    Attributes:
        picks: The granules of each tile and season window.
        granule_files: Their files.
        label_files: The label maps.
    """

    picks: tuple[Pick, ...]
    granule_files: tuple[RemoteFile, ...]
    label_files: tuple[RemoteFile, ...]

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All files."""
        return self.granule_files + self.label_files


def make_plan(
    request: Request,
    out: Path,
    *,
    workers: int = 8,
    cache_days: float = 7.0,
    backoff: float = 1.0,
) -> Plan:
    """Search, choose, and ask for sizes.

    Args:
        request: What is asked for.
        out: Granules go to ``out/granules/{granule}/``, label maps to ``out/labels/``.
        workers: Requests at a time.
        cache_days: Use answers of catalogues that are at most so old.
        backoff: Factor of the waits between tries, seconds.

    Returns:
        The plan.

    Raises:
        GeosegError: If the request cannot be served.
    """
    cache = QueryCache(out / CACHE_NAME, cache_days)
    source = Source.named(request.source)
    client = HttpClient(source.access(), backoff)
    picks = _choose(request, Catalogue(source, cache, backoff), client, cache, workers)
    granule_files = [
        RemoteFile(
            asset.href,
            out / 'granules' / str(granule.id) / name,
            client,
            asset.size,
            asset.checksum,
        )
        for choice in picks
        for granule in choice.granules
        for name, asset in iter_files(granule)
    ]
    label_files = []
    if request.label_source != 'none':
        labels = (
            Source.named(request.label_source)
            if request.label_source
            else Source.of_labels(request.source)
        )
        label_client = HttpClient(labels.access(), backoff)
        label_files = [
            RemoteFile(
                label.asset.href,
                out / 'labels' / label.name,
                label_client,
                label.asset.size,
                label.asset.checksum,
            )
            for label in Catalogue(labels, cache, backoff).labels(request.area, request.year)
        ]
    return Plan(
        tuple(picks),
        tuple(with_sizes(granule_files, workers)),
        tuple(with_sizes(label_files, workers)),
    )


def _choose(
    request: Request,
    catalogue: Catalogue,
    client: HttpClient,
    cache: QueryCache,
    workers: int,
) -> list[Pick]:
    """Choose the granules of each tile and season window."""
    first, last = request.windows[0].first, request.windows[-1].last
    span = [f'{request.year}-{month:02}-{day:02}' for month, day in (first, last)]
    tiles = by_tile(catalogue.granules(request.area, *span))
    absent = [tile for tile in request.area.tiles if tile not in tiles]
    if absent or not tiles:
        what = f'of tile {", ".join(absent)}' if absent else 'over the area'
        raise GranuleError(
            f'{catalogue.url} has no HLS granule {what} from {span[0]} to {span[1]}; check '
            f'{"--tiles" if absent else "the area"} and --year (HLS begins in April 2013, over '
            'land).'
        )

    chosen = request.area.covering(tiles)
    of_window = [
        (tile, window, [tiles[tile][i] for i in positions])
        for tile in chosen
        for window, positions in zip(
            request.windows,
            candidates([c.id for c in tiles[tile]], request.windows, request.year, tile),
            strict=True,
        )
    ]
    looked_at = [
        candidate for _, _, found in of_window for candidate in least_cloudy(found, request.probe)
    ]
    seen = look_at_all(looked_at, request.area, client, cache, workers)
    picks = []
    for tile, window, found in of_window:
        # With Fmask of some, the others are worse as stated; they are not compared with those.
        known = {str(c.id): seen[str(c.id)] for c in found if str(c.id) in seen}
        comparable = [c for c in found if str(c.id) in known] or found
        if any(not len(mask) for mask in known.values()):
            raise GranuleError(
                f'The granules of tile {tile} do not show any of the area; check the area.'
            )
        picks.append(
            dataclasses.replace(
                pick(tile, window, comparable, known, request.max_granules),
                considered=len(found),
            )
        )
    check_clear(picks, request.min_clear, request.year)
    return picks


def fetch_plan(plan: Plan, out: Path, workers: int, console: Console | None = None) -> None:
    """Fetch all files of a plan that are not there yet.

    Raises:
        GeosegError: If a file cannot be had; the same call goes on where it stopped.
    """
    check_space(plan.files, out)
    fetch_all(plan.files, workers, console)


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Print the choice, and how many files and bytes it means."""
    console = console or Console()
    table = Table(title='HLS granules')
    for name in ('tile', 'season window', 'granule'):
        table.add_column(name)
    for name in ('clear over the area', 'of'):
        table.add_column(name, justify='right')
    for choice in plan.picks:
        share = f'{choice.clear:.0%}' if choice.measured else f'{choice.clear:.0%} (stated)'
        for number, granule in enumerate(choice.granules):
            head = (choice.tile, str(choice.window)) if number == 0 else ('', '')
            tail = (share, f'{choice.considered}') if number == 0 else ('', '')
            table.add_row(*head, str(granule.id), *tail)
    console.print(table)
    _print_bytes('granules', plan.granule_files, console)
    _print_bytes('label maps', plan.label_files, console)


def _print_bytes(name: str, files: Sequence[RemoteFile], console: Console) -> None:
    left = [file.left for file in files]
    unknown = sum(size is None for size in left)
    total = sum(file.size or (file.path.stat().st_size if file.done else 0) for file in files)
    note = f', {unknown} files of unknown size' if unknown else ''
    console.print(
        f'{name}: {len(files)} files, {total:,} bytes; still to fetch: '
        f'{sum(size != 0 for size in left)} files, {sum(size or 0 for size in left):,} bytes{note}',
        highlight=False,
        soft_wrap=True,
    )
