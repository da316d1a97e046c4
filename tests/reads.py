"""Counting where a host waits for a device."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch.overrides import TorchFunctionMode

from tsq_cli.models import Preprocessor


class Reads(TorchFunctionMode):
    """Counts what a host waits for on a GPU; on a CPU too frames are prepared as there."""

    names = re.compile(r"(cpu|numpy|item|tolist|nonzero|__(bool|int|float|index)__)$")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> Reads:
        self._patch.setattr(Preprocessor, "_seen", Preprocessor._on_gpu)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patch.undo()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if self.names.fullmatch(name):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))
