"""Training one network in several processes (torchrun or accelerate launch), and each process' part of the data.

Started by `torchrun --nproc-per-node 4 -m tsq_cli train ...`, each process finds its rank in the environment. Started
directly, there is one process, and everything here is a no-op.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

# Rank 0 decodes videos and validates alone while the others wait: longer than torch's default of ten minutes.
_TIMEOUT = timedelta(days=1)


def rank() -> int:
    """Rank of this process, 0 for the first or only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_processes() -> int:
    """Number of processes that train together, 1 or more."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and reports progress."""
    return rank() == 0


def wait_for_all() -> None:
    """Block until every process has called this."""
    if dist.is_initialized():
        dist.barrier()


def from_main_process(metrics: dict[str, float]) -> dict[str, float]:
    """Return what the main process passes, in every process; all must call this."""
    if not dist.is_initialized():
        return metrics
    shared = [metrics]
    dist.broadcast_object_list(shared, src=0)
    return shared[0]


@contextmanager
def joined_processes(device: str) -> Iterator[str]:
    """Join the process group that a launcher started, if any, for the duration of the block.

    Args:
        device: "cpu", or "cuda" for one GPU each.

    Yields:
        The device of this process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield device
        return
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_TIMEOUT)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank_zero_first() -> Iterator[None]:
    """Run the body of a for loop in one process after the other: rank 0 does the work, the others find it done."""
    for number in range(num_processes()):
        if number == rank():
            yield
        wait_for_all()


def batches_per_epoch(num_items: int, batch_size: int) -> int:
    """Number of batches that `shuffled_batches` yields."""
    share = -(-num_items // num_processes())
    return -(-share // _batch_share(batch_size))


def shuffled_batches(num_items: int, batch_size: int, *, seed: int, epoch: int) -> Iterator[Tensor]:
    """Yield this process' part of one epoch over numbered items, in an order drawn from (seed, epoch).

    All processes get equally many items; if N is not a multiple of their number, a few items come twice.

    Args:
        num_items: N, at least 1.
        batch_size: of a step, over all processes together, at least 1.
        seed: of the run.
        epoch: counted from 0.

    Yields:
        int64 indices below N, at most batch_size / processes of them.
    """
    order = torch.randperm(num_items, generator=torch.Generator().manual_seed(epoch_seed(seed, epoch)))
    share = -(-num_items // num_processes())
    repeated = order.repeat(-(-share * num_processes() // num_items))[: share * num_processes()]
    yield from torch.split(repeated[rank() :: num_processes()], _batch_share(batch_size))


def epoch_seed(seed: int, epoch: int) -> int:
    """Combine the seed of a run and an epoch into one seed."""
    return (seed * 1_000_003 + epoch) % 2**63


def _batch_share(batch_size: int) -> int:
    return max(1, batch_size // num_processes())
