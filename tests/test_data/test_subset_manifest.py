import hashlib
import json

import numpy as np
import pytest

from geoseg_prithvi.data import subset_manifest
from geoseg_prithvi.data.subset_manifest import (
    load_or_make_subset,
    read_chip_table,
    read_manifest,
    subset_path,
    write_subset,
)
from geoseg_prithvi.data.subsets import nested_subset
from geoseg_prithvi.errors import ChipIndexError, ConfigError, OutputWriteError
from geoseg_prithvi.lulc import IO_LULC


@pytest.fixture
def chips(chip_folder, tmp_path):
    """A folder with the index alone: nothing here opens images."""
    (tmp_path / 'chips.parquet').write_bytes((chip_folder / 'chips.parquet').read_bytes())
    return tmp_path


def test_table(chips):
    train, everything = read_chip_table(chips, 'train'), read_chip_table(chips, None)
    assert train.class_pixels.shape == (5, 9)
    assert everything.class_pixels.shape == (9, 9)
    assert train.classes == list(IO_LULC.names)
    assert set(train.chip_ids) < set(everything.chip_ids)


def test_made_once_then_read(chips, monkeypatch):
    table = read_chip_table(chips, 'train')
    ids = load_or_make_subset(chips, 0.6, 3)
    assert ids == [table.chip_ids[i] for i in nested_subset(table.class_pixels, 0.6, 3)]
    path = subset_path(chips, 0.6, 3)
    manifest = json.loads(path.read_text())
    assert manifest['chip_ids'] == ids == path.with_suffix('.txt').read_text().split()
    assert (manifest['fraction'], manifest['seed'], manifest['split']) == (0.6, 3, 'train')
    assert (manifest['count'], manifest['of']) == (3, 5)
    index = (chips / 'chips.parquet').read_bytes()
    assert manifest['index_sha256'] == hashlib.sha256(index).hexdigest()
    chosen = [table.chip_ids.index(i) for i in ids]
    shares = table.class_pixels[chosen].sum(axis=0) / table.class_pixels[chosen].sum()
    assert list(manifest['shares'].values()) == pytest.approx(shares.tolist(), abs=1e-6)
    assert sum(manifest['shares_of_all'].values()) == pytest.approx(1, abs=1e-5)

    def refuse(*args):
        raise RuntimeError('chosen again')

    monkeypatch.setattr(subset_manifest, 'nested_subset', refuse)
    assert load_or_make_subset(chips, 0.6, 3) == ids
    with pytest.raises(RuntimeError, match='chosen again'):
        load_or_make_subset(chips, 0.6, 4)


def test_another_index_is_refused(chips):
    load_or_make_subset(chips, 0.6, 3)
    with (chips / 'chips.parquet').open('ab') as file:
        file.write(b'x')
    with pytest.raises(ChipIndexError, match='was made for another'):
        load_or_make_subset(chips, 0.6, 3)


@pytest.mark.parametrize('content', ['', '[]', '{}', '{"chip_ids": []}'])
def test_damaged_manifest(chips, content):
    path = subset_path(chips, 0.6, 3)
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ChipIndexError, match='is no subset manifest'):
        load_or_make_subset(chips, 0.6, 3)


def test_read_only_folder(chips, monkeypatch, caplog):
    def refuse(path, content):
        raise OutputWriteError('read-only')

    monkeypatch.setattr(subset_manifest, 'write_bytes', refuse)  # root may write everywhere
    ids = load_or_make_subset(chips, 0.6, 3)
    assert 'not written down: read-only' in caplog.text
    monkeypatch.undo()
    assert load_or_make_subset(chips, 0.6, 3) == ids


def test_fractions_never_share_a_file(chips):
    paths = {subset_path(chips, f, 0) for f in (0.125, 0.1250001, 1 / 8 + 1e-15)}
    assert len(paths) == 3
    with pytest.raises(ConfigError, match='fraction'):
        load_or_make_subset(chips, 2.0, 0)


def test_any_choice_can_be_written(chips, tmp_path):
    table = read_chip_table(chips, None)
    write_subset(tmp_path / 'own.json', table, np.array([1, 4]), method='by hand')
    assert read_manifest(tmp_path / 'own.json', chips) == [table.chip_ids[1], table.chip_ids[4]]
