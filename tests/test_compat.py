"""Safe checkpoints and the two stacks."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader, load_checkpoint

from geoseg_prithvi.compat import load_checkpoint_file
from geoseg_prithvi.errors import (
    CheckpointMismatchError,
    UnsafeCheckpointError,
    WeightsNotFoundError,
)


class _RunsCode:
    """Its pickle creates the file ``target`` when it is loaded carelessly."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


class _StealsAttribute:
    def __reduce__(self):
        return getattr, (np.ndarray, 'tofile')


@pytest.fixture
def training_checkpoint(tmp_path):
    """What mmengine saves besides tensors: log history, numpy scalars, plain data."""
    history = HistoryBuffer()
    for value in (3.0, 1.0, 2.0):
        history.update(value)
    path = tmp_path / 'iter_3.pth'
    torch.save(
        dict(
            state_dict=dict(weight=torch.arange(6.0).reshape(2, 3)),
            message_hub=dict(log_scalars={'train/loss': history}, best=np.float64(0.5)),
            meta=dict(
                iter=3, cfg='a = 1', dataset_meta=dict(classes=('water',), palette=[[1, 2, 3]])
            ),
        ),
        path,
    )
    return path


def test_training_checkpoint_loads_safely(training_checkpoint):
    loaded = load_checkpoint_file(training_checkpoint)
    assert torch.equal(loaded['state_dict']['weight'], torch.arange(6.0).reshape(2, 3))
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert (history.min(), history.max(), history.current()) == (1.0, 3.0, 2.0)
    assert loaded['message_hub']['best'] == 0.5


def test_numpy_1_names_load(tmp_path, monkeypatch):
    path = tmp_path / 'old.pth'
    torch.save(dict(best=np.float64(0.5), a=np.arange(3)), path, pickle_protocol=2)
    raw = path.read_bytes()
    # Stored, not compressed: the module's name can be exchanged for one of the same length.
    assert b'numpy._core.multiarray' in raw
    import zipfile

    old = tmp_path / 'numpy1.pth'
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(old, 'w') as target:
        for item in source.namelist():
            data = source.read(item)
            target.writestr(item, data.replace(b'numpy._core.multiarray', b'numpy.core.multiarray'))
    assert load_checkpoint_file(old)['best'] == 0.5


@pytest.mark.parametrize('loader', [load_checkpoint_file, None], ids=['ours', 'mmengine'])
def test_code_in_a_checkpoint_is_refused_and_never_runs(tmp_path, loader):
    path, target = tmp_path / 'evil.pth', tmp_path / 'ran'
    torch.save(dict(state_dict={}, meta=_RunsCode(target)), path)
    with pytest.raises(UnsafeCheckpointError, match=r'evil\.pth was not loaded.*could run code'):
        loader(path) if loader else load_checkpoint(torch.nn.Linear(1, 1), str(path))
    assert not target.exists()


def test_a_url_is_downloaded_once_and_loaded_as_safely(tmp_path, monkeypatch):
    target, requests = tmp_path / 'ran', []
    torch.save(dict(a=torch.ones(1)), tmp_path / 'good.pth')
    torch.save(dict(a=_RunsCode(target)), tmp_path / 'evil.pth')

    class Files(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    handler = functools.partial(Files, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    base = f'http://127.0.0.1:{server.server_port}'
    for _ in range(2):
        assert CheckpointLoader.load_checkpoint(f'{base}/good.pth?download=true')['a'] == 1
    assert requests == ['/good.pth?download=true']
    with pytest.raises(UnsafeCheckpointError, match=r'evil\.pth was not loaded.*could run code'):
        CheckpointLoader.load_checkpoint(f'{base}/evil.pth')
    with pytest.raises(WeightsNotFoundError, match=r'/none\.pth could not be downloaded .*404'):
        CheckpointLoader.load_checkpoint(f'{base}/none.pth')
    assert not target.exists()
    server.shutdown()
    server.server_close()


def test_getattr_serves_only_the_log_history(tmp_path):
    path = tmp_path / 'getattr.pth'
    torch.save(dict(state_dict={}, meta=_StealsAttribute()), path)
    with pytest.raises(UnsafeCheckpointError):
        load_checkpoint_file(path)


def test_unsafe_load_is_refused_even_when_asked_for(tmp_path):
    path, target = tmp_path / 'evil.pth', tmp_path / 'ran'
    torch.save(_RunsCode(target), path)
    with pytest.raises(Exception, match='weights'):
        torch.load(path, weights_only=False)
    assert not target.exists()


def test_missing_and_truncated_files_are_named(tmp_path, training_checkpoint):
    with pytest.raises(WeightsNotFoundError, match=r'nowhere\.pth does not exist'):
        load_checkpoint_file(tmp_path / 'nowhere.pth')
    data = training_checkpoint.read_bytes()
    for length in range(0, len(data), len(data) // 40):
        training_checkpoint.write_bytes(data[:length])
        for mmap in (False, True):
            with pytest.raises(
                CheckpointMismatchError, match=r'iter_3\.pth is no whole checkpoint'
            ):
                load_checkpoint_file(training_checkpoint, mmap=mmap)
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'\x08\0\0\0\0\0\0\0{"a":')
    with pytest.raises(CheckpointMismatchError, match=r'broken\.safetensors is no whole'):
        load_checkpoint_file(broken)


def test_without_a_stack_the_import_says_what_to_install():
    code = (
        'import importlib.util as u, sys\n'
        'find = u.find_spec\n'
        "u.find_spec = lambda n, *a: None if n.partition('.')[0] == 'mmseg' else find(n, *a)\n"
        'import geoseg_prithvi\n'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert 'StackNotFoundError' in last
    assert "pip install 'geoseg_prithvi[onedl]'" in last
