"""A run on a cluster beside the plain run: ``python -m benchmarks.scale --folder EMPTY --json FILE``.

Needs the extra ray, and a POSIX system. The clips are copies of the demo. Measured are the overhead against `-j 2`, in
turns in one process; 200 clips on two nodes of this machine while one worker is killed twice; the same list again; and
the memory of the process that starts a run, over 10,000 names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tsq_cli.batch import RunPlan, Worker
from tsq_cli.batch import run as run_here
from tsq_cli.benchmark.measure import exit_code
from tsq_cli.cluster.connection import Cluster, ClusterSettings, connect
from tsq_cli.cluster.run import run
from tsq_cli.config import SelectSettings
from tsq_cli.files import write_json
from tsq_cli.packs import find_pack
from tsq_cli.pictures import Outputs
from tsq_cli.pipeline import Selector
from tsq_cli.provenance import provenance
from tsq_cli.record_file import RecordFile

DEMO = Path(__file__).parents[1] / "examples" / "demo.mp4"
SETTINGS = SelectSettings()
PACK = "imagenet-lite"


def load() -> Worker:
    """Load the default pack's sampler."""
    return Selector.load(PACK, device="cpu", dtype="float32")


def prepare() -> tuple[RunPlan, Any]:
    """Plan a run of `tsq select` with its defaults."""
    plan = RunPlan(
        paths=(), settings=SETTINGS, outputs=Outputs(), pack_sha256=find_pack(PACK).sha256, dtype="float32", workers=1
    )
    return plan, load


def made_clips(folder: Path, count: int) -> list[str]:
    """Copy the demo `count` times."""
    folder.mkdir(parents=True, exist_ok=True)
    return [str(shutil.copy(DEMO, folder / f"{number:04d}.mp4")) for number in range(count)]


def paced(records: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], float, float]:
    """Take all records; return them, the seconds until the first, and the seconds per video from then on."""
    began, found, times = time.perf_counter(), [], []
    for record in records:
        found.append(record)
        times.append(time.perf_counter())
    later = [moment for moment in times if moment > times[0] + 0.05]  # the records of a call come together
    return found, times[0] - began, (times[-1] - times[0]) / len(later)


def overhead(paths: Sequence[str], rounds: int, cluster: Cluster) -> dict[str, Any]:
    """Time the plain run with `-j 2` and two workers in turns."""
    rows: dict[str, list[dict[str, float]]] = {"plain": [], "ray": []}
    for _ in range(rounds):
        plan, _load = prepare()
        here = RunPlan(**{**vars(plan), "paths": paths, "workers": 2})
        for name, records in (("plain", run_here(here, load)), ("ray", run(plan, prepare, paths, (), cluster))):
            _, start, each = paced(records)
            rows[name].append({"start_seconds": start, "seconds_per_video": each})
            print(f"{name}: first record after {start:.1f} s, then {1000 * each:.0f} ms per video", file=sys.stderr)
    medians = {name: statistics.median(row["seconds_per_video"] for row in found) for name, found in rows.items()}
    return {"clips": len(paths), "rounds": rows, "overhead": medians["ray"] / medians["plain"] - 1}


def kill_twice(progress: list[int], killed: list[int], when: Sequence[int]) -> None:
    """Kill a worker with SIGKILL each time when so many records have come."""
    for threshold in when:
        while progress[0] < threshold:
            time.sleep(0.02)
        pid = next(iter(workers()), None)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)


def workers() -> Iterator[int]:
    """List the processes of this user's workers that process a call now."""
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and (folder / "cmdline").read_bytes().startswith(
                b"ray::MapWorker(MapBatches(Actor"
            ):
                yield int(folder.name)
        except OSError:  # it has ended
            continue


def faults(paths: Sequence[str], jsonl: Path, cluster: Cluster) -> dict[str, Any]:
    """Run with two kills, compare with the plain run, and run again."""
    plan, _load = prepare()
    progress, appended = [0], 0
    killed: list[int] = []
    killer = threading.Thread(
        target=kill_twice, args=(progress, killed, (len(paths) // 4, len(paths) // 2)), daemon=True
    )
    killer.start()
    with RecordFile(jsonl) as file:
        with closing(run(plan, prepare, paths, (), cluster)) as records:
            for record in records:
                file.append(record)
                appended += 1
                progress[0] = appended
        file.finish()
    with RecordFile(jsonl) as file:
        found = dict(file.finished(plan.settings_hash))
        again = [*run(plan, prepare, paths, {*found}, cluster)]
    plain = plain_records(paths, jsonl.with_name("plain.jsonl"))
    return {
        "clips": len(paths),
        "kills": len(killed),
        "records": appended,
        "distinct": len(found),
        "equal": sum(plain[path] == {**found[path], "timings_seconds": None} for path in found),
        "again": len(again),
    }


def plain_records(paths: Sequence[str], jsonl: Path) -> dict[str, dict[str, Any]]:
    """Run `tsq select` without a cluster; return the records by path, without timings."""
    # One thread, as in a worker of one core: scores differ in their last bits with the number of threads.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tsq_cli", "select", *paths, "-q", "-j", "2", "--jsonl", str(jsonl)]
    subprocess.run(command, env=environment, check=True)
    records = map(json.loads, jsonl.read_text().splitlines())
    return {record["video"]["path"]: {**record, "timings_seconds": None} for record in records}


def memory(count: int, folder: Path, cluster: Cluster) -> dict[str, Any]:
    """Record names of files that do not exist; give the process' memory after a tenth of them and at the end."""
    plan, _load = prepare()
    names = [str(folder / f"no such video {number}.mp4") for number in range(count)]
    tenth = began = 0.0
    with RecordFile(folder / "memory.jsonl") as file:
        for number, record in enumerate(run(plan, prepare, names, (), cluster)):
            file.append(record)
            if number == count // 10:
                tenth, began = resident(), time.perf_counter()
    each = (time.perf_counter() - began) / (count * 0.9)
    return {"names": count, "mib_after_a_tenth": tenth, "mib_at_the_end": resident(), "seconds_per_video": each}


def resident() -> float:
    """Read the memory of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for clips; filled and left")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--names", type=int, default=10_000)
    arguments = parser.parse_args()
    paths = made_clips(arguments.folder / "clips", arguments.clips)
    report: dict[str, Any] = {}
    with connect(ClusterSettings(num_workers=2, device="cpu")) as cluster:
        report["overhead"] = overhead(paths, arguments.rounds, cluster)
        report["memory"] = memory(arguments.names, arguments.folder, cluster)
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        with connect(ClusterSettings(address=nodes.address, num_workers=2, device="cpu")) as cluster:
            report["faults"] = faults(paths, arguments.folder / "records.jsonl", cluster)
    finally:
        nodes.shutdown()
    import torch  # here: the memory above is that of a run, which needs no torch

    report["load_average"] = list(os.getloadavg())
    report["provenance"] = provenance(device="cpu", dtype=torch.float32, seeds={}, engine="onnx")
    write_json(arguments.json, report)


if __name__ == "__main__":
    sys.exit(exit_code(main))
