"""What a granule shows of the area, from a coarse look at its Fmask, and which are worth having."""

from __future__ import annotations

import base64
import concurrent.futures
import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window, from_bounds

from ...errors import DownloadError, GranuleError
from ...hls import fmask_clear
from ..frames import SeasonWindow
from .area import Area
from .cache import QueryCache
from .http import HttpClient, RangeFile
from .search import Candidate

#: Samples of Fmask along the longer side of the area: one in 429 m for a whole tile.
SAMPLES = 256
#: With this share of the area clear in one granule or another, no more are fetched.
ENOUGH = 0.95
#: A further granule must show at least this share of the area that the others do not.
MIN_GAIN = 0.02

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pick:
    """The granules chosen for a tile and a season window.

    Attributes:
        tile: MGRS tile.
        window: The season window.
        granules: Best first.
        clear: Share of the area that is clear in at least one of them, 0..1.
        best: The same for the first of them alone.
        measured: Whether Fmask was looked at; else it is one minus the cloud cover stated.
        considered: Number of granules in the window.
    """

    tile: str
    window: SeasonWindow
    granules: tuple[Candidate, ...]
    clear: float
    best: float
    measured: bool
    considered: int


def look(candidate: Candidate, area: Area, client: HttpClient, cache: QueryCache) -> np.ndarray:
    """See which samples of the area are clear in a granule.

    Only the blocks of a small overview of Fmask are read, nearest neighbours, never interpolated.

    Args:
        candidate: The granule.
        area: The ground.
        client: How to ask for its files.
        cache: Keeps the answer.

    Returns:
        Boolean, one value a sample; granules of a tile have the same samples. Empty if the
        granule's grid does not meet the area.

    Raises:
        GeosegError: If the file cannot be had by parts.
    """
    key = ['clear', str(candidate.id), area.key, SAMPLES]
    known = cache.get(key)
    if known is not None:
        bits = np.frombuffer(base64.b64decode(known['bits']), np.uint8)
        return np.unpackbits(bits, count=known['count']).astype(bool)
    href = candidate.assets['Fmask'].href
    name = f'/{candidate.id}.Fmask.tif'
    # Before GDAL comes in, so that a refusal is told as such and not as a damaged file.
    remote = RangeFile(client, href)

    def opener(path: str, mode: str = 'rb') -> RangeFile:
        if path != name:  # sidecar files
            raise FileNotFoundError(path)
        return RangeFile(client, href) if remote.closed else remote

    try:
        with (
            remote,
            rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN='EMPTY_DIR', GDAL_PAM_ENABLED=False),
            rasterio.open(name, opener=opener) as dataset,
        ):
            clear = _sample(dataset, area)
    except RasterioError as error:
        raise DownloadError(
            f'The Fmask of {candidate.id} cannot be read ({error}); use --probe 0.'
        ) from error
    bits = base64.b64encode(np.packbits(clear).tobytes()).decode()
    cache.put(key, dict(bits=bits, count=clear.size))
    return clear


def _sample(dataset: rasterio.DatasetReader, area: Area) -> np.ndarray:
    window = Window(0, 0, dataset.width, dataset.height)
    bounds = area.bounds_in(dataset.crs)
    if bounds is not None:
        # Whole pixels; snapped outwards.
        asked = from_bounds(*bounds, dataset.transform)
        left, top = max(0, int(asked.col_off)), max(0, int(asked.row_off))
        right = min(dataset.width, int(np.ceil(asked.col_off + asked.width)))
        bottom = min(dataset.height, int(np.ceil(asked.row_off + asked.height)))
        if left >= right or top >= bottom:
            return np.zeros(0, bool)
        window = Window(left, top, right - left, bottom - top)
    scale = min(1.0, SAMPLES / max(window.width, window.height))
    width, height = max(1, round(window.width * scale)), max(1, round(window.height * scale))
    fmask = dataset.read(1, window=window, out_shape=(height, width), resampling=Resampling.nearest)
    affine = dataset.window_transform(window)
    affine = affine * affine.scale(window.width / width, window.height / height)
    return fmask_clear(fmask)[area.mask(dataset.crs, affine, height, width)]


