from types import SimpleNamespace

import pytest
import torch
from mmseg.registry import METRICS

import geoseg_prithvi  # noqa: F401  registers the components


def feed(metric, losses):
    """One batch: path -> (loss, loss of the visible mean)."""
    samples = [SimpleNamespace(img_path=path) for path in losses]
    results = [dict(loss=torch.tensor(a), mean_loss=torch.tensor(b)) for a, b in losses.values()]
    metric.process(dict(data_samples=samples), results)


def test_chips_are_averaged_and_each_counts_once():
    metric = METRICS.build(dict(type='ReconstructionMetric'))
    feed(metric, {'a.tif': (0.25, 1.0), 'b.tif': (0.5, 2.0)})
    feed(metric, {'c.tif': (0.75, 4.5), 'a.tif': (0.25, 1.0)})  # a.tif fills up the last batch
    # mmengine cuts off what is beyond the size of the data set before it is averaged.
    assert metric.evaluate(4) == {'val/mse': 0.5, 'val/visible_mean': 2.5}


def test_the_names_do_not_collide_with_those_of_training():
    metric = METRICS.build(dict(type='ReconstructionMetric', prefix='mine'))
    feed(metric, {'a.tif': (0.25, 1.0)})
    assert metric.evaluate(1) == {'mine/mse': 0.25, 'mine/visible_mean': 1.0}


def test_results_must_belong_to_their_chips():
    metric = METRICS.build(dict(type='ReconstructionMetric'))
    with pytest.raises(ValueError, match='shorter'):
        metric.process(dict(data_samples=[SimpleNamespace(img_path='a.tif')]), [])
