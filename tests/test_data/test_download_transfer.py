"""Files that arrive whole and right from a server on a bad day."""

import contextlib
import json
import multiprocessing
import resource
import threading
import time

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip('requests')
pytest.importorskip('earthaccess')
pytest.importorskip('planetary_computer')

import requests

from geoseg_prithvi.data.download import http as http_module
from geoseg_prithvi.data.download import transfer
from geoseg_prithvi.data.download.access import (
    Access,
    BearerAccess,
    Grant,
    SigningAccess,
    earthdata,
    planetary_computer,
)
from geoseg_prithvi.data.download.http import HttpClient, RangeFile
from geoseg_prithvi.data.download.transfer import (
    CHUNK,
    RemoteFile,
    ask_size,
    check_space,
    fetch,
    fetch_all,
    parse_multihash,
)
from geoseg_prithvi.errors import (
    DownloadError,
    NetworkError,
    OutputWriteError,
    WrongCredentialsError,
)

from .stac_server import FileServer, Mood, multihash

SIZE = 1_000_003


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('files')
    rng = np.random.default_rng(0)
    for number in range(4):
        (root / f'{number}.tif').write_bytes(rng.bytes(SIZE))
    return root


@pytest.fixture
def server(folder):
    server = FileServer(folder)
    yield server
    server.close()


@pytest.fixture
def get(server, folder, tmp_path):
    """Fetch ``0.tif``; returns the bytes that were reported."""

    def get(access=None, **facts):
        client = HttpClient(access or Access(), backoff=0.01)
        reported = []
        fetch(
            RemoteFile(f'{server.url}/0.tif', tmp_path / '0.tif', client, **facts), reported.append
        )
        assert (tmp_path / '0.tif').read_bytes() == (folder / '0.tif').read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == ['0.tif']
        return sum(reported)

    return get


def test_plain(get, server, folder):
    assert get(size=SIZE, checksum=multihash(folder / '0.tif')) == SIZE
    assert server.asked == [('0.tif', None, 200)]


def test_cut_connection_goes_on_with_the_rest(get, server):
    server.moods['0.tif'] = Mood(times=2, cut=4 * CHUNK + 5)
    assert get() == SIZE
    ranges = [wanted for _, wanted, _ in server.asked]
    assert ranges == [None, f'bytes={4 * CHUNK}-', f'bytes={8 * CHUNK}-']


def test_connection_that_always_breaks_is_given_up(get, server):
    server.moods['0.tif'] = Mood(times=99, cut=0)
    with pytest.raises(NetworkError, match=r'cannot be reached .* goes on where it stopped'):
        get()


def test_part_of_an_earlier_run_is_resumed(get, server, tmp_path):
    server.moods['0.tif'] = Mood(times=99, cut=200_000)
    stop = threading.Event()
    client = HttpClient(Access(), backoff=0.01)
    file = RemoteFile(f'{server.url}/0.tif', tmp_path / '0.tif', client)
    fetch(file, lambda count: count and stop.set(), stop)
    assert not file.path.exists()
    have = file.part.stat().st_size
    assert 0 < have <= 200_000
    server.moods.clear()
    server.asked.clear()
    assert get() == SIZE
    assert server.asked == [('0.tif', f'bytes={have}-', 206)]


def test_part_of_another_version_is_not_continued(get, server, folder, tmp_path):
    (tmp_path / '0.tif.part').write_bytes(b'old' * 1000)
    (tmp_path / '0.tif.part.json').write_text('{"validator": "\\"of the old file\\""}')
    assert get() == SIZE
    assert server.asked == [('0.tif', 'bytes=3000-', 200)]


def test_part_without_validator_is_not_continued(get, server, tmp_path):
    (tmp_path / '0.tif.part').write_bytes(b'whose?')
    assert get() == SIZE
    assert server.asked == [('0.tif', None, 200)]


def test_part_that_is_whole_is_taken(get, server, folder, tmp_path):
    etag = requests.get(f'{server.url}/0.tif', timeout=5).headers['ETag']
    (tmp_path / '0.tif.part').write_bytes((folder / '0.tif').read_bytes())
    (tmp_path / '0.tif.part.json').write_text(json.dumps(dict(validator=etag)))
    server.asked.clear()
    assert get() == SIZE
    assert server.asked == [('0.tif', f'bytes={SIZE}-', 416)]


