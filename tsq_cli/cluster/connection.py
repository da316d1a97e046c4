"""A connection to a Ray cluster, and how many workers it has room for."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsq_cli.config import check_device
from tsq_cli.errors import UsageError, install_extra, one_line

_REACH_SECONDS = 10


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
        check_device(self.device)
        if ":" in self.device:
            raise UsageError(
                f"--device {self.device} was given with --runner ray",
                wanted="auto, cpu or cuda",
                fix="leave the choice of the GPU to Ray",
            )
        if self.device == "cuda" and self.gpus_per_worker == 0:
            raise UsageError(
                "--device cuda was given with --gpus-per-worker 0", wanted="a share of a GPU", fix="try 1 or 0.5"
            )
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
        with _without_reports():
            yield _shares(settings, _nodes())
    finally:
        if not joined_before:
            ray.shutdown()


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep Ray from reporting each worker that died while the block runs: it does so on stdout, between the records.

    No setting of Ray does this. A version that has no such function may print.
    """
    from ray._private import worker

    printer = getattr(worker, "print_to_stdstream", None)
    if printer is None:
        yield
        return
    worker.print_to_stdstream = lambda *args, **kwargs: None
    try:
        yield
    finally:
        worker.print_to_stdstream = printer


def _init(settings: ClusterSettings) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        if settings.address == "local":
            where: dict[str, Any] = {"address": "local", "include_dashboard": False, "object_store_memory": 256 * 2**20}
        else:
            where = {"address": _reached(settings.address)}
        with _silent():
            ray.init(**where, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, OverflowError) as error:
        raise UsageError(
            f"no Ray cluster answers at {settings.address} ({one_line(error)[:200]})",
            wanted="local, auto, HOST or HOST:PORT",
            fix="start one with ray start --head, or leave --ray-address out",
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_term)  # Ray's own handler would end the run without cleaning up


def _reached(address: str) -> str:
    """Complete an address by Ray's usual port, and see that something answers there: Ray itself would try for minutes.

    Raises:
        OSError: nothing does.
        ValueError, OverflowError: the port is no number, or too large a one.
    """
    if address == "auto":
        return address
    host, _, port = address.rpartition(":") if ":" in address else (address, "", "6379")
    with socket.create_connection((host, int(port)), timeout=_REACH_SECONDS):
        return f"{host}:{port}"


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


def _nodes() -> list[Mapping[str, float]]:
    """List what each node that is up has: "CPU", "GPU"."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _fit(nodes: Iterable[Mapping[str, float]], cpus: int, gpus: float) -> int:
    """Count the workers that fit: a worker lies on one node."""
    by_cores = ((int(node.get("CPU", 0) // cpus), node) for node in nodes)
    return sum(min(count, int(node.get("GPU", 0) / gpus + 1e-6)) if gpus else count for count, node in by_cores)


def _shares(settings: ClusterSettings, nodes: Iterable[Mapping[str, float]]) -> Cluster:
    """Divide the nodes into workers; a UsageError if they have no room for them."""
    nodes = list(nodes)
    has_gpus = any(node.get("GPU", 0) > 0 for node in nodes)
    uses_gpus = settings.device == "cuda" or (settings.device == "auto" and has_gpus)
    gpus = settings.gpus_per_worker if settings.gpus_per_worker is not None else float(uses_gpus)
    fit = _fit(nodes, settings.cpus_per_worker, gpus)
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
