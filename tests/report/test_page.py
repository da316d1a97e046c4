"""The page, read back as HTML: what it says, what it shows, and when it is written."""

import base64
import errno
import gzip
import io
import itertools
import json
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from tests.report.page_material import (
    BOX,
    CATEGORIES,
    NASTY,
    Element,
    asked,
    failed,
    hostile_page,
    page,
    pictures,
    read,
    record,
)
from tsq_cli.errors import OutputError
from tsq_cli.report.page import Page, Pictures
from tsq_cli.report.page_links import video_link
from tsq_cli.report.page_pictures import photograph_uris
from tsq_cli.report.page_timeline import BADGE, LEFT, PLOT, SLOT, lay_out_timeline
from tsq_cli.report.page_timeline import EVENTS as EVENTS_HEIGHT
from tsq_cli.report.page_words import event_time, facts, ordinal, percent, why
from tsq_cli.report.sheet import COLORS
from tsq_cli.types import ChosenBy, SaliencyMaps
from tsq_cli.video import decode_frames, open_video, sample_frames

ROOT = Path(__file__).parents[2]


def picture(uri: str) -> Image.Image:
    kind, data = uri.split(";base64,")
    made = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{(made.format or '').lower()}"
    return made


def gray(uri: str) -> float:
    return float(np.asarray(picture(uri)).mean())


# What it says


def test_a_section_says_what_the_record_holds(tmp_path: Path) -> None:
    text = read(page(tmp_path / "page.html", record(notes=("candidates lie far apart",)))).text
    for said in (
        "cat.mp4",
        "clips/cat.mp4",
        "Egyptian cat52 %",
        "tiger cat29 %",
        "traffic light< 0.1 %",
        "Named by resnet101 (weights from the hub or its cache) from the selected frames alone: it was at hand.",
        "candidates lie far apart",
        "h264, 640 \u00d7 360 pixels",
        "0:25.600, 640 frames",
        "25 fps, constant",
        "1.2 MB, no damaged packets",
        "16, 1.60 s apart",
        "imagenet-lite, sha256 " + "ab" * 32,
        "0123456789abcdef",
        "open, read the index0.050 s",
        "everything else0.250 s",  # 1.0 - 0.05 - 0.2 - 0.5
        "total1.000 s",
    ):
        assert said in text


def test_each_frame_says_when_and_why_and_how_much(tmp_path: Path) -> None:
    frames = read(page(tmp_path / "page.html", record())).all("figure")
    assert [frame.attributes["class"] for frame in frames] == ["by-textual", "by-refill", "by-visual"]
    # 16 candidates, saliencies k / 136: the mean is 1 / 16, the highest 16 / 136 = 1.88 means, the next 1.76.
    textual, refill, visual = (frame.text for frame in frames)
    assert "0:00.800frame 20" in textual
    assert "named like “Egyptian cat”: highest textual saliency of 16." in textual
    assert "visual 0.1\u00d7 textual 1.9\u00d7 the mean" in textual
    assert "Both curves chose the same frame" in refill
    assert "2nd highest visual saliency of 16" in refill
    assert "0:24.800frame 620" in visual
    assert "It looks like “Egyptian cat” or “tiger cat”: highest visual saliency of 16." in visual
    assert "Egyptian cat52 %" in visual  # of this frame alone


@pytest.mark.parametrize(
    ("chosen_by", "said"),
    [
        ("query", "It comes near to what was asked: highest match of 16."),
        ("uniform", "The middle of one of 1 equal parts, chosen without looking at the frames."),
        ("random", "Drawn at random, without looking at the frames."),
        ("middle", "One of the 1 candidates around the middle, chosen without looking at the frames."),
        ("visual", "No better one was left: 16th highest visual saliency of 16, below the mean."),
    ],
)
def test_why_in_words(chosen_by: Any, said: str) -> None:
    made = record(chosen={0: chosen_by}).to_dict()
    assert why(made["frames"][0], made) == said


def test_a_flat_curve_is_not_called_below_its_mean() -> None:
    flat = [np.float32(1 / 16).item() * 0.9999999] * 16
    made = record(scores=(flat, flat), chosen={3: "visual"}).to_dict()
    assert why(made["frames"][0], made).endswith(": highest visual saliency of 16, as high as 15 others.")


def test_equal_scores_share_a_place() -> None:
    # 0.3 is above 0.2, and two of the others are as high as this one
    made = record(5, {3: "visual"}, scores=([0.3, 0.2, 0.2, 0.2, 0.1], [0.2] * 5)).to_dict()
    assert why(made["frames"][0], made).endswith("2nd highest visual saliency of 5, as high as 2 others.")


