"""Several processes that train one network (torchrun, or accelerate launch), and what each of them sees.

Started with `torchrun --nproc-per-node 4 -m tsq_cli train ...`, each process finds its number in the environment.
Started plainly, there is one process, and everything here is a no-op.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

# The first process decodes videos and validates alone, the others wait for it: longer than torch's ten minutes.
_PATIENCE = timedelta(days=1)


def rank() -> int:
    """Number of this process, 0 for the first or only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_processes() -> int:
    """How many processes train together, 1 or more."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and talks."""
    return rank() == 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if dist.is_initialized():
        dist.barrier()


@contextmanager
def joined_processes(device: str) -> Iterator[str]:
    """Join the processes that a launcher started, if any, for the length of the block.

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
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def rank_zero_first() -> Iterator[None]:
    """Loop body for one process after the other: the first does the work, the others find it done."""
    for number in range(num_processes()):
        if number == rank():
            yield
        wait_for_all()


def batches_per_epoch(num_items: int, batch_size: int) -> int:
    """How many batches `shuffled_batches` gives."""
    share = -(-num_items // num_processes())
    return -(-share // _batch_share(batch_size))


def shuffled_batches(num_items: int, batch_size: int, *, seed: int, epoch: int) -> Iterator[Tensor]:
    """This process' part of one epoch over numbered items, in an order drawn from (seed, epoch).

    All processes get as many items, a few of them twice where the items do not divide among them.

    Args:
        num_items: N, at least 1.
        batch_size: of a step over all processes together, at least 1.
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
    """One seed out of two numbers."""
    return (seed * 1_000_003 + epoch) % 2**63


def _batch_share(batch_size: int) -> int:
    return max(1, batch_size // num_processes())
