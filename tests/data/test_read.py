"""Lists in every format, written out here, against what they say; files found and missed as placed on disk."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.packs.hub import REPOSITORY
from tsq_cli.data import LabeledVideo, VideoList, read_video_list
from tsq_cli.errors import InputNotFoundError, UsageError

FIGHTS = REPOSITORY.parent / "shared" / "fights"

Listed = Callable[..., Path]


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    """Makes a list file of the given text beside empty files of the given names."""

    def make(text: str, files: Sequence[str], name: str = "list.txt") -> Path:
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return make


def said(videos: VideoList) -> dict[str, list[str]]:
    """Class names by file name."""
    return {video.path.name: [videos.class_names[label] for label in video.labels] for video in videos.videos}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.mp4 run\nb.mkv jump\n", {"a.mp4": ["run"], "b.mkv": ["jump"]}),
        ("a.mp4\trun\nb.mkv\tjump", {"a.mp4": ["run"], "b.mkv": ["jump"]}),
        ("a.mp4,run\nb.mkv,jump", {"a.mp4": ["run"], "b.mkv": ["jump"]}),
        ("a.mp4;run\nb.mkv;jump", {"a.mp4": ["run"], "b.mkv": ["jump"]}),
        ("a.mp4|run\nb.mkv|jump", {"a.mp4": ["run"], "b.mkv": ["jump"]}),
        ("a.mp4, run\nb.mkv, jump", {"a.mp4": ["run"], "b.mkv": ["jump"]}),
        # names with spaces on either side
        ("my clip.MP4 riding a horse\nb.mkv run", {"my clip.MP4": ["riding a horse"], "b.mkv": ["run"]}),
        ("my clip.MP4,riding a horse\nb.mkv,run", {"my clip.MP4": ["riding a horse"], "b.mkv": ["run"]}),
        # several labels, in any order, and a video named twice
        ("a.mp4 run,eat\nb.mkv run", {"a.mp4": ["eat", "run"], "b.mkv": ["run"]}),
        ("a.mp4,run,eat\nb.mkv,run", {"a.mp4": ["eat", "run"], "b.mkv": ["run"]}),
        ("a.mp4\trun; eat\nb.mkv\trun", {"a.mp4": ["eat", "run"], "b.mkv": ["run"]}),
        ("a.mp4 run\nb.mkv run\na.mp4 eat", {"a.mp4": ["eat", "run"], "b.mkv": ["run"]}),
        # ids without an ending; numbers in order of size
        ("a 10\nb 9\n", {"a.mp4": ["10"], "b.mkv": ["9"]}),
        ("\ufeff# a list\n\na 10\r\nb 9\r\n", {"a.mp4": ["10"], "b.mkv": ["9"]}),
    ],
)
def test_plain_lists(listed: Listed, text: str, expected: dict[str, list[str]]) -> None:
    videos = read_video_list(listed(text, ["a.mp4", "b.mkv", "my clip.MP4"]))
    assert said(videos) == expected
    assert videos.missing == ()
    assert videos.multi_label == any(len(labels) > 1 for labels in expected.values())


def test_numbers_without_a_class_list_are_ordered_by_size(listed: Listed) -> None:
    videos = read_video_list(listed("a 10\nb 9", ["a.mp4", "b.mp4"]))
    assert videos.class_names == ("9", "10")
    assert [video.labels for video in videos.videos] == [(1,), (0,)]


@pytest.mark.parametrize("delimiter", ["\t", "\\t"])
def test_a_named_delimiter_lets_paths_and_labels_hold_the_others(listed: Listed, delimiter: str) -> None:
    path = listed("a clip\triding a horse", ["a clip.mp4"])
    assert said(read_video_list(path, delimiter=delimiter)) == {"a clip.mp4": ["riding a horse"]}


@pytest.mark.parametrize(
    ("text", "files", "classes"),
    [
        ("a.mp4 1\nb.mp4 0\n", ["a.mp4", "b.mp4"], "run\njump\n"),  # counted from zero
        ("a.mp4 2\nb.mp4 1\n", ["a.mp4", "b.mp4"], "1 run\n2 jump\n"),  # UCF101's classInd.txt
        ("a.mp4 jump\nb.mp4 run\n", ["a.mp4", "b.mp4"], "0,run\n1,jump\n"),
        ("a.mp4 jump\nb.mp4 0\n", ["a.mp4", "b.mp4"], "run\njump\nsing\n"),
    ],
)
def test_a_class_list_gives_names_and_order(listed: Listed, text: str, files: list[str], classes: str) -> None:
    path = listed(text, files)
    names = listed(classes, [], name="classes.txt")
    videos = read_video_list(path, classes=names)
    assert said(videos) == {"a.mp4": ["jump"], "b.mp4": ["run"]}
    assert videos.class_names[:2] == ("run", "jump")  # not alphabetical


def test_a_class_name_may_start_with_a_number(listed: Listed) -> None:
    names = listed("3 point shot\nrun\n", [], name="classes.txt")
    videos = read_video_list(
        listed("a.mp4\t1\nb.mp4\t3 point shot\nc.mp4\t0", ["a.mp4", "b.mp4", "c.mp4"]), classes=names
    )
    assert [video.labels for video in videos.videos] == [(1,), (0,), (0,)]
    assert videos.class_names == ("3 point shot", "run")


def test_a_label_that_the_class_list_lacks_is_named(listed: Listed) -> None:
    names = listed("run\njump\n", [], name="classes.txt")
    for label in ("sing", "2"):
        path = listed(f"a.mp4 {label}\n", ["a.mp4"])
        with pytest.raises(UsageError, match=rf"has the label '{label}'; wanted one of the 2 classes.*run, jump"):
            read_video_list(path, classes=names)


def test_a_table_is_read_by_its_header(listed: Listed) -> None:
    text = 'number,Label,filename\n1,run,a.mp4\n2,"eat|run","b, too.mp4"\n'
    videos = read_video_list(listed(text, ["a.mp4", "b, too.mp4"], name="table.csv"))
    assert said(videos) == {"a.mp4": ["run"], "b, too.mp4": ["eat", "run"]}
    tabs = listed("video\tclass\na\tride a horse\n", ["a.mp4"], name="table.tsv")
    assert said(read_video_list(tabs)) == {"a.mp4": ["ride a horse"]}


def test_a_table_of_several_splits_must_be_asked_for_one_and_all_agree_on_the_classes(listed: Listed) -> None:
    text = "path,label,split\na.mp4,run,train\nb.mp4,eat,train\nc.mp4,run,val\n"
    path = listed(text, ["a.mp4", "b.mp4", "c.mp4"])
    with pytest.raises(UsageError, match="has the subsets train, val; wanted one of them"):
        read_video_list(path)
    with pytest.raises(UsageError, match="has no subset 'test'; wanted one of train, val"):
        read_video_list(path, subset="test")
    train, val = (read_video_list(path, subset=subset) for subset in ("train", "val"))
    assert (said(train), said(val)) == ({"a.mp4": ["run"], "b.mp4": ["eat"]}, {"c.mp4": ["run"]})
    assert train.class_names == val.class_names == ("eat", "run")
    assert val.found == f"found 1 of 1 videos of {path}, subset val"


KINETICS = """label,youtube_id,time_start,time_end,split
"making tea, slowly",-AbC_1234567,10,20,train
abseiling,xyz,5.0,15.0,train
abseiling,gone,7,17,train
"""


def test_kinetics_files_are_named_by_id_and_times_or_by_id(listed: Listed, tmp_path: Path) -> None:
    files = ["train/tea/-AbC_1234567_000010_000020.mp4", "train/-AbC_1234567_000030_000040.mp4", "train/xyz.mkv"]
    videos = read_video_list(listed(KINETICS, files), root=tmp_path / "train")
    assert said(videos) == {
        "-AbC_1234567_000010_000020.mp4": ["making tea, slowly"],
        "xyz.mkv": ["abseiling"],
    }
    assert [video.id for video in videos.videos] == ["-AbC_1234567_000010_000020", "xyz_000005_000015"]
    assert videos.missing == ("gone_000007_000017",)
    assert not videos.multi_label


ACTIVITYNET = {
    "version": "VERSION 1.3",
    "taxonomy": [],
    "database": {
        "aaa": {
            "subset": "training",
            "duration": 82.7,
            "annotations": [
                {"label": "Longboarding", "segment": [0.0, 11.2]},
                {"label": "Archery", "segment": [12.0, 20.0]},
                {"label": "Longboarding", "segment": [40.0, 50.0]},
            ],
        },
        "bbb": {"subset": "validation", "annotations": [{"label": "Zumba, or dance", "segment": [0, 1]}]},
        "ccc": {"subset": "validation", "annotations": [{"label": "Archery", "segment": [0, 1]}]},
        "ddd": {"subset": "testing", "annotations": []},
    },
}


def test_activitynet_by_subset(listed: Listed) -> None:
    path = listed(json.dumps(ACTIVITYNET), ["videos/v_aaa.mp4", "videos/bbb.mkv"], name="activity_net.json")
    with pytest.raises(UsageError, match="has the subsets training, validation"):
        read_video_list(path)
    training = read_video_list(path, root=path.parent / "videos", subset="training")
    assert said(training) == {"v_aaa.mp4": ["Archery", "Longboarding"]}
    assert training.multi_label
    validation = read_video_list(path, root=path.parent / "videos", subset="validation")
    assert said(validation) == {"bbb.mkv": ["Zumba, or dance"]}
    assert validation.missing == ("ccc",)
    assert training.class_names == validation.class_names == ("Archery", "Longboarding", "Zumba, or dance")
    with pytest.raises(UsageError, match="no subset 'testing'; wanted one of training, validation"):
        read_video_list(path, subset="testing")
    names = listed("Zumba, or dance\nLongboarding\nArchery\n", [], name="classes.txt")
    ordered = read_video_list(path, root=path.parent / "videos", subset="training", classes=names)
    assert ordered.videos[0].labels == (1, 2)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for name in ("run/b.mp4", "run/a.avi", "eat/deep/c.webm", "eat/notes.txt", ".git/d.mp4", "eat/.e.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    videos = read_video_list(tmp_path)
    assert [video.id for video in videos.videos] == ["eat/deep/c.webm", "run/a.avi", "run/b.mp4"]
    assert videos.class_names == ("eat", "run")
    assert videos.targets().tolist() == [[True, False], [False, True], [False, True]]
    (tmp_path / "sing").mkdir()
    with pytest.raises(UsageError, match=r"class folder .*sing holds no video"):
        read_video_list(tmp_path)
    (tmp_path / "f.mp4").touch()
    with pytest.raises(UsageError, match=r"f\.mp4 is in no class folder"):
        read_video_list(tmp_path)
    with pytest.raises(UsageError, match="with lists only"):
        read_video_list(tmp_path, subset="train")


def test_class_folders_may_be_links_even_circular_ones(tmp_path: Path) -> None:
    (tmp_path / "disk" / "run").mkdir(parents=True)
    (tmp_path / "disk" / "run" / "a.mp4").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "run").symlink_to(tmp_path / "disk" / "run")
    (tmp_path / "disk" / "run" / "again").symlink_to(tmp_path / "disk" / "run")
    assert [video.id for video in read_video_list(tmp_path / "data").videos] == ["run/a.mp4"]


@pytest.mark.skipif(not FIGHTS.is_dir(), reason="the fights are not beside this checkout")
def test_the_fights_are_fifty_of_each() -> None:
    videos = read_video_list(FIGHTS)
    assert videos.found == f"found 100 of 100 videos of {FIGHTS}"
    assert videos.class_names == ("fight", "noFight")
    assert videos.targets().sum(axis=0).tolist() == [50, 50]


def test_missing_videos_are_counted_and_named_in_order(listed: Listed) -> None:
    lines = "".join(f"{name}.mp4 {'run' if name != 'v' else 'rare'}\n" for name in "zvbxa")
    path = listed(lines, ["b.mp4"])
    videos = read_video_list(path)
    assert videos.missing == ("z.mp4", "v.mp4", "x.mp4", "a.mp4")
    assert videos.found == f"found 1 of 5 videos of {path} (4 missing: z.mp4, v.mp4, x.mp4, ...)"
    assert videos.class_names == ("rare", "run")  # the same on a machine that has them all
    path.with_name("b.mp4").unlink()
    with pytest.raises(InputNotFoundError, match=r"none of the 5 videos of .* was found .*first is 'z\.mp4'"):
        read_video_list(path)


def test_paths_start_at_the_root_or_below_their_first_folders_and_never_elsewhere(listed: Listed) -> None:
    text = "/old/disk/fight/1.mp4 fight\nfight/2.mp4 fight\ncalm/3.mp4 calm\n"
    files = ["here/fight/1.mp4", "here/calm/1.mp4", "here/fight/2.mp4", "here/fight/3.mp4"]
    path = listed(text, files)
    videos = read_video_list(path, root=path.parent / "here")
    here = path.parent / "here"
    assert [video.path for video in videos.videos] == [here / "fight" / "1.mp4", here / "fight" / "2.mp4"]
    assert videos.missing == ("calm/3.mp4",)  # not the 3.mp4 of another folder


def test_a_path_without_its_ending_is_found_below_the_root(listed: Listed) -> None:
    path = listed("run/v_1 run\nv_2 run", ["run/v_1.avi", "deep/er/v_2.webm", "eat/v_1.avi"])
    assert said(read_video_list(path)) == {"v_1.avi": ["run"], "v_2.webm": ["run"]}
    assert read_video_list(path).videos[0].path == path.parent / "run" / "v_1.avi"


def test_paths_may_start_at_the_current_folder_where_no_root_is_named(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = listed("clips/a.mp4 run", ["clips/a.mp4", "lists/other.txt"])
    moved = path.rename(path.parent / "lists" / "list.txt")
    monkeypatch.chdir(path.parent)
    assert said(read_video_list(moved)) == {"a.mp4": ["run"]}
    with pytest.raises(InputNotFoundError, match="none of the 1 videos"):
        read_video_list(moved, root=path.parent / "lists")


def test_an_id_of_two_files_is_refused(listed: Listed) -> None:
    path = listed("a run", ["one/a.mp4", "two/a.mkv"])
    with pytest.raises(UsageError, match=r"a may be .*one/a\.mp4 or .*two/a\.mkv; wanted one file"):
        read_video_list(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no lines"),
        ("# only a comment\n", "has no lines"),
        ("a.mp4 run\nb.mp4\n", r"line 2 is 'b\.mp4'; wanted `path label`"),
        ("\n\na.mp4 run,,eat\n", "line 3 has an empty path or label"),
        ("a.mp4 run\nb.mp4,eat\n", "separates path and label by ' ' and ','"),
        ("a.mp4 120 3\nb.mp4 80 1\n", r"line 1 has several numbers after its path: '120 3'.*numbers of frames"),
        ("clip,gesture\na.mp4,run\nb.mp4,eat\n", "line 1 looks like a header: 'clip,gesture'; wanted .*video_id"),
        ("path,label\na.mp4\n", "line 2 has 1 fields; wanted 2"),
        ("path,label\na.mp4,\n", "line 2 has an empty path or label"),
        ("path,label\n", "names no video"),
        ('{"database": {}}', "names no video"),
        ("label,youtube_id,time_start,time_end\nrun,a,x,9\n", "line 2: .*'x'; wanted seconds in time_start"),
        ('{"videos": []}', r"does not fit \(KeyError: 'database'\); wanted ActivityNet's format"),
        ('{"database": ', r"does not fit \(JSONDecodeError"),
        ('[{"a": 1}]', "does not fit"),
        ('{"database": {"a": {"subset": "training"}}}', r"does not fit \(KeyError: 'annotations'"),
        (
            '{"database": {"a": {"subset": "x", "annotations": [{"label": "b"}]}, "c": {"subset": "x", '
            '"annotations": []}}}',
            "gives c no annotation",
        ),
    ],
)
def test_what_is_no_list_is_refused_by_line(listed: Listed, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_video_list(listed(text, ["a.mp4", "b.mp4"]))


def test_places_and_options_that_make_no_sense_are_refused(listed: Listed, tmp_path: Path) -> None:
    path = listed("a.mp4 run", ["a.mp4"])
    for arguments in ({"path": tmp_path / "no.txt"}, {"path": path, "root": tmp_path / "no"}):
        with pytest.raises(InputNotFoundError, match=r"no.* does not exist"):
            read_video_list(**arguments)
    with pytest.raises(UsageError, match="wanted one character"):
        read_video_list(path, delimiter="::")
    with pytest.raises(UsageError, match="has no subsets, and 'val' was asked for"):
        read_video_list(path, subset="val")
    with pytest.raises(UsageError, match="no column split or subset"):
        read_video_list(listed("path,label\na.mp4,run", []), subset="val")
    (tmp_path / "list.bin").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(UsageError, match=r"list\.bin cannot be read"):
        read_video_list(tmp_path / "list.bin")
    with pytest.raises(UsageError, match="holds 2 class names, 1 different"):
        read_video_list(path, classes=listed("run\nrun\n", [], name="classes.txt"))
    if os.geteuid() != 0:  # root reads everything
        path.chmod(0)
        with pytest.raises(UsageError, match="cannot be read"):
            read_video_list(path)


def video_list(class_names: tuple[str, ...], *labels: tuple[int, ...]) -> VideoList:
    videos = tuple(LabeledVideo(id=str(n), path=Path(f"{n}.mp4"), labels=some) for n, some in enumerate(labels))
    return VideoList(videos=videos, class_names=class_names, missing=(), origin=Path("list.txt"))


def test_targets_are_one_row_a_video() -> None:
    targets = video_list(("a", "b", "c"), (0, 2), (1,)).targets()
    assert targets.dtype == np.bool_
    assert targets.tolist() == [[True, False, True], [False, True, False]]


def test_aligning_follows_names_and_sorts() -> None:
    validation = video_list(("eat", "run", "sing"), (0, 1), (1,))
    aligned = validation.aligned(["run", "jump", "eat"])
    assert aligned.class_names == ("run", "jump", "eat")
    assert [video.labels for video in aligned.videos] == [(0, 2), (0,)]
    assert [video.labels for video in validation.videos] == [(0, 1), (1,)]
    with pytest.raises(UsageError, match=r"0 in list\.txt is of the class 'eat'; wanted one of the 1 known"):
        validation.aligned(["run"])


def test_values_are_checked_where_they_are_built() -> None:
    for labels in ((), (1, 0), (1, 1), (-1, 0)):
        with pytest.raises(ValueError, match="ascending indices"):
            LabeledVideo(id="a", path=Path("a.mp4"), labels=labels)
    with pytest.raises(ValueError, match="must be unique"):
        video_list(("a", "a"))
    with pytest.raises(ValueError, match="below the number of classes"):
        video_list(("a",), (1,))
