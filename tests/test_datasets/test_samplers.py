from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.logging import MMLogger
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmseg.registry import DATA_SAMPLERS
from torch.multiprocessing import start_processes
from torch.utils.data import DataLoader

from geoseg_prithvi.data.balance import balanced_weights
from geoseg_prithvi.data.draws import epoch_order, systematic_counts
from geoseg_prithvi.datasets import ClassBalancedSampler
from geoseg_prithvi.errors import ChipIndexError, ConfigError

PIXELS = np.random.default_rng(0).multinomial(
    1024, np.random.default_rng(1).dirichlet((0.9, 0.5, 0.2, 0.05), size=50)
)


class Counted:
    """A dataset that knows its counts; a sample is its index."""

    def __init__(self, pixels=PIXELS):
        self.pixels = np.asarray(pixels)
        self.metainfo = dict(classes=('a', 'b', 'c', 'd'))

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, i):
        return i

    def get_class_pixels(self):
        return self.pixels


def build(pixels=PIXELS, **kwargs):
    return DATA_SAMPLERS.build(
        dict(type='ClassBalancedSampler', dataset=Counted(pixels), **(dict(seed=7) | kwargs))
    )


def counts_of(order, n=50):
    return np.bincount(list(order), minlength=n)


@pytest.mark.parametrize('temperature', [0.0, 0.3, 1.0])
@pytest.mark.parametrize('num_samples', [None, 7, 333])
def test_each_count_is_its_expectation_rounded(temperature, num_samples):
    sampler = build(temperature=temperature, num_samples=num_samples)
    expected = len(sampler) * (
        temperature * balanced_weights(PIXELS).weights + (1 - temperature) / len(PIXELS)
    )
    for epoch in range(3):
        sampler.set_epoch(epoch)
        counts = counts_of(sampler)
        assert counts.sum() == len(sampler) == (num_samples or len(PIXELS))
        assert np.abs(counts - expected).max() < 1


def test_counts_are_right_on_average():
    weights = np.array([0.05, 0.15, 0.37, 0.43])
    rng = np.random.default_rng(0)
    strata = np.zeros(4, np.uint8)
    mean = np.mean([systematic_counts(weights, 5, rng, strata) for _ in range(4000)], axis=0)
    assert np.abs(mean - 5 * weights).max() < 0.03  # four standard errors


def test_strata_get_their_share():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(300))
    strata = rng.integers(0, 3, 300).astype(np.uint8)
    counts = systematic_counts(weights, 60, rng, strata)
    for k in range(3):
        assert abs(counts[strata == k].sum() - 60 * weights[strata == k].sum()) < 1 + 1e-6


def test_temperature_0_is_one_pass_as_they_come():
    assert sorted(build(temperature=0.0)) == list(range(len(PIXELS)))


def test_balances_the_mix():
    shares = PIXELS / PIXELS.sum(axis=1, keepdims=True)
    solution = balanced_weights(PIXELS)
    mix = counts_of(build(num_samples=500)) @ shares / 500
    kl = np.mean(np.log(0.25 / mix))
    before = np.mean(np.log(0.25 / shares.mean(axis=0)))
    assert kl < 1.02 * solution.kl + 1e-4 < 0.5 * before


def test_target_is_followed():
    shares = PIXELS / PIXELS.sum(axis=1, keepdims=True)
    mix = counts_of(build(num_samples=5000, target=[1, 1, 0, 0], max_repeat=40)) @ shares / 5000
    assert mix[:2].sum() > 0.98
    assert abs(mix[0] - mix[1]) < 0.02


def test_order_depends_on_seed_and_epoch_alone():
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            for _ in range(2):
                sampler = build(seed=seed)
                sampler.set_epoch(epoch)
                np.random.seed(None)
                torch.manual_seed(int(np.random.randint(1 << 30)))
                order = list(sampler)
                assert orders.setdefault((seed, epoch), order) == order
    assert len({tuple(order) for order in orders.values()}) == 4


@pytest.mark.parametrize('workers', [0, 2])
def test_order_is_independent_of_workers(workers):
    loader = DataLoader(Counted(), batch_size=8, sampler=build(), num_workers=workers)
    assert torch.cat(list(loader)).tolist() == list(build())


