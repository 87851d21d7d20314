import errno
import resource
import signal

import pytest

from geoseg_prithvi.data.files import PARTIAL_PREFIX, atomic_path, remove_partial, write_bytes
from geoseg_prithvi.errors import OutputWriteError


def test_file_appears_whole_with_ordinary_permissions(tmp_path):
    write_bytes(tmp_path / 'new' / 'a', b'content')
    assert (tmp_path / 'new' / 'a').read_bytes() == b'content'
    (tmp_path / 'plain').write_text('')
    assert (tmp_path / 'new' / 'a').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_an_error_leaves_the_old_file_and_no_rubbish(tmp_path):
    (tmp_path / 'a').write_text('old')
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / 'a') as partial:
        partial.write_text('half')
        raise ZeroDivisionError
    assert (tmp_path / 'a').read_text() == 'old'
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_full_disk_is_one_sentence(tmp_path):
    """A limit on the size of files makes the kernel refuse the write, as a full disk does."""
    (tmp_path / 'a').write_text('old')
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
        with pytest.raises(OutputWriteError, match='a could not be written') as caught:
            write_bytes(tmp_path / 'a', bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, old)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert (tmp_path / 'a').read_text() == 'old'
    assert [path.name for path in tmp_path.iterdir()] == ['a']


def test_rubbish_of_a_killed_run_is_removed(tmp_path):
    (tmp_path / f'{PARTIAL_PREFIX}xyz-a.tif').write_text('half')
    (tmp_path / 'a.tif').write_text('whole')
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['a.tif']