def test_part_that_is_too_long_is_dropped(get, server, folder, tmp_path):
    etag = requests.get(f'{server.url}/0.tif', timeout=5).headers['ETag']
    (tmp_path / '0.tif.part').write_bytes((folder / '0.tif').read_bytes() + b'more')
    (tmp_path / '0.tif.part.json').write_text(json.dumps(dict(validator=etag)))
    assert get() == SIZE


def test_retry_after_is_honoured(get, server):
    server.moods['0.tif'] = Mood(times=1, status=503, retry_after=1)
    assert get() == SIZE
    assert server.times[1] - server.times[0] >= 1
    assert [status for *_, status in server.asked] == [503, 200]


@pytest.mark.parametrize('status', [429, 500, 502, 504])
def test_passing_errors_are_waited_out(get, server, status):
    server.moods['0.tif'] = Mood(times=3, status=status)
    assert get() == SIZE
    assert len(server.asked) == 4


def test_lasting_error(get, server, tmp_path):
    server.moods['0.tif'] = Mood(times=99, status=503)
    with pytest.raises(DownloadError, match=r'0\.tif was not delivered: .* answers 503'):
        get()
    server.moods['0.tif'] = Mood(times=1, status=404)
    with pytest.raises(DownloadError, match='answers 404'):
        get()
    assert not (tmp_path / '0.tif').exists()


@pytest.mark.parametrize('stated', ['server', 'catalogue'])
def test_damage_is_noticed_and_mended(get, server, folder, stated):
    server.md5 = stated == 'server'
    facts = {} if server.md5 else dict(checksum=multihash(folder / '0.tif'))
    server.moods['0.tif'] = Mood(times=1, damage=True)
    assert get(**facts) == SIZE
    assert [status for *_, status in server.asked] == [200, 200]


def test_lasting_damage_leaves_nothing(get, server, folder, tmp_path):
    server.md5 = False
    server.moods['0.tif'] = Mood(times=9, damage=True)
    with pytest.raises(DownloadError, match=r'arrived damaged twice \(its sha256 checksum'):
        get(checksum=multihash(folder / '0.tif'))
    assert not (tmp_path / '0.tif').exists()
    with pytest.raises(DownloadError, match=rf'twice \({SIZE} bytes instead of 5\)'):
        get(size=5)


def test_multihash():
    assert parse_multihash('1220' + 'ab' * 32) == ('sha256', b'\xab' * 32)
    assert parse_multihash('d50110' + 'cd' * 16) == ('md5', b'\xcd' * 16)
    assert parse_multihash('1e20' + 'ab' * 32) is None  # BLAKE3: not checked
    assert parse_multihash('1220ab') is None
    assert parse_multihash('zz') is None


def test_full_disk_in_mid_write(get, server, folder, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    try:
        with pytest.raises(OutputWriteError, match=r'0\.tif could not be written \(.*too large\)'):
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / '0.tif').exists()
    assert (tmp_path / '0.tif.part').stat().st_size == 400_000
    server.asked.clear()
    assert get() == SIZE  # goes on
    assert server.asked == [('0.tif', 'bytes=400000-', 206)]


def test_space_is_checked_before(server, tmp_path):
    client = HttpClient(Access())
    big = RemoteFile(f'{server.url}/0.tif', tmp_path / 'new' / '0.tif', client, size=10**18)
    with pytest.raises(OutputWriteError, match=r'GB free, but 1000000000\.0 GB'):
        check_space([big], tmp_path / 'new')


def test_many_at_a_time(server, folder, tmp_path):
    client = HttpClient(Access(), backoff=0.01)
    files = [
        RemoteFile(f'{server.url}/{n}.tif', tmp_path / f'{n}.tif', client, SIZE) for n in range(4)
    ]
    server.moods['2.tif'] = Mood(times=1, cut=10)
    fetch_all(files, 3, Console(quiet=True))
    for n in range(4):
        assert (tmp_path / f'{n}.tif').read_bytes() == (folder / f'{n}.tif').read_bytes()
    server.asked.clear()
    fetch_all(files, 3, Console(quiet=True))
    assert server.asked == []


