"""Videos on many machines (extra tsq-cli[ray]): Ray Data hands out names, workers return records.

A worker is one actor with its own model. It runs the same `batch.run` as a run on one machine, over a few videos per
call; the process that started the run receives the records and writes them. A call whose worker died comes again.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import logging
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsq_cli.batch import RunPlan, Worker, failed
from tsq_cli.batch import run as run_batch
from tsq_cli.errors import ClusterError, InputNotFoundError, TsqError, UsageError, install_extra, one_line
from tsq_cli.journal import Death
from tsq_cli.loading import crash, find_killers
from tsq_cli.pictures import hashed_stem, output_stems

if TYPE_CHECKING:
    import pyarrow as pa

LEAST_PER_CALL = 8
"""Videos of a call, at least (ours): a call costs 6 ms, and all of it is done again if its worker dies."""

MOST_DEATHS = 2
"""Workers that may die while they process a video by itself before it counts as the cause (ours)."""

_NAMES_PER_BLOCK = 10_000

Prepare = Callable[[], tuple[RunPlan, Callable[[], Worker]]]
"""Prepares the run anew on a worker: its plan, without videos, and the function that loads the model."""


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The machines of a run, and what each worker gets of them.

    Attributes:
        address: "local" starts Ray on this machine; "auto" finds the cluster that this machine belongs to; else its
            host, or host:port.
        num_workers: None for as many as the cluster has room for.
        cpus_per_worker: cores for each, at least 1.
        gpus_per_worker: GPUs for each, a fraction if some share one; None for 1 where networks run on a GPU, else 0.
        device: of the networks: "auto" is a GPU where the cluster has one.
    """

    address: str = "local"
    num_workers: int | None = None
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value in (("--num-workers", self.num_workers), ("--cpus-per-worker", self.cpus_per_worker)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", wanted="1 or more", fix="leave it at the default")
        if self.gpus_per_worker is not None and self.gpus_per_worker < 0:
            raise UsageError(f"--gpus-per-worker is {self.gpus_per_worker}", wanted="0 or more", fix="try 1 or 0.5")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A cluster that the process is connected to.

    Attributes:
        device: of the networks on each worker: "cpu" or "cuda".
        num_workers: at least 1.
        cpus, gpus: of each worker.
    """

    device: str
    num_workers: int
    cpus: int
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Column:
    """A list of videos too long for one machine's memory: a column of a Parquet or CSV file, or of a folder of them."""

    path: str
    name: str


@contextmanager
def connect(settings: ClusterSettings) -> Iterator[Cluster]:
    """Start Ray, or join a cluster, while the block runs; a process that is connected already stays so.

    Raises:
        UsageError: Ray is not installed or not reachable, or the cluster has no room for a worker.
    """
    if any(importlib.util.find_spec(package) is None for package in ("ray", "pyarrow")):
        raise UsageError("the package ray is not installed", wanted="Ray Data", fix=install_extra("ray"))
    # Before the import: no reports of usage to Ray's makers, and no advice on stderr that is none of the user's.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    joined_before = ray.is_initialized()
    try:
        if not joined_before:
            _init(settings)
        yield _shares(settings, ray.cluster_resources())
    finally:
        if not joined_before:
            ray.shutdown()


def _init(settings: ClusterSettings) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        if settings.address == "local":
            where: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": 256 * 2**20}
        else:
            host = settings.address
            where = {"address": host if host == "auto" or ":" in host else f"{host}:6379"}
        with _silent():
            ray.init(**where, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(
            f"no Ray cluster answers at {settings.address} ({one_line(error)[:200]})",
            wanted="local, auto, HOST or HOST:PORT",
            fix="start one with ray start --head, or leave --ray-address out",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray's own handler would end the run without cleaning up


@contextmanager
def _silent() -> Iterator[None]:
    """Send what C++ code prints to stderr nowhere while the block runs: Ray tells there how it logs."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _shares(settings: ClusterSettings, resources: Mapping[str, float]) -> Cluster:
    """Divide the cluster into workers; a UsageError if it has no room for them."""
    has_gpus = resources.get("GPU", 0) > 0
    uses_gpus = settings.device.startswith("cuda") or (settings.device == "auto" and has_gpus)
    gpus = settings.gpus_per_worker if settings.gpus_per_worker is not None else float(uses_gpus)
    fit = int(resources.get("CPU", 0) // settings.cpus_per_worker)
    if gpus:
        fit = min(fit, int(resources.get("GPU", 0) / gpus + 1e-6))
    wanted = settings.num_workers or max(1, fit)
    if wanted > fit:
        raise UsageError(
            f"{wanted} workers were asked for, each with {settings.cpus_per_worker} cores and {gpus:g} GPUs",
            wanted=f"what the cluster has room for: {fit}",
            fix="take --num-workers, --cpus-per-worker or --gpus-per-worker down",
        )
    return Cluster(
        device="cuda" if uses_gpus and gpus else "cpu", num_workers=wanted, cpus=settings.cpus_per_worker, gpus=gpus
    )


def run(
    plan: RunPlan, prepare: Prepare, names: Sequence[str] | Column, done: Collection[str], cluster: Cluster
) -> Generator[dict[str, Any]]:
    """Process videos on a cluster: yield one record (a dictionary, docs/schema.json) for each, as they come.

    Args:
        plan: of the run on this machine; `paths` and `done` are not read.
        prepare: makes the same plan on a worker; pickled.
        names: videos.
        done: names to leave out.
        cluster: what `connect` gives.

    Raises:
        TsqError: the run cannot go on: no weights on a worker, another version of tsq there, no such column.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block per row, which is a call: its records come as soon as it ends
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised
    warnings.filterwarnings("ignore", category=UserWarning, module=r"ray\.")  # of short lists
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    ledger = ray.remote(num_cpus=0, scheduling_strategy=here)(_Ledger).remote()
    per_call = _per_call(plan, names, cluster)
    free = {"compute": TaskPoolStrategy(size=1), "num_cpus": 0, "batch_format": "pyarrow"}  # workers may have all cores
    if isinstance(names, Column):
        open_column(names)  # what is wrong with it is found here, not on a worker
        skipped = ray.put(frozenset(map(os.fsencode, done)))
        source = ray.data.from_items([{"file": str(Path(names.path).absolute())}])
        calls = source.map_batches(_column_calls, batch_size=None, fn_args=(names.name, skipped, per_call), **free)
    else:
        source = _given(names, done, has_pictures=plan.outputs.has_pictures)
        calls = source.map_batches(lambda names: _call_row(*names.to_pydict().values()), batch_size=per_call, **free)
    records = calls.map_batches(
        _Actor,
        batch_size=None,
        batch_format="pyarrow",
        fn_constructor_args=(prepare, plan.settings_hash, str(Path.cwd()), ledger),
        compute=ActorPoolStrategy(size=cluster.num_workers),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
    )
    try:
        for batch in records.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in batch.to_pylist():
                if row["stopped"]:
                    raise pickle.loads(row["stopped"])
                yield from map(json.loads, row["records"])
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"Ray ended the run ({one_line(error)[-300:]})",
            wanted="a cluster that stays up",
            fix="run the same command again: what is on record is not redone",
        ) from error


def _per_call(plan: RunPlan, names: Sequence[str] | Column, cluster: Cluster) -> int:
    """Choose how many videos a call has: enough to decode ahead, and few where a short list must go round."""
    most = max(LEAST_PER_CALL, 4 * plan.batch_size, 4 * plan.workers)
    return most if isinstance(names, Column) else max(1, min(most, len(names) // (4 * cluster.num_workers)))


def _given(names: Sequence[str], done: Collection[str], *, has_pictures: bool) -> Any:
    """Build the dataset of the names that are not done: as bytes, since file names need not be text."""
    import ray.data

    # A run writes the same pictures, however its list is cut into calls.
    stems = output_stems(names) if has_pictures else {}
    rows = [{"path": os.fsencode(name), "stem": os.fsencode(stems.get(name, ""))} for name in names if name not in done]
    return ray.data.from_items(rows, override_num_blocks=1 + len(rows) // _NAMES_PER_BLOCK)


def open_column(column: Column) -> Any:
    """Open a column of a Parquet or CSV file, or of a folder of Parquet files, as a dataset of pyarrow.

    Raises:
        InputNotFoundError: the file cannot be read.
        UsageError: it has no such column.
    """
    from pyarrow import dataset

    kind = "csv" if Path(column.path).suffix.lower() == ".csv" else "parquet"
    try:
        data = dataset.dataset(column.path, format=kind)
    except (OSError, ValueError) as error:  # of which pyarrow's are
        raise InputNotFoundError(
            f"the list {column.path} cannot be read ({one_line(error)[:200]})",
            wanted="a Parquet or CSV file, or a folder of Parquet files",
            fix="check the path given to --files-from",
        ) from error
    if column.name not in data.schema.names:
        raise UsageError(
            f"{column.path} has no column {column.name}",
            wanted="one of " + ", ".join(data.schema.names[:20]),
            fix="give its name to --files-column",
        )
    return data


def _column_calls(files: pa.Table, column: str, skipped: Any, per_call: int) -> Iterator[pa.Table]:
    """Read a column bit by bit, and yield the calls of the names that are not done; `skipped` refers to those."""
    import ray

    skip = ray.get(skipped)
    for path in files.column("file").to_pylist():
        waiting: list[bytes] = []
        for batch in open_column(Column(path=path, name=column)).to_batches(columns=[column]):
            named = (os.fsencode(name or "") for name in batch.column(0).to_pylist())
            waiting += [name for name in named if name not in skip]
            whole = len(waiting) - len(waiting) % per_call
            for first in range(0, whole, per_call):
                yield _call_row(waiting[first : first + per_call], [])
            del waiting[:whole]
        if waiting:
            yield _call_row(waiting, [])


def _call_row(paths: Sequence[bytes], stems: Sequence[bytes]) -> pa.Table:
    """Put names into one row, which is a call; no stems leave them to the worker."""
    import pyarrow as pa

    row = {"paths": [paths], "stems": [stems]}
    return pa.table(row, schema=pa.schema([(name, pa.list_(pa.binary())) for name in row]))


class _Actor:
    """A worker: loads its model when the first call comes that needs it, and keeps it."""

    def __init__(self, prepare: Prepare, settings_hash: str, folder: str, ledger: Any) -> None:
        with contextlib.suppress(OSError):  # a machine without it finds only absolute paths, and says so for each video
            os.chdir(folder)
        self._prepare, self._settings_hash, self._ledger = prepare, settings_hash, ledger
        self._worker: Worker | None = None

    @functools.cached_property
    def _prepared(self) -> tuple[RunPlan, Callable[[], Worker]]:
        plan, load = self._prepare()
        if plan.settings_hash != self._settings_hash:
            raise UsageError(
                "a worker would compute with other settings than the machine that started the run",
                wanted="the same version of tsq, packs and weights on all machines",
                fix="install the same version on each, and compare what tsq packs list says",
            )
        return plan, load

    def __call__(self, calls: pa.Table) -> dict[str, list[Any]]:
        """Process calls: lines of JSON for each, or the error that ends the run, pickled, since Ray would wrap it."""
        try:
            lines = [self._call(call["paths"], call["stems"]) for call in calls.to_pylist()]
        except TsqError as error:
            return {"records": [[]], "stopped": [pickle.dumps(error)]}
        return {"records": lines, "stopped": [b""] * len(lines)}

    def _call(self, names: Sequence[bytes], starts: Sequence[bytes]) -> list[str]:
        """Process the videos of a call; return their records as JSON."""
        import ray

        paths = [os.fsdecode(name) for name in names]
        # Not zip's strict: the names of a column come without.
        stems = {path: os.fsdecode(s) for path, s in zip(paths, starts, strict=False)}
        stems = {path: stems.get(path) or hashed_stem(path) for path in paths}
        deaths = ray.get(self._ledger.begin.remote(paths))
        records = self._run(paths, stems) if deaths is None else self._run_carefully(paths, stems, deaths)
        lines = [json.dumps(record) for record in records]
        ray.get(self._ledger.end.remote(paths))
        return lines

    def _run(self, paths: Sequence[str], stems: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        return run_batch(replace(self._prepared[0], paths=paths, stems=stems), self._model)

    def _run_carefully(
        self, paths: Sequence[str], stems: Mapping[str, str], deaths: Mapping[str, int]
    ) -> Iterator[dict[str, Any]]:
        """Process a call's videos one by one after a worker died of it, but not those that kill what reads them."""
        import ray

        killers = find_killers(Death(tuple(paths), None), self._prepared[0].limits)
        for path in paths:
            if path not in killers and deaths.get(path, 0) < MOST_DEATHS:
                ray.get(self._ledger.alone.remote(paths, path))
                yield from self._run([path], stems)
            else:
                error = killers.get(path) or crash(path, f"{deaths[path]} workers died of it")
                yield failed(path, error, self._prepared[0]).to_dict()

    def _model(self) -> Worker:
        if self._worker is None:
            self._worker = self._prepared[1]()
        return self._worker


class _Ledger:
    """What workers have begun and not ended: the journal of a run on many machines, which outlives each worker."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, ...], tuple[str | None, dict[str, int]]] = {}

    def begin(self, paths: Sequence[str]) -> dict[str, int] | None:
        """Note a call. If it was begun before and not ended, return how many workers died with which video alone."""
        only = paths[0] if len(paths) == 1 else None
        before = self._calls.get(tuple(paths))
        if before is None:
            self._calls[tuple(paths)] = only, {}
            return None
        alone, deaths = before
        if alone is not None:
            deaths[alone] = deaths.get(alone, 0) + 1
        self._calls[tuple(paths)] = None, deaths
        return deaths

    def alone(self, paths: Sequence[str], path: str) -> None:
        """Note the one video of a call that is processed now."""
        self._calls[tuple(paths)] = path, self._calls[tuple(paths)][1]

    def end(self, paths: Sequence[str]) -> None:
        """Forget a call."""
        del self._calls[tuple(paths)]
