"""Fetch files in parallel: resumed where they stopped, checked, and never half under their name.

An unfinished file is ``{name}.part`` with ``{name}.part.json`` beside it, which holds the server's
validator (ETag): only the rest of the very same file is appended to it.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ...errors import DownloadError, OutputWriteError
from ..files import write_bytes
from .http import HttpClient, parse_content_range, unreachable

#: Bytes written at a time; what of them came before a connection broke is lost.
CHUNK = 1 << 16
#: Connections in a row that may break without a byte before a file is given up.
MAX_BREAKS = 5
#: Multihash codes (multiformats table) of ``file:checksum`` in STAC, and hashlib's names.
MULTIHASH = {0x11: 'sha1', 0x12: 'sha256', 0x13: 'sha512', 0xD5: 'md5'}


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """One file to fetch.

    Attributes:
        href: Its address as the catalogue gives it.
        path: Where it goes.
        client: How its server is asked.
        size: Bytes, if known.
        checksum: Multihash in hexadecimal (STAC's ``file:checksum``), if known.
    """

    href: str
    path: Path
    client: HttpClient = dataclasses.field(compare=False)
    size: int | None = None
    checksum: str | None = None

    @property
    def part(self) -> Path:
        """The unfinished file."""
        return self.path.with_name(f'{self.path.name}.part')

    @property
    def note(self) -> Path:
        """The validator of the unfinished file."""
        return self.path.with_name(f'{self.path.name}.part.json')

    @property
    def done(self) -> bool:
        """Whether it is there, with the right size if that is known."""
        try:
            found = self.path.stat().st_size
        except FileNotFoundError:
            return False
        return self.size is None or found == self.size

    @property
    def left(self) -> int | None:
        """Bytes still to fetch; ``None`` if the size is unknown."""
        if self.done:
            return 0
        if self.size is None:
            return None
        return max(0, self.size - _length(self.part))


def ask_size(file: RemoteFile) -> int | None:
    """Ask the server how long a file is, with a read of one byte: signed addresses refuse HEAD.

    Raises:
        GeosegError: As :meth:`HttpClient.get`.
    """
    with file.client.get(file.href, {'Range': 'bytes=0-0'}) as response:
        span = parse_content_range(response.headers.get('Content-Range', ''))
        if response.status_code == 206 and span:
            return span[1]
        length = response.headers.get('Content-Length')
        return int(length) if response.status_code == 200 and length else None


def with_sizes(files: Sequence[RemoteFile], workers: int) -> list[RemoteFile]:
    """Fill in the sizes that the catalogue does not give, of files that are not there yet.

    Raises:
        GeosegError: As :meth:`HttpClient.get`.
    """

    def sized(file: RemoteFile) -> RemoteFile:
        if file.size is not None or file.done:
            return file
        return dataclasses.replace(file, size=ask_size(file))

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return list(pool.map(sized, files))


def check_space(files: Sequence[RemoteFile], folder: Path) -> None:
    """Check that the files fit on the disk.

    Raises:
        OutputWriteError: If they do not.
    """
    needed = sum(file.left or 0 for file in files)
    existing = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise OutputWriteError(
            f'{folder} has {free / 1e9:.1f} GB free, but {needed / 1e9:.1f} GB are still to be '
            'downloaded; choose another --out, or a smaller area.'
        )


def fetch_all(files: Sequence[RemoteFile], workers: int, console: Console | None = None) -> None:
    """Fetch what is not there yet, under a progress bar.

    Args:
        files: The files.
        workers: Files at a time.
        console: Where the bar goes; standard error by default.

    Raises:
        GeosegError: The first error; the other files stop too, and can be resumed.
    """
    open_files = [file for file in files if not file.done]
    if not open_files:
        return
    progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn('ETA'),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )
    sizes = [file.size for file in open_files]
    total = None if None in sizes else sum(sizes)
    stop = threading.Event()
    with progress, concurrent.futures.ThreadPoolExecutor(workers) as pool:
        bar = progress.add_task(f'0/{len(open_files)} files', total=total)

        def advance(count: int) -> None:
            progress.advance(bar, count)

        futures = [pool.submit(fetch, file, advance, stop) for file in open_files]
        try:
            for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
                future.result()
                progress.update(bar, description=f'{done}/{len(open_files)} files')
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def fetch(
    file: RemoteFile, advance: Callable[[int], None], stop: threading.Event | None = None
) -> None:
    """Fetch one file.

    Args:
        file: The file.
        advance: Called with the number of bytes that are new; negative when it starts over.
        stop: When set, the fetch ends early and can be resumed.

    Raises:
        DownloadError: If it does not arrive whole and right.
        OutputWriteError: If the disk does not take it.
        GeosegError: As :meth:`HttpClient.get`.
    """
    stop = stop or threading.Event()
    with _disk_errors(file.path):
        file.path.parent.mkdir(parents=True, exist_ok=True)
    advance(_length(file.part))
    for last_try in (False, True):
        md5 = _fetch_part(file, advance, stop)
        if stop.is_set():
            return
        wrong = _what_is_wrong(file, md5)
        if wrong is None:
            break
        advance(-_length(file.part))
        file.part.unlink()
        if last_try:
            raise DownloadError(
                f'{file.path.name} arrived damaged twice ({wrong}); try again later, or report it '
                f'to the provider of {file.href}.'
            )
    with _disk_errors(file.path):
        file.part.replace(file.path)
        file.note.unlink(missing_ok=True)


def _fetch_part(
    file: RemoteFile, advance: Callable[[int], None], stop: threading.Event
) -> str | None:
    """Bring the unfinished file to its end; return the MD5 that the server states, in base64."""
    breaks = 0
    while True:
        have = _length(file.part)
        validator = _read_validator(file.note)
        headers = {}
        if have and validator:
            headers = {'Range': f'bytes={have}-', 'If-Range': validator}
        try:
            with file.client.get(file.href, headers) as response:
                if response.status_code == 416:
                    # The file ends where ours does, or is another one now.
                    total = response.headers.get('Content-Range', '').rpartition('/')[2]
                    if total == str(have):
                        return None
                    raise _Restart
                span = parse_content_range(response.headers.get('Content-Range', ''))
                start = span[0] if response.status_code == 206 and span else 0
                if start != have:
                    advance(start - have)
                    have = start
                _write_validator(file.note, response)
                for count in _append(file, response, start, stop):
                    advance(count)
                    breaks = 0
            # Blob stores state the MD5 of the whole file, also with a part of it. An ETag is not
            # used: it is an MD5 on some servers, and looks like one on others.
            stated = response.headers.get('x-ms-blob-content-md5')
            if stated is None and response.status_code == 200:
                stated = response.headers.get('Content-MD5')
            return stated
        except _Restart:
            advance(-have)
            file.part.unlink(missing_ok=True)
            file.note.unlink(missing_ok=True)
            breaks += 1
            if breaks > MAX_BREAKS:
                raise DownloadError(
                    f'{file.path.name} cannot be resumed, its server contradicts itself; delete '
                    f'{file.part} and try again later.'
                ) from None
        except requests.RequestException as error:
            # The connection broke in mid-file; go on from there.
            breaks += 1
            if breaks > MAX_BREAKS:
                raise unreachable(file.href, error) from error
            stop.wait(file.client.backoff * 2 ** (breaks - 1))
        if stop.is_set():
            return None


class _Restart(Exception):  # noqa: N818  a signal, not an error
    """The unfinished file cannot be resumed."""


def _append(
    file: RemoteFile, response: requests.Response, start: int, stop: threading.Event
) -> Iterator[int]:
    """Write the body of a response behind the first ``start`` bytes; yield the bytes written."""
    with contextlib.ExitStack() as stack:
        with _disk_errors(file.path):
            # Unbuffered, so that a full disk is noticed here and not when the file is closed.
            mode = 'r+b' if file.part.exists() else 'wb'
            target = stack.enter_context(file.part.open(mode, buffering=0))
            target.seek(start)
            target.truncate()
        for chunk in response.iter_content(CHUNK):
            with _disk_errors(file.path):
                rest = memoryview(chunk)
                while rest:
                    rest = rest[target.write(rest) :]
            yield len(chunk)
            if stop.is_set():
                break
        with _disk_errors(file.path):
            os.fsync(target.fileno())


def _what_is_wrong(file: RemoteFile, md5: str | None) -> str | None:
    """Check size and checksums of the unfinished file."""
    found = _length(file.part)
    if file.size is not None and found != file.size:
        return f'{found} bytes instead of {file.size}'
    checks = []
    if md5 is not None:
        checks.append(('md5', base64.b64decode(md5)))
    if file.checksum is not None and (known := parse_multihash(file.checksum)):
        checks.append(known)
    for name, expected in checks:
        digest = hashlib.new(name, usedforsecurity=False)
        with file.part.open('rb') as content:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
        if digest.digest() != expected:
            return f'its {name} checksum is wrong'
    return None


def parse_multihash(text: str) -> tuple[str, bytes] | None:
    """Return hash and digest of a multihash; ``None`` if its hash is none of :data:`MULTIHASH`.

    Args:
        text: Hexadecimal: code and length as variable-length integers, then the digest.
    """
    try:
        content = bytes.fromhex(text)
        code, rest = _varint(content)
        length, digest = _varint(rest)
    except (ValueError, IndexError):
        return None
    return (MULTIHASH[code], digest) if code in MULTIHASH and len(digest) == length else None


def _varint(content: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for position, byte in enumerate(content):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, content[position + 1 :]
    raise ValueError('unfinished integer')


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputWriteError(
            f'{path} could not be written ({error.strerror or error}); check free space and '
            'permissions, then run the same command again, it goes on where it stopped.'
        ) from error


def _read_validator(path: Path) -> str | None:
    try:
        return json.loads(path.read_text())['validator']
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _write_validator(path: Path, response: requests.Response) -> None:
    etag = response.headers.get('ETag', '')
    # A weak ETag does not promise the same bytes.
    validator = etag if etag and not etag.startswith('W/') else None
    validator = validator or response.headers.get('Last-Modified')
    write_bytes(path, json.dumps(dict(validator=validator)).encode())


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
