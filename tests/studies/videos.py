"""Videos whose class is their color, lists of them, a pack with random weights that embeds names for real; graphs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.packs.making import make_pack, packed, write_json
from tsq_cli.files import atomic_path
from tsq_cli.packs import export, find_pack, verify
from tsq_cli.packs.graphs import TextGraph
from tsq_cli.packs.members import verify_member
from tsq_cli.packs.schema import EncoderRole, PackConfig
from tsq_cli.training import stages

COLORS = {
    "red car": (220, 30, 30), "green_tree": (30, 200, 40), "BlueSky": (40, 60, 230), "yellow sun": (230, 220, 40),
    "white snow": (240, 240, 240),
}  # fmt: skip


def write_study(folder: Path) -> None:
    """train.txt (10 videos of 5 classes), val.txt (5), their videos, and the pack `small` of three other classes."""
    (folder / "videos").mkdir(parents=True)
    for subset, copies in (("train", 2), ("val", 1)):
        lines = []
        for name, color in COLORS.items():
            for copy in range(copies):
                path = folder / "videos" / f"{subset}-{name.replace(' ', '_')}-{copy}.mkv"
                _write_video(path, color, seed=len(lines) + 100 * (subset == "val"))
                lines.append(f"{path.name}\t{name}")
        (folder / f"{subset}.txt").write_text("\n".join([*lines, ""]))
    document = make_pack(folder / "small")
    save_file(
        {"object_embeddings": torch.randn(3, 384, generator=torch.Generator().manual_seed(0))},
        folder / "small" / "text.safetensors",
    )
    document["object_embeddings"] = {"source": "file", **packed(folder / "small" / "text.safetensors")}
    lite = json.loads((find_pack("imagenet-lite").folder / "pack.json").read_text())
    document["roles"]["text_encoder"] = lite["roles"]["text_encoder"]
    write_json(folder / "small", document)


def _write_video(path: Path, color: tuple[int, int, int], *, seed: int) -> None:
    """Sixteen frames: every fourth shows the color, the others gray noise."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "bgr0"
        for number in range(16):
            gray = rng.integers(90, 160, (4, 4, 1)) * np.ones((1, 1, 3))
            blocks = np.full((4, 4, 3), color) if number % 4 == 1 else gray
            pixels = np.kron(blocks, np.ones((16, 16, 1))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))


@contextmanager
def parts_made_once(folder: Path) -> Iterator[None]:
    """What every run of a training makes alike is made by the first: graphs, comparisons of a text graph, curves.

    Tracing a network takes seconds and is tests/packs/test_graphs.py's matter. A graph holds no weights, so it is every
    pack's; each pack's is still written, and compared with torch on that pack's own weights. The text encoder is the
    same in all packs: its graph is compared once, and then looked at whether it is that one. Curves are drawn by
    tests/report/test_plots.py; here the second picture is a copy of the first.

    Args:
        folder: where graphs are kept, by what they are of; several processes may keep theirs there.
    """
    trace, compare, draw = export._exported, export.check_text_graph, stages.plot_curves
    compared: dict[TextGraph, float] = {}
    drawn: list[bytes] = []

    def exported(config: PackConfig, role: EncoderRole, size: int) -> bytes:
        kept = folder / f"{role.model}-{role.num_classes}-{size}.onnx"
        if not kept.exists():
            with atomic_path(kept) as path:
                path.write_bytes(trace(config, role, size))
        return kept.read_bytes()

    def check_text_graph(config: PackConfig, graph: TextGraph) -> float:
        verify_member(config.folder / graph.file, graph.sha256, inside=config.folder)
        if graph not in compared:
            compared[graph] = compare(config, graph)
        return compared[graph]

    def plot_curves(rows: Sequence[Mapping[str, float]], path: Path, *, title: str) -> None:
        if drawn:
            path.write_bytes(drawn[0])
        else:
            draw(rows, path, title=title)
            drawn.append(path.read_bytes())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export, "_exported", exported)
        patched.setattr(export, "check_text_graph", check_text_graph)
        patched.setattr(verify, "check_text_graph", check_text_graph)
        patched.setattr(stages, "plot_curves", plot_curves)
        yield
