"""Several models as one: for maps, and as tools/test.py tests them."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from geoseg_prithvi.errors import CheckpointMismatchError, ConfigError
from geoseg_prithvi.inference.ensemble import Ensemble, build_ensemble
from geoseg_prithvi.inference.segmentor import Segmentor, build_segmentor, drop_pretrained
from geoseg_prithvi.lulc import IO_LULC

from .conftest import TINY, TinyModel
from .scenes import random_pixels


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Three models of one config, the last one calibrated."""
    metas = [None, None, dict(dataset_meta=IO_LULC.metainfo, temperature=2.5)]
    return [
        TinyModel(tmp_path_factory.mktemp('member'), meta=meta, seed=seed)
        for seed, meta in enumerate(metas)
    ]


def windows(n=2, side=16):
    return torch.from_numpy(random_pixels((n, 18, side, side)))


def samples(n=2, side=16):
    label = PixelData(data=torch.zeros(1, side, side, dtype=torch.long))
    meta = dict(img_shape=(side, side), ori_shape=(side, side), img_path='chip.tif')
    return [SegDataSample(metainfo=meta, gt_sem_seg=label) for _ in range(n)]


def pair(model):
    return model.load(), model.checkpoint


@torch.no_grad()
def test_scores_are_the_mean_probabilities(models):
    members = [build_segmentor(m.load(), checkpoint=m.checkpoint) for m in models]
    expected = torch.stack([member(windows(), [{}, {}]) for member in members]).mean(0)
    ensemble = build_ensemble([pair(model) for model in models])
    torch.testing.assert_close(ensemble(windows(), [{}, {}]), expected)
    torch.testing.assert_close(expected.sum(1), torch.ones(2, 16, 16))
    assert ensemble.legend is IO_LULC
    assert not torch.equal(expected.argmax(1), members[0](windows(), [{}, {}]).argmax(1))


def test_one_model_stays_as_it_is(models):
    assert isinstance(build_ensemble([pair(models[0])]), Segmentor)


def test_other_classes_do_not_mix(models, tmp_path):
    names = [f'kind {k}' for k in range(9)]
    meta = dict(dataset_meta=dict(classes=names, palette=[[k, 0, 9] for k in range(9)]))
    other = TinyModel(tmp_path, meta=meta)
    with pytest.raises(CheckpointMismatchError, match='different classes'):
        build_ensemble([pair(models[0]), pair(other)])


def test_models_that_want_dates_do_not_mix_with_others(models, tmp_path):
    text = TINY.replace("'EncoderDecoder'", "'GeoEncoderDecoder'").replace(
        'img_size=16,', "img_size=16, coords_encoding=('time',),"
    )
    with pytest.raises(CheckpointMismatchError, match='embed dates'):
        build_ensemble([pair(models[0]), pair(TinyModel(tmp_path, text))])


@torch.no_grad()
def test_temperature_of_the_checkpoint_softens(models):
    stored = build_segmentor(models[2].load(), checkpoint=models[2].checkpoint)
    plain = Segmentor(stored.model, IO_LULC)
    a, b = plain(windows(), [{}, {}]), stored(windows(), [{}, {}])
    assert torch.equal(a.argmax(1), b.argmax(1))
    assert (b.amax(1) < a.amax(1)).all()
    torch.testing.assert_close((a.log() / 2.5).softmax(1), b)


@torch.no_grad()
def test_tested_ensemble_says_the_same(models):
    settings = [copy.deepcopy(model.load().model) for model in models]
    for one in settings:
        drop_pretrained(one)
    ensemble = MODELS.build(
        dict(type='SegEnsemble', members=settings, temperatures=[1.0, 1.0, 2.5])
    ).eval()
    for member, model in zip(ensemble.members, models, strict=True):
        member.load_state_dict(model.state)
    results = ensemble.test_step(dict(inputs=list(windows()), data_samples=samples()))
    expected = build_ensemble([pair(model) for model in models])(windows(), [{}, {}])
    for result, shares in zip(results, expected, strict=True):
        torch.testing.assert_close(result.seg_logits.data.softmax(0), shares)
        assert torch.equal(result.pred_sem_seg.data[0], shares.argmax(0))
        assert result.gt_sem_seg.data.shape == (1, 16, 16)
    with pytest.raises(ConfigError, match='neither trained nor exported'):
        ensemble(windows(), samples(), mode='loss')


def test_a_single_channel_is_refused(models):
    settings = models[0].load().model
    drop_pretrained(settings)
    settings.decode_head.update(num_classes=2, out_channels=1)
    settings.decode_head.loss_decode.use_sigmoid = True
    with pytest.raises(ConfigError, match='single one'):
        MODELS.build(dict(type='SegEnsemble', members=[settings], temperatures=[1.0]))


def test_ensemble_knows_what_its_models_know(models):
    members = [build_segmentor(m.load(), checkpoint=m.checkpoint) for m in models]
    ensemble = Ensemble(members)
    assert (ensemble.num_classes, ensemble.device) == (9, members[0].device)
    assert ensemble.model is members[0].model
