"""Origin of measured numbers: precision, device, machine, versions, seeds and lists, the same form in every report."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsq_cli import __version__
from tsq_cli.arrays import Engine

if TYPE_CHECKING:
    import torch

    from tsq_cli.data import VideoList

LIBRARIES = ("torch", "torchvision", "timm", "onnxruntime", "numpy", "av")
"""Libraries whose version can change a number of a report."""


def provenance(
    *,
    device: torch.device | str,
    dtype: torch.dtype,
    seeds: Mapping[str, int | Sequence[int]],
    lists: Iterable[VideoList] = (),
    engine: Engine = "torch",
) -> dict[str, Any]:
    """Describe what a report's numbers come from.

    Args:
        device, dtype: of the networks.
        seeds: of all random draws, by what was drawn.
        lists: the labeled videos that were read.
        engine: what ran the networks.

    Returns:
        JSON-ready, without names of hosts and without absolute paths: dtype ("float32"), engine, device ("cpu",
        "cuda:0"), machine (see machine), versions (see versions), seeds, and lists (see list_identity).
    """
    from tsq_cli.models.device import dtype_name

    return {
        "dtype": dtype_name(dtype),
        "engine": engine,
        "device": str(device),
        "machine": machine(device),
        "versions": versions(LIBRARIES),
        "seeds": {name: seed if isinstance(seed, int) else list(seed) for name, seed in seeds.items()},
        "lists": [list_identity(videos) for videos in lists],
    }


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Describe the machine: platform, cpu, cores (for this process), threads of torch, gpu and cuda (None on a CPU).

    Args:
        device: of the networks.
    """
    import torch

    on_gpu = torch.device(device).type == "cuda"
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": num_cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "cuda": torch.version.cuda if on_gpu else None,
    }


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Return the versions of tsq, Python and some packages, by name; None for what is not installed."""
    found: dict[str, str | None] = {"tsq": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def list_identity(videos: VideoList) -> dict[str, Any]:
    """Identify the videos of a list, or of a part of it.

    Returns:
        JSON-ready: name (of the file or folder: its path as given, or its last part if that is absolute), subset (None
        for all), sha256 of the file (None for a folder), ids_sha256 (of the ids of the videos found, each with a
        newline, in the list's order), num_videos found, num_missing, and num_classes of the videos found.
    """
    origin = videos.origin
    ids = "".join(f"{video.id}\n" for video in videos.videos)
    return {
        "name": origin.name if origin.is_absolute() else origin.as_posix(),
        "subset": videos.subset,
        "sha256": hashlib.sha256(origin.read_bytes()).hexdigest() if origin.is_file() else None,
        "ids_sha256": hashlib.sha256(ids.encode(errors="surrogateescape")).hexdigest(),
        "num_videos": len(videos.videos),
        "num_missing": len(videos.missing),
        "num_classes": len({label for video in videos.videos for label in video.labels}),
    }


def machine_and_versions(found: Mapping[str, Any]) -> tuple[str, str]:
    """Say what numbers were measured on, and with which versions.

    Args:
        found: as provenance gives it.
    """
    where = found["machine"]["gpu"] or f"{found['machine']['cpu']}, {found['machine']['cores']} cores"
    return where, ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)


def measured_in(found: Mapping[str, Any]) -> str:
    """Say in what precision, on what and with which versions numbers were measured, as a sentence without its period.

    Args:
        found: as provenance gives it.
    """
    where, libraries = machine_and_versions(found)
    return f"Measured in {found['dtype']} on {where}, with {libraries}"


def num_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Name the processor, by Linux's list of them where there is one."""
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"