def test_first_error_stops_the_others(server, tmp_path):
    client = HttpClient(Access(), backoff=0.01)
    server.moods['0.tif'] = Mood(times=9, status=404)
    files = [RemoteFile(f'{server.url}/{n}.tif', tmp_path / f'{n}.tif', client) for n in range(4)]
    with pytest.raises(DownloadError, match=r'0\.tif was not delivered'):
        fetch_all(files, 1, Console(quiet=True))
    assert server.count('3.tif') == 0


def test_size_is_asked_with_one_byte(server):
    client = HttpClient(Access())
    file = RemoteFile(f'{server.url}/0.tif', None, client)
    assert ask_size(file) == SIZE
    assert server.asked == [('0.tif', 'bytes=0-0', 206)]
    server.ranges = False
    assert ask_size(file) == SIZE


def test_range_file_reads_like_a_file(server, folder):
    content = (folder / '0.tif').read_bytes()
    rng = np.random.default_rng(0)
    with RangeFile(HttpClient(Access()), f'{server.url}/0.tif') as remote:
        for offset, length in zip(
            rng.integers(0, SIZE, 20), rng.integers(1, 200_000, 20), strict=True
        ):
            remote.seek(int(offset))
            assert remote.read(int(length)) == content[offset : offset + length]
        assert remote.seek(-5, 2) == SIZE - 5
        assert remote.read() == content[-5:]
        assert remote.read(1) == b''


# Credentials


class Tokens:
    """Hands out tokens, one after the other."""

    def __init__(self, *tokens):
        self.tokens = list(tokens)
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.tokens[min(self.calls, len(self.tokens)) - 1]


def test_expired_token_is_renewed_once(get, server):
    server.token = 'new'
    tokens = Tokens('old', 'new')
    assert get(BearerAccess(tokens, 'log in')) == SIZE
    assert tokens.calls == 2
    assert [status for *_, status in server.asked] == [401, 200]


def test_token_that_expires_in_mid_file(get, server):
    """The connection breaks, and the token is stale when the rest is asked for."""
    server.token = 'first'
    server.moods['0.tif'] = Mood(times=1, cut=5 * CHUNK)
    tokens = Tokens('first', 'second')
    answer = server.answer

    def expiring(request):
        answer(request)
        server.token = 'second'

    server.answer = expiring
    assert get(BearerAccess(tokens, 'log in')) == SIZE
    asked = [(wanted, status) for _, wanted, status in server.asked]
    assert asked == [(None, 200), (f'bytes={5 * CHUNK}-', 401), (f'bytes={5 * CHUNK}-', 206)]


def test_wrong_credentials(get, server):
    server.token = 'right'
    tokens = Tokens('wrong')
    with pytest.raises(WrongCredentialsError, match=r'refuses 0\.tif \(401 .*\); log in\.'):
        get(BearerAccess(tokens, 'log in'))
    assert len(server.asked) == 1  # the same token is not tried twice
    tokens = Tokens('wrong', 'also wrong', 'and again')
    with pytest.raises(WrongCredentialsError):
        get(BearerAccess(tokens, 'log in'))
    assert tokens.calls == 2
    with pytest.raises(WrongCredentialsError, match='choose another --source'):
        get()


def test_page_to_log_in_is_no_file(get, server):
    server.moods['0.tif'] = Mood(times=9, html=True)
    with pytest.raises(WrongCredentialsError, match=r'refuses 0\.tif'):
        get(BearerAccess(Tokens('a', 'b'), 'log in'))


def test_many_refused_threads_renew_once(server, tmp_path):
    server.token = 'new'
    tokens = Tokens('old', 'new')
    client = HttpClient(BearerAccess(tokens, 'log in'), backoff=0.01)
    files = [RemoteFile(f'{server.url}/{n}.tif', tmp_path / f'{n}.tif', client) for n in range(4)]
    fetch_all(files, 4, Console(quiet=True))
    assert tokens.calls == 2


def test_signed_addresses_are_renewed(get, server):
    server.signature = 'new'
    cached = ['old']
    access = SigningAccess(
        lambda href: f'{href}?sig={cached[0]}', lambda: cached.__setitem__(0, 'new'), 'sign'
    )
    assert get(access) == SIZE
    assert [status for *_, status in server.asked] == [403, 200]


def test_earthdata_takes_the_token_from_the_environment(get, server, monkeypatch):
    monkeypatch.setenv('EARTHDATA_TOKEN', 'old')
    access = earthdata()
    assert access.grant('x') == Grant('x', 'old')
    monkeypatch.setenv('EARTHDATA_TOKEN', 'new')  # renewed by the user
    server.token = 'new'
    assert get(access) == SIZE


