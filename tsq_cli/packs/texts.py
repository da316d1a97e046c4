"""Text encoders of packs, and the embeddings of their object names. Only what embeds texts loads torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tsq_cli.arrays import normalize
from tsq_cli.errors import WeightsError
from tsq_cli.files import atomic_path
from tsq_cli.models.onnx import OnnxTextEncoder
from tsq_cli.packs.graphs import TextGraph, read_arrays
from tsq_cli.packs.members import verify_member
from tsq_cli.packs.schema import EmbedNames, PackConfig, PipWeights, TextRole
from tsq_cli.packs.weights import file_of_package, require_weights, weights_path
from tsq_cli.types import Float32Array

if TYPE_CHECKING:
    from tsq_cli.models import TextEncoder

_UNUSED = ("pooler.", "embeddings.position_ids")  # entries of BERT that a graph of its tokens' outputs does not read
_EMBEDDINGS, _QUERY_EMBEDDINGS = "object_embeddings", "query_embeddings"


def require_text_encoder(role: TextRole) -> None:
    """Refuse a text network that is not available, before anything is loaded; its weights are not read.

    Raises:
        WeightsError: its package is not installed, or its weights are out of reach.
    """
    if isinstance(role.weights, PipWeights):
        file_of_package(role.weights)
    else:
        require_weights(role)


def load_text_encoder(role: TextRole) -> TextEncoder:
    """Load the text network of a role.

    Raises:
        WeightsError: as require_text_encoder, or damaged weights.
    """
    from tsq_cli.models import TextEncoder

    if isinstance(role.weights, PipWeights):
        # A folder inside the package holds tokenizer and configuration beside the weights.
        return TextEncoder.from_pretrained(str(weights_path(role.weights, Path()).parent))
    require_weights(role)
    return TextEncoder.from_pretrained(role.model)


def load_onnx_text_encoder(config: PackConfig, graph: TextGraph) -> OnnxTextEncoder:
    """Load the text network of a pack for ONNX Runtime, without torch.

    Raises:
        WeightsError: as load_text_encoder, or a graph that is missing, another one, or not of these weights.
    """
    weights = config.roles.text_encoder.weights
    assert isinstance(weights, PipWeights)  # others have no graph
    path = weights_path(weights, config.folder)
    tensors = {name: tensor for name, tensor in read_arrays(path).items() if not name.startswith(_UNUSED)}
    file = verify_member(config.folder / graph.file, graph.sha256, inside=config.folder)
    return OnnxTextEncoder(file, tensors, path.with_name("tokenizer.json"), graph.max_tokens)


def load_object_embeddings(config: PackConfig) -> tuple[Float32Array, Float32Array]:
    """Load the object names' embeddings: the pack's, or computed once and cached.

    Returns:
        Object embeddings, float32 [O, Dt] of unit length, and query embeddings of the same shape: the same ones, if the
        pack has no others.

    Raises:
        WeightsError: a missing or damaged file, another number of rows, or a text encoder out of reach.
    """
    if isinstance(config.object_embeddings, EmbedNames):
        path = _computed_embeddings(config)
    else:
        path = weights_path(config.object_embeddings, config.folder)
    tensors = read_arrays(path)
    if not {_EMBEDDINGS} <= set(tensors) <= {_EMBEDDINGS, _QUERY_EMBEDDINGS}:
        raise WeightsError(
            f"{path} holds {sorted(tensors)}",
            wanted=f"the tensor {_EMBEDDINGS}, and perhaps {_QUERY_EMBEDDINGS}",
            fix="rebuild it",
        )
    width = tensors[_EMBEDDINGS].shape[-1:]
    for name, embeddings in tensors.items():
        if embeddings.shape != (len(config.object_names), *width) or not np.isfinite(embeddings).all():
            raise WeightsError(
                f"{path} holds {name} {list(embeddings.shape)}",
                wanted=f"finite numbers [{len(config.object_names)}, width], a row per object name",
                fix="rebuild it",
            )
    units = {name: normalize(tensor, 1) for name, tensor in tensors.items()}
    return units[_EMBEDDINGS], units.get(_QUERY_EMBEDDINGS, units[_EMBEDDINGS])


def _computed_embeddings(config: PackConfig) -> Path:
    """Return the cache file of the object names' embeddings; the pack's text encoder makes it if it is missing."""
    from huggingface_hub.constants import HF_HOME
    from safetensors.torch import save_file

    role = config.roles.text_encoder
    key = hashlib.sha256("\n".join([role.model, *config.object_names]).encode()).hexdigest()[:16]
    path = Path(HF_HOME) / "tsq" / f"{key}.safetensors"
    if not path.exists():
        embeddings = load_text_encoder(role).embed(list(config.object_names))
        with atomic_path(path) as temporary:
            save_file({_EMBEDDINGS: embeddings.contiguous()}, temporary)
    return path
