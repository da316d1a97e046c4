"""Loading of a pack for ONNX Runtime, on arrays of numpy. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tsq_cli.arrays import Array
from tsq_cli.models.attention import Attention
from tsq_cli.models.onnx import ArrayTSQNet, OnnxEncoder
from tsq_cli.packs.graphs import GraphsFile, find_graph, load_graph, read_arrays, sampler_size
from tsq_cli.packs.load import (
    Pack,
    sampler_preprocessor,
    textual_base,
    textual_start,
    visual_start,
)
from tsq_cli.packs.schema import EncoderRole, FileWeights, PackConfig, TextualModule, VisualModule
from tsq_cli.packs.texts import load_object_embeddings
from tsq_cli.packs.weights import weights_path


def load_onnx_pack(config: PackConfig, graphs: GraphsFile) -> Pack:
    """Load a pack whose image networks have graphs, which tsq_cli.packs.graphs.resolve_engine gives.

    Raises:
        WeightsError: weights that are missing, damaged, of the wrong names or shapes.
    """
    roles = config.roles
    visual_encoder = object_recognizer = _onnx_encoder(config, roles.visual_encoder, graphs)
    if roles.objects is not roles.visual_encoder:
        object_recognizer = _onnx_encoder(config, roles.objects, graphs)
    objects, queries = load_object_embeddings(config)
    textual = textual_base(config, objects)
    visual_preprocessor = sampler_preprocessor(config, roles.visual_encoder)
    return Pack(
        config=config,
        device="cpu",
        dtype=np.dtype(np.float32),
        tsqnet=ArrayTSQNet(
            _arrays(config, config.modules.visual, visual_start(config, visual_encoder)),
            _arrays(config, config.modules.textual, textual_start(config, textual)),
        ),
        visual_encoder=visual_encoder,
        object_recognizer=object_recognizer,
        visual_preprocessor=visual_preprocessor,
        object_preprocessor=visual_preprocessor
        if object_recognizer is visual_encoder
        else sampler_preprocessor(config, roles.objects),
        object_embeddings=objects,
        query_embeddings=queries,
        textual_embeddings=textual,
        engine="onnx",
        graphs=graphs,
    )


def objects_of_full_size(pack: Pack) -> OnnxEncoder | None:
    """The object recognizer of a pack that ONNX Runtime runs, for its own size of input, whatever the sampler's.

    Returns:
        The very network that the pack has, if it takes that size too; None where no graph does.

    Raises:
        WeightsError: a damaged graph or damaged weights.
    """
    config, role = pack.config, pack.config.roles.objects
    graph = find_graph(pack.graphs, role, role.preprocess.input_size)
    if graph is None:
        return None
    own: OnnxEncoder = pack.object_recognizer
    return own if own.graph == config.folder / graph.file else load_graph(config, role, graph)


def _onnx_encoder(config: PackConfig, role: EncoderRole, graphs: GraphsFile) -> OnnxEncoder:
    graph = find_graph(graphs, role, sampler_size(config, role))
    assert graph is not None  # resolve_engine has found it
    return load_graph(config, role, graph)


def _arrays(
    config: PackConfig, module: VisualModule | TextualModule, start: Mapping[str, Array]
) -> tuple[Attention, Mapping[str, Array]]:
    """Build a module's TSQ layer for numpy: the function, and its parameters, of the pack's file or else `start`."""
    settings = config.settings
    is_visual = isinstance(module, VisualModule)
    attention = Attention(
        config=module.layer,
        num_classes=len(config.class_names),
        scale=settings.visual_scale if is_visual else settings.textual_scale,
        gives_evidence=is_visual and settings.words.least_evidence is not None,
    )
    if isinstance(module.weights, FileWeights):
        return attention, read_arrays(weights_path(module.weights, config.folder))
    rows = dict(start)
    rows.setdefault("classifier_bias", np.zeros(len(rows["queries"]), np.float32))
    if module.layer.attention == "class-agnostic":
        rows["queries"] = rows["queries"].mean(axis=0, keepdims=True)
    if module.layer.shares_classifier_weight:
        for name in ("classifier_weight", "classifier_bias"):
            rows[name] = rows[name].mean(axis=0, keepdims=True)
    return attention, rows  # projections start as the identity, positions at zero: both are as if they were not there
