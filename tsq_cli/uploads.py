"""Write objects to a store (s3://, gs://, az://): each appears whole under its name, or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from tsq_cli import stores
from tsq_cli.errors import OutputError, TsqError, UsageError
from tsq_cli.files import LEFTOVER_PREFIX

LEAST_RATE = 500_000
"""Bytes per second below which a store counts as not answering (ours)."""


def put(url: str, data: bytes, should_stop: Callable[[], bool] | None = None) -> None:
    """Write an object in one request, which every store does whole or not at all; an older one is replaced.

    Raises:
        OutputError: the store refuses, has no such bucket, or does not answer.
        CancelledError: should_stop said so.
    """

    async def write(system: Any) -> None:
        await system._pipe_file(stores.object_name(url), data)

    _write(url, write, should_stop, seconds=stores.ANSWER_SECONDS + len(data) / LEAST_RATE)


def check_folder(option: str, url: str) -> None:
    """Try to write under a URL before anything is read, and remove what was written.

    Raises:
        UsageError: a web server, an unknown scheme, or a missing extra.
        OutputError: as put.
    """
    if stores.is_web(url):
        raise UsageError(
            f"{option} {url} is on a web server", wanted="a folder, or s3://, gs:// or az://", fix="give a folder"
        )
    stores.check_url(url, allow_url=False)
    trial = f"{url.rstrip('/')}/{LEFTOVER_PREFIX}{secrets.token_hex(6)}"
    put(trial, b"\0")

    async def remove(system: Any) -> None:
        await system._rm_file(stores.object_name(trial))

    _write(trial, remove)


def _write(
    url: str, work: stores.Work[None], should_stop: Callable[[], bool] | None = None, *, seconds: float | None = None
) -> None:
    try:
        stores.request(url, work, should_stop, seconds=seconds)
    except UsageError as error:
        if type(error) is UsageError:
            raise
        raise _cannot_write(url, error) from error
    except TsqError as error:
        raise _cannot_write(url, error) from error


def _cannot_write(url: str, error: TsqError) -> OutputError:
    return OutputError(f"cannot write {url}: {error.got}", wanted="a store that takes it", fix=error.fix)
