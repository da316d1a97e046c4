"""Graphs by which ONNX Runtime runs a pack's networks: made from torch's, checked against it, found again.

A graph holds operators and no weights: it reads the pack's own, under their own names, whatever their precision on
disk. graphs.json lists the graphs of a pack beside pack.json; a pack is the same with them and without.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsq_cli.arrays import Engine
from tsq_cli.config import EngineChoice
from tsq_cli.errors import UsageError, WeightsError, install_extra
from tsq_cli.files import atomic_path, write_json
from tsq_cli.models.onnx import ACTIVATIONS, CLASSIFIER, FEATURES, INPUT, LOGITS, OnnxEncoder
from tsq_cli.packs.members import verify_member
from tsq_cli.packs.quantized import dequantize
from tsq_cli.packs.registry import read_json
from tsq_cli.packs.schema import EncoderRole, FileWeights, PackConfig
from tsq_cli.packs.weights import weights_path
from tsq_cli.types import Float32Array
from tsq_cli.validation import SchemaError, check_document, from_dict

if TYPE_CHECKING:
    from tsq_cli.models import FrameEncoder

GRAPHS_JSON = "graphs.json"
GRAPHS_VERSION = 1
TOLERANCE = 1e-4
"""How far outputs of a graph may be from torch's, in units of their largest value (ours)."""

_OPSET = 18
_PREFIX = "network.model."  # of torch's names of the weights while a network is exported


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph of a pack.

    Attributes:
        model: timm name of the network.
        weights_sha256: of the file that holds its weights.
        input_size: pixels of each side of its input.
        file, sha256: the .onnx file inside the pack's folder.
    """

    model: str
    weights_sha256: str
    input_size: int
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class GraphsFile:
    """Content of graphs.json: the graphs, and the versions of the libraries that made them."""

    schema_version: int
    made_with: Mapping[str, str]
    graphs: tuple[Graph, ...]


def read_graphs(config: PackConfig) -> tuple[Graph, ...]:
    """List the graphs of a pack; none where it has no graphs.json.

    Raises:
        WeightsError: a damaged graphs.json, or one of another version.
    """
    path = config.folder / GRAPHS_JSON
    if not path.exists():
        return ()
    document = read_json(path)
    try:
        check_document(document)
        found = from_dict(GraphsFile, document)
    except SchemaError as error:
        raise WeightsError(f"{path}: {error}", wanted="the file as written", fix="run `tsq packs export`") from error
    if found.schema_version != GRAPHS_VERSION:
        raise WeightsError(
            f"{path} has schema_version {found.schema_version}",
            wanted=str(GRAPHS_VERSION),
            fix="upgrade tsq-cli, or make it again with `tsq packs export`",
        )
    return found.graphs


def find_graph(config: PackConfig, role: EncoderRole, input_size: int) -> Graph | None:
    """Find the graph of a network of a pack for one size of its input; None where there is none.

    Raises:
        WeightsError: as read_graphs.
    """
    if not isinstance(role.weights, FileWeights):
        return None
    for graph in read_graphs(config):
        wanted = (role.model, role.weights.sha256, input_size)
        if (graph.model, graph.weights_sha256, graph.input_size) == wanted:
            return graph
    return None


def resolve_engine(
    asked: EngineChoice, config: PackConfig, networks: Sequence[tuple[EncoderRole | None, int]], device: str, dtype: str
) -> Engine:
    """Decide what runs networks: ONNX Runtime in float32 on a CPU where all of them have a graph, else torch.

    Args:
        asked: "auto", or one of the two.
        config: the pack.
        networks: role and input size of each; None for a network that the pack does not describe.
        device: "cpu" or as torch names it.
        dtype: name of the precision.

    Raises:
        UsageError: "onnx" where it is not possible; the message says why.
        WeightsError: as read_graphs.
    """
    if asked == "torch":
        return "torch"
    without = [role for role, size in networks if role is None or find_graph(config, role, size) is None]
    reason = None
    if device != "cpu":
        reason = f"the device is {device}"
    elif dtype != "float32":
        reason = f"the precision is {dtype}"
    elif without:
        name = "the recognizer" if without[0] is None else without[0].model
        reason = f"{name} has no graph in the pack {config.name}"
    if reason is not None and asked == "onnx":
        raise UsageError(
            f"the engine is onnx, and {reason}",
            wanted="a CPU, float32 and a network with a graph",
            fix="use --engine auto, or make graphs with `tsq packs export`",
        )
    return "onnx" if reason is None else "torch"


def sampler_networks(config: PackConfig) -> list[tuple[EncoderRole | None, int]]:
    """Role and input size of the networks that score frames, for resolve_engine."""
    return [(role, sampler_size(config, role)) for role in (config.roles.visual_encoder, config.roles.objects)]


def sampler_size(config: PackConfig, role: EncoderRole) -> int:
    """Pixels of a sampling network's input: the sampler's of the pack's settings, or the role's own."""
    return config.settings.sampler_input_size or role.preprocess.input_size


def load_graph(config: PackConfig, role: EncoderRole, graph: Graph) -> OnnxEncoder:
    """Load a network for ONNX Runtime.

    Raises:
        WeightsError: a file that is missing or another one, or weights that do not fit the graph.
    """
    assert isinstance(role.weights, FileWeights)  # find_graph finds no other
    path = verify_member(config.folder / graph.file, graph.sha256, inside=config.folder)
    return OnnxEncoder(path, read_arrays(weights_path(role.weights, config.folder)))


def read_arrays(path: Path) -> dict[str, Float32Array]:
    """Read the weights of a .safetensors file as float32, without torch; a batch norm's counters are left out.

    Raises:
        WeightsError: a damaged file, or one of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, TypeError, AttributeError) as error:  # the last two for types unknown to numpy
        raise WeightsError(
            f"{path} cannot be read without torch ({error})",
            wanted="safetensors of float32, float16 or 8 bits",
            fix="use --engine torch",
        ) from error
    restored = dequantize(tensors, metadata, origin=str(path))
    return {
        name: tensor.astype(np.float32, copy=False)
        for name, tensor in restored.items()
        if not name.endswith("num_batches_tracked")
    }