def test_better_ones_that_show_the_same_are_told_of() -> None:
    same = record(chosen={10: "visual", 15: "visual"}, duplicate_of={11: 10, 12: 15, 13: 15, 14: 15}).to_dict()
    assert [why(frame, same).split(": ")[1] for frame in same["frames"]] == [
        "6th highest visual saliency of 16; the better ones left out show the same as a selected frame.",
        "highest visual saliency of 16.",
    ]
    other = record(chosen={10: "visual", 15: "visual"}, duplicate_of={11: 10, 12: 15, 13: 15}).to_dict()
    assert why(other["frames"][0], other).endswith(": 6th highest visual saliency of 16.")
    best = record(chosen={14: "visual", 15: "visual"}).to_dict()
    assert why(best["frames"][0], best).endswith(": 2nd highest visual saliency of 16.")


EVENTS = [0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 3]
# Candidates lie at 0.8 s, 2.4 s, 4.0 s, 5.6 s and so on; visual saliency rises and textual saliency falls with time, so
# that the sum of both is the same for all unless other scores are given.


@pytest.mark.parametrize(
    ("chosen_by", "said"),
    [
        ("topk", "Chosen by the highest mean of both curves, for comparison."),
        ("mmr", "Chosen by maximal marginal relevance, for comparison."),
        ("bolt", "Chosen by inverse transform sampling (BOLT), for comparison."),
        ("aks", "Chosen by adaptive keyframe sampling (AKS), for comparison."),
        ("dpp", "Chosen by a determinantal point process, for comparison."),
        ("kcenter", "Chosen by farthest-first traversal (k-center), for comparison."),
        ("facility", "Chosen by facility location, for comparison."),
        ("event", "The most salient frame of event 2 of 4 (0:05 to 0:12)."),
        ("coverage", "Adds what the other selected frames do not show."),
    ],
)
def test_why_in_words_for_the_rules_that_compare_frames(chosen_by: Any, said: str) -> None:
    made = record(chosen={4: chosen_by}, events=EVENTS).to_dict()
    assert why(made["frames"][0], made) == said


def test_every_way_to_be_chosen_has_words() -> None:
    for chosen_by in get_args(ChosenBy):
        made = record(chosen={4: chosen_by}, events=EVENTS).to_dict()
        assert why(made["frames"][0], made).endswith(".")


def test_why_a_frame_stands_for_its_event() -> None:
    falling = [16 / 136 - position / 136 for position in range(16)]
    made = record(chosen={4: "event", 8: "event"}, events=EVENTS, scores=(falling, falling)).to_dict()
    # Candidate 3 is more salient than 4: it was passed over, for its quality.
    assert [why(frame, made) for frame in made["frames"]] == [
        "The most salient of the sharp frames of event 2 of 4 (0:05 to 0:12).",
        "The only candidate of event 3 of 4 (at 0:13.600).",
    ]
    one = record(chosen={4: "event"}, events=[0] * 16).to_dict()
    assert why(one["frames"][0], one) == "The most salient frame of the video, which is one event without a cut."
    short = record(2, {1: "event"}, events=[0, 0], times=[3.25, 3.75]).to_dict()
    assert event_time(short["candidates"]) == "0:03.250 to 0:03.750"


def test_why_a_frame_was_taken_that_was_passed_over_before() -> None:
    made = record(
        chosen={2: "event", 4: "spread", 6: "spread", 7: "spread"}, duplicate_of={4: 2}, blank=(6,), events=[0] * 16
    ).to_dict()
    assert [why(frame, made) for frame in made["frames"]][1:] == [
        "Nothing else was left. It shows the same as the frame at 0:04.000.",
        "Nothing else was left. It is blank.",
        "Nothing better was left: it is blurred beside its neighbors.",
    ]
    still = record(chosen={3: "spread", 8: "spread"}, duplicate_of={8: 3}).to_dict()
    assert why(still["frames"][0], still) == "All of the video looks the same, so the frames lie evenly over it."
    black = record(chosen={3: "spread", 8: "spread"}, blank=tuple(range(16))).to_dict()
    assert why(black["frames"][0], black) == "Nothing else was left. It is blank."
    again = record(chosen={13: "visual", 14: "refill"}, duplicate_of={14: 13}, selector="auto").to_dict()
    assert why(again["frames"][1], again) == (
        "A place was left, and this frame is next by visual saliency: 2nd highest visual saliency of 16. "
        "It shows the same as the frame at 0:21.600."
    )
    paper = record(chosen={13: "visual", 14: "refill"}, duplicate_of={14: 13}, selector="tsq").to_dict()
    assert why(paper["frames"][1], paper).startswith("Both curves chose the same frame; this one, next by ")


