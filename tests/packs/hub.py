"""A small Hugging Face hub on 127.0.0.1: enough of its protocol for huggingface_hub, timm and transformers to download.

    with LocalHub({"timm/some_net": folder}) as hub, served_by(hub.url, cache):
        load_pack("imagenet")

huggingface_hub reads its variables when it is imported, so a test that is about those runs the program in a process of
its own, with environment(cache, endpoint=hub.url).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import pytest
import transformers.utils.hub

REPOSITORY = Path(__file__).resolve().parents[2]


class LocalHub:
    """Serves folders as model repositories: their only revision is `main`, their commit a hash over their content.

    Attributes:
        repositories: folder by repository id ("timm/mobilenetv2_100.ra_in1k"). Files may change while the hub runs.
        requests: "METHOD path" of everything that was asked for, in order; lets a test say that nothing was.
    """

    def __init__(self, repositories: dict[str, Path]) -> None:
        self.repositories = repositories
        self.requests: list[str] = []
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="local-hub")

    @property
    def url(self) -> str:
        """The hub's address, for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> LocalHub:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def commit(self, repository: str) -> str:
        """Forty hex digits over names and digests of a repository's files."""
        digest = hashlib.sha1()
        for path in self.files(repository):
            digest.update(path.name.encode() + sha256(path).encode())
        return digest.hexdigest()

    def files(self, repository: str) -> list[Path]:
        """All files of a repository, by name."""
        return sorted(path for path in self.repositories[repository].rglob("*") if path.is_file())


def sha256(path: Path) -> str:
    """A file's digest, computed once for what it holds: networks have hundreds of megabytes, and several requests."""
    known = path.stat()
    return _sha256(path, known.st_ino, known.st_mtime_ns, known.st_size)


@lru_cache(maxsize=64)
def _sha256(path: Path, *_: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Handler(BaseHTTPRequestHandler):
    owner: LocalHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class'
        """Stay silent: `requests` keeps the log."""

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.owner.requests.append(f"{self.command} {path}")
        if path.startswith("api/models/"):
            self._api(path.removeprefix("api/models/"), body=body)
            return
        repository, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repository not in self.owner.repositories:
            self._fail("RepoNotFound", body=body)
        elif revision not in ("main", self.owner.commit(repository)):
            self._fail("RevisionNotFound", body=body)
        elif not (file := self.owner.repositories[repository] / name).is_file():
            self._fail("EntryNotFound", body=body, commit=self.owner.commit(repository))
        else:
            headers = {"ETag": f'"{sha256(file)}"', "X-Repo-Commit": self.owner.commit(repository)}
            self._send(200, file.read_bytes() if body else b"", body=body, length=file.stat().st_size, **headers)

    def _api(self, path: str, *, body: bool) -> None:
        """`{id}`, `{id}/revision/{revision}` (what a repository is) and `{id}/tree/{revision}` (its files)."""
        repository = next((known for known in self.owner.repositories if f"{path}/".startswith(f"{known}/")), None)
        if repository is None:
            self._fail("RepoNotFound", body=body)
            return
        root = self.owner.repositories[repository]
        names = [file.relative_to(root).as_posix() for file in self.owner.files(repository)]
        view, _, rest = path.removeprefix(repository).strip("/").partition("/")
        if view == "tree":
            folder = rest.partition("/")[2]  # rest is revision[/folder]
            if folder and not (root / folder).is_dir():
                self._fail("EntryNotFound", body=body, commit=self.owner.commit(repository))
                return
            entries = [
                {"type": "file", "path": name, "size": (root / name).stat().st_size, "oid": "0" * 40}
                for name in names
                if name.startswith(f"{folder}/" if folder else "")
            ]
            self._send(200, json.dumps(entries).encode(), body=body)
            return
        siblings = [{"rfilename": name} for name in names]
        info = {
            "_id": "0" * 24, "id": repository, "modelId": repository, "sha": self.owner.commit(repository),
            "private": False, "gated": False, "disabled": False, "tags": [], "downloads": 0, "likes": 0,
            "siblings": siblings,
        }  # fmt: skip
        self._send(200, json.dumps(info).encode(), body=body)

    def _fail(self, code: str, *, body: bool, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code} | ({"X-Repo-Commit": commit} if commit else {})
        self._send(404, b"not here", body=body, **headers)

    def _send(self, status: int, content: bytes, *, body: bool, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        if body:
            self.wfile.write(content)


@contextmanager
def served_by(endpoint: str, cache: Path, *, offline: bool = False) -> Iterator[None]:
    """Let huggingface_hub in this process ask another hub, and keep what it gets in another cache, in the block."""
    constants = {
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HOME": str(cache),
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_HUB_OFFLINE": offline,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(huggingface_hub.constants, name, value)
        patch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
        patch.setattr(transformers.utils.hub, "_hf_api", None)  # made on first use, with the endpoint of then
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        yield


def environment(cache: Path, *, endpoint: str) -> dict[str, str]:
    """This process' environment, with a hub and a cache in the place of the user's."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    added = {"HF_HOME": str(cache), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    return inherited | added | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONPATH": str(REPOSITORY)}
