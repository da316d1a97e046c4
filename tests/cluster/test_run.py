"""Runs on a cluster of this machine: the same records, and every video one, whatever dies."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.deadly import DEMO, SETTINGS, Deadly, copies, deadly
from tests.machine import needs_signals
from tsq_cli.batch import RunPlan, Worker
from tsq_cli.batch import run as run_batch
from tsq_cli.errors import ClusterError, InputNotFoundError, UsageError, WeightsError
from tsq_cli.pictures import Outputs

pytest.importorskip("ray")
from tsq_cli.cluster import connection, worker
from tsq_cli.cluster.connection import Cluster, ClusterSettings, connect
from tsq_cli.cluster.run import Column, column_names, count_names, run

pytestmark = [needs_signals, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are many


def without_weights() -> tuple[RunPlan, Callable[[], Worker]]:
    def load() -> Worker:
        raise WeightsError("no weights here", wanted="weights", fix="bring some")

    return RunPlan(paths=(), settings=SETTINGS, outputs=Outputs(), pack_sha256=None), load


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with connect(ClusterSettings(num_workers=2, device="cpu")) as found:
        yield found


def test_every_video_has_one_record_whatever_kills_its_worker(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = copies(tmp_path, "a", "b", "killed-once", "c", "poison", "d", "e")
    (tmp_path / "empty.mp4").touch()
    paths += [str(tmp_path / "empty.mp4"), str(tmp_path / "missing.mp4"), os.fsdecode(bytes(tmp_path) + b"/\xff.mp4")]
    shutil.copy(DEMO, paths[-1])
    log = tmp_path / "log"
    prepare = partial(deadly, log)
    plan, _ = prepare()
    found = list(run(plan, prepare, paths, {paths[0]}, cluster))
    assert capfd.readouterr().out == ""  # Ray's reports of deaths would stand between the records there
    records = {record["video"]["path"]: record for record in found}
    assert len(found) == len(records)
    assert sorted(records) == sorted(paths[1:])
    errors = {Path(path).name: r["error"]["type"] for path, r in records.items() if r["status"] == "error"}
    assert errors == {
        "poison.mp4": "DecoderCrashError", "empty.mp4": "NotAVideoError", "missing.mp4": "InputNotFoundError"
    }  # fmt: skip
    assert "a.mp4" not in log.read_text(errors="surrogateescape").split()  # done before
    assert log.read_text(errors="surrogateescape").count("poison") == worker.MOST_DEATHS  # it was by itself each time

    harmless = [path for path in paths[1:] if "poison" not in path]
    for there in run_batch(replace(plan, paths=harmless), partial(Deadly, log)):
        here = records[there["video"]["path"]]
        assert {**here, "timings_seconds": 0} == {**there, "timings_seconds": 0}


def test_a_column_is_read_as_the_run_goes_and_pictures_do_not_collide(cluster: Cluster, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    paths = [path for name in ("one", "two") for path in copies(tmp_path / name, "same")]
    parquet.write_table(pa.table({"id": [1, 2, 3, 4], "where": [*paths, None, paths[0]]}), tmp_path / "list.parquet")
    prepare = partial(deadly, tmp_path / "log")
    plan, _ = prepare()
    outputs = Outputs(frames_dir=tmp_path / "frames")
    column = Column(path=str(tmp_path / "list.parquet"), name="where")
    drawing = partial(_with_outputs, prepare, outputs)
    records = list(run(replace(plan, outputs=outputs), drawing, column, (), cluster))
    found = {record["video"]["path"]: record for record in records}
    assert sorted(record["video"]["path"] for record in records) == sorted(["", *paths])  # each once
    assert found[""]["error"]["type"] == "InputNotFoundError"
    pictures = [frame["path"] for path in paths for frame in found[path]["frames"]]
    assert len({*pictures}) == 4
    assert all(Path(picture).is_file() for picture in pictures)
    left = list(run(plan, prepare, column, {*paths}, cluster))
    assert [record["video"]["path"] for record in left] == [""]


def _with_outputs(
    prepare: Callable[[], tuple[RunPlan, Callable[[], Worker]]], outputs: Outputs
) -> tuple[RunPlan, Callable[[], Worker]]:
    plan, load = prepare()
    return replace(plan, outputs=outputs), load


def test_what_ends_a_run_is_one_error_of_its_own_kind(cluster: Cluster, tmp_path: Path) -> None:
    paths = copies(tmp_path, "a")
    plan, _ = without_weights()
    with pytest.raises(WeightsError, match="no weights here; wanted weights; bring some"):
        list(run(plan, without_weights, paths, (), cluster))
    other = replace(plan, settings=replace(SETTINGS, num_frames=1))
    with pytest.raises(UsageError, match="a worker would compute with other settings"):
        list(run(other, without_weights, paths, (), cluster))
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    with pytest.raises(UsageError, match="has no column nonesuch; wanted one of path"):
        list(run(plan, without_weights, Column(path=str(tmp_path / "list.csv"), name="nonesuch"), (), cluster))


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        (ClusterSettings(), [{"CPU": 8.0}], Cluster(device="cpu", num_workers=8, cpus=1, gpus=0)),
        (ClusterSettings(cpus_per_worker=3), [{"CPU": 8.0}], Cluster(device="cpu", num_workers=2, cpus=3, gpus=0)),
        # A worker lies on one node: three with two cores each do not fit on two nodes with three.
        (ClusterSettings(cpus_per_worker=2), [{"CPU": 3.0}] * 2, Cluster(device="cpu", num_workers=2, cpus=2, gpus=0)),
        (ClusterSettings(), [{"CPU": 8.0, "GPU": 2.0}], Cluster(device="cuda", num_workers=2, cpus=1, gpus=1)),
        (
            ClusterSettings(gpus_per_worker=0.5, cpus_per_worker=2),
            [{"CPU": 32.0, "GPU": 1.0}, {"CPU": 32.0, "GPU": 1.0}, {"CPU": 8.0}],
            Cluster(device="cuda", num_workers=4, cpus=2, gpus=0.5),
        ),
        (
            ClusterSettings(device="cpu"),
            [{"CPU": 2.0, "GPU": 2.0}],
            Cluster(device="cpu", num_workers=2, cpus=1, gpus=0),
        ),
    ],
)
def test_a_cluster_is_divided_into_workers(
    settings: ClusterSettings, nodes: list[dict[str, float]], expected: Cluster
) -> None:
    assert connection._shares(settings, nodes) == expected


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "gpu0"}, "device is 'gpu0'"),
        ({"device": "cuda:1"}, "leave the choice of the GPU to Ray"),
        ({"device": "cuda", "gpus_per_worker": 0.0}, "--gpus-per-worker 0; wanted a share"),
    ],
)
def test_devices_that_workers_cannot_have_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ClusterSettings(**settings)


@pytest.mark.parametrize("settings", [ClusterSettings(num_workers=3), ClusterSettings(device="cuda")])
def test_a_cluster_without_room_is_refused(settings: ClusterSettings) -> None:
    with pytest.raises(UsageError, match=r"what the cluster has room for: [02]"):
        connection._shares(settings, [{"CPU": 2.0}])


@pytest.mark.parametrize("address", ["127.0.0.1:9", "no-such-host.invalid", "127.0.0.1:port", "127.0.0.1:99999"])
def test_an_address_where_no_cluster_answers_is_refused_at_once(address: str) -> None:
    with pytest.raises(UsageError, match=f"no Ray cluster answers at {address} "):
        connection._init(ClusterSettings(address=address))


@pytest.mark.parametrize(
    ("content", "column", "error", "said"),
    [
        ("id,path\n1,a.mp4\n", "id", None, ""),  # a CSV file has texts only
        ("path\n" + "a.mp4\n" * 200_001 + "b.mp4,c,d\n", "path", InputNotFoundError, "cannot be read .*Expected 1 col"),
        (None, "id", UsageError, "the column id of .* is of int64; wanted names"),
    ],
)
def test_a_list_that_has_no_names_is_refused_before_anything_starts(
    tmp_path: Path, content: str | None, column: str, error: type[Exception] | None, said: str
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / ("list.parquet" if content is None else "list.csv")
    if content is None:
        parquet.write_table(pa.table({"id": [1, 2]}), path)
    else:
        path.write_text(content)
    if error is None:
        assert [name for names in column_names(Column(path=str(path), name=column)) for name in names] == ["1"]
        return
    with pytest.raises(error, match=said):
        count_names(Column(path=str(path), name=column))


def test_workers_that_die_while_they_load_end_the_run_and_no_video_is_blamed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ray.get", lambda reference: reference)
    actor = worker.Actor(without_weights, without_weights()[0].settings_hash, str(tmp_path), None)
    with pytest.raises(ClusterError, match="6 workers died while they loaded the model"):
        list(actor._run_carefully(["a.mp4"], {}, {None: 6}))


def test_the_ledger_counts_only_deaths_of_a_video_by_itself() -> None:
    ledger, call = worker.Ledger(), ["a", "b"]
    assert ledger.begin(call) is None
    assert ledger.begin(call) == {None: 1}  # died with both
    ledger.alone(call, "a")
    ledger.alone(call, "b")
    assert ledger.begin(call) == {None: 1, "b": 1}
    assert ledger.begin(call) == {None: 2, "b": 1}  # died before any was tried
    ledger.end(call)
    assert ledger.begin(call) is None


def test_errors_survive_the_way_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(ClusterError("got", wanted="wanted", fix="fix")))
    assert (type(error), str(error), error.fix) == (ClusterError, "got; wanted wanted; fix", "fix")
