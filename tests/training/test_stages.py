"""Stages of a training run: which are done, and that a folder belongs to one set of inputs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tsq_cli.data import LabeledVideo, VideoList
from tsq_cli.errors import UsageError
from tsq_cli.training.fit import CHECKPOINT
from tsq_cli.training.settings import settings_from
from tsq_cli.training.stages import INPUTS, TrainingRun
from tsq_cli.types import no_progress


def run_in(out: Path, *, stages: str = "heads", names: tuple[str, ...] = ("a.mp4", "b.mp4")) -> TrainingRun:
    """A run of a list of videos, which no stage here opens."""
    videos = VideoList(
        origin=Path("list"),
        class_names=("cat", "dog"),
        videos=tuple(LabeledVideo(id=name, path=Path(name), labels=(i % 2,)) for i, name in enumerate(names)),
        missing=(),
    )
    given: Any = {"settings": settings_from({}, {"train_list": "list", "stages": stages}, origin="a test"), "out": out}
    return TrainingRun(
        **given,
        cache=cast(Any, None),
        device="cpu",
        workers=1,
        progress=no_progress,
        train=videos,
        val=None,
        base=cast(Any, SimpleNamespace()),
        report={"stages": {}},
    )


def test_a_stage_is_done_where_it_is_asked_for_or_was_begun(tmp_path: Path) -> None:
    run = run_in(tmp_path, stages="heads")
    assert [stage for stage in ("encoder", "heads", "recognizer") if run.does(stage)] == ["heads"]
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / CHECKPOINT).touch()
    assert [stage for stage in ("encoder", "heads", "recognizer") if run.does(stage)] == ["encoder", "heads"]


def test_a_stage_reports_the_epoch_that_its_log_marks(tmp_path: Path) -> None:
    rows = [{"epoch": float(epoch), "train.loss": 0.5, "val.map": 0.1 * epoch, "kept": 0.0} for epoch in (1, 2, 3)]
    rows[1]["kept"] = 1.0
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "log.json").write_text(json.dumps(rows))
    run = run_in(tmp_path)
    with run.stage("heads", {}):
        pass
    done = run.report["stages"]["heads"]
    assert (done["kept_epoch"], done["last_epoch"]) == (rows[1], rows[2])


def test_a_stages_folder_belongs_to_its_inputs(tmp_path: Path) -> None:
    log = json.dumps([{"epoch": 1.0, "train.loss": 0.5}, {"epoch": 2.0, "train.loss": 0.25}])
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "log.json").write_text(log)
    for _ in range(2):  # the second resumes
        run = run_in(tmp_path)
        with run.stage("heads", {"pack": "p"}) as folder:
            assert folder == tmp_path / "heads"
        assert run.report["stages"]["heads"]["last_epoch"] == {"epoch": 2.0, "train.loss": 0.25}
        assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    before = (folder / INPUTS).read_text()
    with pytest.raises(UsageError, match="other pack"), run_in(tmp_path).stage("heads", {"pack": "q"}):
        pass
    with (
        pytest.raises(UsageError, match="other videos"),
        run_in(tmp_path, names=("a.mp4",)).stage("heads", {"pack": "p"}),
    ):
        pass
    assert (folder / INPUTS).read_text() == before