def test_the_rule_and_its_reason_are_told(tmp_path: Path) -> None:
    reason = "nothing stands out: it peaks at 1.20 times its mean"
    made = record(events=EVENTS, rule="cover", rule_reason=reason, requested_k="auto")
    told = dict(facts(made.to_dict()))
    assert told["Selected by"] == "auto (cover), as many frames as differ"
    assert told["Why so"] == "Nothing stands out: it peaks at 1.20 times its mean."
    assert told["Candidates"] == "16, 1.60 s apart, in 4 events"
    tree = read(page(tmp_path / "page.html", made))
    assert "Chosen by auto (cover). Nothing stands out: it peaks at 1.20 times its mean." in tree.text
    # Candidates 0, 14 and 15 are selected, of events 1 and 4; uniform are 2, 8 and 13, of events 1, 3 and 4.
    assert "Of 4 events the 3 selected frames show 2, as many uniform ones 3." in tree.text
    plain = dict(facts(record(selector="tsq", rule="tsq", requested_k=1).to_dict()))
    assert plain["Selected by"] == "tsq, 1 frame asked for"
    assert "Why so" not in plain
    assert plain["Candidates"] == "16, 1.60 s apart"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.0004, "< 0.1 %"), (0.014, "1.4 %"), (0.0996, "10 %"), (0.523, "52 %"), (1.0, "100 %")],
)
def test_percent(share: float, text: str) -> None:
    assert percent(share).replace("\u00a0", " ") == text


def test_ordinal() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
    )


def test_odd_videos_say_so() -> None:
    base = record(times=[0.1, 1.0, 5.0], num=3, chosen={1: "visual"})
    assert base.video
    video = replace(base.video, rotation=90, is_vfr=True, average_fps=None, start_seconds=-0.5, duration_seconds=None)
    frames = (replace(base.frames[0], path="out/cat-01.jpg", map_path="maps/cat-01.png"),)
    told = dict(facts(replace(base, video=video, decode_errors=7, frames=frames, sheet="sheet.png").to_dict()))
    assert told["Picture"].endswith("turned 90° for display")
    assert told["Frame rate"] == "unknown, variable"
    assert told["Clock in the file"].startswith("starts at -0.500 s")
    assert told["Length"] == "unknown, 120 frames"
    assert told["File"].endswith("7 damaged packets or frames skipped")
    assert told["Candidates"] == "3, 0.90 to 4.00 s apart"
    assert told["Frames written"].endswith("out/cat-01.jpg")
    assert told["Maps written"].endswith("maps/cat-01.png")
    assert told["Sheet written"] == "sheet.png"


def test_saliency_held_is_compared_with_the_uniform_choice(tmp_path: Path) -> None:
    text = read(page(tmp_path / "page.html", record(4, {2: "visual", 3: "visual"}))).text
    # visual saliency .1 .2 .3 .4, textual .4 .3 .2 .1; two uniform frames of four are numbers 1 and 3
    assert "the 2 selected frames hold 70 % of the visual and 30 % of the textual saliency" in text
    assert "the uniform ones 60 % and 40 %" in text


def test_without_a_recognizer_nothing_is_said_of_what_it_shows(tmp_path: Path) -> None:
    made = record(recognized=False)
    with Page(tmp_path / "page.html") as one:
        one.add(made.to_dict(), pictures(made, maps=False))
    tree = read(tmp_path / "page.html")
    assert "What it shows" not in tree.text
    assert tree.all("input") == []
    assert tree.all(class_="heat") == []


def test_a_query_names_its_curve_and_its_objects(tmp_path: Path) -> None:
    likeness = (replace(CATEGORIES[0], label="missile", score=0.66), replace(CATEGORIES[0], label="cup", score=-0.1))
    tree = read(page(tmp_path / "page.html", record(query=asked("a rocket"), textual_categories=likeness)))
    assert "a rocket0.80" in tree.text
    assert "missile0.66" in tree.text
    assert "cup-0.10" in tree.text
    assert [text.text for text in tree.all("text", class_="curve-name")] == ["visual", "query"]


def test_a_baseline_has_no_curves(tmp_path: Path) -> None:
    chosen: dict[int, Any] = {1: "uniform", 4: "uniform", 8: "uniform", 11: "uniform", 14: "uniform"}
    made = record(chosen=chosen, scores=([], []), selector="uniform", pack_name=None)
    tree = read(page(tmp_path / "page.html", made))
    assert tree.all("polyline") == []
    assert "chosen without looking at the frames" in tree.text
    assert "Against a uniform choice" not in tree.text  # it is the uniform choice


def test_a_result_of_an_earlier_run_says_how_to_get_its_pictures(tmp_path: Path) -> None:
    tree = read(page(tmp_path / "page.html", record(), with_pictures=False))
    assert "Run again with --overwrite" in tree.text
    assert tree.all("img") == []
    assert "Egyptian cat52 %" in tree.text
    assert tree.all("polyline")


@pytest.mark.parametrize("num", [1, 2, 200])
def test_any_number_of_candidates_fits(tmp_path: Path, num: int) -> None:
    tree = read(page(tmp_path / "page.html", record(num, {num - 1: "visual"})))
    assert len(tree.all("ol", class_="thumbnails")[0].all("img")) == num


# What it shows


