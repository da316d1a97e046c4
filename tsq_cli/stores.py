"""Videos in object stores (s3://, gs://, az://) and on web servers (https://), through fsspec: status, lists, ranges.

fsspec is imported by the first URL only. All requests run in fsspec's own thread, where each of them can be given up.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError, wait
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from tsq_cli.errors import InputNotFoundError, StoreError, TsqError, UsageError, install_extra, one_line

_T = TypeVar("_T")

Work: TypeAlias = Callable[[Any], Coroutine[Any, Any, _T]]
"""A request: what is done with fsspec's file system of a scheme, in fsspec's thread."""

ANSWER_SECONDS = 30.0
"""Time for one request, retries included, after which a store counts as not answering (ours)."""

LISTING_SECONDS = 1800.0
"""The same for a listing, which is many requests: some minutes for a million objects (ours)."""

MOST_AT_ONCE = 32
"""Requests for the status of objects under way at once (ours)."""

_POLL_SECONDS = 0.1
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_MODULES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "http": "aiohttp", "https": "aiohttp"}
_CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_ENDPOINT_URL for another S3)",
    "gs": "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with a key",
}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ProfileNotFound")
"""Names of the errors of botocore and google.auth for credentials that are not there."""

_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated")
_TAGS = ("ETag", "etag", "md5Hash", "Content-MD5", "Digest")


def is_url(text: str | os.PathLike[str]) -> bool:
    """Test whether an input lies in a store or on a web server."""
    found = _SCHEME.match(text) if isinstance(text, str) else None
    return found is not None and found[1].lower() in _MODULES


def has_scheme(text: str) -> bool:
    """Test whether a text is a URL of any kind."""
    return _SCHEME.match(text) is not None


def is_web(url: str) -> bool:
    """Test whether a URL leads to a web server, which a run reads with --allow-url only."""
    return url[:5].lower().startswith(("http:", "https"))


def local_path(text: str) -> str:
    """Turn a file:// URL (RFC 8089) into the path that it names; return any other text as it is.

    Raises:
        UsageError: it names another machine.
    """
    if text[:7].lower() != "file://":
        return text
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{text} names a file on {parts.netloc}", wanted="file:///PATH", fix="write three slashes before the path"
        )
    from urllib.request import url2pathname  # which few runs need, and which loads a network's worth of modules

    # What looks like a query is a part of the name.
    return url2pathname(text[7 + len(parts.netloc) :])


def name_in(path: str) -> str:
    """Return the last part of a path or URL, without what follows a web page's path (?query, #fragment)."""
    return Path(urlsplit(path).path if is_url(path) and is_web(path) else path).name


def check_url(url: str, *, allow_url: bool) -> None:
    """Refuse a URL that this run does not read; no request is made.

    Raises:
        UsageError: an unknown scheme, http(s) that was not allowed, a password in it, or a missing extra.
    """
    if not is_url(url):
        raise unknown_url(url)
    if is_web(url) and not allow_url:
        raise UsageError(
            f"{url} is on a web server",
            wanted="leave to read from there",
            fix="add --allow-url if you trust it (in Python load(allow_url=True))",
        )
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise UsageError(
            f"{parts.scheme}://...@{parts.netloc.rpartition('@')[2]} has a name or a password in it",
            wanted="a URL without, since records keep it",
            fix="leave the credentials to the environment (~/.netrc for web servers)",
        )
    if not parts.netloc:
        raise InputNotFoundError(
            f"{url} names no bucket or host", wanted=f"{parts.scheme}://NAME/...", fix="correct the URL"
        )
    module = _MODULES[parts.scheme.lower()]
    try:
        importlib.import_module("fsspec")
        importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{url} needs {error.name or module}, which is not installed",
            wanted="the libraries that read from stores",
            fix=install_extra("cloud"),
        ) from error


def unknown_url(url: str) -> InputNotFoundError:
    """Build the error for a URL whose scheme is none of those that are read."""
    return InputNotFoundError(
        f"{url} is a URL that tsq does not read",
        wanted="a path, or a URL that begins with " + ", ".join(f"{scheme}://" for scheme in (*_MODULES, "file")),
        fix="download it first and give the file's path",
    )


def status(url: str, should_stop: Callable[[], bool] | None = None) -> os.stat_result:
    """Return size and time of an object or a folder (prefix), as the status of a file.

    The time is the store's, to the second; the rest of its nanoseconds is a hash of the ETag, so that an object
    written twice within a second is known to have changed.

    Raises:
        InputNotFoundError: nothing is there, or no such bucket.
        StoreError: the store refuses or does not answer; a web server that gives no parts of files.
    """
    return request(url, lambda system: _status(system, url), should_stop)


