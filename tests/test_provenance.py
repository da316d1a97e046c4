"""Where a report's numbers come from: the same fields everywhere, no host and no folder of this machine."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import socket
from pathlib import Path

import pytest
import torch

from tsq_cli import __version__, provenance
from tsq_cli.data import read_video_list


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.mp4", "a/2.mp4", "b/3.mp4"):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).touch()
    (tmp_path / "list.csv").write_text("path,label,split\na/1.mp4,x,one\na/2.mp4,y,one\nb/3.mp4,z,two\nb/4.mp4,y,one\n")
    return tmp_path


def test_the_form(folder: Path) -> None:
    found = provenance.provenance(
        device="cpu",
        dtype=torch.bfloat16,
        seeds={"random": range(3), "heads": 7},
        lists=[read_video_list(folder / "list.csv", root=folder / "videos", subset="one")],
    )
    assert found == json.loads(json.dumps(found))
    assert (found["dtype"], found["engine"], found["device"]) == ("bfloat16", "torch", "cpu")
    assert found["seeds"] == {"random": [0, 1, 2], "heads": 7}
    machine, versions = found["machine"], found["versions"]
    assert machine["platform"] == platform.platform()
    assert (machine["threads"], machine["gpu"], machine["cuda"]) == (torch.get_num_threads(), None, None)
    assert machine["cores"] >= 1
    assert machine["cpu"]
    assert {name: versions[name] for name in ("tsq", "python")} == {
        "tsq": __version__, "python": platform.python_version(),
    }  # fmt: skip
    assert {name: versions[name] for name in ("torch", "timm", "numpy", "av")} == {
        name: importlib.metadata.version(name) for name in ("torch", "timm", "numpy", "av")
    }
    assert found["lists"] == [
        {
            "name": "list.csv",
            "subset": "one",
            "sha256": hashlib.sha256((folder / "list.csv").read_bytes()).hexdigest(),
            "ids_sha256": hashlib.sha256(b"a/1.mp4\na/2.mp4\n").hexdigest(),
            "num_videos": 2,
            "num_missing": 1,
            "num_classes": 2,
        }
    ]
    text = json.dumps(found)
    assert str(folder) not in text
    assert socket.gethostname() not in text.replace(platform.platform(), "")


def test_a_folder_of_class_folders_is_told_by_its_videos(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = provenance.list_identity(read_video_list(Path("videos")))
    assert (found["name"], found["sha256"], found["subset"]) == ("videos", None, None)
    assert found["ids_sha256"] == hashlib.sha256(b"a/1.mp4\na/2.mp4\nb/3.mp4\n").hexdigest()
    assert (found["num_videos"], found["num_missing"], found["num_classes"]) == (3, 0, 2)


def test_a_path_that_is_not_absolute_stays_as_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    given = Path(folder.name) / "list.csv"
    found = provenance.list_identity(read_video_list(given, root=folder / "videos", subset="two"))
    assert (found["name"], found["subset"]) == (given.as_posix(), "two")


def test_what_is_not_installed_has_no_version() -> None:
    assert provenance.versions(["no-such-package"])["no-such-package"] is None