def test_earthdata_without_login(monkeypatch, tmp_path):
    for name in ('TOKEN', 'USERNAME', 'PASSWORD'):
        monkeypatch.delenv(f'EARTHDATA_{name}', raising=False)
    monkeypatch.setenv('NETRC', str(tmp_path / 'absent'))
    with pytest.raises(WrongCredentialsError, match=r'no Earthdata login .* set EARTHDATA_TOKEN'):
        earthdata().grant('x')


def test_planetary_computer_signs_blobs_only():
    """Only the cache of the SDK is filled by hand; the signing is its own."""
    import datetime as dt

    from planetary_computer import sas

    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
    url = f'{sas.Settings.get().sas_url}/hls2euwest/hls2'
    token = sas.SASToken(**{'msft:expiry': later, 'token': 'sig=abc'})
    with contextlib.ExitStack() as stack:
        stack.callback(sas.TOKEN_CACHE.clear)
        sas.TOKEN_CACHE[url] = token
        access = planetary_computer()
        blob = 'https://hls2euwest.blob.core.windows.net/hls2/a/B02.tif'
        assert access.grant(blob) == Grant(f'{blob}?sig=abc')
        assert access.grant('http://127.0.0.1/x.tif') == Grant('http://127.0.0.1/x.tif')


def test_token_is_not_sent_to_another_host(server, folder, tmp_path):
    """A redirect to a signed address elsewhere, as LP DAAC does, goes without the token."""
    other = FileServer(folder)
    seen = []
    answer = other.answer

    def spying(request):
        seen.append(request.headers.get('Authorization'))
        answer(request)

    other.answer = spying

    def redirecting(request):
        request.send_response(303)
        request.send_header('Location', f'http://localhost:{other._server.server_port}/0.tif')
        request.send_header('Content-Length', '0')
        request.end_headers()

    server.answer = redirecting
    client = HttpClient(BearerAccess(Tokens('secret'), 'log in'))
    fetch(RemoteFile(f'{server.url}/0.tif', tmp_path / '0.tif', client), lambda _: None)
    other.close()
    assert seen == [None]
    assert (tmp_path / '0.tif').stat().st_size == SIZE


def test_no_network(tmp_path):
    client = HttpClient(Access(), backoff=0.01)
    with pytest.raises(NetworkError, match=r'127\.0\.0\.1:9 cannot be reached \(.*refused\)'):
        fetch(RemoteFile('http://127.0.0.1:9/x.tif', tmp_path / 'x.tif', client), lambda _: None)
    with pytest.raises(NetworkError, match=r'no\.such\.host\.invalid cannot be reached'):
        client.get('http://no.such.host.invalid/x.tif')


def test_silent_server_is_given_up(server, monkeypatch, tmp_path):
    monkeypatch.setattr(http_module, 'TIMEOUT', (1.0, 0.1))
    monkeypatch.setattr(transfer, 'MAX_BREAKS', 1)
    server.answer = lambda request: time.sleep(0.5)
    client = HttpClient(Access(), backoff=0.001)
    with pytest.raises(NetworkError, match=r'cannot be reached'):
        fetch(RemoteFile(f'{server.url}/0.tif', tmp_path / 'x.tif', client), lambda _: None)


def test_killed_at_any_moment_goes_on(server, folder, tmp_path):
    """SIGKILL after some bytes, again and again; the last run ends with the right files."""
    client = HttpClient(Access(), backoff=0.01)
    files = [
        RemoteFile(f'{server.url}/{n}.tif', tmp_path / f'{n}.tif', client, SIZE) for n in range(4)
    ]
    fork = multiprocessing.get_context('fork')
    delays = np.random.default_rng(0).uniform(0.005, 0.06, 8)
    for delay in delays:
        process = fork.Process(target=fetch_all, args=(files, 2, Console(quiet=True)))
        process.start()
        time.sleep(delay)
        process.kill()
        process.join()
        for file in files:  # whole or not there
            assert not file.path.exists() or file.path.stat().st_size == SIZE
    fetch_all(files, 2, Console(quiet=True))
    for n, file in enumerate(files):
        assert file.path.read_bytes() == (folder / f'{n}.tif').read_bytes()
        assert not file.part.exists()
