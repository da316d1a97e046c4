"""What happens to a run on a cluster when a machine leaves, or the process that started it is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.deadly import Slow, copies, deadly
from tests.machine import needs_signals

pytest.importorskip("ray")
from ray.cluster_utils import Cluster as Nodes

from tsq_cli.cluster.connection import ClusterSettings, connect
from tsq_cli.cluster.run import run

pytestmark = [needs_signals, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are many


def test_a_run_goes_on_with_fewer_workers_when_a_machine_leaves(tmp_path: Path) -> None:
    paths = copies(tmp_path, *(f"{number:02d}" for number in range(12)))
    prepare = partial(deadly, tmp_path / "log", Slow)
    plan, _ = prepare()
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        leaving = nodes.add_node(num_cpus=1)
        with connect(ClusterSettings(address=nodes.address, device="cpu")) as cluster:
            assert cluster.num_workers == 2
            found = []
            with closing(run(plan, prepare, paths, (), cluster)) as records:
                for record in records:
                    found.append(record["video"]["path"])
                    if len(found) == 2:
                        nodes.remove_node(leaving, allow_graceful=False)
    finally:
        nodes.shutdown()
    assert sorted(found) == paths  # each once


def command(jsonl: Path, folder: Path) -> list[str]:
    options = ["--runner", "ray", "--num-workers", "2", "--selector", "uniform", "-k", "2", "--jsonl", str(jsonl)]
    return [sys.executable, "-m", "tsq_cli", "select", str(folder), *options]


def test_a_run_whose_first_process_is_killed_is_completed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    paths = copies(tmp_path / "videos", *(f"{number:03d}" for number in range(60)))
    jsonl = tmp_path / "out.jsonl"
    driver = subprocess.Popen(command(jsonl, tmp_path / "videos"), stderr=subprocess.DEVNULL)
    while not (jsonl.exists() and jsonl.stat().st_size):
        assert driver.poll() is None
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    before = jsonl.read_bytes()
    before = before[: before.rfind(b"\n") + 1]
    assert 0 < before.count(b"\n") < len(paths)
    subprocess.run(command(jsonl, tmp_path / "videos"), check=True, stderr=subprocess.DEVNULL)
    after = jsonl.read_bytes()
    assert after.startswith(before)  # nothing on record was done again
    assert sorted(json.loads(line)["video"]["path"] for line in after.splitlines()) == paths
