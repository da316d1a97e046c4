"""The paper's own speeds (S, Table 2; docs/method.md), which `tsq benchmark` prints beside this machine's."""

from __future__ import annotations

from typing import Any

TABLE_2: dict[str, Any] = {
    "source": "S, Table 2",
    "machine": "its own machine: RTX 3090, Xeon E5-2650 v3",
    "data": "mAP on ActivityNet, trained networks",
    "batch_size": 32,
    "rows": [
        {"name": "AdaFocus", "map": 75.0, "giga_macs": 26.6, "videos_per_second": 5.5, "batch_videos_per_second": 73.8},
        {
            "name": "FrameExit", "map": 76.1, "giga_macs": 26.1, "videos_per_second": 9.8,
            "batch_videos_per_second": None,
        },
        {
            "name": "TSQNet", "map": 76.5, "giga_macs": 26.1, "videos_per_second": 17.7,
            "batch_videos_per_second": 121.1,
        },
    ],
}  # fmt: skip
"""Speeds that the supplementary reports; None where a method takes one video at a time. Its GFLOPs count a multiply-add
once."""
