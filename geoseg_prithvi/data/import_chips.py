"""Bring public chip collections of other tasks into a chip folder, so that the same dataset serves.

Two layouts are known, both with an image ``{name}_merged.tif`` and a label ``{name}.mask.tif``:
three dates, time-major, 18 bands (multi-temporal crop classification) and a single date, 6 bands
(HLS burn scars). Such files do not name their bands, so the layout is never guessed.
"""

from __future__ import annotations

import concurrent.futures
import csv
import dataclasses
import datetime as dt
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.warp import transform
from rich.console import Console
from rich.progress import track

from ..errors import ChipError, ConfigError, DataNotFoundError, LabelError, OutputExistsError
from ..hls import BANDS, FILL, PIXEL_SIZE, SCALE
from ..lulc import IGNORE, Legend
from .chip_io import write_chip, write_label
from .files import remove_partial
from .index import INDEX_NAME, SPLITS, write_index
from .splits import SplitOptions, assign_splits, block_names
from .statistics import STATS_NAME, band_sums, write_statistics

IMAGE_SUFFIX, MASK_SUFFIX = '_merged.tif', '.mask.tif'
#: Layout -> dates in a file.
LAYOUTS = {'three-dates': 3, 'single-date': 1}
#: Columns of ``chips_df.csv``, which comes with the crop chips.
DATE_COLUMNS = ('first_img_date', 'middle_img_date', 'last_img_date')

_HLS_NAME = re.compile(r'HLS\.(?P<sensor>L30|S30)\.T(?P<tile>\d{2}[A-Z]{3})\.(?P<day>\d{7})')


@dataclasses.dataclass(frozen=True)
class _Pair:
    """One chip to import."""

    name: str
    image: Path
    mask: Path
    split: str | None
    dates: tuple[str, ...]
    sensor: str
    tile: str


def import_chips(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layout: str,
    legend: Legend,
    dates: str | Sequence[str] | None = None,
    sensor: str = 'S30',
    split: str | None = None,
    split_options: SplitOptions | None = None,
    scale: float | None = None,
    workers: int = 1,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[dict[str, object]]:
    """Import all chips below a folder.

    Args:
        source: The folder, at any depth.
        out: The chip folder to write.
        layout: ``three-dates`` or ``single-date``.
        legend: The classes of the masks.
        dates: What the names do not say: the path of a CSV with ``chip_id`` and the columns
            :data:`DATE_COLUMNS`, or a date for each frame that holds for all chips.
        sensor: ``L30`` or ``S30`` where the name does not say it. (The crop chips are S30.)
        split: Split of all chips. By default their folder says it: its name begins with ``train``,
            ``val`` or ``test``.
        split_options: Divide the chips anew by place, whatever their folders.
        scale: What the pixels are multiplied by to be reflectance x 10000; by default 1 for
            integers and 10000 for floats.
        workers: Chips at a time.
        overwrite: Replace chips that are in ``out``.
        console: Where the progress bar goes; standard error by default.

    Returns:
        The rows of the index. What the source does not tell is null: the clear fraction and the
        purity.

    Raises:
        GeosegError: If a chip or an option is not usable; no index is written then.
    """
    out = Path(out)
    if layout not in LAYOUTS:
        raise ConfigError(f'{layout!r} is no layout; use {" or ".join(LAYOUTS)}.')
    if (out / INDEX_NAME).exists() and not overwrite:
        raise OutputExistsError(f'{out} holds chips already; give --overwrite to replace them.')
    by_place = split_options is not None
    pairs = _find_pairs(Path(source), LAYOUTS[layout], dates, sensor, split, by_place)
    (out / INDEX_NAME).unlink(missing_ok=True)
    for folder in (out, out / 'images', out / 'labels'):
        remove_partial(folder)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_import_one, pair, out, legend, scale) for pair in pairs]
        try:
            rows = [
                future.result()
                for future in track(
                    futures,
                    'importing chips',
                    console=console or Console(stderr=True),
                )
            ]
        finally:
            pool.shutdown(cancel_futures=True)
    sizes = {row['sums']['shape']: row['chip_id'] for row in rows}
    if len(sizes) > 1:
        (one, first), (other, second), *_ = sizes.items()
        raise ChipError(
            f'Chips differ in size: {first} has {one}, {second} has {other} (rows, columns); '
            'import them into different folders.'
        )
    lon, lat = [row['lon'] for row in rows], [row['lat'] for row in rows]
    side = 3 * next(iter(sizes))[1] * PIXEL_SIZE
    options = split_options or SplitOptions(block_size=side)
    for row, block in zip(rows, block_names(lon, lat, options.block_size), strict=True):
        row['block'] = block
    if by_place:
        for row, name in zip(rows, assign_splits(rows, options), strict=True):
            row['split'] = name
        rows = [row for row in rows if row['split'] is not None]
    _write_statistics(out, rows, legend)
    write_index(out, rows, legend=legend)
    return rows


