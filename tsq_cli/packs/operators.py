"""The operators of a network without its weights, as torch exports them to ONNX, and how far they may be from torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tsq_cli.errors import WeightsError

if TYPE_CHECKING:
    import torch

_OPSET = 18


def export_operators(
    network: torch.nn.Module,
    example: torch.Tensor,
    *,
    inputs: str,
    outputs: Sequence[str],
    dynamic: Mapping[int, Any],
    weights: Mapping[str, str],
) -> Any:
    """Export a network.

    Args:
        network: in evaluation mode, of one input.
        example: of the input.
        inputs, outputs: names that the graph is to have for them.
        dynamic: axes of the input whose length is free, as torch.export.Dim.
        weights: names that the graph is to have for weights, by torch's own; their values are left out.

    Returns:
        An onnx.ModelProto that tells nothing of the machine.
    """
    import torch
    from onnxscript import optimizer

    program = torch.onnx.export(
        network,
        (example,),
        input_names=[inputs],
        output_names=list(outputs),
        dynamic_shapes=(dict(dynamic),),
        opset_version=_OPSET,
        optimize=False,  # which would fold the weights into others, under other names
        verbose=False,
    )
    assert program is not None
    optimizer.inline(program.model)
    optimizer.fold_constants(
        program.model,
        onnx_shape_inference=False,
        should_fold=lambda node: False if node.op_type == "Transpose" else None,  # of a weight
    )
    optimizer.remove_unused_nodes(program.model)
    return _without_weights(program.model_proto, weights)


def _without_weights(model: Any, names: Mapping[str, str]) -> Any:
    """Give the weights of a model their own names and take their values away, and what tells of the machine."""
    import onnx

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
    return model


def check_distance(graph: Path, outputs: str, distance: float, most: float, *, of: str = "") -> float:
    """Refuse a graph whose outputs are too far from torch's; return the distance.

    Args:
        graph: its file.
        outputs: name of what it gives.
        distance: largest difference; one that is no number is refused, too.
        most: the largest that is allowed.
        of: unit of both.

    Raises:
        WeightsError: it is larger.
    """
    if not distance <= most:
        raise WeightsError(
            f"{graph} gives {outputs} {distance:.2g} away from torch's",
            wanted=f"at most {most:g}{of}",
            fix="make it again with `tsq packs export`",
        )
    return distance
