"""Ask a STAC API for granules and label maps."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from pystac import STACError
from pystac_client import Client
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from ...errors import DataNotFoundError, DownloadError, GranuleError, LabelError
from ...hls import BANDS, SENSOR_BANDS, GranuleId
from .area import Area, Bounds
from .cache import QueryCache
from .http import TIMEOUT, retry_policy, unreachable
from .sources import HLS_COLLECTIONS, LABEL_ASSET, LABEL_COLLECTION, Source

#: Items that one page of an answer holds.
PAGE = 100

_LABEL_ID = re.compile(r'\d{2}[C-HJ-NP-X]-\d{4}')


@dataclasses.dataclass(frozen=True)
class Asset:
    """A file of an item: address, bytes and multihash, the latter two if stated."""

    href: str
    size: int | None = None
    checksum: str | None = None


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A granule that can be had.

    Attributes:
        id: Its name.
        assets: Canonical band or ``Fmask`` -> file.
        cloud_cover: Share of cloud in the whole granule, 0..1; ``None`` if not stated.
    """

    id: GranuleId
    assets: dict[str, Asset]
    cloud_cover: float | None


@dataclasses.dataclass(frozen=True)
class LabelItem:
    """A label map that can be had; ``name`` is the file name it gets."""

    name: str
    asset: Asset


class Catalogue:
    """A STAC API.

    Args:
        source: Where it is.
        cache: Keeps its answers.
        backoff: Factor of the waits between tries, seconds.
    """

    def __init__(self, source: Source, cache: QueryCache, backoff: float = 1.0) -> None:
        self.url = source.url
        self._collections = source.collections
        self._cache = cache
        self._backoff = backoff
        self._client: Client | None = None

    def granules(self, area: Area, first: str, last: str) -> list[Candidate]:
        """Find the granules of an area and a span of days.

        Args:
            area: The ground.
            first: First day, ``YYYY-MM-DD``.
            last: Last day.

        Returns:
            Complete granules by name; of one that the catalogue has twice, the first.

        Raises:
            DataNotFoundError: If the API has no HLS.
            NetworkError: If it cannot be reached.
            DownloadError: If it answers with an error, or not in STAC.
        """
        collections = self._hls_collections()
        found: dict[GranuleId, Candidate] = {}
        for bounds in area.bounds:
            for item in self._search(collections, bounds, f'{first}/{last}'):
                candidate = _candidate(item)
                if candidate and (not area.tiles or candidate.id.tile in area.tiles):
                    found.setdefault(candidate.id, candidate)
        return [found[key] for key in sorted(found)]

    def labels(self, area: Area, year: int) -> list[LabelItem]:
        """Find the label maps of a year over an area.

        Raises:
            LabelError: If there is none; it says which years there are.
            NetworkError: If the API cannot be reached.
            DownloadError: If it answers with an error, or not in STAC.
        """
        items: dict[str, LabelItem] = {}
        for bounds in area.bounds:
            # A day in mid-year: maps end at the very moment in which the next year's begin.
            for item in self._search((LABEL_COLLECTION,), bounds, f'{year}-07-01'):
                label = _label(item)
                items.setdefault(label.name, label)
        if items:
            return [items[name] for name in sorted(items)]
        years = sorted(
            {
                int(item['id'].rpartition('-')[2])
                for bounds in area.bounds
                for item in self._search((LABEL_COLLECTION,), bounds, None)
                if _LABEL_ID.fullmatch(item['id'])
            }
        )
        have = f'it has {", ".join(map(str, years))}' if years else 'nor of any other year'
        raise LabelError(
            f'{self.url} has no label map ({LABEL_COLLECTION}) of {year} over the area ({have}); '
            'choose another --year, or --label-source none if you have your own map.'
        )

    def _hls_collections(self) -> Sequence[str]:
        """Return the names that the two HLS collections have here."""
        if self._collections:
            return self._collections
        ids = self._cache.get([self.url, 'collections'])
        if ids is None:
            with _api_errors(self.url):
                ids = [collection.id for collection in self._open().get_collections()]
            self._cache.put([self.url, 'collections'], ids)
        for names in HLS_COLLECTIONS:
            if present := [name for name in names if name in ids]:
                return present
        raise DataNotFoundError(
            f'{self.url} has no HLS V2.0 (collections '
            f'{" or ".join(", ".join(names) for names in HLS_COLLECTIONS)}); choose another '
            '--source.'
        )

    def _search(
        self, collections: Sequence[str], bounds: Bounds, datetime: str | None
    ) -> list[dict[str, Any]]:
        """Return all items, page by page, reduced to what is used here."""
        key = [self.url, list(collections), list(bounds), datetime]
        items = self._cache.get(key)
        if items is None:
            with _api_errors(self.url):
                search = self._open().search(
                    collections=collections, bbox=bounds, datetime=datetime, limit=PAGE
                )
                items = [_reduced(item) for item in search.items_as_dicts()]
            self._cache.put(key, items)
        return items

    def _open(self) -> Client:
        if self._client is None:
            io = StacApiIO(max_retries=retry_policy(self._backoff), timeout=TIMEOUT)
            self._client = Client.open(self.url, stac_io=io)
        return self._client


