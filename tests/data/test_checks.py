"""What is said about a list that looks wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tsq_cli.data import LabeledVideo, VideoList, need_videos, warnings_of
from tsq_cli.data.checks import near_equal
from tsq_cli.errors import UsageError


def listed(counts: dict[str, int]) -> VideoList:
    labels = [number for number, count in enumerate(counts.values()) for _ in range(count)]
    videos = tuple(LabeledVideo(id=str(n), path=Path(f"{n}.mp4"), labels=(of,)) for n, of in enumerate(labels))
    return VideoList(videos=videos, class_names=tuple(counts), missing=(), origin=Path("list.txt"))


@pytest.mark.parametrize(
    "names",
    [
        ["nofight", "noFight", "no_fight", "No Fight", "no-fight"],
        ["fight", "fight "],
        ["cat", "cats"],
        ["playing guitar", "Playing_Guitars"],
        ["swimming", "swiming"],  # one letter less
        ["pushing cart", "pushing car"],
        ["boxing", "bosing"],  # another letter
        ["TRINKEN Ü", "trinken ü"],
        ["person 1", "Person_1"],
    ],
)
def test_near_equal_names_are_one_group(names: list[str]) -> None:
    assert near_equal([*names, "something else"]) == [names]


@pytest.mark.parametrize(
    "names",
    [
        ["fight", "noFight"],
        ["run", "rum"],  # too short for a slip
        ["action 1", "action 2", "action 10"],  # numbers are meant
        ["person1", "personx"],
        ["boxing", "baking"],  # two letters
        ["boxing", "obxing"],  # two letters in turn: two edits
        ["class", "clams"],
        ["+", "-", "*"],
        ["0", "1", "00"],
        ["bus", "bu"],
    ],
)
def test_different_names_are_left_alone(names: list[str]) -> None:
    assert near_equal(names) == []


def test_groups_come_in_the_order_of_the_list() -> None:
    assert near_equal(["walk", "Run", "jump", "run", "Walk"]) == [["walk", "Walk"], ["Run", "run"]]


def test_what_is_odd_is_said_once_each() -> None:
    train = listed({"fight": 40, "Fight": 4, "rare": 1, "rarer": 1})
    assert warnings_of(train, None) == [
        "a single video to train on: 2 classes 'rare', 'rarer'",
        "unbalanced: 'fight' has 40 videos, 'rare' 1; rare classes will be recognized less often",
        "nearly the same name: 2 classes 'fight', 'Fight'; if they are one class, give them one name",
    ]
    val = listed({"fight": 2, "Fight": 1, "rare": 0, "rarer": 1})
    assert "no validation video, so not measured: the class 'rare'" in warnings_of(train, val)
    assert warnings_of(listed({"walk": 20, "stand": 3}), listed({"walk": 1, "stand": 1})) == []
    assert len(warnings_of(listed({"walk": 20, "stand": 2}), None)) == 1, "ten times as many"


def test_long_lists_of_names_are_cut() -> None:
    (said,) = [said for said in warnings_of(listed({f"c{n}": 1 for n in range(9)}), None) if "single" in said]
    assert said == "a single video to train on: 9 classes 'c0', 'c1', 'c2', 'c3', 'c4' and 4 more"
    many = listed({name: 2 for n in range(8) for name in (f"c{n}", f"C{n}")})
    assert len(warnings_of(many, None)) == 6
    assert warnings_of(many, None)[-1] == "nearly the same name: 3 more groups of classes"


def test_classes_without_videos_are_named_or_left_out() -> None:
    whole = listed({"walk": 2, "fly": 0, "run": 1, "swim": 0})
    with pytest.raises(
        UsageError, match=r"2 of 4 classes have no video of list\.txt: 'fly', 'swim'; wanted a training"
    ):
        need_videos(whole)
    kept = whole.of_classes({"walk", "run"})
    need_videos(kept)
    assert (kept.class_names, kept.left_out_classes, kept.left_out) == (("walk", "run"), ("fly", "swim"), ())
    assert [video.labels for video in kept.videos] == [(0,), (0,), (1,)]
    assert warnings_of(kept, None)[0] == "left out for want of videos: 2 classes ('fly', 'swim')"
    # A video of a class that stays keeps it; one that has no other goes with its class.
    val = VideoList(
        videos=tuple(
            LabeledVideo(id=str(n), path=Path(f"v{n}"), labels=of) for n, of in enumerate([(0, 1), (1,), (2,)])
        ),
        class_names=("walk", "fly", "run"),
        missing=(),
        origin=Path("val.txt"),
    ).of_classes({"walk", "run"})
    assert [(video.id, video.labels) for video in val.videos] == [("0", (0,)), ("2", (1,))]
    assert val.found == "found 3 of 3 videos of val.txt"
    assert "left out with these classes: validation videos '1'" in warnings_of(kept, val)