def statuses(urls: Iterable[str]) -> dict[str, os.stat_result]:
    """Return the status of each object that has one, many at once; others are left out."""
    import asyncio  # which local runs do without

    by_scheme: dict[str, list[str]] = {}
    for url in urls:
        by_scheme.setdefault(_scheme(url), []).append(url)
    found: dict[str, os.stat_result] = {}
    for same in by_scheme.values():
        for first in range(0, len(same), MOST_AT_ONCE):
            some = same[first : first + MOST_AT_ONCE]

            async def together(system: Any, some: list[str] = some) -> list[os.stat_result | BaseException]:
                return await asyncio.gather(*(_status(system, url) for url in some), return_exceptions=True)

            try:
                answers = request(some[0], together)
            except StoreError:  # it does not answer: none of the others will be waited for
                break
            found |= {url: one for url, one in zip(some, answers, strict=True) if isinstance(one, os.stat_result)}
    return found


def listing(url: str, *, recursive: bool) -> list[str]:
    """List the objects under a prefix by name, as URLs.

    Raises:
        InputNotFoundError, StoreError: as status.
    """

    async def names(system: Any) -> list[str]:
        if recursive:
            return list(await system._find(object_name(url)))
        return [entry["name"] for entry in await system._ls(object_name(url), detail=True) if entry["type"] == "file"]

    return _as_urls(url, request(url, names, seconds=LISTING_SECONDS))


def matches(pattern: str) -> list[str]:
    """List the objects that match a glob, by name, as URLs; there may be none.

    Raises:
        InputNotFoundError: no such bucket.
        StoreError: as status.
    """

    async def names(system: Any) -> list[str]:
        found = await system._glob(object_name(pattern), detail=True)
        return [name for name, entry in found.items() if entry["type"] == "file"]

    return _as_urls(pattern, request(pattern, names, seconds=LISTING_SECONDS))


def fetch(url: str, start: int, end: int, should_stop: Callable[[], bool]) -> bytes:
    """Read bytes [start, end) of an object, with 0 <= start < end <= its size; should_stop is polled meanwhile.

    Raises:
        InputNotFoundError, StoreError: as status; and an object that has changed since, or ended early.
        CancelledError: should_stop said so.
    """

    async def read(system: Any) -> bytes:
        if is_web(url):
            return (await _web_range(system, url, start, end))[0]
        return bytes(await system._cat_file(object_name(url), start=start, end=end))

    data = request(url, read, should_stop)
    if len(data) != end - start:
        raise StoreError(
            f"{url} gave {len(data)} bytes in the place of {end - start}",
            wanted="an object that stays as it is while it is read",
            fix="run again once nothing writes to it",
        )
    return data


def object_name(url: str) -> str:
    """Name an object as fsspec does: bucket and key."""
    return url if is_web(url) else url.partition("://")[2].rstrip("/")


def _as_urls(url: str, names: Iterable[str]) -> list[str]:
    scheme = url.partition("://")[0]
    return sorted(f"{scheme}://{name}" for name in names)


def _scheme(url: str) -> str:
    return url.partition(":")[0].lower()


def _system(url: str) -> Any:
    """Return the file system of a URL's scheme, made once for each process: a fork has its own."""
    with _making:
        return _system_of(_scheme(url), os.getpid())


_making = threading.Lock()


@functools.cache
def _system_of(scheme: str, _process: int) -> Any:
    # What a library has to say comes with its error, and not as a line of its own on stderr.
    logging.getLogger(_MODULES[scheme]).addHandler(logging.NullHandler())
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme in ("http", "https"):  # proxies and ~/.netrc as other programs have them
        options["client_kwargs"] = {"trust_env": True}
    return importlib.import_module("fsspec").filesystem(scheme, **options)


def request(
    url: str, work: Work[_T], should_stop: Callable[[], bool] | None = None, *, seconds: float | None = None
) -> _T:
    """Run a request in fsspec's thread and wait for it, for `seconds` (ANSWER_SECONDS) or as the caller wants."""
    import asyncio

    check_url(url, allow_url=True)  # where it may be read was decided before
    seconds = ANSWER_SECONDS if seconds is None else seconds
    end = time.monotonic() + seconds
    try:
        system = _system(url)
        future = asyncio.run_coroutine_threadsafe(work(system), system.loop)
        try:
            while True:
                done, _ = wait([future], timeout=_POLL_SECONDS)
                if done:
                    return future.result()
                if should_stop is not None and should_stop():
                    raise CancelledError("the request was given up")
                if time.monotonic() > end:
                    raise _silent(url, seconds)
        finally:
            future.cancel()
    except (TsqError, CancelledError):
        raise
    except Exception as error:
        raise _error(url, error) from error


