"""tools/calibrate.py, and what test.py and predict.py do with a calibrated model and several."""

import csv
import json

import numpy as np
import pytest
import rasterio
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.registry import MODELS

from geoseg_prithvi.compat import load_checkpoint_file
from geoseg_prithvi.errors import ConfigError, OutputExistsError
from geoseg_prithvi.evaluation import confusion_matrix
from geoseg_prithvi.evaluation.area_accuracy import area_adjusted
from geoseg_prithvi.evaluation.calibration import (
    confidence_bins,
    expected_calibration_error,
    fit_temperature,
)
from geoseg_prithvi.experiments.calibrate import calibrate, collect_logits
from geoseg_prithvi.experiments.publish import collect
from geoseg_prithvi.inference.segmentor import build_segmentor, drop_pretrained
from geoseg_prithvi.lulc import IO_LULC
from geoseg_prithvi.models import read_published, write_published

from .conftest import DEMO, ROOT, demo_options

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def options(chips):
    return demo_options(chips)


@pytest.fixture(scope='module')
def cfg(options):
    cfg = Config.fromfile(ROOT / DEMO)
    pairs = (option.split('=', 1) for option in options[1:])
    cfg.merge_from_dict({key: _value(value) for key, value in pairs})
    cfg.work_dir = 'unused'
    return cfg


def _value(text):
    try:
        return json.loads(text.replace('False', 'false'))
    except ValueError:
        return text


@pytest.fixture(scope='module')
def checkpoints(cfg, tmp_path_factory):
    """Two models of short training, much too sure of themselves."""
    folder = tmp_path_factory.mktemp('models')
    init_default_scope('mmseg')
    settings = cfg.model.copy()
    drop_pretrained(settings)
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        model = MODELS.build(settings)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        batches = iter(Runner.build_dataloader(cfg.train_dataloader, seed=seed))
        for _ in range(30):
            data = model.data_preprocessor(next(batches), True)
            loss = model.loss(**data)['decode.loss_ce']
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for parameter in model.decode_head.conv_seg.parameters():
            parameter.data *= 8
        path = folder / f'model_{seed}.pth'
        meta = dict(dataset_meta=IO_LULC.metainfo, iter=7)
        torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
        paths.append(path)
    return paths


@pytest.fixture(scope='module')
def calibrated(cfg, checkpoints, tmp_path_factory):
    """The first model with its temperature, and what calibration found."""
    out = tmp_path_factory.mktemp('calibrated') / 'model.pth'
    return out, calibrate(cfg, checkpoints[0], out)


def test_a_model_that_is_too_sure_is_mended(cfg, checkpoints, calibrated):
    out, found = calibrated
    assert found.temperature > 2
    assert found.nll[1] < found.nll[0]
    assert found.ece[1] < found.ece[0] / 2
    assert found.pixels == 5 * 32 * 32
    assert out.with_suffix('.png').stat().st_size > 0

    old, new = map(load_checkpoint_file, (checkpoints[0], out))
    assert new['meta'] == {**old['meta'], 'temperature': found.temperature}
    for key, value in old['state_dict'].items():
        assert torch.equal(value, new['state_dict'][key])
    # Fitted on the raw logits, so a second time gives the same.
    again = calibrate(cfg, out, out, overwrite=True)
    assert again.temperature == found.temperature


def test_temperature_is_that_of_the_validation_chips(cfg, checkpoints, calibrated):
    model = build_segmentor(cfg, checkpoint=checkpoints[0]).model
    loader = Runner.build_dataloader(cfg.val_dataloader)
    logits, labels = [], []
    with torch.no_grad():
        for batch in loader:
            for sample in model.test_step(batch):
                logits.append(sample.seg_logits.data.flatten(1).T)
                labels.append(sample.gt_sem_seg.data.flatten())
    expected = fit_temperature(torch.cat(logits), torch.cat(labels))
    assert calibrated[1].temperature == pytest.approx(expected, rel=1e-6)


def test_few_pixels_of_every_chip_serve_too(cfg, checkpoints, calibrated):
    model = build_segmentor(cfg, checkpoint=checkpoints[0]).model
    logits, label = collect_logits(model, cfg.val_dataloader, max_pixels=1000)
    assert logits.shape == (1000, 9)
    assert fit_temperature(logits, label) == pytest.approx(calibrated[1].temperature, rel=0.25)
    again, _ = collect_logits(model, cfg.val_dataloader, max_pixels=1000)
    assert torch.equal(logits, again)


def test_a_published_model_keeps_its_temperature(cfg, calibrated, tmp_path):
    _, state, meta = collect(cfg, str(calibrated[0]), metrics={}, data_card='')
    assert meta['temperature'] == calibrated[1].temperature
    path, out = tmp_path / 'model.safetensors', tmp_path / 'new.safetensors'
    write_published(path, cfg, state, {**meta, 'temperature': 9.0})
    found = calibrate(cfg, path, out)
    assert found.temperature == pytest.approx(calibrated[1].temperature, rel=1e-6)
    assert read_published(out)[2] == {**meta, 'temperature': found.temperature}


