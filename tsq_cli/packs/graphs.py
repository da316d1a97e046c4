"""Graphs by which ONNX Runtime runs a pack's networks: listed, found, loaded. Free of torch; export.py makes them.

A graph holds operators and no weights: it reads the pack's own, under their own names, whatever their precision on
disk. graphs.json lists the graphs of a pack beside pack.json; a pack is the same with them and without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsq_cli.config import EngineChoice
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models.onnx import OnnxEncoder
from tsq_cli.packs.members import verify_member
from tsq_cli.packs.quantized import dequantize
from tsq_cli.packs.registry import read_json
from tsq_cli.packs.schema import EncoderRole, FileWeights, PackConfig, PipWeights, TextRole
from tsq_cli.packs.weights import weights_path
from tsq_cli.types import Float32Array
from tsq_cli.validation import SchemaError, check_document, from_dict

GRAPHS_JSON = "graphs.json"
GRAPHS_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph of a pack.

    Attributes:
        model: timm name of the network.
        weights_sha256: of the file that holds its weights.
        input_sizes: pixels of each side of its input; for each of them it was compared with torch.
        file, sha256: the .onnx file inside the pack's folder.
    """

    model: str
    weights_sha256: str
    input_sizes: tuple[int, ...]
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TextGraph:
    """The graph of a pack's text encoder.

    Attributes:
        model: name of the network on the hub.
        weights_sha256: of the file that holds its weights.
        max_tokens: the longest text it takes, special tokens included.
        file, sha256: the .onnx file inside the pack's folder.
    """

    model: str
    weights_sha256: str
    max_tokens: int
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class GraphsFile:
    """Content of graphs.json: the graphs, and the versions of the libraries that made them."""

    schema_version: int
    made_with: Mapping[str, str]
    graphs: tuple[Graph, ...]
    text_encoder: TextGraph | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all .onnx files."""
        return tuple(graph.file for graph in (*self.graphs, self.text_encoder) if graph is not None)


def read_graphs(config: PackConfig) -> GraphsFile | None:
    """Read the list of a pack's graphs; None where it has no graphs.json.

    Raises:
        WeightsError: a damaged graphs.json, or one of another version.
    """
    path = config.folder / GRAPHS_JSON
    if not path.exists():
        return None
    fix = "make it again with `tsq packs export`"
    try:
        document = read_json(path)
        check_document(document)
        found = from_dict(GraphsFile, document)
    except WeightsError as error:
        raise WeightsError(error.got, wanted=error.wanted, fix=fix) from error
    except SchemaError as error:
        raise WeightsError(f"{path}: {error}", wanted="the file as written", fix=fix) from error
    if found.schema_version != GRAPHS_VERSION:
        raise WeightsError(
            f"{path} has schema_version {found.schema_version}",
            wanted=str(GRAPHS_VERSION),
            fix=f"upgrade tsq-cli, or {fix}",
        )
    return found


def find_graph(found: GraphsFile | None, role: EncoderRole, input_size: int) -> Graph | None:
    """Find the graph of a network for one size of its input among those of its pack; None where there is none."""
    if found is None or not isinstance(role.weights, FileWeights):
        return None
    wanted = (role.model, role.weights.sha256)
    for graph in found.graphs:
        if (graph.model, graph.weights_sha256) == wanted and input_size in graph.input_sizes:
            return graph
    return None


def find_text_graph(found: GraphsFile | None, role: TextRole) -> TextGraph | None:
    """Find the graph of a text encoder among those of its pack; None where there is none."""
    graph = None if found is None else found.text_encoder
    if graph is None or not isinstance(role.weights, PipWeights):
        return None
    return graph if (graph.model, graph.weights_sha256) == (role.model, role.weights.sha256) else None


def graphs_and_roles(config: PackConfig, listed: GraphsFile | None) -> list[tuple[EncoderRole, Graph]]:
    """Match the graphs of a pack each with a network that it is of.

    Raises:
        WeightsError: a graph of weights that the pack does not hold.
    """
    roles = {
        (role.model, role.weights.sha256): role
        for role in (config.roles.visual_encoder, config.roles.objects, config.roles.recognizer)
        if isinstance(role.weights, FileWeights)
    }
    found = []
    for graph in () if listed is None else listed.graphs:
        role = roles.get((graph.model, graph.weights_sha256))
        if role is None:
            raise WeightsError(
                f"{config.folder / graph.file} is of other weights of {graph.model} than the pack's",
                wanted="graphs of its own networks",
                fix="make them again with `tsq packs export`",
            )
        found.append((role, graph))
    return found


def resolve_engine(
    asked: EngineChoice,
    config: PackConfig,
    networks: Sequence[tuple[EncoderRole | None, int]],
    device: str,
    dtype: str,
    known: GraphsFile | None = None,
) -> GraphsFile | None:
    """Decide what runs networks: ONNX Runtime in float32 on a CPU where all of them have a graph, else torch.

    Args:
        asked: "auto", or one of the two.
        config: the pack.
        networks: role and input size of each; None for a network that the pack does not describe.
        device: "cpu" or as torch names it.
        dtype: name of the precision.
        known: the pack's graphs, if they have been read.

    Returns:
        The pack's graphs, those of all networks among them, by which ONNX Runtime runs; None for torch.

    Raises:
        UsageError: "onnx" where it is not possible; the message says why.
        WeightsError: as read_graphs.
    """
    if asked == "torch":
        return None
    graphs = read_graphs(config) if known is None else known
    without = [role for role, size in networks if role is None or find_graph(graphs, role, size) is None]
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
    return graphs if reason is None else None


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
    weights = read_arrays(weights_path(role.weights, config.folder))
    return OnnxEncoder(path, weights, graph.input_sizes[0] if len(graph.input_sizes) == 1 else None)


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