@pytest.mark.parametrize('infinite', [False, True])
@pytest.mark.parametrize(('world', 'num_samples'), [(1, 50), (2, 51), (3, 50), (5, 3)])
def test_ranks_share_one_permutation(monkeypatch, infinite, world, num_samples):
    ranks = []
    for rank in range(world):
        monkeypatch.setattr(
            'geoseg_prithvi.datasets.samplers.get_dist_info', lambda rank=rank: (0, world)
        )
        sampler = build(infinite=infinite, num_samples=num_samples)
        sampler.rank = rank
        ranks.append(list(islice(sampler, 40 if infinite else None)))
    woven = np.stack(ranks, axis=1).ravel()  # equal lengths, or stack fails
    epochs = [epoch_order(sampler.weights, num_samples, 7, e, sampler._strata) for e in range(99)]
    if infinite:
        assert woven.tolist() == np.concatenate(epochs)[: len(woven)].tolist()
    else:
        assert len(woven) == -(-num_samples // world) * world
        assert woven.tolist() == np.resize(epochs[0], len(woven)).tolist()


def _gloo_rank(rank, world, out):
    dist.init_process_group('gloo', init_method=f'file://{out}/store', rank=rank, world_size=world)

    class OnRank0(Counted):
        def get_class_pixels(self):
            if rank:
                raise RuntimeError('only rank 0 counts')
            return super().get_class_pixels()

    sampler = ClassBalancedSampler(OnRank0())  # no seed: one is shared
    infinite = ClassBalancedSampler(OnRank0(), seed=sampler.seed, infinite=True)
    np.savez(
        f'{out}/{rank}.npz',
        finite=list(sampler),
        infinite=list(islice(infinite, 100)),
        weights=sampler.weights,
    )
    try:
        ClassBalancedSampler(OnRank0(np.zeros((50, 4), int)))
    except ChipIndexError:
        Path(f'{out}/refused{rank}').touch()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize('world', [1, 2, 3])
def test_gloo_ranks(tmp_path, world):
    start_processes(_gloo_rank, (world, tmp_path), nprocs=world, start_method='fork')
    ranks = [dict(np.load(tmp_path / f'{rank}.npz')) for rank in range(world)]
    assert all((tmp_path / f'refused{rank}').is_file() for rank in range(world))
    assert all(np.array_equal(rank['weights'], ranks[0]['weights']) for rank in ranks)
    woven = np.stack([rank['finite'] for rank in ranks], axis=1).ravel()
    assert len(woven) == -(-50 // world) * world
    assert np.abs(counts_of(woven[:50]) - 50 * ranks[0]['weights']).max() < 1
    assert woven[50:].tolist() == woven[: len(woven) - 50].tolist()
    endless = np.stack([rank['infinite'] for rank in ranks], axis=1).ravel()
    assert endless[:50].tolist() == woven[:50].tolist()
    assert np.abs(counts_of(endless[50:100]) - 50 * ranks[0]['weights']).max() < 1


def test_infinite_skip_lands_where_the_stream_was():
    stream = list(islice(build(infinite=True), 200))
    for skipped in (0, 1, 49, 50, 137):
        sampler = build(infinite=True)
        sampler.skip(skipped)
        assert list(islice(sampler, 20)) == stream[skipped : skipped + 20]


def test_finite_has_no_skip():
    """mmengine would use it and be wrong where an epoch ends in a smaller batch."""
    assert not hasattr(build(), 'skip')
    assert hasattr(build(infinite=True), 'skip')


class Recorder(torch.nn.Module):
    """A model for the runner that writes down what it is fed."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def train_step(self, data, optim_wrapper):
        self.seen.append(data.tolist())
        optim_wrapper.update_params(self.weight * 0.0)
        return dict(loss=torch.zeros(()))


@pytest.mark.parametrize('infinite', [False, True])
@pytest.mark.parametrize('workers', [0, 1])
def test_resumed_training_goes_on_in_order(tmp_path, monkeypatch, infinite, workers):
    # mmengine pauses 2 s at the end of an epoch of a finite sampler
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    # torch waits that long for a worker that still has batches to hand over
    monkeypatch.setattr('torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL', 0.5)

    def train(folder, max_iters, resume=None):
        model = Recorder()
        Runner(
            model=model,
            work_dir=str(tmp_path / folder),
            train_dataloader=dict(
                batch_size=8,
                num_workers=workers,
                dataset=Counted(),
                sampler=dict(type='ClassBalancedSampler', infinite=infinite),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(type=IterBasedTrainLoop, max_iters=max_iters),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3),
                logger=None,
            ),
            default_scope='mmseg',
            randomness=dict(seed=3),
            load_from=resume,
            resume=resume is not None,
            experiment_name=folder + str(infinite) + str(workers),
        ).train()
        return model.seen

    whole = train('whole', 10)  # 10 x 8 > 50: passes the end of an epoch
    train('killed', 3)
    rest = train('resumed', 10, str(tmp_path / 'killed' / 'iter_3.pth'))
    assert rest == whole[3:]


def test_finite_form_in_a_loop_by_iterations_draws_new_epochs(monkeypatch):
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    loader = DataLoader(Counted(), batch_size=50, sampler=build())
    stream = _InfiniteDataloaderIterator(loader)
    first, second = next(stream).tolist(), next(stream).tolist()
    assert first == list(build())
    assert second != first


def test_logs_the_realised_mix(tmp_path):
    MMLogger.get_instance('sampler', log_file=str(tmp_path / 'log'))
    order = list(build(num_samples=200))
    shares = PIXELS / PIXELS.sum(axis=1, keepdims=True)
    mix = counts_of(order) @ shares / 200
    line = (tmp_path / 'log').read_text()
    assert f'KL from the target {np.mean(np.log(0.25 / mix)):.4f}' in line
    assert f'(least possible with max_repeat=8: {balanced_weights(PIXELS).bound:.4f})' in line
    assert f'd {100 * mix[3]:.1f} %' in line


def test_one_chip():
    assert list(build([[5, 0, 0, 0]], num_samples=3)) == [0, 0, 0]


def test_chips_without_labels_come_only_as_they_come():
    pixels = np.vstack([PIXELS, np.zeros((10, 4), int)])
    assert counts_of(build(pixels), 60)[50:].sum() == 0
    assert counts_of(build(pixels, temperature=0.0), 60)[50:].sum() == 10


@pytest.mark.parametrize(
    'wrong', [dict(temperature=1.5), dict(num_samples=0), dict(max_repeat=0.5), dict(target=[1, 2])]
)
def test_wrong_arguments(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        build(**wrong)


def test_all_ignored():
    with pytest.raises(ChipIndexError, match='None of the 3 chips'):
        build(np.zeros((3, 4), int))
