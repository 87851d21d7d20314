"""From a training checkpoint to a published model: what is kept, its card, and the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor

from ..compat import load_checkpoint_file
from ..data.index import index_metadata, read_index
from ..errors import CheckpointMismatchError, DataNotFoundError, NetworkError, WrongCredentialsError
from ..hls import BANDS
from ..inference.segmentor import drop_pretrained, legend_of, load_state
from ..models.data_preprocessor import read_normalization
from ..models.hub import fetch_checkpoint
from ..models.lora import merge_lora
from ..version import __version__


def collect(
    cfg: Config,
    checkpoint: str,
    metrics: Mapping[str, float] | None = None,
    data_card: str | None = None,
) -> tuple[Config, dict[str, Tensor], dict[str, Any]]:
    """Gather what a published model consists of, and check that it fits together.

    LoRA is merged into the weights, statistics of a file are written out, and the optimiser, the
    log and paths of pre-trained weights are left behind.

    Args:
        cfg: The config that the model was trained with.
        checkpoint: A training checkpoint, or ``hf://owner/repo/file[@revision]``.
        metrics: Scores by name; ``None`` takes the last validation from the checkpoint.
        data_card: What to say of the data (Markdown); ``None`` describes the chips of the
            training data where they are here.

    Returns:
        Config, state dict and ``meta`` for :func:`~geoseg_prithvi.models.write_published`.

    Raises:
        CheckpointMismatchError: If the checkpoint does not fit the config.
        UnsafeCheckpointError: If it holds more than tensors and plain data.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    path = fetch_checkpoint(checkpoint)
    saved = load_checkpoint_file(path)
    state = saved.get('state_dict') if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointMismatchError(f'{path} holds no state_dict; give a model checkpoint.')
    state = {re.sub(r'^module\.', '', key): value for key, value in state.items()}

    cfg = Config(cfg.to_dict())
    drop_pretrained(cfg.model)
    lora = cfg.model.backbone.get('lora')
    if lora is not None:
        state = merge_lora(state, lora.get('alpha', lora['rank']))
        cfg.model.backbone.lora = None
    normalization = read_normalization(cfg.model.data_preprocessor.get('normalization', 'v1'))
    values = dict(mean=list(normalization.mean), std=list(normalization.std))
    cfg.model.data_preprocessor.normalization = values
    model = MODELS.build(cfg.model)
    load_state(model, state, path)

    saved_meta = saved.get('meta') or {}
    legend = legend_of(model.decode_head, saved_meta.get('dataset_meta') or {}, path)
    meta = dict(
        dataset_meta=dict(
            classes=list(legend.names), palette=[[int(v) for v in c] for c in legend.colors]
        ),
        normalization=values,
        metrics=dict(metrics) if metrics is not None else last_validation(saved),
        data_card=describe_chips(cfg) if data_card is None else data_card,
        iterations=saved_meta.get('iter'),
    )
    if 'temperature' in saved_meta:  # of tools/calibrate.py
        meta['temperature'] = saved_meta['temperature']
    return cfg, state, meta


def last_validation(saved: Mapping[str, Any]) -> dict[str, float]:
    """Return the last scores that a training checkpoint has in its log, by name."""
    scalars = (saved.get('message_hub') or {}).get('log_scalars') or {}
    return {
        name.removeprefix('val/'): round(float(history.current()), 4)
        for name, history in scalars.items()
        if name.startswith('val/') and not name.endswith('time')
    }


def describe_chips(cfg: Config) -> str:
    """Describe the chips of the training dataset in Markdown; empty where they are not here."""
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    columns = ('split', 'tile', 'dates', 'sensors', 'lon', 'lat', 'class_pixels')
    try:
        table = read_index(dataset.get('data_root', ''), columns=columns)
    except DataNotFoundError:
        return ''
    rows = table.to_pylist()
    classes = index_metadata(table)['classes']
    lines = ['| split | chips | ' + ' | '.join(classes) + ' |', '|---' * (len(classes) + 2) + '|']
    for split in sorted({row['split'] for row in rows}):
        part = [row for row in rows if row['split'] == split]
        pixels = np.sum([row['class_pixels'] for row in part], axis=0)
        shares = ' | '.join(f'{100 * p:.1f} %' for p in pixels / max(pixels.sum(), 1))
        lines.append(f'| {split} | {len(part)} | {shares} |')
    dates = [date for row in rows for date in row['dates']]
    lon, lat = ([row[key] for row in rows] for key in ('lon', 'lat'))
    sensors = sorted({sensor for row in rows for sensor in row['sensors']})
    lines += [
        '',
        f'{len(rows)} chips of {len({row["tile"] for row in rows})} MGRS tiles, '
        f'{min(lon):.2f} to {max(lon):.2f} degrees east, {min(lat):.2f} to {max(lat):.2f} degrees '
        f'north; HLS {" and ".join(sensors)}, {min(dates)} to {max(dates)}.',
    ]
    return '\n'.join(lines)


