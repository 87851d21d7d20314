"""Study files: what they expand to, and what is refused before anything runs."""

import shutil

import pytest
from mmengine.config import Config

from geoseg_prithvi.data.subset_manifest import subset_path
from geoseg_prithvi.errors import ConfigError, DataNotFoundError, GeosegError
from geoseg_prithvi.experiments.runs import expand
from geoseg_prithvi.experiments.study import load_study

from ..test_tools.conftest import make_chips
from .tiny_study import PRITHVI, ROOT, SMALL, UNET, tiny_study, write_study


@pytest.fixture(scope='module')
def chips(tmp_path_factory):
    return make_chips(tmp_path_factory.mktemp('chips'), 32, dict(train=12, val=2, test=2))


def load(tmp_path, content):
    study = load_study(write_study(tmp_path / 'study.py', content), str(tmp_path / 'work'))
    return study, expand(study)


def test_every_experiment_fraction_and_seed_is_a_run(chips, tmp_path):
    study, runs = load(tmp_path, tiny_study(chips, seeds=[3, 1], fractions=[0.25, 1, 0.5]))
    names = [run.name for run in runs]
    assert names == [
        f'runs/{model}/{fraction}/seed{seed}'
        for seed in (1, 3)
        for fraction in (1.0, 0.5, 0.25)
        for model in ('prithvi', 'unet')
    ]
    assert [len(run.chip_ids) for run in runs[:6]] == [12, 12, 6, 6, 3, 3]
    assert study.baseline == 'prithvi'


def test_models_see_the_same_chips_and_smaller_shares_lie_in_larger_ones(chips, tmp_path):
    _, runs = load(tmp_path, tiny_study(chips, seeds=[0, 1], fractions=[1.0, 0.5, 0.25]))
    by_name = {run.name: set(run.chip_ids) for run in runs}
    for seed in (0, 1):
        whole, half, quarter = (
            by_name[f'runs/prithvi/{fraction}/seed{seed}'] for fraction in (1.0, 0.5, 0.25)
        )
        assert quarter < half < whole
        assert half == by_name[f'runs/unet/0.5/seed{seed}']
        assert subset_path(chips, 0.5, seed).is_file()
    assert by_name['runs/unet/0.25/seed0'] != by_name['runs/unet/0.25/seed1']


def test_every_run_has_the_studys_iterations_and_the_configs_schedule_stretched(chips, tmp_path):
    _, runs = load(tmp_path, tiny_study(chips, iterations=400, validations=8))
    for run in runs:
        cfg = run.config
        assert cfg.train_cfg.max_iters == 400
        assert cfg.train_cfg.val_interval == 50
        # of 800 iterations in the config, 50 are the warm-up
        assert [(s.begin, s.end) for s in cfg.param_scheduler] == [(0, 25), (25, 400)]
        assert cfg.default_hooks.checkpoint.save_best == 'mIoU'
        assert cfg.randomness == dict(seed=0)
    subsets = [run.config.train_dataloader.dataset.subset for run in runs]
    assert subsets == [None, None, *[dict(fraction=0.5, seed=0)] * 2]


def test_no_option_can_make_runs_unequal(chips, tmp_path):
    content = tiny_study(chips)
    content['experiments']['unet']['cfg_options'] = {
        'train_cfg.max_iters': 1000,
        'randomness.seed': 7,
        'optim_wrapper.optimizer.lr': 0.5,
    }
    _, runs = load(tmp_path, content)
    unet = next(run for run in runs if run.experiment == 'unet')
    assert unet.config.train_cfg.max_iters == 4
    assert unet.config.randomness == dict(seed=0)
    assert unet.config.optim_wrapper.optimizer.lr == 0.5


def test_a_config_of_a_run_is_whole_by_itself(chips, tmp_path):
    _, runs = load(tmp_path, tiny_study(chips))
    path = tmp_path / 'config.py'
    for run in runs:
        path.write_text(run.config.pretty_text)
        assert Config.fromfile(path).to_dict() == run.config.to_dict()


def change(**changes):
    return lambda content: content | changes


def experiment(**entry):
    def put(content):
        content['experiments']['unet'] |= entry
        return content

    return put


