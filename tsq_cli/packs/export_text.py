"""Making the graph by which ONNX Runtime embeds texts, and checking it against torch."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tsq_cli.errors import WeightsError
from tsq_cli.files import atomic_path
from tsq_cli.models.onnx import EMBEDDINGS, TOKENS
from tsq_cli.packs.graphs import TextGraph, find_text_graph, read_graphs
from tsq_cli.packs.members import verify_member
from tsq_cli.packs.operators import check_distance, export_operators
from tsq_cli.packs.registry import list_packs
from tsq_cli.packs.schema import PackConfig, PipWeights
from tsq_cli.packs.texts import load_onnx_text_encoder, load_text_encoder

TOLERANCE = 1e-5
"""How far a number of an embedding of unit length may be from torch's (ours)."""

_FILE = "text_encoder.onnx"
_SAMPLES = ("train", "a dog that catches a ball in the snow", "Zürich, 1998: naïve café", "long " * 300)


def add_text_graph(config: PackConfig) -> TextGraph | None:
    """Make the graph of a pack's text encoder, or copy that of an installed pack with the same encoder.

    Returns:
        The graph, beside pack.json; None where its weights come from the hub. check_text_graph compares it with torch.

    Raises:
        WeightsError: weights that are missing or damaged.
        OutputError: the folder cannot be written.
    """
    role = config.roles.text_encoder
    if not isinstance(role.weights, PipWeights):
        return None
    for other in list_packs()[0]:
        graph = find_text_graph(read_graphs(other), role)
        if graph is not None and other.roles.text_encoder == role and other.folder != config.folder:
            content = verify_member(other.folder / graph.file, graph.sha256, inside=other.folder).read_bytes()
            max_tokens = graph.max_tokens
            break
    else:
        content, max_tokens = _exported(config)
    with atomic_path(config.folder / _FILE) as path:
        path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return TextGraph(
        model=role.model, weights_sha256=role.weights.sha256, max_tokens=max_tokens, file=_FILE, sha256=digest
    )


def check_text_graph(config: PackConfig, graph: TextGraph) -> float:
    """Compare the graph of a pack's text encoder with torch on a few texts.

    Returns:
        The largest difference of any number of the embeddings.

    Raises:
        WeightsError: it is more than TOLERANCE, texts of another length are taken, or either cannot be loaded.
    """
    given, wanted = load_onnx_text_encoder(config, graph), load_text_encoder(config.roles.text_encoder)
    if given.max_tokens != wanted.max_tokens:
        raise WeightsError(
            f"{config.folder / graph.file} is listed with {given.max_tokens} tokens",
            wanted=f"{wanted.max_tokens}, the most that its encoder takes",
            fix="make it again with `tsq packs export`",
        )
    apart = max(float(np.abs(given.embed([text]) - wanted.embed([text]).numpy()).max()) for text in _SAMPLES)
    return check_distance(config.folder / graph.file, "embeddings with numbers", apart, TOLERANCE)


def _exported(config: PackConfig) -> tuple[bytes, int]:
    """Export a text encoder without its weights: the content of an .onnx file, and the most tokens it takes."""
    import torch

    encoder = load_text_encoder(config.roles.text_encoder)
    network: Any = encoder.network

    class Embeds(torch.nn.Module):
        """Mean of the outputs of one text's tokens, of unit length."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            outputs = self.network(input_ids=tokens).last_hidden_state
            return torch.nn.functional.normalize(outputs.mean(dim=1), dim=1)

    model = export_operators(
        Embeds().eval(),
        torch.ones(1, 7, dtype=torch.int64),
        inputs=TOKENS,
        outputs=[EMBEDDINGS],
        dynamic={1: torch.export.Dim("L", min=2, max=encoder.max_tokens)},
        weights={f"network.{name}": name for name in network.state_dict()},
    )
    content: bytes = model.SerializeToString(deterministic=True)
    return content, encoder.max_tokens
