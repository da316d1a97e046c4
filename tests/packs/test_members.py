"""A pack's files are regular files inside its folder: nothing else is read, waited for, or even opened."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.packs.making import packed, write_json
from tsq_cli.errors import WeightsError
from tsq_cli.packs import find_pack, load_pack, members, verify_pack
from tsq_cli.packs.limits import MAX_WEIGHTS_BYTES

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOs and links are those of POSIX")

MEMBERS = ("pack.json", "names.txt", "encoder.safetensors", "text.safetensors")


@pytest.fixture(autouse=True)
def _never_waits() -> Iterator[None]:
    """Ends a test that waits for ever in open() or read()."""

    def stop(*_: object) -> None:
        pytest.fail("waited for a file that is no regular one")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(folder: Path, message: str) -> None:
    """Loading and verifying a pack both say the same of it, on one line."""
    with pytest.raises(WeightsError, match=message) as caught:
        load_pack(folder)
    assert "\n" not in str(caught.value)
    failed = verify_pack(folder)[-1]
    assert not failed.ok
    assert failed.detail == str(caught.value)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_link_out_of_the_pack_is_refused_even_to_a_file_of_the_right_hash(
    folder: Path, document: dict[str, Any], tmp_path: Path, member: str
) -> None:
    secret = (folder / member).rename(tmp_path / "secret")
    (folder / member).symlink_to(secret)
    refused(folder, rf"{member} leads out of the pack, to .*secret; wanted a file inside the pack's folder")
    (folder / member).unlink()
    (folder / member).symlink_to("../secret")
    refused(folder, "leads out of the pack")


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("kind", ["FIFO", "socket", "device", "link to a FIFO", "link to a device", "folder", "loop"])
def test_what_is_no_regular_file_is_refused_at_once(
    folder: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, member: str, kind: str
) -> None:
    path = folder / member
    path.unlink()
    monkeypatch.chdir(folder)  # the address of a socket has at most 107 bytes
    message = {"link to a FIFO": "is a FIFO", "link to a device": "leads out of the pack, to /dev/zero"}.get(
        kind, f"is a {kind}"
    )
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(member)
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # zero on Linux
        except OSError:
            pytest.skip("only root makes devices, and not everywhere")
    elif kind == "link to a FIFO":
        os.mkfifo("fifo")
        path.symlink_to("fifo")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(member)
        message = r"cannot read .*Too many levels of symbolic links"
    refused(folder, rf"{member} {message}|{message}")


def test_links_inside_the_pack_and_a_linked_folder_are_fine(
    folder: Path, document: dict[str, Any], tmp_path: Path
) -> None:
    (folder / "blobs").mkdir()
    for member in MEMBERS:
        (folder / member).rename(folder / "blobs" / member.replace(".", "-"))
        (folder / member).symlink_to(Path("blobs") / member.replace(".", "-"))
    (tmp_path / "link").symlink_to(folder)
    for path in (folder, tmp_path / "link"):
        assert all(check.ok for check in verify_pack(path))


def test_a_file_swapped_while_it_is_opened_is_refused(
    folder: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def swapping(path: Any, *rest: Any) -> int:
        (folder / "other").write_text("{}")
        (folder / "other").replace(folder / "pack.json")
        return opened(path, *rest)

    monkeypatch.setattr(members.os, "open", swapping)
    with pytest.raises(WeightsError, match=r"pack\.json changed while it was opened"):
        find_pack(folder)


def test_a_file_of_any_size_is_not_read_to_its_end(folder: Path, document: dict[str, Any]) -> None:
    json_text = (folder / "pack.json").read_text()
    for member, size, message in (
        ("pack.json", 1_000_001, "more than 1,000,000 bytes"),
        ("names.txt", 4_000_001, "more than 4,000,000 bytes"),
        ("encoder.safetensors", MAX_WEIGHTS_BYTES + 1, r"has 17,179,869,185 bytes; wanted at most 17,179,869,184"),
    ):
        content = (folder / member).read_bytes()
        try:
            os.truncate(folder / member, size)  # sparse: it takes no space
        except OSError:
            pytest.skip("this file system has no files of 16 GiB")
        refused(folder, rf"{member.replace('.', '[.]')} (has )?{message}")
        (folder / member).write_bytes(content)
    (folder / "pack.json").write_text(json_text + " " * (1_000_000 - len(json_text)))
    assert find_pack(folder).name == "small"


def test_a_name_too_long_for_the_file_system_is_a_line(folder: Path, document: dict[str, Any]) -> None:
    document["classes"]["file"] = document["objects"]["file"] = "ä" * 200  # 400 bytes
    write_json(folder, document)
    refused(folder, r"cannot read .* \(File name too long\)")
    document["classes"] = document["objects"] = {**packed(folder / "names.txt"), "file": "a" * 256}
    write_json(folder, document)
    refused(folder, r"classes is not consistent; wanted a file inside the folder, not 'a{50,}")