async def _status(system: Any, url: str) -> os.stat_result:
    try:
        if is_web(url):
            info: Mapping[str, Any] = (await _web_range(system, url, 0, 1))[1]
        else:
            info = await system._info(object_name(url))
    except FileNotFoundError as error:
        raise await _missing(system, url, error) from error
    is_folder = info["type"] == "directory" or (url.endswith("/") and not is_web(url))
    mode = stat.S_IFDIR | 0o555 if is_folder else stat.S_IFREG | 0o444
    modified_ns = _modified_ns(info)
    whole = (mode, 0, 0, 0, 0, 0, int(info["size"] or 0), 0, modified_ns // 10**9, 0)
    return os.stat_result(whole, {"st_mtime_ns": modified_ns})


async def _missing(system: Any, url: str, error: Exception) -> InputNotFoundError:
    """Build the error for an object that is not there: its bucket may not be there either."""
    bucket = object_name(url).partition("/")[0]
    if not is_web(url):
        try:
            await system._info(bucket)
        except FileNotFoundError:
            kind = "container" if _scheme(url) == "az" else "bucket"
            return InputNotFoundError(
                f"{url} does not exist: there is no {kind} {bucket}",
                wanted=f"an existing {kind}",
                fix="check its name, the account, and the endpoint",
            )
        except Exception:  # noqa: BLE001 - who may read an object need not be allowed to look at its bucket
            pass
    return InputNotFoundError(f"{url} does not exist", wanted="an existing object or prefix", fix="check the URL")


def _modified_ns(info: Mapping[str, Any]) -> int:
    """Return when an object was last changed: whole seconds from the store, and a hash of its ETag below them."""
    from datetime import datetime
    from email.utils import parsedate_to_datetime

    changed = next((info[key] for key in _TIMES if info.get(key)), None)
    tag = next((str(info[key]) for key in _TAGS if info.get(key)), None)
    if isinstance(changed, str):
        with suppress(ValueError):
            changed = datetime.fromisoformat(changed) if changed[:1].isdigit() else parsedate_to_datetime(changed)
    seconds = int(changed.timestamp()) if isinstance(changed, datetime) else 0
    below = 0 if tag is None else int(hashlib.sha256(tag.strip('"').encode()).hexdigest()[:15], 16) % 10**9
    return seconds * 10**9 + below


async def _web_range(system: Any, url: str, start: int, end: int) -> tuple[bytes, dict[str, Any]]:
    """Ask a web server for bytes [start, end) of a file; return them, and what it says of the file.

    Raises:
        FileNotFoundError: it has no such file.
        StoreError: it refuses, or gives whole files only.
    """
    asked = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    session = await system.set_session()
    async with session.get(system.encode_url(url), headers=asked) as answer:
        found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", answer.headers.get("Content-Range", "").strip())
        info = {**answer.headers, "type": "file", "size": int(found[2]) if found else 0}
        if answer.status in (404, 410):
            raise FileNotFoundError(url)
        if answer.status == 416 and start == 0:  # an empty file has no first byte
            return b"", info
        if answer.status == 206 and found is not None and found[1] is not None and int(found[1]) == start:
            return await answer.read(), info
        if answer.ok:
            raise StoreError(
                f"the server of {url} gives whole files only, no parts of them",
                wanted="a server that answers requests for ranges (Accept-Ranges: bytes)",
                fix="download the file first and give its path",
            )
        if answer.status in (401, 403, 407):
            raise PermissionError(f"status {answer.status}")
        raise OSError(f"status {answer.status} {answer.reason}")


def _silent(url: str, seconds: float) -> StoreError:
    how = _CREDENTIALS.get(_scheme(url), "")  # without any, gcsfs goes on asking for them
    return StoreError(
        f"the store of {url} did not answer within {seconds:g} s",
        wanted="a store that answers",
        fix="check the network and the address" + (f"; for credentials {how}" if how else ", then run again"),
    )


def _error(url: str, error: Exception) -> TsqError:
    """Translate what fsspec and its libraries raise, each its own kinds of errors."""
    said = one_line(error) or type(error).__name__
    names = {type(one).__name__ for one in (error, error.__cause__, error.__context__)}
    how = _CREDENTIALS.get(_scheme(url), "")
    if isinstance(error, FileNotFoundError):
        return InputNotFoundError(f"{url} does not exist", wanted="an existing object or prefix", fix="check the URL")
    if names & set(_NO_CREDENTIALS) or "Must provide either a connection_string" in said:
        return StoreError(f"there are no credentials for {url} ({said})", wanted="credentials", fix=how)
    if isinstance(error, PermissionError) or "Anonymous caller" in said:
        return StoreError(
            f"{url} may not be read ({said})", wanted="access to it", fix=how or "check who may read the file"
        )
    if isinstance(error, TimeoutError):
        return _silent(url, ANSWER_SECONDS)
    return StoreError(
        f"{url} cannot be read ({type(error).__name__}: {said})",
        wanted="a store that answers",
        fix="check the network and the address, then run again",
    )
