"""Verifying a pack, and pulling its weights from the hub (`tsq packs verify`, `tsq packs pull`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tsq_cli.errors import WeightsError
from tsq_cli.packs.export import check_graph
from tsq_cli.packs.export_text import check_text_graph
from tsq_cli.packs.graphs import GRAPHS_JSON, TextGraph, find_text_graph, graphs_and_roles, read_graphs
from tsq_cli.packs.image_text import load_image_text_model
from tsq_cli.packs.load import Pack, as_pack_error, load_encoder, load_pack
from tsq_cli.packs.members import verify_member
from tsq_cli.packs.registry import find_pack
from tsq_cli.packs.schema import EmbedNames, PackConfig, PipWeights, TimmWeights, TransformersWeights
from tsq_cli.packs.texts import load_object_embeddings, load_text_encoder


@dataclass(frozen=True)
class Check:
    """One check of a pack: its name, whether it passed, and details."""

    name: str
    ok: bool
    detail: str


def verify_pack(name_or_path: str | Path) -> list[Check]:
    """Check a pack from its description to a forward pass; stops at the first failure.

    Checks pack.json, the sha256 of each file, names and shapes of all tensors, that a forward pass on two gray frames
    gives finite logits and attention that sums to one, and that each graph gives what torch gives. The recognizer and
    the text encoder are not needed to select frames; only a recognizer with a graph is loaded.

    Raises:
        UsageError: no such pack.
    """
    checks: list[Check] = []
    name = "pack.json"
    try:
        config = find_pack(name_or_path)
        checks.append(Check(name, True, f"format {config.schema_version}, sha256 {config.sha256[:12]}"))
        for part in config.files:
            name = part.file
            size = verify_member(config.folder / name, part.sha256, inside=config.folder).stat().st_size
            checks.append(Check(name, True, f"{size} bytes, sha256 {part.sha256[:12]}"))
        name = "weights"
        pack = load_pack(config)
        checks.append(Check(name, True, _described(pack)))
        name = "forward"
        checks.append(Check(name, True, _run_forward(pack)))
        name = GRAPHS_JSON
        graphs = read_graphs(config)
        for role, graph in graphs_and_roles(config, graphs):
            name = graph.file
            checks.append(Check(name, True, f"within {check_graph(config, role, graph):.1g} of torch"))
        if (text := find_text_graph(graphs, config.roles.text_encoder)) is not None:
            name = text.file
            checks.append(Check(name, True, _compared(config, text)))
    except WeightsError as error:
        checks.append(Check(name, False, str(error)))
    return checks


def pull_pack(name_or_path: str | Path, progress: Callable[[str], None] | None = None) -> list[str]:
    """Download all hub weights of a pack into the local cache, so that it works with HF_HUB_OFFLINE=1.

    Args:
        name_or_path: see find_pack.
        progress: called with a line before each step.

    Returns:
        The names of the models now in the cache; empty where a pack needs none.

    Raises:
        UsageError: no such pack.
        WeightsError: a hub out of reach, or weights that do not fit.
    """
    config = find_pack(name_or_path)
    with as_pack_error(config):
        return _pulled(config, progress or (lambda line: None))


def _pulled(config: PackConfig, say: Callable[[str], None]) -> list[str]:
    pulled = []
    roles = config.roles
    if config.is_image_text:
        say(f"fetching {roles.visual_encoder.model}")
        load_image_text_model(roles.visual_encoder.model)
        return [roles.visual_encoder.model]
    for role in dict.fromkeys((roles.visual_encoder, roles.objects, roles.recognizer)):
        if isinstance(role.weights, TimmWeights):
            say(f"fetching {role.model}")
            load_encoder(role, config.folder)
            pulled.append(role.model)
    if isinstance(roles.text_encoder.weights, TransformersWeights):
        say(f"fetching {roles.text_encoder.model}")
        load_text_encoder(roles.text_encoder)
        pulled.append(roles.text_encoder.model)
    if isinstance(config.object_embeddings, EmbedNames):
        say(f"embedding {len(config.object_names)} names with {roles.text_encoder.model}")
        load_object_embeddings(config)
    return pulled


def _compared(config: PackConfig, graph: TextGraph) -> str:
    """Compare the graph of the text encoder with torch, if the package with its weights is here."""
    weights = config.roles.text_encoder.weights
    if isinstance(weights, PipWeights) and importlib.util.find_spec(weights.package) is None:
        size = verify_member(config.folder / graph.file, graph.sha256, inside=config.folder).stat().st_size
        return f"{size} bytes, sha256 {graph.sha256[:12]}; not compared, for {weights.package} is not installed"
    return f"within {check_text_graph(config, graph):.1g} of torch"


def _described(pack: Pack) -> str:
    o, d_t = pack.object_embeddings.shape
    c, d_v = len(pack.class_names), pack.visual_encoder.feature_dim
    return f"names and shapes fit: {c} classes, visual features {d_v}, {o} objects with embeddings of {d_t}"


def _run_forward(pack: Pack) -> str:
    """Run two gray frames through all networks; describe the outputs, or raise WeightsError."""
    import torch

    from tsq_cli.models import object_text_features

    gray = torch.full((2, 64, 64, 3), 128, dtype=torch.uint8)
    with torch.inference_mode():
        visual = pack.visual_encoder(pack.visual_preprocessor(gray, pack.device, pack.dtype))
        objects = pack.object_recognizer(pack.object_preprocessor(gray, pack.device, pack.dtype))
        texts = object_text_features(objects.logits, pack.textual_embeddings)
        output = pack.tsqnet(visual.features[None], texts[None])
    for name, module in (("visual", output.visual), ("textual", output.textual)):
        sums = module.attention.sum(dim=-1)
        if not (module.logits.isfinite().all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)):
            raise WeightsError(
                f"the {name} module gives logits from {module.logits.min():.3g} to {module.logits.max():.3g}",
                wanted="finite logits, and attention that sums to one over the frames",
                fix="fetch the pack again, or train it again",
            )
    return f"finite; logits {list(output.visual.logits.shape)} from both modules"