WRONG = {
    'unknown key': (change(fraction=[1.0]), "unknown key 'fraction'"),
    'unknown key of an experiment': (experiment(option=1), "unknown key 'option'"),
    'no iterations': (change(iterations=0), 'iterations must be a whole number of at least 1'),
    'no experiment': (change(experiments={}), 'names no experiment'),
    'unknown config': (experiment(config='nowhere.py'), 'nowhere.py does not exist'),
    'fraction 0': (change(fractions=[1.0, 0]), 'above 0 and at most 1'),
    'more than the data': (change(fractions=[1.5]), 'above 0 and at most 1'),
    'no chip left': (change(fractions=[0.01]), '0.01 of 12 chips leaves none'),
    'fraction twice': (change(fractions=[1, 1.0]), 'fractions has 1 twice'),
    'seed twice': (change(seeds=[0, 1, 0]), 'seeds has 0 twice'),
    'negative seed': (change(seeds=[-1]), 'a seed must be'),
    'label twice': (experiment(label='Prithvi'), "the label 'Prithvi'"),
    'folder name': (
        lambda content: content | dict(experiments={'a/b': content['experiments']['unet']}),
        "'a/b' cannot name a folder",
    ),
    'unknown baseline': (change(baseline='vit'), "baseline='vit' is none of prithvi, unet"),
    'unknown pre-training': (experiment(init='mae'), "init of unet is 'mae'"),
    'unused pre-training': (
        change(pretraining=dict(mae=dict(config=str(PRITHVI)))),
        "no experiment starts from the pretraining 'mae'",
    ),
    'no data': (
        change(cfg_options={'train_dataloader.dataset.data_root': 'nowhere'}),
        'There is no data folder nowhere',
    ),
    'other data': (
        experiment(cfg_options={'test_dataloader.dataset.split': 'val'}),
        'differ in test_dataloader.dataset',
    ),
    'own subset': (
        experiment(cfg_options={'train_dataloader.dataset.subset': 'mine.txt'}),
        'sets a subset of its own',
    ),
    'epochs': (
        experiment(cfg_options={'train_cfg': dict(_delete_=True, type='EpochBasedTrainLoop')}),
        'is not trained by iterations',
    ),
    'schedule in epochs': (
        experiment(cfg_options={'param_scheduler.0.by_epoch': True}),
        'has a schedule in epochs',
    ),
}


@pytest.mark.parametrize(('wrong', 'message'), WRONG.values(), ids=WRONG)
def test_a_wrong_study_is_one_sentence(chips, tmp_path, wrong, message):
    with pytest.raises(GeosegError) as caught:
        load(tmp_path, wrong(tiny_study(chips)))
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / 'work').exists()


def test_init_needs_a_prithvi(chips, tmp_path):
    content = tiny_study(chips, pretraining=dict(mae=dict(config=str(PRITHVI))))
    content['experiments']['unet']['init'] = 'mae'
    content['pretraining']['mae']['cfg_options'] = content['cfg_options']
    with pytest.raises(ConfigError, match='its backbone is no PrithviViT'):
        load(tmp_path, content)


@pytest.mark.parametrize(
    'text',
    [
        "experiments = {'unet': dict(config='a.py'), 'unet': dict(config='b.py')}",
        "experiments = dict(unet=dict(config='a.py'), unet=dict(config='b.py'))",
    ],
    ids=['display', 'call'],
)
def test_a_double_name_is_refused_and_not_overwritten(tmp_path, text):
    path = tmp_path / 'study.py'
    path.write_text(f"title = 'x'\niterations = 1\n{text}\n")
    with pytest.raises(ConfigError, match=r'twice|repeated'):
        load_study(path)


def test_a_study_file_that_is_not_there():
    with pytest.raises(DataNotFoundError, match=r'nowhere.py does not exist'):
        load_study('nowhere.py')


def test_a_manifest_of_other_chips_is_refused_before_the_first_run(chips, tmp_path):
    copy = tmp_path / 'chips'
    shutil.copytree(chips, copy)
    load(tmp_path, tiny_study(copy))
    shutil.copytree(
        make_chips(tmp_path / 'other', 32, dict(train=8, val=2, test=2), seed=1),
        copy,
        dirs_exist_ok=True,
    )
    with pytest.raises(GeosegError, match=r'was made for another chips\.parquet'):
        load(tmp_path, tiny_study(copy))


def test_the_full_size_study_is_eighty_runs_as_published():
    study = load_study(ROOT / 'configs/studies/lulc.py')
    assert len(study.experiments) * len(study.fractions) * len(study.seeds) == 80
    assert study.fractions == (1.0, 0.5, 0.25, 0.125)
    configs = {experiment.name: experiment.config for experiment in study.experiments}
    assert {cfg.train_cfg.max_iters for cfg in configs.values()} == {study.iterations}
    assert configs['prithvi_frozen'].model.backbone.frozen_stages == 12
    assert 'hf://timm/' in configs['vit'].model.backbone.init_cfg.checkpoint


def test_options_of_an_experiment_come_after_the_common_ones(chips, tmp_path):
    content = tiny_study(chips)
    content['cfg_options']['optim_wrapper.optimizer.lr'] = 0.1
    content['experiments']['prithvi']['cfg_options'] = {**SMALL, 'optim_wrapper.optimizer.lr': 0.2}
    study, _ = load(tmp_path, content)
    rates = [e.config.optim_wrapper.optimizer.lr for e in study.experiments]
    assert rates == [0.2, 0.1]
    assert study.experiments[1].config.filename == str(UNET)
