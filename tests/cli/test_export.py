"""`--export` on the command line: its files, what is refused and when, what is never replaced, what it costs."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from PIL import Image

from tests.cli.conftest import DEMO, ROOT, Result
from tsq_cli.export import KINDS, video_id_in

Tsq = Callable[..., Result]
UNIFORM = ("--selector", "uniform", "-k", "2", "-n", "4")
ALL = [word for kind in KINDS for word in ("--export", kind)]


def first_image(path: Path) -> Image.Image:
    part = json.loads(path.read_text())["messages"][0]["content"][1]
    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].split(",")[1])))


def test_one_run_writes_every_kind_beside_the_frames(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    result = tsq("select", demo, *UNIFORM, "-o", tmp_path / "out", *ALL, "--max-side", "256", "--json")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    jsonschema.validate(record, json.loads((ROOT / "docs" / "schema.json").read_text()))
    names = {kind: Path(path).name for kind, path in record["exports"].items()}
    assert names == {
        "openai": "demo.openai.json", "anthropic": "demo.anthropic.json", "qwen": "demo.qwen.json",
        "vllm": "demo.vllm.json", "hf": "demo.hf.json", "webvtt": "demo.vtt", "edl": "demo.edl", "otio": "demo.otio",
        "ffmetadata": "demo.ffmetadata",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".jpg"} == set(names.values())
    assert {video_id_in(Path(path)) for path in record["exports"].values()} != {None}
    assert len({video_id_in(Path(path)) for path in record["exports"].values()}) == 1
    assert first_image(tmp_path / "out" / "demo.openai.json").size == (256, 144)
    with Image.open(record["frames"][0]["path"]) as saved:
        assert saved.size == (640, 360)
    assert f"\n{Path(record['frames'][0]['path']).name}\n" in (tmp_path / "out" / "demo.vtt").read_text()
    # Two pictures of 256 x 144, by hand: one tile each; 36,864 pixels / 750; 9 x 5 and 8 x 4 patches (144/32 = 4.5).
    assert "export openai: 2 images, about 510 tokens for GPT-4o" in result.err
    assert "export anthropic: 2 images, about 100 tokens for Claude" in result.err
    assert "export qwen: 2 images, about 90 tokens for Qwen2.5-VL (patches of 28 px), 64 tokens for" in result.err
    assert "export hf: 2 images, about 32 tokens for Qwen3-VL" in result.err
    assert "64 tokens for Qwen3-VL with each frame twice" in result.err
    assert "export edl" not in result.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("-o", "out", "--export", "opnai"), "there is no export 'opnai'; wanted one of openai, "),
        (("-o", "out", "--export", "opnai"), "try --export openai"),
        (("-o", "out", "--export", "vtt"), "try --export webvtt"),
        (("--export", "edl"), "add -o DIR"),
        (("-o", "out", "--export", "edl", "--max-side", "512"), "without an export that holds pictures"),
        (("-o", "out", "--image-quality", "50"), "without an export that holds pictures"),
        (("-o", "out", "--export", "openai", "--image-quality", "101"), "--image-quality is 101; wanted 1 to 100"),
        (("-o", "out", "--export", "openai", "--max-side", "0"), "--max-side is 0"),
    ],
)
@pytest.mark.parametrize("command", ["select", "classify"])
def test_what_cannot_be_is_said_before_a_video_is_opened(
    tsq: Tsq, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: Any, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tsq_cli.loading.load_clip", lambda *_, **__: pytest.fail("a video was opened"))
    result = tsq(command, demo, *UNIFORM, *options)
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_said_before_a_video_is_opened(
    tsq: Tsq, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsq_cli.loading.load_clip", lambda *_, **__: pytest.fail("a video was opened"))
    monkeypatch.setitem(sys.modules, "opentimelineio", None)
    result = tsq("select", demo, *UNIFORM, "-o", tmp_path / "out", "--export", "otio")
    assert result.code == 2
    assert "opentimelineio is not installed" in result.err
    assert ".[otio]" in result.err


def test_exports_of_others_stay(tsq: Tsq, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.vtt").write_text("WEBVTT\n\nmy own subtitles")
    exports = ("-o", out, "--export", "webvtt", "--export", "edl")
    for folder in ("d1", "d2"):
        (tmp_path / folder).mkdir()
        shutil.copy(DEMO, tmp_path / folder / "x.mp4")
        assert tsq("select", tmp_path / folder / "x.mp4", *UNIFORM, *exports).code == 0
    assert (out / "x.vtt").read_text() == "WEBVTT\n\nmy own subtitles"
    found = sorted(path for path in out.iterdir() if path.suffix in (".vtt", ".edl"))
    assert len(found) == 1 + 2 * 2
    again = tsq("select", tmp_path / "d1" / "x.mp4", *UNIFORM, *exports)
    assert again.code == 0
    assert sorted(path for path in out.iterdir() if path.suffix in (".vtt", ".edl")) == found
    assert tsq("select", tmp_path / "d1" / "x.mp4", *UNIFORM, *exports, "--overwrite").code == 0
    assert "my own" not in (out / "x.vtt").read_text()


def test_exports_take_part_in_resuming(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    lines, out = tmp_path / "out.jsonl", tmp_path / "out"
    run = ("select", demo, *UNIFORM, "-o", out, "--jsonl", lines, "--json")
    first = json.loads(tsq(*run, "--export", "openai").out)
    made = (out / "demo.openai.json").stat().st_mtime_ns
    second = tsq(*run, "--export", "openai")
    assert (out / "demo.openai.json").stat().st_mtime_ns == made
    assert "export openai" not in second.err  # nothing was exported
    (out / "demo.openai.json").unlink()
    tsq(*run, "--export", "openai")
    assert (out / "demo.openai.json").exists()
    other = json.loads(tsq(*run, "--export", "openai", "--max-side", "99").out)
    assert other["settings_hash"] != first["settings_hash"]
    assert first_image(out / "demo.openai.json").size[0] == 99


def test_frames_are_decoded_once_for_files_and_exports(
    tsq: Tsq, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsq_cli import pictures

    passes: list[int] = []
    decode = pictures.decode_frames

    def counted(source: Any, indices: Any, **options: Any) -> Any:
        passes.append(len(indices))
        return decode(source, indices, **options)

    monkeypatch.setattr(pictures, "decode_frames", counted)
    assert tsq("select", demo, *UNIFORM, "-o", tmp_path / "out", "--export", "openai", "--export", "hf").code == 0
    assert passes == [2]


def test_the_order_of_the_list_is_not_that_of_the_messages(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    """Frames listed by score are exported in order of time, each with its own picture."""
    for order in ("time", "score"):
        options = ("--selector", "random", "--seed", "3", "-k", "4", "-n", "8", "--order", order)
        assert tsq("select", demo, *options, "-o", tmp_path / order, "--export", "openai").code == 0
    contents = [json.loads((tmp_path / order / "demo.openai.json").read_text()) for order in ("time", "score")]
    assert contents[0] == contents[1]


def test_no_output_is_written_over_an_export(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--selector", "uniform", "-k", "2", "-o", out, "--export", "webvtt", "--csv", out / "demo.vtt")
    done = tsq("select", demo, *options)
    assert (done.code, "is also an --export" in done.err) == (2, True)
    assert not (out / "demo.vtt").exists()


@pytest.mark.parametrize("name", ["x tsq_video_id: 00000000.mp4", "n" * 250 + ".mp4"])
def test_an_edl_of_any_name_is_known_again(tsq: Tsq, demo: Path, tmp_path: Path, name: str) -> None:
    video = demo.rename(demo.with_name(name))
    for _ in range(3):
        done = tsq("select", video, "--selector", "uniform", "-k", "2", "-o", tmp_path / "out", "--export", "edl")
        assert done.code == 0, done.err
    assert len(list((tmp_path / "out").glob("*.edl"))) == 1