@contextlib.contextmanager
def _api_errors(url: str) -> Iterator[None]:
    """Name the API in the errors of the client."""
    try:
        yield
    except requests.RequestException as error:
        raise unreachable(url, error) from error
    except APIError as error:
        # pystac-client wraps the errors of requests and keeps only their text.
        if isinstance(error.__context__, requests.RequestException):
            raise unreachable(url, error.__context__) from error
        reason = (str(error).strip() or 'an error').splitlines()[0][:200].rstrip('.')
        raise DownloadError(
            f'{url} answers with an error ({reason}); try again later, or check --source.'
        ) from error
    except (
        KeyError,
        TypeError,
        ValueError,
        NotImplementedError,
        STACError,
        ClientTypeError,
    ) as error:
        raise DownloadError(
            f'{url} is no STAC API with item search ({type(error).__name__}: {error}); check '
            '--source.'
        ) from error


def _reduced(item: Mapping[str, Any]) -> dict[str, Any]:
    keys = ('href', 'file:size', 'file:checksum')
    return dict(
        id=item['id'],
        cloud_cover=item['properties'].get('eo:cloud_cover'),
        assets={
            name: {key: asset[key] for key in keys if key in asset}
            for name, asset in item['assets'].items()
        },
    )


def _asset(document: Mapping[str, Any]) -> Asset:
    return Asset(document['href'], document.get('file:size'), document.get('file:checksum'))


def _candidate(item: Mapping[str, Any]) -> Candidate | None:
    """Return the granule of an item; ``None`` if it lacks a file or is no HLS V2.0."""
    if 'Fmask' not in item['assets']:
        return None
    try:
        # The name of the file and not of the item, which a catalogue may write in its own way.
        name = urlsplit(item['assets']['Fmask']['href']).path.rpartition('/')[2]
        granule, _ = GranuleId.parse(name)
    except GranuleError:
        return None
    bands = {band: SENSOR_BANDS[granule.sensor][band] for band in BANDS} | {'Fmask': 'Fmask'}
    if any(key not in item['assets'] for key in bands.values()):
        return None
    cover = item['cloud_cover']
    return Candidate(
        granule,
        {band: _asset(item['assets'][key]) for band, key in bands.items()},
        None if cover is None else cover / 100,
    )


def _label(item: Mapping[str, Any]) -> LabelItem:
    if not _LABEL_ID.fullmatch(item['id']) or LABEL_ASSET not in item['assets']:
        raise LabelError(
            f'The item {item["id"]} of {LABEL_COLLECTION} is no label map like 10S-2022 with an '
            f'asset {LABEL_ASSET!r}; use the labels of planetary-computer.'
        )
    return LabelItem(f'{item["id"]}.tif', _asset(item['assets'][LABEL_ASSET]))


def by_tile(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """Group granules by tile, both sorted."""
    tiles: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: c.id):
        tiles.setdefault(candidate.id.tile, []).append(candidate)
    return tiles


def iter_files(candidate: Candidate) -> Iterator[tuple[str, Asset]]:
    """Yield name and asset of each of the seven files of a granule."""
    for band, asset in candidate.assets.items():
        yield candidate.id.band_file(band), asset
