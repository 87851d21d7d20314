"""Small real files that many tests share: granules, a label map, a chip folder."""

import os

os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest

from geoseg_prithvi.data.chips import ChipOptions
from geoseg_prithvi.data.frames import equal_windows
from geoseg_prithvi.data.prepare import prepare
from geoseg_prithvi.data.splits import SplitOptions

from .granule_world import write_world


@pytest.fixture(scope='session')
def _world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp('world'))


@pytest.fixture(scope='session')
def granule_folder(_world):
    """Six clear granules of tile 10SEG in 2022, 96 x 96 pixels; read-only."""
    return _world[0]


@pytest.fixture(scope='session')
def label_folder(_world):
    """The label map over :func:`granule_folder`, all nine classes; read-only."""
    return _world[1]


@pytest.fixture(scope='session')
def chip_folder(granule_folder, label_folder, tmp_path_factory):
    """Nine chips of 32 pixels and 3 frames (train 5, val 2, test 2), with index and statistics."""
    out = tmp_path_factory.mktemp('chips')
    prepare(
        granule_folder,
        label_folder,
        out,
        ChipOptions(windows=equal_windows(3), chip_size=32),
        SplitOptions(block_size=960.0, ratio=(0.56, 0.22, 0.22)),
    )
    return out
