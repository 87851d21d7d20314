"""A STAC API (``rustac serve``) and a file server with moods, both on loopback, over real files."""

import base64
import collections
import contextlib
import dataclasses
import email.utils
import hashlib
import http.server
import json
import socket
import subprocess
import sysconfig
import threading
import time
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import rasterio

from geoseg_prithvi.data.download.area import tile_square
from geoseg_prithvi.hls import GranuleId


@dataclasses.dataclass
class Mood:
    """What goes wrong with the next ``times`` requests of a file.

    ``cut``: the connection breaks after so many bytes. ``status``: that answer, with
    ``retry_after``. ``damage``: the first byte is another one. ``html``: a page to log in.
    """

    times: int = 1
    cut: int | None = None
    status: int | None = None
    retry_after: int | None = None
    damage: bool = False
    html: bool = False


class FileServer:
    """Serves a folder with Range, If-Range and ETag; records what it is asked.

    Attributes:
        moods: File name -> :class:`Mood`.
        token: The bearer token that is asked for, ``None`` for none.
        signature: The value of ``?sig=`` that is asked for, ``None`` for none.
        md5: State ``Content-MD5``.
        asked: ``(file name, Range or None, status)`` of each request.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.moods = {}
        self.token = self.signature = None
        self.md5 = True
        self.ranges = True
        self.asked = []
        self.times = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'

            def do_GET(self):
                outer.answer(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A client that goes away is part of the tests."""

        self._server = Server(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self._server.server_port}'
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def reset(self):
        self.moods, self.asked, self.times = {}, [], []
        self.token = self.signature = None
        self.md5 = self.ranges = True

    def count(self, name):
        return collections.Counter(asked for asked, *_ in self.asked)[name]

    def answer(self, request):
        address = urlsplit(request.path)
        path = self.folder / address.path.lstrip('/')
        wanted = request.headers.get('Range') if self.ranges else None
        mood = self.moods.get(path.name, Mood(times=0))
        if mood.times > 0:
            mood.times -= 1
        else:
            mood = Mood()
        self.times.append(time.monotonic())

        def send(status, body=b'', **headers):
            self.asked.append((path.name, request.headers.get('Range'), status))
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name.replace('_', '-'), str(value))
            request.send_header('Content-Length', str(len(body)))
            request.end_headers()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                request.wfile.write(body[: mood.cut])
            if mood.cut is not None and mood.cut < len(body):
                request.wfile.flush()
                request.connection.shutdown(socket.SHUT_RDWR)
                request.close_connection = True

        if self.token and request.headers.get('Authorization') != f'Bearer {self.token}':
            return send(401)
        if self.signature and parse_qs(address.query).get('sig') != [self.signature]:
            return send(403)
        if mood.html:
            return send(200, b'<html>Log in</html>', Content_Type='text/html; charset=utf-8')
        if mood.status:
            after = {} if mood.retry_after is None else dict(Retry_After=mood.retry_after)
            return send(mood.status, **after)
        if not path.is_file():
            return send(404)
        body = path.read_bytes()
        etag = f'"{hashlib.sha1(body).hexdigest()}"'
        headers = dict(
            ETag=etag,
            Last_Modified=email.utils.formatdate(path.stat().st_mtime, usegmt=True),
            Content_Type='image/tiff',
        )
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        if mood.damage:
            body = bytes([body[0] ^ 1]) + body[1:]
        if wanted and request.headers.get('If-Range', etag) == etag:
            first, last = wanted.removeprefix('bytes=').split('-')
            first, last = int(first), min(int(last or len(body)), len(body) - 1)
            if first >= len(body):
                return send(416, Content_Range=f'bytes */{len(body)}')
            headers['Content_Range'] = f'bytes {first}-{last}/{len(body)}'
            return send(206, body[first : last + 1], **headers)
        if self.md5:
            headers['Content_MD5'] = digest
        return send(200, body, **headers)


