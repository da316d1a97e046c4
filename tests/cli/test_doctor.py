"""`tsq doctor` and `tsq --version -v`."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT, Result
from tsq_cli import __version__, doctor
from tsq_cli.packs import members, weights

Tsq = Callable[..., Result]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that is not asked."""
    monkeypatch.setattr(weights, "hub_refusal", lambda url: "does not answer")


def findings(result: Result) -> dict[tuple[str, str], dict[str, Any]]:
    return {(found["part"], found["name"]): found for found in json.loads(result.out)["findings"]}


def test_version_with_all_libraries(tsq: Tsq) -> None:
    result = tsq("--version", "-v")
    assert (result.code, result.err) == (0, "")
    found = dict(line.split(maxsplit=1) for line in result.out.splitlines())
    assert found["tsq"] == __version__
    assert found["python"] == platform.python_version()
    assert found["torch"] == importlib.metadata.version("torch")
    assert found["libavcodec"].count(".") == 2
    assert tsq("-v", "--version").out == result.out


def test_versions_load_no_torch() -> None:
    code = "import sys; from tsq_cli.doctor import versions; versions(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_v_before_the_command_is_refused(tsq: Tsq) -> None:
    result = tsq("-v", "packs", "list")
    assert (result.code, result.out) == (2, "")
    assert "behind the command" in result.err


def test_what_works_is_said_and_exit_code_is_zero(tsq: Tsq) -> None:
    result = tsq("doctor", "--json")
    assert result.code == 0, result.err
    document, found = json.loads(result.out), findings(result)
    assert document["ok"] is True
    assert document["versions"]["tsq"] == __version__
    assert found["device", "cpu"]["ok"]
    assert "core" in found["device", "cpu"]["detail"]
    assert found["codecs", "h264"]["is_needed"]
    assert {name for part, name in found if part == "codecs"} == {"h264", "hevc", "vp9", "av1"}
    assert found["packs", "imagenet-lite"]["ok"]
    assert found["packs", "imagenet-lite"]["is_needed"]
    assert "does not answer" in found["hub", "endpoint"]["detail"]
    assert found["hub", "endpoint"]["fix"]


def test_the_table_names_the_remedy(tsq: Tsq, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(weights, "_is_cached", lambda repository, revision: False)
    result = tsq("doctor")
    assert result.code == 0
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    for part in ("device", "codecs", "packs", "hub", "extras"):
        assert part in lines
    place = lines.index(f"absent resnet101.a1h_in1k not in {tmp_path}; used by imagenet, imagenet-lite")
    assert lines[place + 1] == "fix: tsq packs pull imagenet-lite"


def test_offline_variables_are_named(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.is_offline_mode", lambda: True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    endpoint = findings(tsq("doctor", "--json"))["hub", "endpoint"]
    assert endpoint["detail"] == "HF_HUB_OFFLINE set: the hub is not asked"
    assert endpoint["fix"] == "unset HF_HUB_OFFLINE"


def test_a_damaged_default_pack_fails(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = members.verify_member

    def damaged(path: Path, sha256: str, **options: Any) -> Path:
        return changed(path, "0" * 64, **options)

    monkeypatch.setattr(members, "verify_member", damaged)
    result = tsq("doctor")
    assert result.code == 1
    assert result.err == "tsq: tsq select cannot work: imagenet-lite missing or damaged\n"
    assert "MISSING" in result.out


def test_a_codec_that_is_missing_is_named(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.codec.codecs_available", {"hevc", "vp9"})
    result = tsq("doctor", "--json")
    found = findings(result)
    assert result.code == 1
    assert not found["codecs", "h264"]["ok"]
    assert found["codecs", "hevc"]["ok"]
    assert "av" in found["codecs", "av1"]["fix"]


def test_extras_come_from_the_package_and_name_their_command(monkeypatch: pytest.MonkeyPatch) -> None:
    described = Message()
    described["Provides-Extra"] = "near"
    described["Provides-Extra"] = "far"
    described["Provides-Extra"] = "old"
    described["Provides-Extra"] = "test"
    lines = ["numpy", "pytest>=1; extra == 'near'", "no-such-thing>=2; extra == 'far'", "pytest>=999; extra == 'old'"]
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: described)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    near, far, old = doctor._extras()
    assert (near.name, near.ok, near.detail, near.fix) == ("near", True, "pytest", "")
    assert (far.name, far.ok, far.detail) == ("far", False, "missing: no-such-thing>=2")
    assert "pip install '.[far]'" in far.fix
    assert old.detail == "missing: pytest>=999"


def test_a_torch_that_cannot_be_imported_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (found,) = doctor._devices()
    assert (found.name, found.ok, found.is_needed) == ("torch", False, True)
    assert "torch" in found.fix
