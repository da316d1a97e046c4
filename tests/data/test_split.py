"""A list split in two: sizes by hand, one side for each video, and lists that are read back as they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tsq_cli.data import LabeledVideo, VideoList, list_csv, read_video_list, split_list
from tsq_cli.errors import UsageError


def listed(*labels: Sequence[int], folder: Path = Path("/videos")) -> VideoList:
    """Videos 000.mp4, 001.mp4, ... of these classes, which are named a, b, c, ..."""
    num_classes = 1 + max(label for some in labels for label in some)
    return VideoList(
        videos=tuple(
            LabeledVideo(id=f"{n:03d}.mp4", path=folder / f"{n:03d}.mp4", labels=tuple(some))
            for n, some in enumerate(labels)
        ),
        class_names=tuple(chr(97 + number) for number in range(num_classes)),
        missing=("gone.mp4",),
        origin=Path("list.txt"),
    )


def ids(videos: VideoList) -> list[str]:
    return [video.id for video in videos.videos]


def single(*sizes: int) -> VideoList:
    return listed(*[(label,) for label, size in enumerate(sizes) for _ in range(size)])


@pytest.mark.parametrize(
    ("sizes", "share", "held_out"),
    [
        ((10, 5, 1), 0.4, (4, 2, 0)),  # the only video of a class is trained on
        ((10, 20), 0.2, (2, 4)),
        ((3, 3), 0.9, (2, 2)),  # 2.7 are wanted, and one must stay
        ((1000, 1, 1, 1), 0.5, (501, 0, 0, 0)),  # of what single videos cannot give, only a half is passed on
    ],
)
def test_each_class_gives_its_share_and_keeps_a_video(
    sizes: tuple[int, ...], share: float, held_out: tuple[int, ...]
) -> None:
    for seed in range(5):
        train, val = split_list(single(*sizes), share, seed)
        assert val.counts() == held_out
        assert [a + b for a, b in zip(train.counts(), val.counts(), strict=True)] == list(sizes)
        assert train.class_names == val.class_names


def test_small_classes_take_turns_so_that_the_sizes_add_up() -> None:
    whole = single(*[2] * 100)
    train, val = split_list(whole, 0.2, 3)
    assert len(val.videos) == 40, "a fifth of 200, though a fifth of each two is none"
    assert min(train.counts()) == 1
    assert max(val.counts()) == 1
    assert sum(val.counts()[:50]) not in (0, 40), "not the first classes alone"


def test_the_same_seed_draws_the_same_videos_whatever_the_order_of_the_list() -> None:
    whole = single(20, 30)
    _, val = split_list(whole, 0.3, 7)
    shuffled = replace(whole, videos=whole.videos[::-1])
    assert sorted(ids(split_list(shuffled, 0.3, 7)[1])) == ids(val)
    assert ids(split_list(shuffled, 0.3, 7)[1]) == ids(val)[::-1], "parts keep the order of their list"
    assert ids(split_list(whole, 0.3, 8)[1]) != ids(val)
    assert ids(val) != sorted(ids(whole))[: len(ids(val))]


def test_a_video_of_several_classes_is_decided_by_its_rarest() -> None:
    # Class b has the videos 0 and 1, which are also two of the ten of class a: one of them, and four of the others.
    whole = listed((0, 1), (0, 1), *[(0,)] * 8)
    for seed in range(10):
        train, val = split_list(whole, 0.5, seed)
        assert val.counts() == (5, 1)
        assert train.counts() == (5, 1)
    # Each of these is the last video of some class.
    with pytest.raises(UsageError, match=r"a share of 0\.5 of the 3 videos of list\.txt is no video"):
        split_list(listed((0, 1), (0, 2), (0, 3)), 0.5, 0)


def test_a_file_of_two_names_stays_on_one_side(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number:03d}.mp4").touch()
    for number in range(10, 20):
        (tmp_path / f"{number:03d}.mp4").symlink_to(tmp_path / f"{number - 10:03d}.mp4")
    for seed in range(5):
        train, val = split_list(listed(*[(0,)] * 10, *[(1,)] * 10, folder=tmp_path), 0.3, seed)
        assert len(val.videos) == 6
        assert {v.path.resolve() for v in train.videos} & {v.path.resolve() for v in val.videos} == set()


def test_the_parts_say_what_they_are() -> None:
    train, val = split_list(single(5, 5), 0.2, 4)
    assert train.found == "8 videos of list.txt to train on (1 missing: gone.mp4)"
    assert val.found == "2 videos of list.txt held out (share 0.2, seed 4)"


def test_a_share_of_nothing_is_refused() -> None:
    for whole, share in ((single(1, 1), 0.5), (single(20), 0.01)):
        with pytest.raises(UsageError, match="is no video that could be held out; wanted one video or more"):
            split_list(whole, share, 0)


@pytest.mark.parametrize("names", [("no fight", "10"), ('say "hi", twice', "a;b"), ("#1", "çava")])
def test_a_saved_list_is_read_back_from_anywhere(
    names: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "my, videos"
    here.mkdir()
    files = ["000.mp4", 'a "b", c;.mkv', "2.mov"]
    for file in files:
        (here / file).touch()
    monkeypatch.chdir(here)
    videos = tuple(
        LabeledVideo(id=file, path=Path(file), labels=labels)
        for file, labels in zip(files, ((0,), (0, 1), (1,)), strict=True)
    )
    order = tuple(sorted(names))
    saved = list_csv(VideoList(videos=videos, class_names=order, missing=(), origin=Path("x")))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.csv").write_text(saved, encoding="utf-8")
    monkeypatch.chdir("/")
    again = read_video_list(tmp_path / "lists" / "val.csv")
    assert again.class_names == order
    assert [(video.path, video.labels) for video in again.videos] == [
        (here / file, video.labels) for file, video in zip(files, videos, strict=True)
    ]
    assert saved.splitlines()[0] == ("path,exact_label" if "," in names[0] else "path,label")


@pytest.mark.parametrize("name", ["two\nlines.mp4", "page\x0cbreak.mp4", "end.mp4 ", os.fsdecode(b"\xff.mp4")])
def test_what_no_line_can_hold_is_refused(name: str) -> None:
    whole = single(2)
    bad = replace(whole, videos=(replace(whole.videos[0], path=Path("/videos") / name), whole.videos[1]))
    with pytest.raises(UsageError, match="has a line break, or is no UTF-8; wanted paths and classes"):
        list_csv(bad)
    with pytest.raises(UsageError, match="'fight ' begins or ends with a space"):
        list_csv(replace(whole, class_names=("fight ",)))