def _collection(name):
    return dict(
        type='Collection',
        stac_version='1.0.0',
        id=name,
        description=name,
        license='proprietary',
        extent=dict(
            spatial=dict(bbox=[[-180, -90, 180, 90]]),
            temporal=dict(interval=[['2013-04-01T00:00:00Z', None]]),
        ),
        links=[],
    )


def _item(name, collection, box, properties, assets):
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return dict(
        type='Feature',
        stac_version='1.0.0',
        id=name,
        collection=collection,
        geometry=dict(type='Polygon', coordinates=[ring]),
        bbox=list(box),
        properties=properties,
        assets=assets,
        links=[],
    )


def tile_box(tile):
    """Bounds of a whole tile in degrees."""
    epsg, left, top = tile_square(tile)
    return rasterio.warp.transform_bounds(
        f'EPSG:{epsg}', 'EPSG:4326', left, top - 109_800, left + 109_800, top
    )


def multihash(path):
    return '1220' + hashlib.sha256(path.read_bytes()).hexdigest()


def world_items(world, url, *, names=('HLSL30_2.0', 'HLSS30_2.0'), facts=True):
    """STAC items of a world by ``make_world``, as the catalogues of HLS and IO/Esri have them.

    ``facts``: state size and checksum of the files.
    """
    items = []
    for folder in sorted((world / 'granules').iterdir()):
        granule, _ = GranuleId.parse(folder.name)
        assets = {}
        for path in sorted(folder.iterdir()):
            band = path.name.split('.')[-2]
            assets[band] = dict(href=f'{url}/granules/{folder.name}/{path.name}')
            if facts:
                assets[band] |= {
                    'file:size': path.stat().st_size,
                    'file:checksum': multihash(path),
                }
        # What nobody needs is there too, and would be a 404.
        for band in ('B01', 'B08', 'B10', 'SAA', 'VZA', 'thumbnail'):
            assets.setdefault(band, dict(href=f'{url}/{folder.name}.{band}.tif'))
        with rasterio.open(next(folder.glob('*.B02.tif'))) as dataset:
            cover = float(dataset.tags()['CLOUD_COVERAGE'])
        properties = {'datetime': f'{granule.acquired:%Y-%m-%dT%H:%M:%SZ}', 'eo:cloud_cover': cover}
        collection = names[granule.sensor == 'S30']
        items.append(_item(folder.name, collection, tile_box(granule.tile), properties, assets))
    for path in sorted((world / 'labels').iterdir()):
        zone, year = path.name[:3], int(path.name[4:8])
        span = dict(
            datetime=None,
            start_datetime=f'{year}-01-01T00:00:00Z',
            end_datetime=f'{year + 1}-01-01T00:00:00Z',
        )
        assets = dict(data=dict(href=f'{url}/labels/{path.name}'))
        box = (-126.0, 32.0, -120.0, 40.0)  # zone 10, band S
        items.append(_item(f'{zone}-{year}', 'io-lulc-annual-v02', box, span, assets))
    return items


@contextlib.contextmanager
def stac_api(folder, items):
    """Run ``rustac serve`` with items; gives its address."""
    collections_ = sorted({item['collection'] for item in items})
    files = []
    for number, name in enumerate(collections_):
        files.append(folder / f'collection{number}.json')
        files[-1].write_text(json.dumps(_collection(name)))
    files.append(folder / 'items.json')
    files[-1].write_text(json.dumps(dict(type='FeatureCollection', features=items)))
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        address = f'127.0.0.1:{probe.getsockname()[1]}'
    command = Path(sysconfig.get_path('scripts')) / 'rustac'
    server = subprocess.Popen(
        [command, 'serve', '--addr', address, *map(str, files)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f'http://{address}', timeout=5).close()
                break
            if server.poll() is not None:
                raise RuntimeError(server.stderr.read().decode())
            time.sleep(0.05)
        yield f'http://{address}'
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
