"""The hub through the real client, against a server on this machine that speaks its protocol."""

import hashlib
import runpy
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from geoseg_prithvi.errors import CheckpointMismatchError, WeightsNotFoundError
from geoseg_prithvi.models import PrithviViT, current_revision, fetch_checkpoint

from ..hub_server import COMMITS, Hub

ARCH = dict(embed_dims=32, depth=2, num_heads=2, patch_size=8)


@pytest.fixture
def hub(monkeypatch, tmp_path, golden):
    hub = Hub()
    for i, commit in enumerate(COMMITS.values()):
        state = dict(golden('prithvi_eo_v1_tiny')[0])
        state['cls_token'] = torch.full_like(state['cls_token'], float(i))
        file = tmp_path / f'{i}.pt'
        torch.save(state, file)
        hub.files[commit, 'weights/tiny.pt'] = file.read_bytes()
    # what HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET set when the client is imported
    monkeypatch.setattr(constants, 'ENDPOINT', hub.endpoint)
    monkeypatch.setattr(
        constants,
        'HUGGINGFACE_CO_URL_TEMPLATE',
        hub.endpoint + '/{repo_id}/resolve/{revision}/{filename}',
    )
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    for name in ('http_proxy', 'https_proxy', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    yield hub
    hub.stop()


URL = 'hf://owner/repo/weights/tiny.pt'


@contextmanager
def server_down(hub):
    hub.stop()
    yield


def test_first_download_then_cache_with_the_server_down(hub):
    path = fetch_checkpoint(URL)
    assert path.read_bytes() == hub.files[COMMITS['main'], 'weights/tiny.pt']
    with server_down(hub):
        assert fetch_checkpoint(URL) == path


def test_init_cfg_and_mmengine_take_the_url(hub):
    model = PrithviViT(ARCH, img_size=32, init_cfg=dict(type='Pretrained', checkpoint=URL))
    model.init_weights()
    assert (model.cls_token == 0).all()
    state = CheckpointLoader.load_checkpoint(f'{URL}@v1', map_location='cpu')
    assert (state['cls_token'] == 1).all()


@pytest.mark.parametrize('revision', ['v1', 'b' * 40])
def test_a_revision_is_pinned(hub, revision):
    content = fetch_checkpoint(f'{URL}@{revision}').read_bytes()
    assert content == hub.files[COMMITS['v1'], 'weights/tiny.pt']


def test_a_pinned_commit_in_the_cache_asks_nobody(hub):
    url = f'{URL}@{"b" * 40}'
    fetch_checkpoint(url)
    hub.requests.clear()
    fetch_checkpoint(url)
    assert hub.requests == []


def test_a_private_repository_needs_the_token(hub, monkeypatch):
    hub.token = 'hf_secret'
    with pytest.raises(WeightsNotFoundError, match='or HF_TOKEN does not give access'):
        fetch_checkpoint(URL)
    monkeypatch.setenv('HF_TOKEN', 'hf_secret')
    assert fetch_checkpoint(URL).is_file()


def test_digest(hub):
    digest = hashlib.sha256(hub.files[COMMITS['main'], 'weights/tiny.pt']).hexdigest()
    fetch_checkpoint(URL, sha256=digest.upper())
    with pytest.raises(CheckpointMismatchError, match=f'sha256 {digest}, not 1234'):
        fetch_checkpoint(URL, sha256='1234')


def test_an_interrupted_download_is_resumed(hub, monkeypatch):
    hub.cut_after = 30000
    # the client keeps whole blocks of 10 MB; this file is smaller
    monkeypatch.setattr(constants, 'DOWNLOAD_CHUNK_SIZE', 10000)
    path = fetch_checkpoint(URL)
    assert path.read_bytes() == hub.files[COMMITS['main'], 'weights/tiny.pt']
    assert 'bytes=30000-' in [r for _, _, r in hub.requests]


def test_a_server_error_is_tried_again(hub, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda _: None)
    hub.failures = [503]
    assert fetch_checkpoint(URL).is_file()


@pytest.mark.parametrize(
    ('url', 'reason'),
    [
        ('hf://owner/repo/weights/other.pt', 'no file weights/other.pt'),
        ('hf://somebody/repo/weights/tiny.pt', 'no such repository, or HF_TOKEN'),
        (f'{URL}@v9', 'no revision v9'),
        ('hf://owner/re..po/weights/tiny.pt', 'could not be fetched'),
    ],
)
def test_what_the_hub_does_not_have_is_told(hub, url, reason):
    with pytest.raises(WeightsNotFoundError, match=f'{reason}.* from scratch'):
        fetch_checkpoint(url)


def test_an_unreachable_hub_is_told(hub, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda _: None)
    with (
        server_down(hub),
        pytest.raises(WeightsNotFoundError, match=r'the hub cannot be reached .* no copy'),
    ):
        fetch_checkpoint(URL)


TOOL = Path(__file__).parents[2] / 'tools' / 'model_summary.py'
CONFIG = """# hf://owner/repo/weights/tiny.pt in a comment stays
model = dict(
    backbone=dict(init_cfg=dict(
        checkpoint='hf://owner/repo/weights/'
        'tiny.pt@{old}',
    )),
    other=dict(checkpoint='hf://owner/repo/weights/tiny.pt'),
    file='tiny.pt.txt',
)
"""


def test_revisions_are_shown_and_pinned(hub, tmp_path, monkeypatch, capsys):
    config, other = tmp_path / 'configs' / 'a.py', tmp_path / 'configs' / 'sub' / 'b.py'
    other.parent.mkdir(parents=True)
    config.write_text(CONFIG.format(old='b' * 40))
    other.write_text("weights = 'elsewhere/tiny.pt'\n")
    new = f'{URL}@{COMMITS["main"]}'

    def run(*options):
        monkeypatch.setattr('sys.argv', ['tool', *options, '--configs', str(tmp_path / 'configs')])
        runpy.run_path(str(TOOL), run_name='__main__')
        return capsys.readouterr().out.splitlines()

    unpinned, old = f'{new}  the config has none', f'{new}  the config has {"b" * 40}'
    assert run('--revisions') == [unpinned, old]
    assert config.read_text() == CONFIG.format(old='b' * 40)

    assert run('--pin') == [unpinned, old, f'written: {config}']
    pinned = CONFIG.format(old='a' * 40).replace("tiny.pt',\n    f", f"tiny.pt@{'a' * 40}',\n    f")
    pinned = pinned.replace("tiny.pt')", f"tiny.pt@{'a' * 40}')")
    assert config.read_text() == pinned
    assert other.read_text() == "weights = 'elsewhere/tiny.pt'\n"
    assert run('--pin') == [f'{new}  pinned']


def test_a_revision_that_cannot_be_told(hub):
    with pytest.raises(WeightsNotFoundError, match=r'no file gone.pt at .* a{40}; stay with'):
        current_revision('hf://owner/repo/gone.pt')
    with pytest.raises(WeightsNotFoundError, match=r'asked for somebody/repo: .*401'):
        current_revision('hf://somebody/repo/weights/tiny.pt')
    hub.failures = [500]
    with pytest.raises(WeightsNotFoundError, match=r'asked for owner/repo: .*500') as caught:
        current_revision(URL)
    assert '\n' not in str(caught.value)
