"""Fetching weights from where a pack says they are: with progress, going on after interruptions, checked before use."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from facebatch.errors import FacebatchError
from facebatch.packs import File, Pack, cache_folder

_CHUNK = 1 << 16
_TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between bytes."""
_TRIES = 5
"""Connections for one file: a broken body is gone on with where it broke."""


def pull(pack: Pack, progress: Callable[[File, int], None]) -> list[Path]:
    """Put the pack's files into the cache, and return where they are. Files that are there already stay.

    progress: told after each chunk how many bytes of the file there are.
    Raises FacebatchError when a file has no public address, the server cannot be reached or refuses, the disk is full,
    or what came is not the file.
    """
    return [_fetched(pack, file, progress) for file in pack.weights.files]


def _fetched(pack: Pack, file: File, progress: Callable[[File, int], None]) -> Path:
    target = cache_folder() / file.path
    if target.exists() and _digest(target) == file.sha256:
        return target
    if file.url is None or file.sha256 is None:
        raise FacebatchError(
            f"{file.name} of pack {pack.name} has no public address ({pack.weights.origin}); "
            f"get it yourself and run `facebatch models import {pack.name} --from FILE`"
        )
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(file.url, part, lambda size: progress(file, size))
        seen = _digest(part)
        if seen != file.sha256:
            size = part.stat().st_size
            part.unlink()
            raise FacebatchError(
                f"{file.url} is not the file that pack {pack.name} describes: expected {file.bytes} bytes with sha256 "
                f"{file.sha256}, received {size} bytes with {seen}; nothing was kept"
            )
        os.replace(part, target)
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise FacebatchError(_unreachable(file, error)) from error
        raise FacebatchError(f"{target} cannot be written: {error}") from error
    return target


def _download(url: str, part: Path, progress: Callable[[int], None]) -> None:
    """Append to `part` until it is whole. Raises requests.RequestException, OSError."""
    session = requests.Session()
    retry = Retry(total=_TRIES, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    with session:
        for attempt in range(1, _TRIES + 1):
            try:
                return _append(session, url, part, progress)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if attempt == _TRIES or not part.exists() or not part.stat().st_size:
                    raise  # nothing came at all: connecting was tried often enough already


def _append(session: requests.Session, url: str, part: Path, progress: Callable[[int], None]) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    # `identity`: a compressed body would make byte positions mean something else.
    with session.get(url, headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=_TIMEOUT) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            return  # there is nothing behind what we have
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        size = have if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_content(_CHUNK):
                file.write(chunk)
                size += len(chunk)
                progress(size)
        announced = answer.headers.get("Content-Length")
        if announced is not None and size - (have if goes_on else 0) != int(announced):
            raise requests.ConnectionError(f"the body ended after {size} bytes")


def _unreachable(file: File, error: requests.RequestException) -> str:
    if error.response is not None:
        return f"{file.url} was refused: {error.response.status_code} {error.response.reason}"
    return (
        f"{urlsplit(str(file.url)).hostname} cannot be reached ({type(error).__name__}). Fetch {file.url} on a machine "
        f"with a network, and put it at {cache_folder() / file.path} or set FACEBATCH_MODELS to the folder that holds "
        f"{file.path}"
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
