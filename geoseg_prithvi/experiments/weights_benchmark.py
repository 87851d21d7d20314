"""Time and memory of loading and converting weights of full size: true names and shapes, random."""

from __future__ import annotations

import ctypes
import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import Tensor

from ..inference.segmentor import load_weights
from ..models import PrithviMAE, PrithviViT, load_hls_foundation, load_prithvi_weights
from ..models.conversion import save_converted


class PeakMemory:
    """The process's own memory while a block runs; files that are only mapped do not count.

    Read from ``/proc`` every millisecond, so this is for Linux (with glibc).

    Attributes:
        start: MB at the start of the block.
        peak: Largest MB seen until its end.
    """

    def __enter__(self) -> PeakMemory:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before could be used again unseen
        self.start = self.peak = self._now()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.001):
            self.peak = max(self.peak, self._now())

    @staticmethod
    def _now() -> int:
        with Path('/proc/self/status').open() as file:
            return next(int(line.split()[1]) // 1000 for line in file if line.startswith('RssAnon'))


@dataclasses.dataclass(frozen=True)
class WeightsTiming:
    """What one step took.

    Attributes:
        step: What was done.
        size: Size of the file in MB.
        build: Seconds to build the model.
        seconds: Seconds of the step, the model being there.
        memory: Peak during the step over the memory before it, in MB.
    """

    step: str
    size: int
    build: float
    seconds: float
    memory: int


def random_v1_state() -> dict[str, Tensor]:
    """Return what the published file of Prithvi-EO-1.0-100M holds, with random values."""
    with torch.device('meta'):
        shapes = PrithviMAE(dict(arch='v1-100M')).state_dict()
    names = {k.removeprefix('encoder.').removeprefix('decoder.'): v for k, v in shapes.items()}
    return {name: torch.randn(value.shape) for name, value in names.items()}


def random_hls_foundation(cfg: Config) -> dict[str, object]:
    """Return what a checkpoint of hls-foundation-os for ``cfg`` holds, with random values."""
    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        shapes = MODELS.build(cfg.model).state_dict()
    state = {key: torch.rand(value.shape).to(value.dtype) for key, value in shapes.items()}
    backbone = {k: v for k, v in cfg.model.backbone.items() if k not in ('type', 'init_cfg')}
    state['backbone.pos_embed'] = PrithviViT(**backbone).pos_embed.clone()
    classes = tuple(f'class {i}' for i in range(cfg.model.decode_head.num_classes))
    return dict(meta=dict(CLASSES=classes, mmseg_version='0.30.0'), state_dict=state)


def time_weights(folder: Path, config: Path) -> Iterator[WeightsTiming]:
    """Load Prithvi-EO-1.0-100M, convert a fine-tuned checkpoint, and load the result strictly.

    Args:
        folder: An empty folder for some 1.5 GB.
        config: Config of the fine-tuned model.
    """
    cfg = Config.fromfile(config)
    torch.save(random_v1_state(), folder / 'v1.pt')
    torch.save(random_hls_foundation(cfg), folder / 'theirs.pth')

    start = time.perf_counter()
    encoder = PrithviViT('v1-100M')
    build = time.perf_counter() - start
    with PeakMemory() as memory:
        start = time.perf_counter()
        load_prithvi_weights(encoder, folder / 'v1.pt')
        seconds = time.perf_counter() - start
    yield _timing('load pre-trained', folder / 'v1.pt', build, seconds, memory)
    del encoder

    start = time.perf_counter()
    model = MODELS.build(cfg.model)
    build = time.perf_counter() - start
    with PeakMemory() as memory:
        start = time.perf_counter()
        _, meta = load_hls_foundation(model, folder / 'theirs.pth')
        save_converted(model, meta, folder / 'ours.pth')
        seconds = time.perf_counter() - start
    yield _timing('convert fine-tuned', folder / 'theirs.pth', build, seconds, memory)

    with PeakMemory() as memory:
        start = time.perf_counter()
        load_weights(model, folder / 'ours.pth')
        seconds = time.perf_counter() - start
    yield _timing('load converted', folder / 'ours.pth', build, seconds, memory)


def _timing(
    step: str, file: Path, build: float, seconds: float, memory: PeakMemory
) -> WeightsTiming:
    size = file.stat().st_size // 10**6
    return WeightsTiming(step, size, build, seconds, memory.peak - memory.start)