def _write_statistics(out: Path, rows: Sequence[Mapping[str, object]], legend: Legend) -> None:
    """Write the statistics of the training chips; without any, there are none."""
    train = [row for row in rows if row['split'] == 'train']
    (out / STATS_NAME).unlink(missing_ok=True)
    if train:
        class_pixels = np.sum([row['class_pixels'] for row in train], axis=0)
        write_statistics(out, [row['sums'] for row in train], class_pixels, legend=legend)


def _find_pairs(
    source: Path,
    num_frames: int,
    dates: str | Sequence[str] | None,
    sensor: str,
    split: str | None,
    by_place: bool,
) -> list[_Pair]:
    """Pair images and masks by name, and find out split and dates of each."""
    if not source.is_dir():
        raise DataNotFoundError(f'There is no folder {source}; give the folder of the chips.')
    table = _read_dates(dates, num_frames)
    pairs: dict[str, _Pair] = {}
    for image in sorted(source.rglob(f'*{IMAGE_SUFFIX}')):
        name = image.name.removesuffix(IMAGE_SUFFIX)
        mask = image.with_name(name + MASK_SUFFIX)
        if not mask.is_file():
            raise DataNotFoundError(
                f'{image} has no mask {mask.name} beside it; add it or remove the image.'
            )
        if name in pairs:
            raise ChipError(
                f'{image.name} is there twice, in {pairs[name].image.parent} and {image.parent}; '
                'remove one of them.'
            )
        found = _HLS_NAME.search(name)
        if isinstance(table, Mapping):
            if name not in table:
                raise ChipError(f'{dates} has no dates of {name}; add a row with that chip_id.')
            days = table[name]
        elif table is not None:
            days = table
        elif found and num_frames == 1:
            days = (dt.datetime.strptime(found['day'], '%Y%j').date().isoformat(),)
        else:
            raise ConfigError(
                f'The name {image.name} does not say its dates; give --dates, a CSV (chips_df.csv '
                f'of the crop chips) or {num_frames} date(s) that hold for all chips.'
            )
        pairs[name] = _Pair(
            name,
            image,
            mask,
            split if split or by_place else _split_of(image.relative_to(source)),
            days,
            found['sensor'] if found else sensor,
            found['tile'] if found else '',
        )
    if not pairs:
        raise DataNotFoundError(
            f'There is no chip in {source}; expected files like chip_000_001{IMAGE_SUFFIX} with '
            f'chip_000_001{MASK_SUFFIX} beside them.'
        )
    return list(pairs.values())


def _split_of(path: Path) -> str:
    """Read the split from the name of a folder, such as ``training_chips``."""
    for folder in reversed(path.parts[:-1]):
        for split in SPLITS:
            if folder.lower().startswith(split):
                return split
    raise ConfigError(
        f'The folder of {path} does not say the split (training..., validation..., test...); give '
        '--split, or --split-ratio to divide the chips by place.'
    )


def _read_dates(
    dates: str | Sequence[str] | None, num_frames: int
) -> tuple[str, ...] | dict[str, tuple[str, ...]] | None:
    if dates is None:
        return None
    if not isinstance(dates, str):
        if len(dates) != num_frames:
            raise ConfigError(f'--dates has {len(dates)} dates, but the layout {num_frames}.')
        return tuple(_iso(text, '--dates') for text in dates)
    columns = DATE_COLUMNS[:num_frames]
    try:
        with Path(dates).open(newline='', encoding='utf-8') as lines:
            return {
                row['chip_id']: tuple(_iso(row[name], dates) for name in columns)
                for row in csv.DictReader(lines)
            }
    except FileNotFoundError:
        raise DataNotFoundError(f'There is no file {dates}; check --dates.') from None
    except (KeyError, UnicodeDecodeError) as error:
        raise ConfigError(
            f'{dates} is no table of dates ({type(error).__name__}: {error}); it needs the columns '
            f'chip_id, {", ".join(columns)}.'
        ) from None


def _iso(text: str, source: str) -> str:
    try:
        return dt.date.fromisoformat(text[:10]).isoformat()
    except (TypeError, ValueError):
        raise ConfigError(f'{text!r} in {source} is no date; write YYYY-MM-DD.') from None


