"""Small packs and weights made on the spot: seeded random numbers in timm's own test networks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file

NETWORK = "test_efficientnet"  # 0.4 million parameters, features of 256
NAMES = ("cat", "dog", "tree")


def make_pack(folder: Path, *, names: Sequence[str] = NAMES) -> dict[str, Any]:
    """Write a pack with all its weights in its folder; return what its pack.json says, to be changed and rewritten."""
    folder.mkdir(parents=True)
    (folder / "names.txt").write_text("".join(f"{name}\n" for name in names))
    save_file(network_weights(NETWORK, num_classes=len(names)), folder / "encoder.safetensors")
    save_file({"object_embeddings": torch.eye(len(names), 8) + 0.1}, folder / "text.safetensors")
    preprocess = {
        "input_size": 64, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "crop_pct": 1.0
    }  # fmt: skip
    encoder = {
        "model": NETWORK,
        "num_classes": len(names),
        "weights": {"source": "file", **packed(folder / "encoder.safetensors")},
        "preprocess": preprocess,
    }
    layer = {"projections": False, "positional_embedding": False}
    document = {
        "schema_version": 1,
        "description": "a few classes, random weights",
        "classes": packed(folder / "names.txt"),
        "objects": packed(folder / "names.txt"),
        "roles": {
            "visual_encoder": encoder,
            "object_recognizer": "visual_encoder",
            "text_encoder": {"model": "tests/tiny-bert", "weights": {"source": "transformers"}},
            "recognizer": {
                "model": "test_resnet.r160_in1k", "weights": {"source": "timm"}, "preprocess": preprocess
            },
        },
        "object_embeddings": {"source": "file", **packed(folder / "text.safetensors")},
        "modules": {
            "visual": {"weights": {"source": "classifier"}, "layer": layer},
            "textual": {"weights": {"source": "object_embeddings"}, "layer": layer},
        },
        "settings": {
            "num_candidates": 4, "num_frames": 2, "lambda_v": 0.6, "top_n": 2, "visual_scale": 0.05,
            "textual_scale": 3.0, "text_logit_scale": 100.0, "query_scale": 20.0,
        },
        "provenance": {"data": "none", "command": "none", "commit": None, "metrics": {}},
    }  # fmt: skip
    write_json(folder, document)
    return document


def write_json(folder: Path, document: Any) -> None:
    (folder / "pack.json").write_text(json.dumps(document))


def packed(path: Path) -> dict[str, str]:
    """How pack.json names a file."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def network_weights(name: str, **options: Any) -> dict[str, torch.Tensor]:
    """A timm network's entries with seeded random numbers."""
    torch.manual_seed(0)
    return timm.create_model(name, **options).state_dict()


class RunsCode:
    """Pickled, it asks whoever unpickles it to make a file: the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return open, (str(self.canary), "w")
