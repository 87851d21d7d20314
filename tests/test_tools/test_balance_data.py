import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from geoseg_prithvi.data.class_mix import class_shares
from geoseg_prithvi.data.index import write_index
from geoseg_prithvi.data.subset_manifest import load_or_make_subset
from geoseg_prithvi.datasets import HLSSegDataset

from .conftest import ROOT


@pytest.fixture(scope='module')
def chips(tmp_path_factory):
    """An index of 200 chips in three tiles; no images are needed."""
    root = tmp_path_factory.mktemp('balance')
    rng = np.random.default_rng(0)
    pixels = rng.multinomial(1024, rng.dirichlet(np.arange(1, 10) / 20, size=200))
    write_index(
        root,
        [
            dict(
                chip_id=f'chip_{i}',
                image=f'images/chip_{i}.tif',
                label=f'labels/chip_{i}.tif',
                tile=('10SEG', '10SFG', '11SKA')[i % 3],
                epsg=32610,
                minx=0.0,
                miny=0.0,
                maxx=960.0,
                maxy=960.0,
                lon=-120.0,
                lat=40.0,
                dates=['2022-04-01', '2022-07-01', '2022-10-01'],
                sensors=['L30'] * 3,
                clear_fraction=[1.0] * 3,
                valid_fraction=1.0,
                class_pixels=row.tolist(),
                purity=1.0,
                block='0',
                split='val' if i % 10 == 0 else 'train',
            )
            for i, row in enumerate(pixels)
        ],
    )
    return root


@pytest.fixture
def run(monkeypatch, capsys):
    def call(*args):
        monkeypatch.setattr(sys, 'argv', ['balance_data.py', *map(str, args)])
        runpy.run_path(str(ROOT / 'tools/balance_data.py'), run_name='__main__')
        return capsys.readouterr().out

    return call


def test_select(chips, run, tmp_path):
    out = run('select', chips, '--count', 40, '--min-per-tile', 5, '--out', tmp_path / 'forty')
    manifest = json.loads((tmp_path / 'forty.json').read_text())
    assert len(set(manifest['chip_ids'])) == manifest['count'] == 40
    assert manifest['of'] == 180  # train only
    assert manifest['kl_bound'] <= manifest['kl'] < 0.2 * manifest['kl_before']
    assert f'{manifest["kl_before"]:.5f} before, {manifest["kl"]:.5f} after' in out
    assert f'bound from the relaxation {manifest["kl_bound"]:.5f}' in out
    assert '40 of 180 chips, from 3 of 3 tiles' in out
    picture = np.asarray(Image.open(tmp_path / 'forty.png').convert('RGB'))
    assert np.ptp(picture) > 200
    for name in ('forty.json', 'forty.txt'):
        dataset = HLSSegDataset(str(chips), subset=str(tmp_path / name), pipeline=[])
        assert {dataset.get_data_info(i)['chip_id'] for i in range(40)} == {*manifest['chip_ids']}
    shares = class_shares(np.array([dataset.get_data_info(i)['class_pixels'] for i in range(40)]))
    wanted = np.full(9, 1 / 9)
    assert wanted @ np.log(wanted / shares.mean(axis=0)) == pytest.approx(manifest['kl'], abs=1e-6)


def test_subset_is_the_one_the_dataset_takes(chips, run):
    out = run('subset', chips, '--fraction', 0.25, '--seed', 3)
    assert '45 of 180 chips' in out
    ids = load_or_make_subset(chips, 0.25, 3)
    dataset = HLSSegDataset(str(chips), subset=dict(fraction=0.25, seed=3), pipeline=[])
    assert [dataset.get_data_info(i)['chip_id'] for i in range(len(dataset))] == ids


def test_class_weights(chips, run):
    lines = run('class-weights', chips).splitlines()
    assert lines[0].startswith('# water, trees')
    for line in lines[1:]:
        values = json.loads(line.split('=')[1].split('#')[0])
        assert len(values) == 9
        assert values[0] > 3 * values[8]  # water is rarest here


def test_nothing_is_overwritten_unasked(chips, run, tmp_path, capsys):
    out = tmp_path / 'one.json'
    run('subset', chips, '--fraction', 0.5, '--seed', 0, '--out', out)
    before = out.read_bytes()
    with pytest.raises(SystemExit) as stop:
        run('subset', chips, '--fraction', 0.5, '--seed', 1, '--out', out)
    assert stop.value.code == 2
    assert 'give --overwrite' in capsys.readouterr().err
    assert out.read_bytes() == before
    run('subset', chips, '--fraction', 0.5, '--seed', 1, '--out', out, '--overwrite')
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('select', 'CHIPS', '--count', 500), 'count must be from 1 to 180'),
        (('select', 'CHIPS', '--count', 9, '--target', 1, 2), 'target must hold 9 numbers'),
        (('subset', 'CHIPS', '--fraction', 0, '--seed', 0), 'fraction must be above 0'),
        (('class-weights', 'CHIPS', '--split', 'test'), "no chip in the split 'test'"),
        (('class-weights', 'CHIPS/missing'), 'There is no data folder'),
    ],
)
def test_bad_input(chips, run, capsys, arguments, message):
    before = sorted(chips.rglob('*'))
    with pytest.raises(SystemExit) as stop:
        run(*(str(a).replace('CHIPS', str(chips)) for a in arguments))
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count('\n') == 1
    assert sorted(chips.rglob('*')) == before
