import os
import sys

import pytest

from geoseg_prithvi.data.cluster import running
from geoseg_prithvi.data.granules import DamagedGranuleError, read_grid
from geoseg_prithvi.errors import ConfigError, ExtraNotInstalledError


def double(number):
    return 2 * number, os.getpid()


def parent(number):
    return os.getppid(), 'geoseg_prithvi.data.prepare' in sys.modules


def fail_at_two(path):
    return read_grid(path) if path.name == '2' else path


def die(number):
    os._exit(1)


def test_one_worker_needs_no_dask(monkeypatch):
    monkeypatch.setitem(sys.modules, 'dask', None)
    with running(double, [1, 2]) as results:
        assert list(results) == [(1, (2, os.getpid())), (2, (4, os.getpid()))]
    with running(double, [1], workers=4) as results:
        assert list(results) == [(1, (2, os.getpid()))]
    with (
        pytest.raises(ExtraNotInstalledError, match=r'geoseg_prithvi\[data\].*--workers 1'),
        running(double, [1, 2], workers=2),
    ):
        pass


def test_workers_are_forks_of_one_process_that_has_imported_all():
    pytest.importorskip('distributed')
    with running(double, list(range(8)), workers=2) as results:
        found = dict(results)
    assert {task: value for task, (value, _) in found.items()} == {i: 2 * i for i in range(8)}
    assert os.getpid() not in {process for _, process in found.values()}
    with running(parent, list(range(8)), workers=2) as results:
        ((server, imported),) = {result for _, result in results}
    assert server != os.getpid()
    assert imported


def test_first_error_ends_all_and_is_the_sentence(tmp_path):
    """The error of rasterio behind it cannot be pickled."""
    pytest.importorskip('distributed')
    paths = [tmp_path / name for name in '1234']
    paths[1].write_bytes(b'no TIFF')
    with (
        pytest.raises(DamagedGranuleError, match='2 cannot be read') as caught,
        running(fail_at_two, paths, workers=2) as results,
    ):
        list(results)
    assert caught.value.path == paths[1]


def test_dying_workers_are_one_sentence():
    pytest.importorskip('distributed')
    with (
        pytest.raises(ConfigError, match=r'Workers died again and again.*2 GB.*fewer --workers'),
        running(die, [1, 2], workers=2) as results,
    ):
        list(results)