def model_card(name: str, cfg: Config, meta: Mapping[str, Any], repo: str | None = None) -> str:
    """Return the README of a published model (Markdown with the hub's front matter).

    Args:
        name: File name of the model.
        cfg: Its config.
        meta: As :func:`collect` returns it.
        repo: ``owner/repo`` on the hub, if it goes there.
    """
    where = name if repo is None else f'hf://{repo}/{name}'
    backbone = cfg.model.backbone
    arch = backbone.get('arch', '')
    frames = cfg.model.data_preprocessor.get('num_frames', 3)
    size = backbone.get('img_size', 224)
    numbers = meta['normalization']
    lines = [
        '---',
        'library_name: geoseg_prithvi',
        'pipeline_tag: image-segmentation',
        'tags: [earth-observation, land-cover, hls, mmsegmentation]',
        '---',
        f'# {Path(name).stem}',
        '',
        f'{backbone.type} {arch if isinstance(arch, str) else ""}'.rstrip()
        + f' with {cfg.model.decode_head.type}, made with geoseg_prithvi {__version__}'
        + (f' in {meta["iterations"]} iterations.' if meta.get('iterations') else '.'),
        '',
        '## Use',
        '```',
        f'tools/predict.py {where} SCENE OUT.tif',
        f'tools/test.py {where} --cfg-options test_dataloader.dataset.data_root=CHIPS',
        '```',
        '',
        '## Input',
        f'{frames} date(s) of Harmonized Landsat Sentinel-2 V2.0, surface reflectance x 10000 in '
        f'int16, nodata -9999, {size} x {size} px. Normalisation:',
        '',
        '| band | mean | std |',
        '|---|---|---|',
        *(
            f'| {band} | {mean:g} | {std:g} |'
            for band, mean, std in zip(
                _bands(len(numbers['mean'])), numbers['mean'], numbers['std'], strict=True
            )
        ),
        '',
        '## Classes',
        '| index | class | colour |',
        '|---|---|---|',
        *(
            f'| {i} | {label} | #{r:02x}{g:02x}{b:02x} |'
            for i, (label, (r, g, b)) in enumerate(
                zip(meta['dataset_meta']['classes'], meta['dataset_meta']['palette'], strict=True)
            )
        ),
        '',
    ]
    if meta['metrics']:
        lines += ['## Scores', '| score | value |', '|---|---|']
        lines += [f'| {key} | {value:g} |' for key, value in meta['metrics'].items()]
        lines.append('')
    if meta['data_card']:
        lines += ['## Data', meta['data_card'], '']
    return '\n'.join(lines)


def _bands(count: int) -> Sequence[str]:
    return BANDS if count == len(BANDS) else [f'band {i}' for i in range(count)]


def push(path: Path, card: str, repo: str) -> str:
    """Upload a published model and its card in one commit, and return the address.

    The repository is made if it is not there. ``HF_TOKEN`` and ``HF_ENDPOINT`` of the hub hold.

    Raises:
        WrongCredentialsError: If the hub does not let this user write there.
        NetworkError: If it cannot be reached or fails.
    """
    api = HfApi()
    operations = [
        CommitOperationAdd(path.name, path),
        CommitOperationAdd('README.md', card.encode()),
    ]
    try:
        api.create_repo(repo, exist_ok=True)
        commit = api.create_commit(repo, operations, commit_message=f'Add {path.name}')
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise WrongCredentialsError(
                f'The hub does not let you write to {repo} ({status}); set HF_TOKEN to a token '
                'with write access, or push to a repository of your own.'
            ) from error
        raise NetworkError(
            f'{path.name} could not be pushed to {repo}: the hub answered {status}; try again.'
        ) from error
    except (OSError, RuntimeError) as error:
        reason = ' '.join(str(error).split())
        raise NetworkError(
            f'{path.name} could not be pushed to {repo} ({reason}); it is on this disk, so push '
            'it when the hub can be reached.'
        ) from error
    return commit.commit_url
