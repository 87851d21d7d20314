import pytest
from mmengine.registry import DefaultScope

from .chip_world import write_chips


@pytest.fixture(autouse=True)
def mmseg_scope():
    """Find transforms where a config with ``default_scope = 'mmseg'`` does."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='session')
def chips(tmp_path_factory):
    """Four training chips, two validation chips, one test chip."""
    return write_chips(tmp_path_factory.mktemp('chips'), ['train'] * 4 + ['val'] * 2 + ['test'])
