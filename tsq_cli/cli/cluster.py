"""The options of a run on many machines (`--runner ray`), and their checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tsq_cli.cli.options import INPUT, not_empty
from tsq_cli.cli.output import info
from tsq_cli.errors import UsageError
from tsq_cli.files import STDOUT
from tsq_cli.stores import is_url, local_path

if TYPE_CHECKING:
    from tsq_cli.batch import RunPlan, Worker
    from tsq_cli.cli.video_options import VideoOptions
    from tsq_cli.cluster.connection import Cluster
    from tsq_cli.cluster.run import Column

CLUSTER = "Many machines"

Runner = Literal["local", "ray"]

RunnerOption = Annotated[
    Runner,
    typer.Option(
        "--runner",
        help="local: in this process. ray: in workers on this machine or a cluster (extra tsq-cli[ray]); "
        "needs --jsonl FILE.",
        rich_help_panel=CLUSTER,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="local|auto|HOST[:PORT]",
        help="local: start Ray on this machine. auto: the cluster that this machine belongs to. HOST: its head.",
        show_default="local",
        parser=not_empty,
        rich_help_panel=CLUSTER,
    ),
]
NumWorkers = Annotated[
    int | None,
    typer.Option(
        "--num-workers",
        metavar="N",
        help="Workers, each with a model of its own.",
        show_default="as many as have room",
        rich_help_panel=CLUSTER,
    ),
]
CpusPerWorker = Annotated[
    int | None,
    typer.Option(
        "--cpus-per-worker",
        metavar="N",
        help="Cores for each worker.",
        show_default="1",
        rich_help_panel=CLUSTER,
    ),
]
GpusPerWorker = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker",
        metavar="X",
        help="GPUs for each worker; 0.5: two share one.",
        show_default="1 where there are GPUs",
        rich_help_panel=CLUSTER,
    ),
]
FilesColumn = Annotated[
    str | None,
    typer.Option(
        "--files-column",
        metavar="NAME",
        help="--files-from is a Parquet or CSV file, and this column has the paths. Read as the run goes.",
        parser=not_empty,
        rich_help_panel=INPUT,
    ),
]


def check_runner(options: VideoOptions) -> None:
    """Refuse options that the chosen runner has no use for.

    Raises:
        UsageError: there are such.
    """
    only_ray = {
        "--ray-address": options.ray_address,
        "--num-workers": options.num_workers,
        "--cpus-per-worker": options.cpus_per_worker,
        "--gpus-per-worker": options.gpus_per_worker,
        "--files-column": options.files_column,
    }
    if options.runner == "local":
        given = [name for name, value in only_ray.items() if value is not None]
        if given:
            raise UsageError(
                f"{given[0]} was given to a run in one process", wanted="it with --runner ray", fix="add that"
            )
        return
    whole = {"--json": options.json, "--csv": options.csv, "--html": options.html}
    given = [name for name, value in whole.items() if value]
    if given:
        raise UsageError(
            f"{given[0]} was given with --runner ray",
            wanted="an output that is written video by video",
            fix="drop it; --jsonl FILE has all records",
        )
    if options.jsonl in (None, STDOUT):
        raise UsageError(
            "--runner ray has no record file", wanted="one that a later run can read", fix="add --jsonl FILE"
        )
    if options.files_column is not None and (options.paths or options.files_from in (None, STDOUT) or options.null):
        raise UsageError(
            "--files-column was given with other names, or without a file",
            wanted="--files-from FILE beside it, and nothing else that names videos",
            fix="drop the others",
        )


@contextmanager
def on_cluster(options: VideoOptions) -> Iterator[tuple[VideoOptions, Cluster | None]]:
    """Connect to the cluster of a run while the block runs, if it wants one.

    Yields:
        The options, with the device of the workers in place of "auto", and the cluster; as they were, and None, for a
        run in this process.
    """
    if options.runner == "local":
        yield options, None
        return
    from tsq_cli.cluster.connection import ClusterSettings, connect

    settings = ClusterSettings(
        address=options.ray_address or "local",
        num_workers=options.num_workers,
        cpus_per_worker=options.cpus_per_worker or 1,
        gpus_per_worker=options.gpus_per_worker,
        device=options.device,
    )
    with connect(settings) as cluster:
        count, cores = cluster.num_workers, cluster.cpus
        info(
            f"ray: {count} worker{'s' * (count > 1)}, each with {cores} core{'s' * (cores > 1)}"
            + (f" and {cluster.gpus:g} GPU" if cluster.gpus else "")
        )
        yield replace(options, device=cluster.device), cluster


def column_length(options: VideoOptions) -> int:
    """Count the names in the column of --files-column."""
    from tsq_cli.cluster.run import count_names

    return count_names(_column(options))


def _column(options: VideoOptions) -> Column:
    from tsq_cli.cluster.run import Column

    assert options.files_from is not None  # check_runner has seen to it
    assert options.files_column is not None
    path = local_path(options.files_from)
    if is_url(path):
        raise UsageError(
            f"--files-from {path} is a URL, and --files-column was given",
            wanted="a Parquet or CSV file on this machine",
            fix="copy it here",
        )
    return Column(path=path, name=options.files_column)


def run_there(
    plan: RunPlan,
    prepare: Callable[[], tuple[RunPlan, Callable[[], Worker]]],
    before: Iterator[tuple[str, dict[str, Any]]],
    cluster: Cluster,
    options: VideoOptions,
) -> Generator[tuple[dict[str, Any], bool]]:
    """Run on a cluster; yield first the records that were there before, then the new ones as they come.

    Args:
        plan: of the run on this machine.
        prepare: makes it anew on a worker.
        before: path and record of videos that need no new run, of this list or others.
        cluster: what on_cluster gives.
        options: say where the names are.

    Yields:
        A record, and whether it was there before.
    """
    from tsq_cli.cluster.run import column_names, run

    wanted: Collection[str] | None = None if options.files_column is not None else frozenset(plan.paths)
    done: set[str] = set()  # names only: records of a million videos take more memory than a machine has
    for path, record in before:
        if wanted is None:  # only now: a run that begins anew does not read the list here
            wanted = {name for names in column_names(_column(options)) for name in names}
        if path in wanted:
            done.add(path)
            yield record, True
    if wanted is not None and len(done) == len(wanted):
        return
    names = plan.paths if options.files_column is None else _column(options)
    with closing(run(plan, prepare, names, done, cluster)) as records:
        for record in records:
            yield record, False
