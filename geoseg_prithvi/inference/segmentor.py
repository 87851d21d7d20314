"""A trained MMSegmentation model as a scorer of windows."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..compat import load_checkpoint_file
from ..errors import CheckpointMismatchError, ConfigError
from ..hls import BANDS
from ..lulc import IO_LULC, Legend

#: Flips that test-time augmentation averages over, as dimensions of (N, C, H, W).
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


class Segmentor:
    """An MMSegmentation segmentor that gives class probabilities.

    Args:
        model: The segmentor, in evaluation mode, on its device.
        legend: Names and colours of its classes.
        tta: Average over the four flips of each window.
        bf16: Compute in bfloat16 where the model allows (autocast).
        temperature: Divides the logits before the softmax.
    """

    def __init__(
        self,
        model: nn.Module,
        legend: Legend,
        *,
        tta: bool = False,
        bf16: bool = False,
        temperature: float = 1.0,
    ) -> None:
        self.model = model
        self.legend = legend
        self.num_classes = len(legend)
        self.device = next(model.parameters()).device
        self._flips = FLIPS if tta else FLIPS[:1]
        self._bf16 = bf16
        self._temperature = temperature

    def __call__(self, pixels: Tensor, metas: list[dict[str, Any]]) -> Tensor:
        """Return class probabilities ``(N, K, box, box)`` float32 of int16 ``(N, T*C, box, box)``.

        Flipping leaves the place and the dates of a window as they are.
        """
        total = None
        for flip in self._flips:
            probabilities = self._predict(pixels.flip(flip) if flip else pixels, metas)
            if flip:
                probabilities = probabilities.flip(flip)
            total = probabilities if total is None else total + probabilities
        return total / len(self._flips) if len(self._flips) > 1 else total

    def _predict(self, pixels: Tensor, metas: list[dict[str, Any]]) -> Tensor:
        data = self.model.data_preprocessor(dict(inputs=list(pixels), data_samples=None))
        inputs = data['inputs']
        height, width = pixels.shape[-2:]
        # The preprocessor may have padded to a multiple of the patch.
        metas = [{**meta, 'img_shape': inputs.shape[-2:]} for meta in metas]
        autocast = (
            torch.autocast(self.device.type, torch.bfloat16)
            if self._bf16
            else contextlib.nullcontext()
        )
        with autocast:
            logits = self.model.encode_decode(inputs, metas)
        logits = logits[..., :height, :width].float()
        if logits.shape[1] == 1:  # one channel: the second class against the first, by threshold
            threshold = torch.tensor(self.model.decode_head.threshold or 0.5)
            logits = torch.cat([torch.zeros_like(logits), logits - threshold.logit()], dim=1)
        if self._temperature != 1:
            logits = logits / self._temperature
        return logits.softmax(dim=1)


def build_segmentor(
    cfg: Config,
    *,
    device: str = 'cpu',
    tta: bool = False,
    bf16: bool = False,
    checkpoint: Path | None = None,
) -> Segmentor:
    """Build the model of a config and load a checkpoint into it.

    Class names and colours come from the checkpoint, where training wrote those of the chips; so
    does the temperature, where ``tools/calibrate.py`` wrote one.

    Args:
        cfg: The config.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        tta: Average over the four flips of each window.
        bf16: Compute in bfloat16.
        checkpoint: ``None`` leaves the weights random, as for timing.

    Raises:
        WeightsNotFoundError: If there is no checkpoint.
        UnsafeCheckpointError: If it holds more than tensors and plain data.
        CheckpointMismatchError: If it does not fit the model, e.g. has another class count.
        ConfigError: If the config has no segmentor, or the device is not there.
    """
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    if 'model' not in cfg:
        raise ConfigError('The config has no model; give a config that a model was trained with.')
    settings = cfg.model.copy()
    drop_pretrained(settings)
    model = MODELS.build(settings)
    if not callable(getattr(model, 'encode_decode', None)):
        raise ConfigError(
            f'{type(model).__name__} is no segmentor of MMSegmentation (no encode_decode), so it '
            'cannot make maps.'
        )
    meta = {} if checkpoint is None else load_weights(model, checkpoint)
    legend = legend_of(model.decode_head, meta.get('dataset_meta') or {}, checkpoint)
    try:
        model = model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f'--device {device} cannot be used here ({str(error).splitlines()[0]}); use cpu, or a '
            'GPU that torch.cuda sees.'
        ) from error
    return Segmentor(model, legend, tta=tta, bf16=bf16, temperature=meta.get('temperature', 1.0))


def load_weights(model: nn.Module, checkpoint: Path) -> Mapping[str, Any]:
    """Load a checkpoint, and return its ``meta``: ``dataset_meta``, ``temperature`` and more."""
    saved = load_checkpoint_file(checkpoint, mmap=True)  # copied once, into the model
    state = saved.get('state_dict', saved) if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointMismatchError(f'{checkpoint} holds no state_dict; give a model checkpoint.')
    load_state(model, state, checkpoint)
    return (saved.get('meta') or {}) if 'state_dict' in saved else {}


def drop_pretrained(settings: dict[str, Any]) -> None:
    """Forget where weights for training came from: the checkpoint brings them all."""
    for key, value in settings.items():
        if key in ('init_cfg', 'pretrained'):
            settings[key] = None
        elif isinstance(value, dict):
            drop_pretrained(value)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for item in value:
                if isinstance(item, dict):
                    drop_pretrained(item)


def load_state(model: nn.Module, state: Mapping[str, Tensor], checkpoint: Path) -> None:
    """Load a state dict strictly.

    Raises:
        CheckpointMismatchError: If a weight is missing, too many or of another shape.
    """
    # DistributedDataParallel puts a prefix before every key.
    state = {re.sub(r'^module\.', '', key): value for key, value in state.items()}
    own = model.state_dict()
    shapes = {
        key: (tuple(state[key].shape), tuple(own[key].shape))
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    }
    classes = next((pair for key, pair in shapes.items() if key.endswith('conv_seg.weight')), None)
    if classes is not None and classes[0][0] != classes[1][0]:
        raise CheckpointMismatchError(
            f'{checkpoint} was trained for {classes[0][0]} classes, but the config has '
            f'{classes[1][0]}; use the config it was trained with.'
        )
    problems = [
        *(f'{key} is {a} there and {b} in the model' for key, (a, b) in sorted(shapes.items())),
        *(f'{key} is missing' for key in sorted(own.keys() - state.keys())),
        *(f'{key} is unknown to the model' for key in sorted(state.keys() - own.keys())),
    ]
    if problems:
        more = f' and {len(problems) - 1} more' if len(problems) > 1 else ''
        raise CheckpointMismatchError(
            f'{checkpoint} does not fit the config: {problems[0]}{more}; use the config it was '
            'trained with.'
        )
    model.load_state_dict(state)


def legend_of(head: nn.Module, dataset_meta: Mapping[str, Any], checkpoint: Path | None) -> Legend:
    """Return names and colours of the classes of a model.

    Args:
        head: The decode head.
        dataset_meta: ``classes`` and ``palette`` of the training data, if the checkpoint has them.
        checkpoint: For the message.

    Raises:
        CheckpointMismatchError: If the names are not as many as the classes.
    """
    count = head.num_classes
    names, colors = dataset_meta.get('classes'), dataset_meta.get('palette')
    if names is None and count == len(IO_LULC):
        return IO_LULC
    if names is None or colors is None:
        raise CheckpointMismatchError(
            f'{checkpoint} does not name its {count} classes; use a checkpoint as training wrote '
            'it, or add classes and palette to its meta as dataset_meta.'
        )
    if not len(names) == len(colors) == count:
        raise CheckpointMismatchError(
            f'{checkpoint} was trained for {len(names)} classes, but the config has {count}; use '
            'the config it was trained with.'
        )
    if tuple(names) == IO_LULC.names:
        return IO_LULC
    return Legend(
        name='of the training data',
        codes=tuple(range(count)),
        names=tuple(names),
        colors=tuple((int(r), int(g), int(b)) for r, g, b in colors),
    )


def input_spec(cfg: Config) -> tuple[int, tuple[str, ...], int | None]:
    """Read from a config what a model takes: number of frames, bands, and crop size if stated."""
    loader = find_dict(cfg.to_dict(), lambda item: item.get('type') == 'LoadHLSChip') or {}
    backbone = cfg.model.get('backbone', {})
    frames = loader.get('num_frames') or cfg.get('num_frames') or backbone.get('num_frames')
    if frames is None:
        raise ConfigError(
            'The config does not say how many frames the model takes; set num_frames = 3 at its '
            'top level.'
        )
    crop = cfg.get('crop_size') or backbone.get('img_size')
    if isinstance(crop, Sequence):
        crop = crop[0]
    return int(frames), tuple(loader.get('bands') or BANDS), crop


def find_dict(item: Any, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Return the first dict anywhere in a config that is wanted."""
    if isinstance(item, dict):
        if wanted(item):
            return item
        item = list(item.values())
    if isinstance(item, list | tuple):
        for value in item:
            found = find_dict(value, wanted)
            if found is not None:
                return found
    return None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open('rb') as file:
        for chunk in iter(lambda: file.read(1 << 20), b''):
            digest.update(chunk)
    return digest.hexdigest()


def wants_dates(model: nn.Module) -> bool:
    """Say whether a model embeds dates."""
    return 'time' in getattr(model.backbone, 'coords_encoding', ())


def wants_location(model: nn.Module) -> bool:
    """Say whether a model embeds locations."""
    return 'location' in getattr(model.backbone, 'coords_encoding', ())
