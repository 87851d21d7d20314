"""Chips without labels, for self-supervised pre-training."""

import json

import numpy as np
import pytest
from mmengine.registry import DefaultScope

from geoseg_prithvi.data.chip_io import read_chip
from geoseg_prithvi.data.chips import ChipOptions
from geoseg_prithvi.data.frames import equal_windows
from geoseg_prithvi.data.index import read_index
from geoseg_prithvi.data.prepare import prepare
from geoseg_prithvi.data.splits import SplitOptions
from geoseg_prithvi.data.summary import print_summary
from geoseg_prithvi.datasets import HLSSegDataset
from geoseg_prithvi.errors import ChipError, OutputExistsError

CHIPS = ChipOptions(windows=equal_windows(3), chip_size=32)
SPLITS = SplitOptions(block_size=960.0, ratio=(0.56, 0.22, 0.22))


@pytest.fixture(scope='module')
def made(granule_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp('unlabelled')
    return out, prepare(granule_folder, None, out, CHIPS, SPLITS)


def test_the_chips_are_those_of_the_labelled_folder(made, chip_folder):
    out, outcome = made
    table, labelled = read_index(out).to_pylist(), read_index(chip_folder).to_pylist()
    assert len(outcome.rows) == 9
    for row, other in zip(table, labelled, strict=True):
        assert row['label'] is None and row['purity'] is None
        assert row['class_pixels'] == [0] * 9
        for key in ('chip_id', 'dates', 'minx', 'maxy', 'block', 'valid_fraction'):
            assert row[key] == other[key]
        np.testing.assert_array_equal(
            read_chip(out / row['image'], 3), read_chip(chip_folder / other['image'], 3)
        )
    assert {row['split'] for row in table} == {'train', 'val', 'test'}
    assert not (out / 'labels').exists()
    assert json.loads((out / 'stats.json').read_text())['count'][0] > 0


def test_a_second_run_cuts_nothing_and_labels_need_another_folder(
    made, granule_folder, label_folder
):
    out, outcome = made
    again = prepare(granule_folder, None, out, CHIPS, SPLITS)
    assert again.resumed == again.tasks == outcome.tasks
    assert again.rows == outcome.rows
    with pytest.raises(OutputExistsError, match='other options'):
        prepare(granule_folder, label_folder, out, CHIPS, SPLITS)


def test_the_summary_lists_no_classes(made, capsys):
    out, outcome = made
    print_summary(outcome, out)
    text = capsys.readouterr().out
    assert '9 chips' in text
    assert 'water' not in text and 'class' not in text


def test_they_are_a_dataset_until_somebody_asks_for_the_label(made):
    out, _ = made
    load = [dict(type='LoadHLSChip')]
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = HLSSegDataset(str(out), pipeline=load)
        labelled = HLSSegDataset(str(out), pipeline=[*load, dict(type='LoadHLSLabel')])
    assert dataset[0]['img'].shape == (32, 32, 18)
    assert dataset[0]['seg_map_path'] is None
    with pytest.raises(ChipError, match='has no label; take LoadHLSLabel out'):
        labelled[0]
