"""Labelled pixels per sample and class, for any MMSegmentation dataset and its wrappers.

Chips know theirs from the index. Of other datasets the label maps are read once, in parallel, and
the counts are kept in a hidden file beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations as BaseLoadAnnotations
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmengine.logging import print_log
from mmseg.datasets.transforms import LoadAnnotations

from ..data.files import atomic_path
from ..errors import ConfigError, GeosegError, LabelError, OutputWriteError
from ..lulc import IGNORE
from .transforms import LoadHLSLabel

#: Threads that read label maps; decoding leaves Python's lock.
_MAX_THREADS = 16


def dataset_class_pixels(dataset: Any) -> np.ndarray:
    """Count the labelled pixels of each class in each sample of a dataset.

    In this order: what ``dataset.get_class_pixels()`` says; the datasets inside
    ``ConcatDataset``, ``RepeatDataset``, ``ClassBalancedDataset`` or another wrapper of equal
    length; ``class_pixels`` in the data infos; the label maps themselves.

    Args:
        dataset: A dataset of mmengine, MMSegmentation or this package.

    Returns:
        ``(len(dataset), K)`` int64; ignored pixels are not in it.

    Raises:
        ConfigError: If the dataset has neither, or joined datasets differ in their classes.
        LabelError: If a label map cannot be read or holds an unknown class.
    """
    if hasattr(dataset, 'get_class_pixels'):
        return np.asarray(dataset.get_class_pixels(), np.int64)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    if isinstance(dataset, ConcatDataset):
        parts = [dataset_class_pixels(part) for part in dataset.datasets]
        if len({part.shape[1] for part in parts}) > 1:
            raise ConfigError(
                'The joined datasets have different numbers of classes '
                f'({[part.shape[1] for part in parts]}); give them the same classes.'
            )
        return np.concatenate(parts)
    if isinstance(dataset, RepeatDataset):
        return np.tile(dataset_class_pixels(dataset.dataset), (dataset.times, 1))
    if isinstance(dataset, ClassBalancedDataset):
        return dataset_class_pixels(dataset.dataset)[dataset.repeat_indices]
    inner = getattr(dataset, 'dataset', None)
    if inner is not None and len(inner) == len(dataset):
        return dataset_class_pixels(inner)
    if not hasattr(dataset, 'get_data_info'):
        raise ConfigError(
            f'{type(dataset).__name__} does not tell the classes of its samples; give it a method '
            'get_class_pixels() that returns an (N, K) array.'
        )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    if infos and all('class_pixels' in info for info in infos):
        return np.asarray([info['class_pixels'] for info in infos], np.int64)
    return _count_labels(dataset, infos)


def _count_labels(dataset: Any, infos: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Read the label maps, or the file that an earlier run left beside them."""
    if not all('seg_map_path' in info for info in infos):
        raise ConfigError(
            f'{type(dataset).__name__} has samples without a label map (seg_map_path); classes '
            'cannot be balanced without labels.'
        )
    classes = len(dataset.metainfo.get('classes') or ())
    if not classes:
        raise ConfigError(
            f'{type(dataset).__name__} names no classes; set metainfo=dict(classes=).'
        )
    loader = _label_loader(dataset)
    cache, signature = _cache_of(infos, f'{classes} {loader!r}')
    counts = _read_cache(cache, signature, (len(infos), classes))
    if counts is not None:
        return counts

    print_log(f'Counting the classes in {len(infos)} label maps, once.', 'current')
    ignore = getattr(dataset, 'ignore_index', IGNORE)

    def count(info: Mapping[str, Any]) -> np.ndarray:
        return _count_one(loader, info, classes, ignore)

    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
        counts = np.stack(list(pool.map(count, infos)))
    if cache is not None:
        try:
            with atomic_path(cache) as partial, partial.open('wb') as file:
                np.savez(file, counts=counts, signature=signature)
        except OutputWriteError as error:
            print_log(f'The class counts are not kept for the next run: {error}', 'current')
    return counts


def _label_loader(dataset: Any) -> Any:
    """The transform of the dataset's pipeline that reads labels, or MMSegmentation's own."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    loaders = (BaseLoadAnnotations, LoadHLSLabel)
    return next((t for t in transforms if isinstance(t, loaders)), None) or LoadAnnotations()


def _count_one(loader: Any, info: Mapping[str, Any], classes: int, ignore: int) -> np.ndarray:
    path = info['seg_map_path']
    try:
        label = loader({**info, 'seg_fields': []})['gt_seg_map']
    except GeosegError:
        raise
    except Exception as error:  # decoders raise what they like
        raise LabelError(f'{path} cannot be read as a label map ({error}).') from error
    values = np.bincount(label.ravel())
    unknown = [int(v) for v in np.flatnonzero(values) if v >= classes and v != ignore]
    if unknown:
        raise LabelError(
            f'{path} holds the label(s) {unknown}, but the dataset has the classes 0 to '
            f'{classes - 1} and ignores {ignore}; check the classes or reduce_zero_label.'
        )
    counts = np.zeros(classes, np.int64)
    counts[: len(values[:classes])] = values[:classes]
    if ignore < classes:
        counts[ignore] = 0
    return counts


def _cache_of(infos: Sequence[Mapping[str, Any]], settings: str) -> tuple[Path | None, str]:
    """The file for the counts and what must hold for it to be valid.

    The name depends on the samples and settings, the signature also on size and time of the files.
    Labels that are no local files (``petrel``, ``http``) are not cached.
    """
    paths = [Path(info['seg_map_path']).absolute() for info in infos]
    try:
        stats = [path.stat() for path in paths]
    except OSError:
        return None, ''
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    maps = sorted(
        {json.dumps([str(i.get('label_map')), i.get('reduce_zero_label')]) for i in infos}
    )
    names = [os.path.relpath(path, folder) for path in paths]
    key = hashlib.sha256(json.dumps([settings, maps, names]).encode()).hexdigest()
    state = json.dumps([[s.st_size, s.st_mtime_ns] for s in stats])
    signature = hashlib.sha256((key + state).encode()).hexdigest()
    return folder / f'.class_pixels-{key[:16]}.npz', signature


def _read_cache(cache: Path | None, signature: str, shape: tuple[int, int]) -> np.ndarray | None:
    """The counts of an earlier run, or ``None`` if there are none or files have changed."""
    if cache is None or not cache.is_file():
        return None
    try:
        with np.load(cache) as stored:
            valid = str(stored['signature']) == signature and stored['counts'].shape == shape
            return stored['counts'] if valid else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # damaged: counted again and replaced
