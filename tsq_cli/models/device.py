"""Devices and precisions of networks, and copies to a GPU. torch is loaded by the functions that need it."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, cast, get_args

from tsq_cli.config import check_device
from tsq_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

Precision = Literal["float32", "bfloat16", "float16"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def resolve_device(device: str) -> str:
    """Resolve "auto" to a device, and refuse a device that this machine lacks.

    Args:
        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:<index>".

    Raises:
        UsageError: an unknown device, or CUDA where torch sees none.
    """
    check_device(device)
    if device == "cpu" or (device == "auto" and not has_nvidia_driver()):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    index = device.partition(":")[2]
    count = torch.cuda.device_count()
    if count <= int(index or 0):
        raise UsageError(
            f"device is {device!r} and torch sees {count} CUDA devices",
            wanted="a device of this machine",
            fix="use --device cpu, or check the driver with nvidia-smi",
        )
    return device


@functools.cache
def keep_freed_memory() -> None:
    """Let this process keep 256 MiB of freed memory, where its C library is glibc; do nothing elsewhere.

    A network on a CPU allocates and frees the same buffers over and over. By default glibc returns them in between, and
    the system maps and clears them anew: 32,500 pages for every video that is classified with a ResNet-50 (ours).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most it may be; larger buffers are mapped anew each time
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def has_nvidia_driver() -> bool:
    """Whether the CUDA driver is installed and finds a GPU; without loading torch, which takes a second (ours)."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(name)
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def resolve_precision(dtype: str, device: str) -> Precision:
    """Resolve the name of a precision; "auto" is float16 on CUDA and float32 on every CPU.

    On a CPU bfloat16 has to be asked for (ours): other frames may be chosen. What it saves depends on the processor:
    on a Xeon with AVX512-BF16 and no AMX EfficientNet-Lite0 takes as long as in float32, ResNet-50 1.5 times as long.

    Raises:
        UsageError: an unknown dtype.
    """
    if dtype == "auto":
        return "float16" if device.startswith("cuda") else "float32"
    if dtype not in get_args(Precision):
        raise UsageError(f"dtype is {dtype!r}", wanted="auto, float32, bfloat16 or float16", fix="try --dtype auto")
    return cast(Precision, dtype)


def resolve_dtype(dtype: str, device: str) -> torch.dtype:
    """Resolve the name of a precision to torch's type, see resolve_precision."""
    import torch

    named: torch.dtype = getattr(torch, resolve_precision(dtype, device))
    return named


def dtype_name(dtype: object) -> str:
    """Name a type of torch or numpy as users and records do: "float32", "bfloat16", "float16"."""
    return str(dtype).removeprefix("torch.")


def is_slow(precision: Precision, device: str) -> bool:
    """Tell whether a precision may be many times slower than float32: a half one on a CPU without instructions for it.

    Without them torch computes in another type and converts: 23 times as long for EfficientNet-Lite0 on
    an AMD EPYC with AVX2, in float16 and bfloat16 alike (ours).
    """
    if device != "cpu" or precision == "float32":
        return False
    import torch

    return not (precision == "bfloat16" and torch.cpu._is_avx512_bf16_supported())


@contextmanager
def convolutions_by_trial(device: str | torch.device) -> Iterator[None]:
    """Let cuDNN time its algorithms for each new shape of a convolution and keep the fastest; on a CPU nothing changes.

    For shapes that come again: a trial takes many times as long as the convolution.
    """
    import torch

    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or torch.device(device).type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def upload(pixels: torch.Tensor, device: str | torch.device) -> Callable[[], torch.Tensor]:
    """Start copying pixels to a GPU on a stream of its own, while the GPU computes; on a CPU nothing is copied.

    Returns:
        A function that returns the copy, of the same shape and dtype; the current stream waits for it, not the host.
    """
    import torch

    if torch.device(device).type != "cuda":
        return lambda: pixels
    with torch.cuda.stream(_copy_stream(device)):
        copy = to_device(pixels, device)
        copied = torch.cuda.current_stream(copy.device).record_event()

    def take() -> torch.Tensor:
        current = torch.cuda.current_stream(copy.device)
        current.wait_event(copied)
        copy.record_stream(current)  # or its memory could be given to the next copy while it is read
        return copy

    return take


@functools.cache
def _copy_stream(device: str | torch.device) -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def to_device(pixels: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Copy a tensor, whatever its shape and dtype, to a device; to a GPU through pinned memory, without waiting."""
    import torch

    if torch.device(device).type == "cuda" and pixels.device.type == "cpu":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)
