"""A published model: one file, complete, plain data, and nothing in it is ever run."""

import base64
import http.server
import json
import threading

import huggingface_hub.constants as constants
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from safetensors import safe_open
from safetensors.torch import save_file

from geoseg_prithvi.compat import load_checkpoint_file
from geoseg_prithvi.errors import (
    CheckpointMismatchError,
    ConfigError,
    NetworkError,
    UnsafeCheckpointError,
    WeightsNotFoundError,
    WrongCredentialsError,
)
from geoseg_prithvi.experiments.publish import collect, model_card, push
from geoseg_prithvi.lulc import IO_LULC
from geoseg_prithvi.models import is_published, read_published, write_published


def config(tmp_path, lora=None):
    stats = tmp_path / 'statistics.json'
    stats.write_text(json.dumps(dict(mean=[1.5] * 6, std=[2.0, 3, 4, 5, 6, 7])))
    return Config(
        dict(
            custom_imports=dict(imports=['geoseg_prithvi']),
            work_dir=str(tmp_path / 'work'),
            num_frames=3,
            crop_size=(16, 16),
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(type='HLSDataPreprocessor', normalization=str(stats)),
                backbone=dict(
                    type='PrithviViT',
                    arch=dict(embed_dims=16, depth=1, num_heads=2, patch_size=8),
                    img_size=16,
                    lora=lora,
                    init_cfg=dict(type='Pretrained', checkpoint='hf://nobody/nothing/x.pt'),
                ),
                decode_head=dict(
                    type='FCNHead', in_channels=48, channels=8, num_convs=1, num_classes=9
                ),
                train_cfg=dict(),
                test_cfg=dict(mode='whole'),
            ),
        )
    )


