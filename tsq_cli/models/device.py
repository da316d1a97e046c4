"""Devices and precisions of networks, sizes of batches, and copies to a GPU."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tsq_cli.config import check_device
from tsq_cli.errors import UsageError

# On a CPU a few frames at a time stay in the cache: 16 frames of 160 x 160 through EfficientNet-Lite0 take 1.15 times
# as long all at once as in eights, and 1.2 times as long in fours. Fewer of larger frames fit; a deep network such as
# ResNet-101, whose weights outweigh its activations, is fastest with twice as many.
CPU_PIXELS_AT_ONCE = 8 * 162 * 162  # four frames of 224 x 224, eight of 160 x 160

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def resolve_device(device: str) -> str:
    """Resolve "auto" to a device, and refuse a device that this machine lacks.

    Args:
        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:<index>".

    Raises:
        UsageError: an unknown device, or CUDA where torch sees none.
    """
    check_device(device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
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


def resolve_dtype(dtype: str, device: str) -> torch.dtype:
    """Resolve a precision's name to torch's type; "auto" is float16 on CUDA and float32 on every CPU.

    bfloat16 is faster on a CPU with instructions for it (AVX512-BF16), but other frames may be chosen, so results would
    depend on the processor: it has to be asked for (ours).

    Raises:
        UsageError: an unknown dtype.
    """
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    names["auto"] = torch.float16 if device.startswith("cuda") else torch.float32
    if dtype not in names:
        raise UsageError(f"dtype is {dtype!r}", wanted="auto, float32, bfloat16 or float16", fix="try --dtype auto")
    return names[dtype]


def dtype_name(dtype: torch.dtype) -> str:
    """Name a precision as users and records do: "float32", "bfloat16", "float16"."""
    return str(dtype).removeprefix("torch.")


def is_slow(dtype: torch.dtype, device: str) -> bool:
    """Tell whether a precision may be many times slower than float32: a half one on a CPU without instructions for it.

    Without them torch computes in another type and converts: 23 times as long for EfficientNet-Lite0 on
    an AMD EPYC with AVX2, in float16 and bfloat16 alike (ours).
    """
    if device != "cpu" or dtype == torch.float32:
        return False
    return not (dtype == torch.bfloat16 and torch.cpu._is_avx512_bf16_supported())


def cpu_microbatches(images: torch.Tensor, *, multiplier: int = 1) -> tuple[torch.Tensor, ...]:
    """Split images [N, 3, H, W] into microbatches: one batch on a GPU, small ones on a CPU, where they are faster.

    Args:
        images: N at least 1.
        multiplier: pixels of a microbatch on a CPU, as a multiple of what is best for a light network.

    Returns:
        Equal parts, give or take one image.
    """
    if images.device.type != "cpu":
        return (images,)
    most = max(1, multiplier * CPU_PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
    return torch.tensor_split(images, -(-len(images) // most))


@contextmanager
def convolutions_by_trial(device: str | torch.device) -> Iterator[None]:
    """Let cuDNN time its algorithms for each new shape of a convolution and keep the fastest; on a CPU nothing changes.

    For shapes that come again: a trial takes many times as long as the convolution.
    """
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
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def to_device(pixels: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """Copy a tensor, whatever its shape and dtype, to a device; to a GPU through pinned memory, without waiting."""
    if torch.device(device).type == "cuda" and pixels.device.type == "cpu":
        return pixels.pin_memory().to(device, non_blocking=True)
    return pixels.to(device)