def look_at_all(
    candidates: Sequence[Candidate],
    area: Area,
    client: HttpClient,
    cache: QueryCache,
    workers: int,
) -> dict[str, np.ndarray]:
    """Look at many granules at a time.

    A granule whose Fmask cannot be read by parts is left out, with a warning in the log.

    Returns:
        Name of the granule -> clear samples.

    Raises:
        WrongCredentialsError: If the server refuses the login.
        NetworkError: If it cannot be reached.
    """

    def one(candidate: Candidate) -> np.ndarray | None:
        try:
            return look(candidate, area, client, cache)
        except DownloadError as error:
            _LOG.warning('%s Its stated cloud cover is used instead.', error)
            return None

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        masks = list(pool.map(one, candidates))
    return {str(c.id): m for c, m in zip(candidates, masks, strict=True) if m is not None}


def least_cloudy(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Return the granules with the lowest stated cloud cover; those without one come last."""
    return sorted(candidates, key=lambda c: (_stated(c) is None, -(_stated(c) or 0.0)))[:count]


def pick(
    tile: str,
    window: SeasonWindow,
    candidates: Sequence[Candidate],
    seen: dict[str, np.ndarray],
    most: int,
) -> Pick:
    """Choose granules that together show most of the area, the best first.

    Each next one is the one that shows most of what is still hidden, as ``prepare_data.py`` takes
    the clearest granule chip by chip. A granule that was not looked at counts as equally clear
    everywhere.

    Args:
        tile: MGRS tile.
        window: The season window.
        candidates: Its granules, at least one.
        seen: Clear samples of those that were looked at.
        most: Choose at most so many.

    Returns:
        The choice.
    """
    samples = next((len(mask) for mask in seen.values()), 1)
    views = []
    for candidate in candidates:
        mask = seen.get(str(candidate.id))
        views.append(np.full(samples, _stated(candidate) or 0.0) if mask is None else mask * 1.0)
    measured = any(str(candidate.id) in seen for candidate in candidates)
    hidden = np.ones(samples)
    chosen: list[int] = []
    while len(chosen) < most and hidden.mean() > 1 - ENOUGH:
        gains = np.array([(hidden * view).mean() for view in views])
        gains[chosen] = -1
        best = int(gains.argmax())
        if gains[best] < MIN_GAIN and chosen:
            break
        chosen.append(best)
        hidden = hidden * (1 - views[best])
        if len(chosen) == len(candidates):
            break
    return Pick(
        tile,
        window,
        tuple(candidates[i] for i in chosen),
        clear=float(1 - hidden.mean()),
        best=float(views[chosen[0]].mean()),
        measured=measured,
        considered=len(candidates),
    )


def check_clear(picks: Sequence[Pick], min_clear: float, year: int) -> None:
    """Check that every tile and window has granules that show enough of the area.

    Raises:
        GranuleError: If not; it names the tile, the window and the best there was.
    """
    poor = [choice for choice in picks if choice.clear < min_clear]
    if not poor:
        return
    worst = poor[0]
    more = f' (and {len(poor) - 1} more tile(s) and window(s))' if len(poor) > 1 else ''
    together = (
        f', {len(worst.granules)} together {worst.clear:.0%}' if len(worst.granules) > 1 else ''
    )
    raise GranuleError(
        f'Tile {worst.tile} has no granule that is clear enough over the area in the season window '
        f'{worst.window} of {year}{more}: the best of {worst.considered}, '
        f'{worst.granules[0].id}, shows {worst.best:.0%} of it{together}; lower --min-clear '
        f'({min_clear:.0%}) or change --windows.'
    )


def _stated(candidate: Candidate) -> float | None:
    return None if candidate.cloud_cover is None else 1 - candidate.cloud_cover
