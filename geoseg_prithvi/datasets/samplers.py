"""A sampler that shows the network all classes as evenly as the data allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.dist import broadcast_object_list, get_dist_info, sync_random_seed
from mmengine.logging import print_log
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from ..data.balance import balanced_weights
from ..data.class_mix import class_shares, kl_divergence
from ..data.draws import epoch_order
from ..errors import ConfigError, GeosegError
from .label_counts import dataset_class_pixels


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What all ranks must know alike; rank 0 makes it."""

    weights: np.ndarray  # (N,)
    strata: np.ndarray  # (N,) commonest class of each sample
    target: np.ndarray  # (K,)
    bound: float  # certified lower bound of the KL under the cap


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(Sampler[int]):
    """Draw samples so that the pixels of all classes come as close to equal shares as they can.

    The weights are those of :func:`geoseg_prithvi.data.balance.balanced_weights`. An epoch is a
    shuffled list of whole numbers of draws: each sample comes as often as its weight says, rounded
    down or up. The list depends on seed and epoch alone, is the same on every rank, and rank r of
    R takes its entries r, r + R, ...: whatever the number of ranks and workers, the same samples
    are drawn, none twice by accident. If R does not divide the epoch, the first entries are
    repeated at the end, as in mmengine's ``DefaultSampler``. A log line tells the class mix of
    each epoch and its distance from the target.

    With ``infinite=True`` the epochs follow each other without end and without padding, for
    ``IterBasedTrainLoop``; on ``--resume`` the order goes on where it stopped.

    Args:
        dataset: Any MMSegmentation dataset, also within ``ConcatDataset`` or ``RepeatDataset``.
            If it has no index, its label maps are counted once, see
            :mod:`geoseg_prithvi.datasets.label_counts`.
        seed: 0 or more; the same on all ranks. If not given, one is drawn and shared.
        num_samples: Length of an epoch over all ranks; by default that of the dataset.
        max_repeat: No sample is drawn more often than this many times the average.
        temperature: Share of the draws that is balanced: 0 draws all samples alike ("as they
            come"), 1 balances fully.
        target: Wanted share per class, any positive scale; equal shares if not given.
        infinite: Go on without end.

    Raises:
        ConfigError: If an argument is out of range.
        ChipIndexError: If no sample has a labelled pixel.
    """

    def __init__(
        self,
        dataset: Any,
        seed: int | None = None,
        num_samples: int | None = None,
        max_repeat: float = 8.0,
        temperature: float = 1.0,
        target: Sequence[float] | None = None,
        infinite: bool = False,
    ) -> None:
        if not 0 <= temperature <= 1:
            raise ConfigError(f'temperature must be from 0 to 1, but is {temperature}.')
        if num_samples is not None and num_samples < 1:
            raise ConfigError(f'num_samples must be at least 1, but is {num_samples}.')
        self.rank, self.world_size = get_dist_info()
        self.seed = sync_random_seed() if seed is None else seed
        self.max_repeat = max_repeat
        self.temperature = temperature
        self.epoch = 0
        self._start = 0
        self._shares: np.ndarray | None = None
        plan = self._shared_plan(dataset, target)
        self.weights, self.target = plan.weights, plan.target
        self._strata, self._bound = plan.strata, plan.bound
        self.num_samples = len(self.weights) if num_samples is None else num_samples
        self.infinite = infinite
        if infinite:
            # mmengine fast-forwards a sampler that has `skip`. The finite form must not: its
            # epochs may end in a smaller batch, which mmengine does not reckon with.
            self.skip = self._skip

    def _shared_plan(self, dataset: Any, target: Sequence[float] | None) -> _Plan:
        """Make the plan on rank 0 and hand it to all: other processors round differently."""
        box: list[_Plan | GeosegError | None] = [None]
        if self.rank == 0:
            try:
                box[0] = self._plan(dataset, target)
            except GeosegError as error:
                box[0] = error
        broadcast_object_list(box)
        if isinstance(box[0], GeosegError):
            raise box[0]
        return box[0]

    def _plan(self, dataset: Any, target: Sequence[float] | None) -> _Plan:
        pixels = dataset_class_pixels(dataset)
        wish = None if target is None else np.asarray(target, float)
        solution = balanced_weights(pixels, self.max_repeat, wish)
        names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        self._names = list(names or range(pixels.shape[1]))
        self._shares = class_shares(pixels)
        if solution.absent:
            absent = ', '.join(str(self._names[k]) for k in solution.absent)
            print_log(f'{type(self).__name__}: no sample holds {absent}.', 'current')
        balanced = self.temperature * solution.weights
        return _Plan(
            weights=balanced + (1 - self.temperature) / len(pixels),
            strata=self._shares.argmax(axis=1).astype(np.uint16),
            target=solution.target,
            bound=solution.bound,
        )

    def _order(self, epoch: int) -> np.ndarray:
        """The draws of an epoch over all ranks, ``(num_samples,)``."""
        order = epoch_order(self.weights, self.num_samples, self.seed, epoch, self._strata)
        if self._shares is not None:
            self._log_mix(epoch, order)
        return order

    def _log_mix(self, epoch: int, order: np.ndarray) -> None:
        counts = np.bincount(order, minlength=len(self.weights))
        mix = counts @ self._shares
        mix = mix / max(mix.sum(), 1e-300)
        shares = ', '.join(f'{n} {100 * p:.1f} %' for n, p in zip(self._names, mix, strict=True))
        print_log(
            f'{type(self).__name__}: epoch {epoch} draws {len(order)} times from '
            f'{np.count_nonzero(counts)} of {len(counts)} samples; KL from the target '
            f'{kl_divergence(self.target, mix):.4f} (least possible with '
            f'max_repeat={self.max_repeat:g}: {self._bound:.4f}); {shares}',
            'current',
        )

    def __iter__(self) -> Iterator[int]:
        if self.infinite:
            yield from self._endless()
        else:
            order = self._order(self.epoch)
            padded = np.resize(order, len(self) * self.world_size)
            yield from padded[self.rank :: self.world_size].tolist()

    def _endless(self) -> Iterator[int]:
        # Position in the endless list of all ranks
        epoch, offset = divmod(self._start * self.world_size + self.rank, self.num_samples)
        while True:
            mine = self._order(epoch)[offset :: self.world_size]
            yield from mine.tolist()
            skipped, offset = divmod(offset + len(mine) * self.world_size, self.num_samples)
            epoch += skipped

    def __len__(self) -> int:
        """Draws of this rank in an epoch; the infinite form has this length per epoch too."""
        return -(-self.num_samples // self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration draws; the infinite form counts by itself."""
        self.epoch = epoch

    def _skip(self, num_samples: int) -> None:
        """Make the next iteration start after ``num_samples`` draws of this rank."""
        if num_samples < 0:
            raise ConfigError(f'num_samples must be 0 or more, but is {num_samples}.')
        self._start = num_samples
