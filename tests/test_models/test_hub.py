"""The hub through the real client, against a server on this machine that speaks its protocol."""

import hashlib
import http.server
import threading
from contextlib import contextmanager

import huggingface_hub.constants as constants
import pytest
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from geoseg_prithvi.errors import CheckpointMismatchError, WeightsNotFoundError
from geoseg_prithvi.models import PrithviViT, fetch_checkpoint

COMMITS = {'main': 'a' * 40, 'v1': 'b' * 40}
ARCH = dict(embed_dims=32, depth=2, num_heads=2, patch_size=8)


class Hub:
    """Files by commit, and what went over the wire."""

    def __init__(self):
        self.files = {}
        self.requests = []
        self.failures = []  # statuses to answer with before anything else
        self.cut_after = None  # drop the connection after so many bytes, once


def _handler(hub):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def log_message(self, *args):
            pass

        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _error(self, status, code=None):
            self.send_response(status)
            if code:
                self.send_header('X-Error-Code', code)
            self.send_header('Content-Length', '0')
            self.end_headers()

        def _answer(self, body):
            hub.requests.append((self.command, self.path, self.headers.get('Range')))
            if hub.failures:
                return self._error(hub.failures.pop(0))
            path = self.path.split('?')[0]
            if path.startswith('/cdn/'):
                commit, name = path.removeprefix('/cdn/').split('/', 1)
                return self._send(commit, hub.files[commit, name], body)
            # /owner/repo/resolve/revision/file
            _, owner, _, _, revision, name = path.split('/', 5)
            if owner != 'owner':
                return self._error(401, 'RepoNotFound')
            commit = COMMITS.get(revision, revision)
            if commit not in COMMITS.values():
                return self._error(404, 'RevisionNotFound')
            content = hub.files.get((commit, name))
            if content is None:
                return self._error(404, 'EntryNotFound')
            self.send_response(302)
            self.send_header('Location', f'/cdn/{commit}/{name}')
            self._meta(commit, content)
            self.send_header('X-Linked-Size', str(len(content)))
            self.send_header('X-Linked-Etag', self._etag(content))
            self.send_header('Content-Length', '0')
            self.end_headers()

        @staticmethod
        def _etag(content):
            return f'"{hashlib.sha256(content).hexdigest()}"'

        def _meta(self, commit, content):
            self.send_header('X-Repo-Commit', commit)
            self.send_header('ETag', self._etag(content))
            self.send_header('Accept-Ranges', 'bytes')

        def _send(self, commit, content, body):
            start = 0
            if self.headers.get('Range'):
                start = int(self.headers['Range'].removeprefix('bytes=').split('-')[0])
                self.send_response(206)
                self.send_header(
                    'Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}'
                )
            else:
                self.send_response(200)
            self._meta(commit, content)
            self.send_header('Content-Length', str(len(content) - start))
            self.end_headers()
            if body:
                end = len(content)
                if hub.cut_after is not None:
                    end, hub.cut_after = hub.cut_after, None
                    self.close_connection = True
                self.wfile.write(content[start:end])

    return Handler


@pytest.fixture
def hub(monkeypatch, tmp_path, golden):
    hub = Hub()
    for i, commit in enumerate(COMMITS.values()):
        state = dict(golden('prithvi_eo_v1_tiny')[0])
        state['cls_token'] = torch.full_like(state['cls_token'], float(i))
        file = tmp_path / f'{i}.pt'
        torch.save(state, file)
        hub.files[commit, 'weights/tiny.pt'] = file.read_bytes()
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _handler(hub))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.server = server
    endpoint = f'http://127.0.0.1:{server.server_port}'
    # what HF_ENDPOINT, HF_HOME and HF_HUB_DISABLE_XET set when the client is imported
    monkeypatch.setattr(constants, 'ENDPOINT', endpoint)
    monkeypatch.setattr(
        constants,
        'HUGGINGFACE_CO_URL_TEMPLATE',
        endpoint + '/{repo_id}/resolve/{revision}/{filename}',
    )
    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    for name in ('http_proxy', 'https_proxy', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    yield hub
    server.shutdown()
    server.server_close()


URL = 'hf://owner/repo/weights/tiny.pt'


@contextmanager
def server_down(hub):
    hub.server.shutdown()
    hub.server.server_close()
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