def test_pictures_are_those_of_the_frames(tmp_path: Path) -> None:
    tree = read(page(tmp_path / "page.html", record()))
    large = [figure.all("img")[0].attributes["src"] for figure in tree.all("figure")]
    assert [gray(uri) for uri in large] == pytest.approx([0, 140, 150], abs=1.5)
    strip = [image.attributes["src"] for image in tree.all("ol", class_="thumbnails")[0].all("img")]
    assert [gray(uri) for uri in strip] == pytest.approx([10 * position for position in range(16)], abs=1.5)
    uniform, selected = tree.all("ol", class_="strip")
    # Three uniform ones of sixteen are the centers of three equal segments: 2, 8, 13.
    levels = [[gray(image.attributes["src"]) for image in row.all("img")] for row in (uniform, selected)]
    assert levels == [pytest.approx([20, 80, 130], abs=1.5), pytest.approx([0, 140, 150], abs=1.5)]


def test_heat_lies_on_the_box_that_the_network_saw(tmp_path: Path) -> None:
    heats = read(page(tmp_path / "page.html", record())).all(class_="heat")
    styles = [dict(part.split(":") for part in heat.attributes["style"].split(";")) for heat in heats]
    left, top, right, bottom = BOX
    for style in styles:
        sides = [float(style[side].removesuffix("%")) / 100 for side in ("left", "top", "width", "height")]
        assert sides == pytest.approx([left, top, right - left, bottom - top])
    for place, heat in enumerate(heats):
        alpha = np.asarray(picture(heat.attributes["src"]).convert("RGBA"))[..., 3]
        row, column = np.unravel_index(int(alpha.argmax()), alpha.shape)
        # The hot cell is in the second of four rows, and in the column of its frame's place.
        assert (4 * row // alpha.shape[0], 4 * column // alpha.shape[1]) == (1, place)
        assert alpha[-1].max() == 0


def test_a_frame_that_was_not_looked_at_has_neither_heat_nor_classes(tmp_path: Path) -> None:
    made = record()
    made = replace(made, frames=(replace(made.frames[0], predictions=None), *made.frames[1:]))
    with Page(tmp_path / "page.html") as one:
        one.add(made.to_dict(), pictures(made))
        with pytest.raises(ValueError, match="3 maps of 2 recognized frames"):
            one.add(made.to_dict(), pictures(record()))
    figures = read(tmp_path / "page.html").all("figure")
    assert [len(figure.all(class_="heat")) for figure in figures] == [0, 1, 1]


def test_evenly_spread_candidates_stand_above_their_thumbnails() -> None:
    line = lay_out_timeline(record(20).to_dict())
    assert line.times == pytest.approx(line.slots)
    assert line.times == pytest.approx([LEFT + SLOT * (position + 0.5) for position in range(20)])
    # 20 candidates 1.6 s apart cover 0 to 32 s
    assert [label for _, label in line.ticks] == ["0:00", "0:05", "0:10", "0:15", "0:20", "0:25", "0:30"]
    assert line.ticks[2][0] == pytest.approx(LEFT + 20 * SLOT * 10 / 32)


def test_events_are_bands_cut_halfway_between_candidates(tmp_path: Path) -> None:
    made = record(events=EVENTS, duplicate_of={1: 0, 15: 14}, blank=(5,))
    line, plain = lay_out_timeline(made.to_dict()), lay_out_timeline(record().to_dict())
    slot = line.slot
    cuts = [LEFT + slot * place for place in (3, 8, 9)]  # halfway between the middles of their slots
    assert [event.left for event in line.events] == pytest.approx([LEFT, *cuts])
    assert [event.right for event in line.events] == pytest.approx([*cuts, LEFT + 16 * slot])
    assert [event.name for event in line.events] == ["event 1", "event 2", "event 3", "event 4"]
    assert line.height - plain.height == EVENTS_HEIGHT == line.axis_y - plain.axis_y
    tree = read(page(tmp_path / "page.html", made))
    bands = tree.all("g", class_="event")
    assert [len(band.all("line", class_="cut")) for band in bands] == [0, 1, 1, 1]
    strip = tree.all("ol", class_="thumbnails")[0].all("li")
    kinds = [set(item.attributes["class"].split()) & {"odd", "even"} for item in strip]
    assert kinds == [{"odd"} if event % 2 == 0 else {"even"} for event in EVENTS]
    # 15 shows the same as 14 and is selected itself, so it is not faded.
    assert [place for place, item in enumerate(strip) if "same" in item.attributes["class"].split()] == [1]
    assert strip[1].attributes["title"] == "Candidate 2, at 0:02.400, event 1, shows the same as 0:00.800"
    assert strip[5].attributes["title"] == "Candidate 6, at 0:08.800, event 2, blank"
    rows = tree.all("table", class_="data")[0].all("tbody")[0].all("tr")
    assert [row.all("td")[4].text for row in rows] == [str(event + 1) for event in EVENTS]
    assert rows[1].all("td")[5].text == "shows the same as 0:00.800"
    assert rows[5].all("td")[5].text == "blank"
    assert "Bands are events" in tree.text
    assert "Faded: shows the same as a selected frame." in tree.text


def test_narrow_events_are_named_by_their_number_alone_or_not_at_all() -> None:
    # 99 events of a tenth of a second, and the last two reach to halfway between 9.9 s and 100 s, and on to the end.
    times = [position / 10 for position in range(100)] + [100.0]
    line = lay_out_timeline(record(101, times=times, events=list(range(101)), chosen={0: "event"}).to_dict())
    # The first one reaches half a mean gap, 0.5 s, before its candidate.
    assert [event.name for event in line.events] == ["1", *[""] * 98, "event 100", "event 101"]


@pytest.mark.parametrize("events", [None, [0] * 16])
def test_one_event_or_none_has_no_bands(tmp_path: Path, events: list[int] | None) -> None:
    tree = read(page(tmp_path / "page.html", record(events=events)))
    assert tree.all("g", class_="event") == []
    assert "Bands are events" not in tree.text
    assert "Faded" not in tree.text
    assert "Of 1 events" not in tree.text


def test_unevenly_spread_candidates_stand_at_their_times() -> None:
    line = lay_out_timeline(record(20, times=[float(second) for second in (*range(19), 38)]).to_dict())
    widths = [later - earlier for earlier, later in itertools.pairwise(line.times)]
    assert widths[-1] / widths[0] == pytest.approx(20)
    assert line.slots == pytest.approx([LEFT + SLOT * (position + 0.5) for position in range(20)])


def test_curves_are_multiples_of_the_mean() -> None:
    visual, textual = [0.1, 0.1, 0.6, 0.2], [0.25, 0.25, 0.25, 0.25]
    line = lay_out_timeline(record(4, {2: "visual", 0: "textual"}, scores=(visual, textual)).to_dict())
    levels = {label: y for y, label in line.levels}
    base = BADGE + PLOT
    unit = base - levels["mean"]
    assert base - levels["2\u00d7"] == pytest.approx(2 * unit)
    curves = {curve.module: [(base - y) / unit for _, y in curve.points] for curve in line.curves}
    assert curves["visual"] == pytest.approx([0.4, 0.4, 2.4, 0.8])
    assert curves["textual"] == pytest.approx([1, 1, 1, 1])
    marks = {mark.chosen_by: mark for mark in line.marks}
    assert marks["visual"].x == line.times[2]
    assert marks["visual"].point_y == pytest.approx(base - 2.4 * unit)
    assert marks["textual"].point_y == pytest.approx(base - unit)
    names = sorted(curve.label_y for curve in line.curves)
    assert names[1] - names[0] >= 14  # .8 and 1 mean would overlap


def test_short_and_long_videos_have_round_times_on_the_axis() -> None:
    def labels(seconds: float) -> list[str]:
        times = [seconds * (position + 0.5) / 16 for position in range(16)]
        return [label for _, label in lay_out_timeline(record(times=times).to_dict()).ticks]

    assert labels(0.4) == ["0:00.000", "0:00.050", "0:00.100", "0:00.150", "0:00.200", "0:00.250", "0:00.300",
                           "0:00.350", "0:00.400"]  # fmt: skip
    assert labels(7200) == ["0:00", "15:00", "30:00", "45:00", "1:00:00", "1:15:00", "1:30:00", "1:45:00", "2:00:00"]


def test_a_page_of_a_real_clip_stays_small(tmp_path: Path) -> None:
    source = open_video(ROOT / "examples" / "demo.mp4")
    batch = decode_frames(source, sample_frames(source.pts_seconds, source.end_seconds, 16).frame_indices)
    source.close()
    made = record(16, {2: "visual", 3: "visual", 7: "textual", 11: "textual", 13: "refill"})
    values = np.random.default_rng(0).random((5, 7, 7), np.float32)
    maps = SaliencyMaps(values=values, category=CATEGORIES[0], box=BOX)
    with Page(tmp_path / "page.html") as one:
        one.add(made.to_dict(), Pictures(candidates=batch.pixels, maps=maps))
    assert (tmp_path / "page.html").stat().st_size < 150_000


@pytest.mark.parametrize("num", [16, 48, 64])
def test_a_video_takes_150_kilobytes_at_most_whatever_it_shows(tmp_path: Path, num: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (num, 32, 57, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    made = record(num, dict.fromkeys(range(0, num, num // 5), "event"), events=list(range(num)), recognized=False)
    with Page(tmp_path / "page.html") as one:
        one.add(made.to_dict(), Pictures(candidates=noise))
    text = (tmp_path / "page.html").read_text()
    assert 100_000 < len(text[text.index("<article") :].encode()) <= 150_000


# What it is made of


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_page(tmp_path_factory.mktemp("rich") / "page.html", NASTY)


def test_words_stay_words(rich: Path) -> None:
    tree = read(rich)
    assert tree.all("script") == []
    elements = tree.all()
    assert [e for e in elements if any(name.startswith("on") for name in e.attributes)] == []
    nasty = " ".join(NASTY.split())
    assert nasty in tree.all("title")[0].text
    assert tree.all("h1")[0].text == nasty
    assert tree.all("h2")[0].text == nasty.replace("/", "|") + ".mp4"
    assert tree.all(class_="bad-notice")[0].text == f"Failed. {nasty}"
    assert tree.all("img", class_="heat")[0].attributes["alt"] == f"Saliency map of frame 1 for {NASTY}"
    # title, h1, index, labels of predictions and categories, notes, query, pack, recognizer, timings, ...
    assert tree.text.count(nasty) > 30


def test_nothing_comes_from_elsewhere(rich: Path) -> None:
    tree = read(rich)
    for element in tree.all():
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            if "moment" in element.attributes.get("class", ""):  # it leads to the video, and only if followed
                assert element.attributes["href"].startswith(("./", "../", "file:///"))
                continue
            assert element.attributes.get(name, "#").startswith(("#", "data:"))
    style = "".join(piece.text for piece in tree.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    policy = tree.all("meta", **{"http-equiv": "Content-Security-Policy"})[0].attributes["content"]
    assert "default-src 'none'; img-src data:;" in policy
    assert "script-src" not in policy


def test_structure_is_sound(rich: Path) -> None:
    tree = read(rich)
    assert tree.all("html")[0].attributes["lang"] == "en"
    ids = [element.attributes["id"] for element in tree.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in tree.all():
        wanted = [element.attributes.get("for", ""), *element.attributes.get("aria-labelledby", "").split()]
        link = element.attributes.get("href", "") if element.tag == "a" else ""
        wanted.append(link.removeprefix("#") if link.startswith("#") else "")
        assert {name for name in wanted if name} <= set(ids)
    levels = [int(element.tag[1]) for element in tree.all() if re.fullmatch(r"h\d", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert all(image.attributes["alt"] for image in tree.all("img"))


def test_colors_are_those_of_the_sheet(rich: Path) -> None:
    style = read(rich).all("style")[0].text
    assert f"--visual: rgb({', '.join(map(str, COLORS['visual']))});" in style


# Many videos


def test_an_index_leads_to_every_video(tmp_path: Path) -> None:
    records = (record(), failed(), record(path="clips/dog.mp4", recognized=False))
    tree = read(page(tmp_path / "page.html", *records, title="Holiday"))
    assert tree.all("h1")[0].text == "Holiday"
    assert tree.all("header")[0].text.endswith("3 videos, 1 failed")
    cards = tree.all("ol", class_="cards")[0].all("li")
    links = [card.all("a")[0] for card in cards]
    assert [link.attributes["href"] for link in links] == ["#video-1", "#video-2", "#video-3"]
    assert [card.all("bdi", class_="name")[0].text for card in cards] == ["cat.mp4", "broken.mp4", "dog.mp4"]
    assert cards[0].text == "cat.mp4 clips Egyptian cat 52 % 0:25.6 · 3 frames"
    assert cards[1].text.endswith("failed it is empty; wanted a video; look at it")
    # Both saliencies together are equal for all candidates: the first selected one is the most salient, gray level 0.
    assert gray(cards[0].all("img")[0].attributes["src"]) == pytest.approx(0, abs=1.5)
    assert cards[1].all("img") == []
    assert [video.attributes["id"] for video in tree.all("article")] == ["video-1", "video-2", "video-3"]
    ways = [[link.attributes["href"] for link in back.all("a")] for back in tree.all("p", class_="back")]
    assert ways == [["#video-2", "#top"], ["#video-1", "#video-3", "#top"], ["#video-2", "#top"]]


def test_one_video_needs_no_index(tmp_path: Path) -> None:
    tree = read(page(tmp_path / "page.html", record()))
    assert tree.all("nav") == []
    assert tree.all("title")[0].text == "cat.mp4 · tsq"


def test_memory_stays_flat(tmp_path: Path) -> None:
    made, shown = record(), pictures(record())
    with Page(tmp_path / "page.html") as many:
        many.add(made.to_dict(), shown)
        many.add(made.to_dict(), shown)
        tracemalloc.start()
        for _ in range(10):
            many.add(made.to_dict(), shown)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    section = (tmp_path / "page.html").stat().st_size / 12
    assert kept < 2 * section  # of ten


def places(tree: Element, order: str) -> list[str]:
    """Names of the cards in an order that readers can choose."""
    found = {}
    for card in tree.all("ol", class_="cards")[0].all("li"):
        style = dict(part.split(":") for part in card.attributes["style"].split(";"))
        found[int(style[f"--by-{order}"])] = card.all("bdi", class_="name")[0].text
    return [found[place] for place in range(len(found))]


def test_the_index_can_be_sorted_and_filtered(tmp_path: Path) -> None:
    def named(label: str) -> Any:
        return (replace(CATEGORIES[0], label=label),)

    long = record(20, path="b/clip10.mp4", predictions=named("zebra"), notes=("one",))
    short = record(8, {7: "visual"}, path="b/Clip2.mp4", predictions=named("ant"))
    unsure = record(path="a/z.mp4", predictions=(replace(CATEGORIES[0], is_sure=False),))
    again = record(path="a/a.mp4", predictions=named("ant"))
    tree = read(page(tmp_path / "page.html", long, failed(), short, unsure, again))
    assert places(tree, "page") == ["clip10.mp4", "broken.mp4", "Clip2.mp4", "z.mp4", "a.mp4"]
    assert places(tree, "name") == ["a.mp4", "broken.mp4", "Clip2.mp4", "clip10.mp4", "z.mp4"]
    assert places(tree, "length") == ["clip10.mp4", "z.mp4", "a.mp4", "Clip2.mp4", "broken.mp4"]
    assert places(tree, "state") == ["broken.mp4", "clip10.mp4", "Clip2.mp4", "z.mp4", "a.mp4"]
    assert places(tree, "class") == ["Clip2.mp4", "a.mp4", "clip10.mp4", "broken.mp4", "z.mp4"]
    kinds = [set(card.attributes["class"].split()) for card in tree.all("ol", class_="cards")[0].all("li")]
    assert kinds == [{"is-notes"}, {"is-failed"}, {"is-ok", "shows-0"}, {"is-ok"}, {"is-ok", "shows-0"}]
    assert [label.text for label in tree.all("fieldset")[2].all("label")] == ["All", "ant 2"]
    assert [set(video.attributes["class"].split()) - {"video"} for video in tree.all("article")] == kinds


def test_nothing_is_offered_that_would_change_nothing(tmp_path: Path) -> None:
    tree = read(page(tmp_path / "page.html", record(recognized=False), record(recognized=False)))
    assert [each.text for each in tree.all("fieldset")] == []
    three = read(page(tmp_path / "page.html", *[record(recognized=False)] * 3))
    assert [each.text for each in three.all("fieldset")] == ["Sort Order of the run Name Length"]


def test_more_than_five_videos_are_shown_one_by_one(tmp_path: Path) -> None:
    five, six = (read(page(tmp_path / "page.html", *[record()] * number)) for number in (5, 6))
    assert [five.all("main")[0].attributes, six.all("main")[0].attributes] == [{}, {"class": "long"}]
    assert len(six.all("input", id="all-at-once")) == 1


# Links


@pytest.mark.parametrize(
    ("video", "link"),
    [
        ("here/page/clip.mp4", "./clip.mp4"),
        ("here/page/in/clip.mp4", "./in/clip.mp4"),
        ("here/clip.mp4", "../clip.mp4"),
        ("clip.mp4", "../../clip.mp4"),
        ("here/page/a b#c?d%e:f.mp4", "./a%20b%23c%3Fd%25e%3Af.mp4"),
        ("here/page/javascript:alert(1).mp4", "./javascript%3Aalert%281%29.mp4"),
        (b"here/page/caf\xe9.mp4".decode("utf-8", "surrogateescape"), "./caf%E9.mp4"),
    ],
)
def test_a_near_video_is_linked_to_by_its_place(tmp_path: Path, video: str, link: str) -> None:
    assert video_link(str(tmp_path / video), tmp_path / "here" / "page" / "page.html") == link


def test_a_far_video_is_linked_to_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = f"file://{tmp_path}/far/clip.mp4"
    assert video_link("far/clip.mp4", tmp_path / "a" / "b" / "c" / "page.html") == whole
    assert video_link("far/clip.mp4", None) == whole  # of a stream
    assert video_link("far/" + "x" * 5000, tmp_path / "page.html") is None


def test_each_frame_links_to_its_time(tmp_path: Path) -> None:
    tree = read(page(tmp_path / "page.html", record(path=str(tmp_path / "cat & dog.mp4"))))
    links = [link.attributes["href"] for link in tree.all("a", class_="moment")]
    assert links == [f"./cat%20%26%20dog.mp4#t={time}" for time in ("0.800", "23.200", "24.800")]


def test_the_record_is_in_the_page(tmp_path: Path) -> None:
    hostile, broken = record(path=f"clips/{NASTY.replace('/', '|')}.mp4", notes=(NASTY,)), failed()
    long = record(120)
    tree = read(page(tmp_path / "page.html", hostile, broken, long))
    first, second, third = (each.all("p", class_="record")[0] for each in tree.all("article"))
    for made, place in ((hostile, first), (broken, second)):
        (link,) = place.all("a")
        kind, data = link.attributes["href"].split(";base64,")
        assert kind == "data:application/json"
        assert json.loads(base64.b64decode(data)) == json.loads(json.dumps(made.to_dict()))
    assert second.all("a")[0].attributes["download"] == "broken.json"
    assert "/" not in first.all("a")[0].attributes["download"]
    (link,) = third.all("a")  # a long one is compressed
    kind, data = link.attributes["href"].split(";base64,")
    assert (kind, link.attributes["download"]) == ("data:application/gzip", "cat.json.gz")
    assert json.loads(gzip.decompress(base64.b64decode(data))) == json.loads(json.dumps(long.to_dict()))


def test_pictures_keep_to_their_budget() -> None:
    noise = [np.random.default_rng(place).integers(0, 256, (90, 160, 3), np.uint8) for place in range(4)]
    large, small = photograph_uris(noise, at_most=10**6), photograph_uris(noise, at_most=20_000)
    assert picture(large[0]).size == (160, 90)
    assert sum(map(len, small)) <= 20_000 < sum(map(len, large))
    assert len({picture(uri).size for uri in small}) == 1  # all alike
    least = picture(photograph_uris(noise, at_most=1)[0])  # never fewer than a quarter of the sides
    assert least.size == (40, 22)
    assert picture(photograph_uris(noise, width=80, at_most=10**6)[0]).size == (80, 45)


# When it is written


def test_nothing_is_there_before_the_end_and_nothing_else_after(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "page.html"
    with Page(path) as one:
        one.add(record().to_dict(), pictures(record()))
        assert not path.exists()
    assert [child.name for child in path.parent.iterdir()] == ["page.html"]


def test_an_interrupted_run_gives_a_page_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "page.html"

    def run() -> None:
        with Page(path) as one:
            one.add(record().to_dict(), pictures(record()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert "stopped early, after 1 video." in read(path).text
    assert [child.name for child in tmp_path.iterdir()] == ["page.html"]


def test_a_run_that_stops_before_its_first_video_leaves_the_older_page(tmp_path: Path) -> None:
    path = page(tmp_path / "page.html", record())
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), Page(path):
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("name", ["folder", "file/page.html"])
def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        Page(tmp_path / name).__enter__()


def test_a_page_that_cannot_be_finished_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = page(tmp_path / "page.html", record())
    before = path.read_bytes()

    def unreadable(_: Page) -> Any:
        yield "half a page"
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Page, "_sections", unreadable)
    with pytest.raises(OutputError, match="Input/output error"):
        page(path, failed())
    assert path.read_bytes() == before
    assert [child.name for child in tmp_path.iterdir()] == ["page.html"]


class FullDisk:
    """A file that takes `room` bytes, in small bites, and then no more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room
        self.seek = file.seek

    def write(self, data: memoryview) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written: int = self.file.write(data[: min(1000, self.room)])
        self.room -= written
        return written


def test_a_full_disk_costs_the_sections_that_did_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    with Page(path) as one:
        one.add(record().to_dict(), pictures(record()))
        disk = one._spool
        assert disk is not None
        monkeypatch.setattr(one, "_spool", FullDisk(disk, room=5000))
        with pytest.raises(OutputError, match="No space left"):
            one.add(record(path="clips/second.mp4").to_dict(), pictures(record()))
        monkeypatch.setattr(one, "_spool", FullDisk(disk, room=10**6))
        one.add(record(path="clips/third.mp4").to_dict(), pictures(record()))
        monkeypatch.setattr(one, "_spool", disk)
    assert [name.text for name in read(path).all("h2")] == ["cat.mp4", "third.mp4"]


def test_a_name_that_is_no_text_is_shown_as_escapes(tmp_path: Path) -> None:
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")  # as the system hands over a Latin-1 name
    tree = read(page(tmp_path / "page.html", record(path=name), failed(name)))
    assert [heading.text for heading in tree.all("h2")] == [r"caf\xe9.mp4"] * 2


def test_no_word_of_a_page_turns_or_hides_another(tmp_path: Path) -> None:
    words = "\x1b[2J\x00\x9b\u202e\u2066\u200b\u2028\n\udcff"
    page = hostile_page(tmp_path / "page.html", words).read_text(encoding="utf-8")
    assert set(page) & set(words) == set("[2J\n")
    assert page.count(r"\x1b[2J\x00\u009b\u202e\u2066\u200b\u2028\n\xff") > 30


def test_a_name_of_a_megabyte_stays_in_its_place(tmp_path: Path) -> None:
    plain = hostile_page(tmp_path / "plain.html", "a name").stat().st_size
    path = hostile_page(tmp_path / "page.html", "x" * 10**6)
    assert path.stat().st_size < plain + 80_000
    labels = [label for table in read(path).all("table", class_="bars") for label in table.all("th")]
    assert max(len(label.text) for label in labels) == 120
    assert {len(label.attributes.get("title", "")) for label in labels} == {0, 500}  # our own names need no title


def test_pictures_of_another_record_are_refused(tmp_path: Path) -> None:
    with Page(tmp_path / "page.html") as one:
        with pytest.raises(ValueError, match="15 pictures of 16 candidates"):
            one.add(record().to_dict(), pictures(record(15)))
        with pytest.raises(ValueError, match="2 maps of 3 recognized frames"):
            one.add(record().to_dict(), pictures(record(chosen={0: "visual", 1: "visual"})))