def train(cfg, path):
    """A checkpoint as training leaves it, with an optimiser and a log."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for name, parameter in model.named_parameters():
        if name.endswith('lora_b'):
            torch.nn.init.normal_(parameter)
    history = HistoryBuffer()
    for value in (10.0, 62.37):
        history.update(value)
    optimizer = torch.optim.AdamW(model.parameters())
    torch.save(
        dict(
            state_dict=model.state_dict(),
            optimizer=dict(optimizer.state_dict(), padding=torch.zeros(1000_000)),
            message_hub=dict(log_scalars={'val/mIoU': history, 'val/time': history}),
            meta=dict(iter=5000, dataset_meta=IO_LULC.metainfo),
        ),
        path,
    )
    return model.eval()


@pytest.fixture
def published(tmp_path):
    cfg = config(tmp_path)
    model = train(cfg, tmp_path / 'iter.pth')
    out = tmp_path / 'model.safetensors'
    write_published(out, *collect(cfg, str(tmp_path / 'iter.pth'), data_card='Nine chips.'))
    return out, model


def predict(model):
    torch.manual_seed(1)
    with torch.no_grad():
        return model.encode_decode(torch.randn(1, 18, 16, 16), [dict(img_shape=(16, 16))])


def test_it_is_complete(published, tmp_path):
    path, model = published
    (tmp_path / 'statistics.json').unlink()
    (tmp_path / 'iter.pth').unlink()
    cfg, state, meta = read_published(str(path))
    again = MODELS.build(cfg.model).eval()
    again.load_state_dict(state, strict=True)
    torch.testing.assert_close(predict(again), predict(model), rtol=0, atol=0)
    assert cfg.crop_size == (16, 16)  # a tuple stays a tuple
    assert cfg.filename == str(path.with_suffix('.py'))  # the name under which runs store it
    assert again.data_preprocessor.std.flatten()[:6].tolist() == [2, 3, 4, 5, 6, 7]
    assert meta['dataset_meta']['classes'] == list(IO_LULC.names)
    assert meta['metrics'] == {'mIoU': 62.37}
    assert meta['data_card'] == 'Nine chips.'
    assert meta['iterations'] == 5000
    assert 'work_dir' not in cfg
    assert cfg.model.backbone.init_cfg is None


def test_it_is_small_and_written_at_once(published, tmp_path):
    path, model = published
    weights = sum(p.numel() for p in model.state_dict().values()) * 4
    assert weights < path.stat().st_size < weights + 20_000
    assert sorted(p.suffix for p in tmp_path.iterdir()) == ['.json', '.pth', '.safetensors']
    before = path.read_bytes()
    with pytest.raises(ConfigError, match='must end in'):
        write_published(tmp_path / 'model.pth', Config(), {}, {})
    with pytest.raises(TypeError):
        write_published(path, Config(), {}, dict(bad=object()))
    assert path.read_bytes() == before


def test_a_checkpoint_loader_sees_classes_as_in_training(published):
    saved = load_checkpoint_file(published[0])
    assert saved['meta']['dataset_meta']['classes'] == list(IO_LULC.names)
    assert set(saved['state_dict']) == set(published[1].state_dict())


def test_lora_is_merged(tmp_path):
    cfg = config(tmp_path, lora=dict(rank=2, alpha=4))
    model = train(cfg, tmp_path / 'iter.pth')
    cfg, state, _ = collect(cfg, str(tmp_path / 'iter.pth'))
    assert not any('lora' in key for key in state)
    plain = MODELS.build(cfg.model).eval()
    plain.load_state_dict(state, strict=True)
    torch.testing.assert_close(predict(plain), predict(model), rtol=0, atol=1e-5)


def test_what_does_not_fit_is_not_published(tmp_path):
    cfg = config(tmp_path)
    train(cfg, tmp_path / 'iter.pth')
    cfg.model.backbone.arch.depth = 2
    with pytest.raises(CheckpointMismatchError, match=r'iter\.pth does not fit the config'):
        collect(cfg, str(tmp_path / 'iter.pth'))
    torch.save(dict(meta={}), tmp_path / 'empty.pth')
    with pytest.raises(CheckpointMismatchError, match='no state_dict'):
        collect(cfg, str(tmp_path / 'empty.pth'))


@pytest.mark.parametrize(
    ('text', 'error', 'message'),
    [
        ("__import__('os').mkdir('{target}')", CheckpointMismatchError, 'no config'),
        ("dict(model=__import__('os').mkdir('{target}'))", CheckpointMismatchError, 'no config'),
        (
            "{{'model': {{'neck': [{{'type': 'os.mkdir', 'path': '{target}'}}]}}}}",
            UnsafeCheckpointError,
            "type='os.mkdir'",
        ),
    ],
)
def test_a_config_that_would_run_code_is_refused(tmp_path, text, error, message):
    target, path = tmp_path / 'ran', tmp_path / 'evil.safetensors'
    header = dict(config=text.format(target=target), meta='{}')
    save_file(dict(a=torch.ones(1)), path, metadata=header)
    with pytest.raises(error, match=message):
        read_published(str(path))
    assert not target.exists()


def test_such_a_config_is_not_written_either(tmp_path):
    cfg = Config(dict(model=dict(type='os.mkdir')))
    with pytest.raises(UnsafeCheckpointError, match=r"type='os\.mkdir'"):
        write_published(tmp_path / 'm.safetensors', cfg, {}, {})
    with pytest.raises(ConfigError, match='more than strings'):
        write_published(tmp_path / 'm.safetensors', Config(dict(a=dict(b=print))), {}, {})
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_named(tmp_path, published):
    with pytest.raises(WeightsNotFoundError, match=r'nowhere\.safetensors'):
        read_published(str(tmp_path / 'nowhere.safetensors'))
    save_file(dict(a=torch.ones(1)), tmp_path / 'raw.safetensors')
    with pytest.raises(CheckpointMismatchError, match='no published model; give a config'):
        read_published(str(tmp_path / 'raw.safetensors'))
    whole = published[0].read_bytes()
    half = tmp_path / 'half.safetensors'
    for length in (0, 10, 1000, len(whole) - 10):
        half.write_bytes(whole[:length])
        with pytest.raises(CheckpointMismatchError, match=r'half\.safetensors is no whole'):
            read_published(str(half))


def test_which_names_are_published_models():
    assert is_published('a/b.safetensors')
    assert is_published('hf://owner/repo/b.safetensors@v1')
    assert not is_published('configs/prithvi_lulc.py')
    assert not is_published('hf://owner/repo/b.pt@v1.safetensors')


class _Hub(http.server.BaseHTTPRequestHandler):
    """Takes commits as the hub does: create, preupload, commit, each as JSON."""

    def log_message(self, *args):
        pass

    def _reply(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        self._reply(404, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        hub, path = self.server, self.path.partition('?')[0]
        hub.seen.append(path)
        if hub.status != 200:
            return self._reply(hub.status, dict(error='no'))
        if path == '/api/repos/create':
            hub.created = json.loads(body)
            return self._reply(200, dict(url=f'{hub.url}/owner/maps'))
        if path.endswith('/preupload/main'):
            files = [
                dict(path=f['path'], uploadMode='regular', shouldIgnore=False)
                for f in json.loads(body)['files']
            ]
            return self._reply(200, dict(files=files))
        if path.endswith('/commit/main'):
            for line in map(json.loads, body.splitlines()):
                if line['key'] == 'file':
                    value = line['value']
                    hub.files[value['path']] = base64.b64decode(value['content'])
            return self._reply(
                200,
                dict(
                    success=True,
                    commitOid='c' * 40,
                    commitUrl=f'{hub.url}/owner/maps/commit/{"c" * 40}',
                ),
            )
        return self._reply(200, dict(errors=[], warnings=[]))  # validation of the card


@pytest.fixture
def hub(monkeypatch):
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), _Hub)
    server.seen, server.files, server.status = [], {}, 200
    server.url = f'http://127.0.0.1:{server.server_port}'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, 'ENDPOINT', server.url)
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setenv('HF_TOKEN', 'hf_test')
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    yield server
    server.shutdown()
    server.server_close()


def test_push_is_one_commit_of_model_and_card(published, hub):
    path, _ = published
    cfg, _, meta = read_published(str(path))
    card = model_card(path.name, cfg, meta, 'owner/maps')
    url = push(path, card, 'owner/maps')
    assert url.endswith('/owner/maps/commit/' + 'c' * 40)
    assert hub.files == {'model.safetensors': path.read_bytes(), 'README.md': card.encode()}
    assert hub.created['name'] == 'maps'
    assert sum(request.endswith('/commit/main') for request in hub.seen) == 1


@pytest.mark.parametrize(
    ('status', 'error', 'message'),
    [
        (401, WrongCredentialsError, r'write to owner/maps \(401\); set HF_TOKEN'),
        (403, WrongCredentialsError, r'\(403\)'),
        (500, NetworkError, 'the hub answered 500'),
    ],
)
def test_a_refused_push_is_told(published, hub, monkeypatch, status, error, message):
    monkeypatch.setattr('time.sleep', lambda _: None)
    hub.status = status
    with pytest.raises(error, match=message):
        push(published[0], 'card', 'owner/maps')


def test_the_card_says_what_a_user_needs(published):
    path, _ = published
    cfg, _, meta = read_published(str(path))
    card = model_card(path.name, cfg, meta, 'owner/maps')
    assert card.startswith('---\nlibrary_name: geoseg_prithvi\n')
    for text in (
        'tools/predict.py hf://owner/maps/model.safetensors SCENE OUT.tif',
        '3 date(s) of Harmonized Landsat Sentinel-2',
        '| NIR_NARROW | 1.5 | 5 |',
        '| mIoU | 62.37 |',
        'Nine chips.',
        *(f'| {i} | {name} |' for i, name in enumerate(IO_LULC.names)),
    ):
        assert text in card, text


def test_the_header_can_be_read_by_people(published):
    with safe_open(published[0], 'pt') as file:
        header = file.metadata()
    assert header['format'] == 'pt'
    assert "'type': 'PrithviViT'" in header['config']
    assert set(json.loads(header['meta'])) == {
        'dataset_meta', 'normalization', 'metrics', 'data_card', 'iterations',
    }  # fmt: skip