def export_graphs(config: PackConfig) -> list[Graph]:
    """Make the graphs of a pack's networks, check each against torch, and write them beside its pack.json.

    Networks off the hub, image-text models, and networks whose class activation maps are not exact get none.

    Args:
        config: the pack, in a folder that can be written.

    Returns:
        The graphs; old ones are replaced.

    Raises:
        UsageError: a pack of whose networks none can have a graph, or the exporter is not installed.
        WeightsError: weights that are damaged, or a graph that does not give what torch gives.
        OutputError: the folder cannot be written.
    """
    wanted = list(_wanted(config))
    if not wanted:
        raise UsageError(
            f"the pack {config.name} has no network that ONNX Runtime could run",
            wanted="weights in the pack's own folder, of a network that ends in pooling and one linear layer",
            fix="use it with --engine torch",
        )
    made = []
    for role, size in wanted:
        assert isinstance(role.weights, FileWeights)  # _wanted yields no other
        content = _exported(config, role, size)
        name = f"{Path(role.weights.file).stem}-{size}.onnx"
        with atomic_path(config.folder / name) as path:
            path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        graph = Graph(model=role.model, weights_sha256=role.weights.sha256, input_size=size, file=name, sha256=digest)
        check_graph(config, role, graph)
        made.append(graph)
    write_json(
        config.folder / GRAPHS_JSON,
        asdict(GraphsFile(schema_version=GRAPHS_VERSION, made_with=_versions(), graphs=tuple(made))),
    )
    return made


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
    side = graph.input_size
    images = np.random.default_rng(0).standard_normal((3, 3, side, side), np.float32)
    with torch.inference_mode():
        activations = reference.activations(torch.from_numpy(images))
        expected = reference(torch.from_numpy(images))
    output, recognized = network(images), network.recognize(images)
    furthest = 0.0
    for got, wanted in (
        (output.features, expected.features),
        (output.logits, expected.logits),
        (recognized.logits, expected.logits),
        (recognized.activations, activations),
    ):
        largest = float(wanted.abs().max())
        furthest = max(furthest, float(np.abs(got - wanted.numpy()).max()) / max(largest, 1e-12))
    if not furthest <= TOLERANCE:
        raise WeightsError(
            f"{config.folder / graph.file} gives outputs {furthest:.2g} away from torch's",
            wanted=f"at most {TOLERANCE:g} of the largest value",
            fix="make it again with `tsq packs export`",
        )
    return furthest


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
        if not isinstance(role.weights, FileWeights) or role.preprocess.interpolation == "nearest":
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
    from tsq_cli.packs.load import load_encoder

    try:
        from onnxscript import optimizer
    except ImportError as error:
        raise UsageError(
            f"{error.name} is not installed", wanted="the exporter of torch to ONNX", fix=install_extra("train")
        ) from error
    import torch

    encoder = load_encoder(role, config.folder)
    images = torch.zeros(2, 3, size, size)
    program = torch.onnx.export(
        _outputs(encoder),
        (images,),
        input_names=[INPUT],
        output_names=[FEATURES, LOGITS, ACTIVATIONS],
        dynamic_shapes=({0: torch.export.Dim("N", min=1, max=1 << 16)},),
        opset_version=_OPSET,
        optimize=False,  # which would fold the weights into others, under other names
        verbose=False,
    )
    assert program is not None
    optimizer.inline(program.model)
    optimizer.fold_constants(program.model, onnx_shape_inference=False)
    optimizer.remove_unused_nodes(program.model)
    return _without_weights(program.model_proto, encoder)


def _without_weights(model: Any, encoder: FrameEncoder) -> bytes:
    """Give the weights of a model their own names and take their values away, and what tells of the machine."""
    import onnx

    stored = encoder.model.state_dict()
    names = {f"{_PREFIX}{name}": name for name in stored}
    for tensor in model.graph.initializer:
        if tensor.name not in names:
            continue  # a constant of the graph
        tensor.name = names[tensor.name]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        length = 4 * int(np.prod(tensor.dims))
        for key, value in (("location", "weights"), ("offset", "0"), ("length", str(length))):
            tensor.external_data.add(key=key, value=value)
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = names.get(name, name)
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    model.graph.ClearField("value_info")
    model.graph.ClearField("metadata_props")
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    del model.metadata_props[:]
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