def test_bad_output_is_one_sentence(cfg, checkpoints, tmp_path):
    with pytest.raises(OutputExistsError, match='exists already'):
        calibrate(cfg, checkpoints[0], checkpoints[1])
    with pytest.raises(ConfigError, match='must end like model_0'):
        calibrate(cfg, checkpoints[0], tmp_path / 'model.safetensors')


def test_calibrate_tool(run_tool, options, checkpoints, calibrated, tmp_path):
    done = run_tool(
        'tools/calibrate.py',
        DEMO,
        checkpoints[0],
        tmp_path / 'new.pth',
        '--device',
        'cpu',
        *options,
    )
    assert f'temperature {calibrated[1].temperature:.4f} from 5,120 validation' in done.stdout
    assert (tmp_path / 'new.pth').is_file() and (tmp_path / 'new.png').is_file()


@torch.no_grad()
def test_test_report(run_tool, cfg, options, checkpoints, calibrated, tmp_path):
    """Of an ensemble, one member of it calibrated, with the area of a map; and with flips."""
    members = [build_segmentor(cfg, checkpoint=p) for p in (calibrated[0], checkpoints[1])]
    bins, matrix, right = 0, 0, 0
    for batch in Runner.build_dataloader(cfg.test_dataloader):
        pixels = torch.stack(batch['inputs'])
        labels = [sample.gt_sem_seg.data[0] for sample in batch['data_samples']]
        flips = [
            sum(m(pixels.flip(f), [{}] * len(pixels)) for m in members).flip(f) / 2
            for f in ((), (-1,), (-2,))
        ]
        for shares, flipped, label in zip(flips[0], sum(flips), labels, strict=True):
            bins = bins + confidence_bins(shares.log(), label, 255)
            matrix = matrix + confusion_matrix(label.numpy(), shares.argmax(0).numpy(), 9)
            right += int((flipped.argmax(0) == label).sum())

    area = tmp_path / 'area.csv'
    mapped = np.where(matrix.sum(axis=0) > 0, np.arange(1, 10), 0)
    rows = [f'{k},{name},{mapped[k]},{mapped[k]},' for k, name in enumerate(IO_LULC.names)]
    area.write_text('\n'.join(['class,name,pixels,hectares,share', *rows]))
    command = ['tools/test.py', DEMO, calibrated[0], '--ensemble', checkpoints[1]]
    done = run_tool(*command, '--area', area, '--work-dir', tmp_path / 'test', *options)
    assert 'Adjusted (ha)' in done.stdout + done.stderr
    (path,) = (tmp_path / 'test').glob('*/*.json')
    metrics = json.loads(path.read_text())
    assert metrics['aAcc'] == pytest.approx(100 * np.trace(matrix) / matrix.sum())
    assert metrics['ECE'] == pytest.approx(100 * expected_calibration_error(bins), abs=1e-3)
    assert {'mIoU_low', 'mIoU_high'} <= metrics.keys()
    (table,) = (tmp_path / 'test').rglob('scores_test.csv')
    assert len(list(csv.reader(table.open()))) == 11
    (table,) = (tmp_path / 'test').rglob('area_test.csv')
    found = [float(row['area']) for row in csv.DictReader(table.open()) if row['area']]
    np.testing.assert_allclose(found, area_adjusted(matrix, mapped).area)

    run_tool(*command, '--tta', '--work-dir', tmp_path / 'tta', *options)
    (path,) = (tmp_path / 'tta').glob('*/*.json')
    metrics = json.loads(path.read_text())
    assert metrics['aAcc'] == pytest.approx(100 * right / matrix.sum())
    assert 'ECE' not in metrics


def test_confidence_of_a_map_is_calibrated(
    run_tool, cfg, chips, options, checkpoints, calibrated, tmp_path
):
    image = next((chips / 'images').glob('test_0.tif'))
    maps = {}
    for name, more in (('calibrated', ()), ('both', ('--ensemble', checkpoints[1]))):
        out = tmp_path / f'{name}.tif'
        run_tool(
            'tools/predict.py', ROOT / DEMO, calibrated[0], image, out, '--confidence',
            '--crop-size', 32, '--halo', 0, '--device', 'cpu', *more, *options,
        )  # fmt: skip
        with rasterio.open(out) as raster, rasterio.open(tmp_path / f'{name}_confidence.tif') as c:
            maps[name] = raster.read(1), c.read(1), raster.tags()
    with rasterio.open(image) as raster:
        pixels = torch.from_numpy(raster.read())[None]
    members = [build_segmentor(cfg, checkpoint=p) for p in (calibrated[0], checkpoints[1])]
    with torch.no_grad():
        one, other = (member(pixels, [{}])[0] for member in members)
    for name, shares in (('calibrated', one), ('both', (one + other) / 2)):
        classes, confidence, _ = maps[name]
        assert (classes == shares.argmax(0).numpy()).mean() > 0.999
        found = confidence / confidence.max() * float(shares.max())
        np.testing.assert_allclose(found, shares.amax(0).numpy(), atol=0.02)
    assert maps['both'][2]['GEOSEG_CHECKPOINT'] == 'model.pth,model_1.pth'
    assert len(maps['both'][2]['GEOSEG_CHECKPOINT_SHA256']) == 129
