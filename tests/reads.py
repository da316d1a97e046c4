"""Counting where a host waits for a device."""

from __future__ import annotations

import re
from typing import Any

from torch.overrides import TorchFunctionMode


class Reads(TorchFunctionMode):
    """Counts what a host waits for on a GPU."""

    names = re.compile(r"(cpu|numpy|item|tolist|nonzero|__(bool|int|float|index)__)$")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if self.names.fullmatch(name):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))
