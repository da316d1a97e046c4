"""The Python of README.md, docs/api.md and the notebook is run as it stands there."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import Qwen3VLProcessor

import tsq_cli
from tests.notebook import run_notebook
from tests.video.clips import clip
from tsq_cli import Model, Selector

pytestmark = pytest.mark.usefixtures("demo_decoded_once", "text_encoder_loaded_once")

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api.md"


def python_of(page: str) -> str:
    """All Python blocks of a page, in order."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL))


@pytest.fixture
def in_a_folder_with_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.usefixtures("in_a_folder_with_the_demo")
def test_the_readmes_lines_select_the_frames_of_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_of("README.md"), {})
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^ +\d+ +0:(\d\d\.\d{3}) ", readme, flags=re.MULTILINE)
    assert capsys.readouterr().out.split("[")[1].rstrip("]\n").split(", ") == [str(float(time)) for time in shown]


def test_the_librarys_examples_run_and_say_what_they_show(
    in_a_folder_with_the_demo: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    selector: Selector,
) -> None:
    # README's lines load a pack for themselves; here one is enough.
    monkeypatch.setattr(tsq_cli, "load", lambda recognizer="auto": Model(selector, recognizer), raising=False)
    folder = in_a_folder_with_the_demo / "videos"
    folder.mkdir()
    for number in range(17):
        (folder / f"{number:02d}.mp4").symlink_to(clip("two_frames").path)
    for name, content in (("17.mp4", b""), ("18.mp4", b"no video"), ("19.mp4", b"#EXTM3U")):
        (folder / name).write_bytes(content)
    names: dict[str, Any] = {}
    exec(python_of("docs/api.md"), names)
    out = capsys.readouterr().out
    assert any(line.startswith("5.68 It looks like") for line in out.splitlines())
    assert [image.size for image in names["images"]] == [(640, 360)] * 5
    with Image.open(io.BytesIO(names["cover"](Path("examples/demo.mp4").read_bytes()))) as cover:
        assert (cover.format, cover.size) == ("JPEG", (640, 360))
    assert out.count("left out:") == 3
    assert len(list(Path("frames").iterdir())) == 17 * 2
    assert "order is 'best'; wanted one of time, score; the default is time" in out
    assert "Egyptian cat (5, 7, 7)" in out
    assert "a dog False 0." in out
    assert "a cup of coffee True 0." in out
    assert "score=0.5" in out.splitlines()[-1]


def test_each_of_the_five_scripts_has_at_most_six_lines() -> None:
    scripts = re.findall(
        r"```python\n(.*?)```", API.read_text().split("## Five scripts")[1].split("\n## ")[0], flags=re.DOTALL
    )
    lengths = [len([line for line in script.splitlines() if line.strip()]) for script in scripts]
    assert len(lengths) == 5
    assert max(lengths) <= 6


@pytest.mark.usefixtures("in_a_folder_with_the_demo")
def test_qwen_reads_the_true_time_of_each_frame(selector: Selector) -> None:
    (script,) = [
        part for part in re.findall(r"```python\n(.*?)```", API.read_text(), flags=re.DOTALL) if "Qwen" in part
    ]
    wild = clip("vfr_wild_gaps").path
    model = Model(selector)
    for path, count in (("examples/demo.mp4", 4), (str(wild), 4)):
        names: dict[str, Any] = {"model": model}
        exec(script.replace("examples/demo.mp4", path), names)
        told = names["told"]
        times = Qwen3VLProcessor._calculate_timestamps(None, told["frames_indices"], told["fps"], 2)
        assert times == pytest.approx([frame.time_seconds for frame in names["result"].frames], abs=0.002)
        assert names["qwen"]["video_grid_thw"][0, 0] == count


@pytest.mark.usefixtures("in_a_folder_with_the_demo")
def test_the_notebook_shows_its_frames(monkeypatch: pytest.MonkeyPatch, selector: Selector) -> None:
    monkeypatch.setattr(tsq_cli, "load", lambda: Model(selector), raising=False)
    path = ROOT / "examples" / "query.ipynb"
    committed, run = (
        [cell["outputs"][0]["data"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for notebook in (json.loads(path.read_text()), run_notebook(path))
    )
    for shown in (committed[0]["text/html"], run[0]["text/html"]):
        assert shown.count('<img src="data:image/webp;base64,') == 3
        assert "query: a cat" in shown
    assert run[0]["text/plain"].startswith("<Result examples/demo.mp4: 3 of 16 frames, ")
    assert run[1]["text/plain"].endswith(", (640, 360))")


def test_no_line_of_the_readme_is_too_long_to_read() -> None:
    assert [line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 120] == []
