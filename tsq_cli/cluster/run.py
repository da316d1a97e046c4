"""Videos on many machines (extra tsq-cli[ray]): Ray Data hands out names, workers return records.

The process that started the run receives the records and writes them. A call whose worker died comes again: at once, or
where its machine has left, when another worker has done all the rest and makes room.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import warnings
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsq_cli.batch import RunPlan
from tsq_cli.cluster.connection import Cluster
from tsq_cli.cluster.worker import Actor, Ledger, Prepare
from tsq_cli.errors import ClusterError, InputNotFoundError, UsageError, one_line
from tsq_cli.pictures import output_stems

if TYPE_CHECKING:
    import pyarrow as pa

LEAST_PER_CALL = 8
"""Videos of a call, at least (ours): a call costs 6 ms, and all of it is done again if its worker dies."""

_NAMES_PER_BLOCK = 10_000


@dataclass(frozen=True, kw_only=True)
class Column:
    """A list of videos too long for one machine's memory: a column of a Parquet or CSV file, or of a folder of them."""

    path: str
    name: str


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
    import ray.data  # sets up the logging that is set here

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised
    warnings.filterwarnings("ignore", category=UserWarning, module=r"ray\.")  # of short lists
    if isinstance(names, Column):
        open_column(names)  # what is wrong with it is found here, not on a worker
    ledger = ray.remote(num_cpus=0, scheduling_strategy=_here())(Ledger).remote()
    calls = _calls(plan, names, done, cluster)
    try:
        yield from _records(calls, (prepare, plan.settings_hash, str(Path.cwd()), ledger), cluster)
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"Ray ended the run ({one_line(error)[-300:]})",
            wanted="a cluster that stays up",
            fix="run the same command again: what is on record is not redone",
        ) from error


def _here() -> Any:
    """Build what keeps an actor on this machine."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _calls(plan: RunPlan, names: Sequence[str] | Column, done: Collection[str], cluster: Cluster) -> Any:
    """Build the dataset of calls: a row has the names of a few videos."""
    import ray
    from ray.data import DataContext, TaskPoolStrategy

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block per row, which is a call: its records come as soon as it ends
    per_call = _per_call(plan, names, cluster)
    free = {"compute": TaskPoolStrategy(size=1), "num_cpus": 0, "batch_format": "pyarrow"}  # workers may have all cores
    if isinstance(names, Column):
        skipped = ray.put(frozenset(map(os.fsencode, done)))
        source = ray.data.from_items([{"file": str(Path(names.path).absolute())}])
        return source.map_batches(_column_calls, batch_size=None, fn_args=(names.name, skipped, per_call), **free)
    source = _given(names, done, has_pictures=plan.outputs.has_pictures)
    return source.map_batches(lambda names: _call_row(*names.to_pydict().values()), batch_size=per_call, **free)


def _records(calls: Any, actor_arguments: tuple[Any, ...], cluster: Cluster) -> Iterator[dict[str, Any]]:
    """Run the calls on the workers; yield the records, or raise the error with which a worker ended the run."""
    from ray.data import ActorPoolStrategy

    records = calls.map_batches(
        Actor,
        batch_size=None,
        batch_format="pyarrow",
        fn_constructor_args=actor_arguments,
        compute=ActorPoolStrategy(size=cluster.num_workers),
        num_cpus=cluster.cpus,
        num_gpus=cluster.gpus,
    )
    for batch in records.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in batch.to_pylist():
            if row["stopped"]:
                raise pickle.loads(row["stopped"])
            yield from map(json.loads, row["records"])


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
    """Open a column of names, of a Parquet or CSV file or of a folder of Parquet files, as a dataset of pyarrow.

    Raises:
        InputNotFoundError: the file cannot be read.
        UsageError: it has no such column, or one of other things than names.
    """
    import pyarrow as pa
    from pyarrow import csv, dataset

    kind: Any = "parquet"
    if Path(column.path).suffix.lower() == ".csv":
        as_text = csv.ConvertOptions(column_types={column.name: pa.string()})  # names may look like numbers
        kind = dataset.CsvFileFormat(convert_options=as_text)
    with _reading(column):
        data = dataset.dataset(column.path, format=kind)
    if column.name not in data.schema.names:
        raise UsageError(
            f"{column.path} has no column {column.name}",
            wanted="one of " + ", ".join(data.schema.names[:20]),
            fix="give its name to --files-column",
        )
    found = data.schema.field(column.name).type
    if not any(test(found) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        raise UsageError(
            f"the column {column.name} of {column.path} is of {found}", wanted="names", fix="give another column"
        )
    return data


def column_names(column: Column) -> Iterator[list[str]]:
    """Read the names of a column bit by bit, "" for none.

    Raises:
        InputNotFoundError, UsageError: as open_column.
    """
    data = open_column(column)
    with _reading(column):
        for batch in data.to_batches(columns=[column.name]):
            yield [os.fsdecode(name or "") for name in batch.column(0).to_pylist()]


def count_names(column: Column) -> int:
    """Count the rows of a column.

    Raises:
        InputNotFoundError, UsageError: as open_column.
    """
    data = open_column(column)
    with _reading(column):
        return int(data.count_rows())


@contextmanager
def _reading(column: Column) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # of which pyarrow's are
        raise InputNotFoundError(
            f"the list {column.path} cannot be read ({one_line(error)[:200]})",
            wanted="a Parquet or CSV file, or a folder of Parquet files",
            fix="check the path given to --files-from",
        ) from error


def _column_calls(files: pa.Table, column: str, skipped: Any, per_call: int) -> Iterator[pa.Table]:
    """Read a column bit by bit, and yield the calls of the names, each once, but those that `skipped` refers to."""
    import ray

    seen = set(ray.get(skipped))
    for path in files.column("file").to_pylist():
        waiting: list[bytes] = []
        for names in column_names(Column(path=path, name=column)):
            new = [name for name in dict.fromkeys(map(os.fsencode, names)) if name not in seen]
            seen.update(new)
            waiting += new
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