def _import_one(pair: _Pair, out: Path, legend: Legend, scale: float | None) -> dict[str, object]:
    """Convert one chip and return its row, with the sums for the statistics."""
    try:
        with rasterio.open(pair.image) as dataset:
            pixels = _read_reflectance(dataset, pair, scale)
            crs, affine, bounds = dataset.crs, dataset.transform, dataset.bounds
        with rasterio.open(pair.mask) as dataset:
            codes = _read_codes(dataset, pair)
    except RasterioError as error:
        reason = str(error.__cause__ or error).splitlines()[0].rstrip('.')
        raise ChipError(
            f'{pair.image} or its mask cannot be read, it is truncated or damaged ({reason}); '
            'download it again.'
        ) from error
    if crs is None or not np.isclose(affine.a, PIXEL_SIZE, atol=0.5):
        raise ChipError(
            f'{pair.image} has pixels of {affine.a:g} in {crs or "no coordinate system"}; '
            f'HLS chips have {PIXEL_SIZE:g} m.'
        )
    if codes.shape != pixels.shape[1:]:
        raise ChipError(
            f'{pair.mask} has {codes.shape} pixels, but its image {pixels.shape[1:]}; remove it.'
        )
    classes = legend.encode(codes, pair.mask)
    (lon,), (lat,) = transform(
        crs, 'EPSG:4326', [(bounds.left + bounds.right) / 2], [(bounds.bottom + bounds.top) / 2]
    )
    row = dict(
        chip_id=pair.name,
        image=f'images/{pair.name}.tif',
        label=f'labels/{pair.name}.tif',
        tile=pair.tile,
        epsg=crs.to_epsg(),
        minx=bounds.left,
        miny=bounds.bottom,
        maxx=bounds.right,
        maxy=bounds.top,
        lon=lon,
        lat=lat,
        dates=list(pair.dates),
        sensors=[pair.sensor] * len(pair.dates),
        clear_fraction=[None] * len(pair.dates),
        valid_fraction=float((pixels != FILL).all(axis=0).mean()),
        class_pixels=np.bincount(classes.ravel(), minlength=256)[: len(legend)].tolist(),
        purity=None,
        split=pair.split,
        sums=dict(band_sums(pixels, len(BANDS)), shape=pixels.shape[1:]),
    )
    write_chip(
        out / row['image'],
        pixels,
        transform=affine,
        crs=crs,
        dates=row['dates'],
        sensors=row['sensors'],
    )
    write_label(out / row['label'], classes, transform=affine, crs=crs, legend=legend)
    return row


def _read_reflectance(
    dataset: rasterio.DatasetReader, pair: _Pair, scale: float | None
) -> np.ndarray:
    """Read an image as ``(T*C, H, W)`` int16, reflectance x 10000, nodata -9999."""
    expected = len(pair.dates) * len(BANDS)
    if dataset.count != expected:
        raise ChipError(
            f'{pair.image} has {dataset.count} bands, but the layout has {len(pair.dates)} date(s) '
            f'x {len(BANDS)} bands = {expected}; check --layout.'
        )
    values = dataset.read()
    missing = values == FILL
    if dataset.nodata is not None:
        missing |= values == dataset.nodata
    floating = np.issubdtype(values.dtype, np.floating)
    if floating:
        missing |= ~np.isfinite(values)
    factor = scale if scale is not None else (1 / SCALE if floating else 1)
    values = np.where(missing, 0, values).astype(np.float64) * factor
    limits = np.iinfo(np.int16)
    if values.min() <= limits.min or values.max() > limits.max:
        raise ChipError(
            f'{pair.image} has values from {values.min():g} to {values.max():g} as reflectance x '
            f'10000; give the right --scale (here {factor:g}).'
        )
    return np.where(missing, FILL, np.rint(values)).astype(np.int16)


def _read_codes(dataset: rasterio.DatasetReader, pair: _Pair) -> np.ndarray:
    """Read a mask as ``(H, W)`` uint8; -1 becomes 255, no data."""
    if dataset.count != 1:
        raise LabelError(f'{pair.mask} has {dataset.count} bands; a mask has 1.')
    codes = dataset.read(1)
    codes = np.where(codes == -1, IGNORE, codes)
    if not ((codes >= 0) & (codes <= 255) & (codes == np.rint(codes))).all():
        raise LabelError(f'{pair.mask} holds values that are no codes from 0 to 255; check it.')
    return codes.astype(np.uint8)
