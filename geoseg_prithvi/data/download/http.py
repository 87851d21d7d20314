"""Requests that survive a bad day: retries, Retry-After, ranges, one renewal of the login."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from ...errors import DownloadError, NetworkError, WrongCredentialsError
from ...version import __version__
from .access import Access, Grant

#: Seconds without a byte after which a connection counts as lost: to connect, and to read.
TIMEOUT = (20.0, 60.0)
#: Answers that another try may mend.
TRANSIENT = (429, 500, 502, 503, 504)
#: Bytes that one read of a remote raster asks for at least: the header of a COG in one go.
READ_AHEAD = 1 << 16


def retry_policy(backoff: float = 1.0) -> Retry:
    """Return the policy for a request that fails before its body comes.

    A server that says ``Retry-After`` is obeyed; else waits double from ``2 * backoff`` seconds to
    two minutes.

    Args:
        backoff: Factor of the waits, seconds.
    """
    return Retry(
        total=None,
        connect=3,
        read=4,
        status=8,
        other=0,
        backoff_factor=backoff,
        backoff_max=120,
        backoff_jitter=backoff / 2,
        status_forcelist=TRANSIENT,
        allowed_methods=('GET', 'POST'),  # a search is a POST
        raise_on_status=False,
    )


class HttpClient:
    """Asks one kind of server; safe to share between threads.

    Args:
        access: The login.
        backoff: Factor of the waits between tries, seconds.
    """

    def __init__(self, access: Access, backoff: float = 1.0) -> None:
        self.access = access
        self.backoff = backoff
        self._local = threading.local()

    def get(self, href: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Ask for a file; the body is streamed, and the caller closes the response.

        Args:
            href: The address as the catalogue gives it.
            headers: For example ``Range``.

        Returns:
            The response, with status 200, 206 or 416.

        Raises:
            WrongCredentialsError: If the server refuses the login, also a renewed one.
            NetworkError: If it cannot be reached.
            DownloadError: If it answers with another error.
        """
        grant = self.access.grant(href)
        response = self._send(href, grant, headers)
        if _refused(response):
            response.close()
            if not self.access.renew(href, grant):
                raise self._refusal(href, response)
            response = self._send(href, self.access.grant(href), headers)
            if _refused(response):
                response.close()
                raise self._refusal(href, response)
        if response.status_code not in (200, 206, 416):
            response.close()
            raise DownloadError(
                f'{_short(href)} was not delivered: {_host(href)} answers {response.status_code} '
                f'{response.reason}; try again later.'
            )
        return response

    def _send(
        self, href: str, grant: Grant, headers: Mapping[str, str] | None
    ) -> requests.Response:
        try:
            return self._session().get(
                grant.url,
                # The bytes as they are: a compressed transfer could not be resumed.
                headers={'Accept-Encoding': 'identity', **(headers or {})},
                auth=_Bearer(grant.token),
                stream=True,
                timeout=TIMEOUT,
            )
        except requests.RequestException as error:
            raise unreachable(href, error) from error

    def _session(self) -> requests.Session:
        """Return the session of this thread; sessions are not made to be shared."""
        if not hasattr(self._local, 'session'):
            session = requests.Session()
            session.headers['User-Agent'] = f'geoseg_prithvi/{__version__}'
            adapter = HTTPAdapter(max_retries=retry_policy(self.backoff))
            session.mount('http://', adapter)
            session.mount('https://', adapter)
            self._local.session = session
        return self._local.session

    def _refusal(self, href: str, response: requests.Response) -> WrongCredentialsError:
        return WrongCredentialsError(
            f'{_host(href)} refuses {_short(href)} ({response.status_code} {response.reason}); '
            f'{self.access.advice}.'
        )


def unreachable(href: str, error: requests.RequestException) -> NetworkError:
    """Name a server that does not answer."""
    if isinstance(error, requests.Timeout):
        reason = 'no answer in time'
    else:
        # urllib3 hides the cause in the error that says that all tries were used.
        cause = getattr(error.args[0], 'reason', error) if error.args else error
        reason = str(cause).splitlines()[0].rpartition(': ')[2].strip('.\'")')
    return NetworkError(
        f'{_host(href)} cannot be reached ({reason}); check the network connection and '
        'run the same command again, it goes on where it stopped.'
    )


class RangeFile(io.RawIOBase):
    """A remote file for rasterio, read by ranges.

    Args:
        client: How to ask.
        href: The address.

    Raises:
        GeosegError: As :meth:`HttpClient.get`; a server without ranges is a ``DownloadError``.
    """

    def __init__(self, client: HttpClient, href: str) -> None:
        self._client = client
        self._href = href
        self._position = 0
        self._start, self._buffer = 0, b''
        self.size = 0
        self._fetch(0, READ_AHEAD)

    def _fetch(self, start: int, length: int) -> None:
        wanted = f'bytes={start}-{start + length - 1}'
        with self._client.get(self._href, {'Range': wanted}) as response:
            span = parse_content_range(response.headers.get('Content-Range', ''))
            if response.status_code != 206 or span is None or span[0] != start:
                raise DownloadError(
                    f'{_host(self._href)} does not serve parts of files, so {_short(self._href)} '
                    'cannot be looked at before it is downloaded; use --probe 0.'
                )
            self._start, self.size = start, span[1]
            try:
                self._buffer = response.content
            except requests.RequestException as error:
                raise unreachable(self._href, error) from error

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be sought."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move the position."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, target: memoryview) -> int:
        """Read from the position."""
        length = min(len(target), self.size - self._position)
        if length <= 0:
            return 0
        if not self._start <= self._position <= self._start + len(self._buffer) - length:
            self._fetch(self._position, max(length, READ_AHEAD))
        first = self._position - self._start
        part = self._buffer[first : first + length]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)


class _Bearer(AuthBase):
    """Sets the token; as ``auth`` and not as a header, or ``.netrc`` would take its place.

    Requests drops it when a server redirects to another host, as signed addresses need.
    """

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers['Authorization'] = f'Bearer {self._token}'
        return request


def parse_content_range(text: str) -> tuple[int, int] | None:
    """Return first byte and size of the whole file from ``Content-Range``; ``None`` if unknown."""
    match = re.fullmatch(r'bytes (\d+)-\d+/(\d+)', text.strip())
    return (int(match[1]), int(match[2])) if match else None


def _refused(response: requests.Response) -> bool:
    # Earthdata answers a stale token with a page to log in.
    page = response.headers.get('Content-Type', '').startswith('text/html')
    return response.status_code in (401, 403) or (response.ok and page)


def _host(href: str) -> str:
    return urlsplit(href).netloc


def _short(href: str) -> str:
    return urlsplit(href).path.rpartition('/')[2] or href
