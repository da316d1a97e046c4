"""Servers on this machine that videos are read from: a real S3 (moto's), and web servers good and bad."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tsq_cli import stores

BUCKET = "films"


def new_file_systems() -> None:
    """Forget the file systems made so far: the next request reads the environment again."""
    stores._system_of.cache_clear()


@contextmanager
def s3() -> Iterator[Any]:
    """Run moto's S3 with an empty bucket `films`, named by the environment; yields boto3's client."""
    pytest.importorskip("s3fs")
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "no_proxy": "127.0.0.1",
        }.items():
            patch.setenv(name, value)
        new_file_systems()
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        try:
            yield client
        finally:
            client.close()
            server.stop()
            new_file_systems()


class Web(BaseHTTPRequestHandler):
    """Serves files by ranges. The first folder of a path says what is wrong with the server, if anything is."""

    protocol_version = "HTTP/1.1"
    root = Path()
    silence = threading.Event()

    def do_GET(self) -> None:
        how, _, name = self.path.partition("?")[0].lstrip("/").partition("/")
        path = self.root / name
        if how == "silent":
            self.silence.wait(20)
            return
        if how == "refuses":
            self.send_error(403)
            return
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if how == "whole" or asked is None:
            self.answer(200, data)
            return
        start, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
        span = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}", "ETag": f'"{path.stat().st_mtime_ns}"'}
        dies = how == "dies" and start > 0
        self.answer(206, data[start:end], sent=(end - start) // 2 if dies else None, **span)

    def answer(self, status: int, data: bytes, sent: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:sent])
        if sent is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that has seen enough closes its connection."""


@contextmanager
def web(root: Path) -> Iterator[str]:
    """Serve a folder; yields the server's URL, behind which comes `good`, `whole`, `refuses`, `dies` or `silent`."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    handler = type("Handler", (Web,), {"root": root, "silence": threading.Event()})
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            handler.silence.set()  # type: ignore[attr-defined]
            server.shutdown()
            server.server_close()
