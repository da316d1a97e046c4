"""Loading of packs: from a description to networks that are ready to run. Only the functions load torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsq_cli.arrays import Array, Engine, float32, normalize, of_engine
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.packs.graphs import GraphsFile, find_text_graph, read_graphs
from tsq_cli.packs.registry import PACK_JSON, find_pack
from tsq_cli.packs.schema import (
    ClassifierWeights,
    EmbeddingWeights,
    EncoderRole,
    FileWeights,
    PackConfig,
    TextualModule,
    TimmWeights,
    TransformersWeights,
    VisualModule,
)
from tsq_cli.packs.tensors import fill, read_tensors
from tsq_cli.packs.texts import load_object_embeddings, load_onnx_text_encoder, load_text_encoder
from tsq_cli.packs.weights import require_weights, weights_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from tsq_cli.models import FrameEncoder, Preprocessor, TSQLayer
    from tsq_cli.models.image_text import ImageTextModel
    from tsq_cli.models.outputs import ImageNetwork


@dataclass(kw_only=True)
class Pack:
    """A loaded pack: networks in evaluation mode, without gradients needed to run them.

    Attributes:
        config: the content of pack.json.
        engine: what runs the networks: torch, or ONNX Runtime on a CPU, where all that follows is of numpy.
        device, dtype: where the networks live; `dtype` is that of the image networks. TSQ layers and embeddings stay
            in float32, where they cost nothing and keep small differences of saliency.
        tsqnet: the two TSQ modules.
        visual_encoder, object_recognizer: features [N, Dv] and object logits [N, O] of images; the same object where
            one network serves both, so that one forward pass feeds both modules.
        visual_preprocessor, object_preprocessor: from frames to the networks' inputs, of the sampler's size where the
            pack's settings give one.
        object_embeddings: float32 [O, Dt], of unit length, one row per object name.
        query_embeddings: the same, or embeddings of names with definitions: what free text queries are compared with.
        textual_embeddings: float32 [O, Dt], of unit length, the same or centered: the base of TQM's frame features.
        graphs: the pack's, if ONNX Runtime runs it.
        image_text: the one network behind all of these in a pack around an image-text model; else None.
    """

    config: PackConfig
    device: str
    dtype: Any
    tsqnet: Any
    visual_encoder: Any
    object_recognizer: Any
    visual_preprocessor: Preprocessor
    object_preprocessor: Preprocessor
    object_embeddings: Array
    query_embeddings: Array
    textual_embeddings: Array
    engine: Engine = "torch"
    graphs: GraphsFile | None = field(default=None, repr=False)
    image_text: ImageTextModel | None = field(default=None, repr=False)
    _text_encoder: Any = field(default=None, repr=False)
    _queries: dict[str, Array] = field(default_factory=dict, repr=False)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the C classes, in the order of the TSQ layers' rows."""
        return self.config.class_names

    @property
    def object_names(self) -> tuple[str, ...]:
        """Names of the O objects, in the order of the recognizer's logits."""
        return self.config.object_names

    def text_encoder(self) -> Any:
        """Load the TextEncoder behind `object_embeddings`, on first use; by ONNX Runtime an OnnxTextEncoder, if it can.

        Raises:
            WeightsError: its package is not installed, or its weights are damaged or out of reach.
        """
        if self._text_encoder is None:
            with as_pack_error(self.config):
                graph = find_text_graph(self.graphs, self.config.roles.text_encoder)
                if graph is None:
                    self._text_encoder = load_text_encoder(self.config.roles.text_encoder)
                else:
                    self._text_encoder = load_onnx_text_encoder(self.config, graph)
        return self._text_encoder

    def query_embedding(self, query: str) -> Array:
        """Embed a free text, [Dt] of unit length in the space of `query_embeddings`; cached.

        Raises:
            WeightsError: as text_encoder.
        """
        if query not in self._queries:
            embedded = of_engine(self.text_encoder().embed([query])[0], self.engine)
            self._queries[query] = embedded if self.engine == "onnx" else embedded.to(self.object_embeddings)
        return self._queries[query]


def load_pack(
    pack: str | Path | PackConfig, *, device: str = "cpu", dtype: torch.dtype | None = None, engine: Engine = "torch"
) -> Pack:
    """Load a pack's networks, ready to run.

    Args:
        pack: name, folder or description (see find_pack).
        device: as torch names it.
        dtype: of the image networks, None is float32.
        engine: what runs them; "onnx" only where resolve_engine says so, in float32 on a CPU.

    Raises:
        UsageError: no such pack.
        WeightsError: weights that are missing, damaged, unsafe, of the wrong names or shapes, or out of reach.
    """
    config = pack if isinstance(pack, PackConfig) else find_pack(pack)
    if config.is_image_text:
        from tsq_cli.packs.image_text import load_image_text_pack

        return load_image_text_pack(config, device=device, dtype=dtype)
    if engine == "onnx":
        from tsq_cli.packs.onnx import load_onnx_pack

        graphs = read_graphs(config)
        assert graphs is not None  # resolve_engine has said so
        return load_onnx_pack(config, graphs)
    with as_pack_error(config):
        visual_encoder = object_recognizer = load_encoder(config.roles.visual_encoder, config.folder)
        if config.roles.objects is not config.roles.visual_encoder:
            object_recognizer = load_encoder(config.roles.objects, config.folder)
        embeddings = (of_engine(each, "torch") for each in load_object_embeddings(config))
        built = build_pack(config, visual_encoder, object_recognizer, *embeddings, device=device)
    return optimize_pack(built, dtype)


def build_pack(
    config: PackConfig,
    visual_encoder: FrameEncoder,
    object_recognizer: FrameEncoder,
    object_embeddings: Tensor,
    query_embeddings: Tensor | None = None,
    *,
    device: str = "cpu",
) -> Pack:
    """Build a pack around its image networks as they are, in float32, and put it on a device.

    Args:
        config: the description; its TSQ layers are built, or read from its files.
        visual_encoder, object_recognizer: on the CPU; the same object where the pack has one network for both.
        object_embeddings: float32 [O, Dt], of unit length, one row per object name.
        query_embeddings: the same for free text queries; None for the object embeddings.
        device: as torch names it.

    Raises:
        UsageError: settings of the layers that do not fit the networks.
        WeightsError: layers' weights that are missing, damaged or of other shapes, or another number of objects.
    """
    import torch

    from tsq_cli.models import TSQNet

    if object_recognizer.num_classes != len(config.object_names):
        raise WeightsError(
            f"{config.roles.objects.model} scores {object_recognizer.num_classes} objects",
            wanted=f"{len(config.object_names)}, one for each name in {config.folder / config.objects.file}",
            fix="correct the names or the model in pack.json",
        )
    textual_embeddings = textual_base(config, object_embeddings)
    tsqnet = TSQNet(_visual_layer(config, visual_encoder), _textual_layer(config, textual_embeddings))
    visual_preprocessor = sampler_preprocessor(config, config.roles.visual_encoder)
    shared = object_recognizer is visual_encoder
    return Pack(
        config=config,
        device=device,
        dtype=torch.float32,
        tsqnet=tsqnet.eval().to(device),
        visual_encoder=visual_encoder.to(device),
        object_recognizer=object_recognizer.to(device),
        visual_preprocessor=visual_preprocessor,
        object_preprocessor=visual_preprocessor if shared else sampler_preprocessor(config, config.roles.objects),
        object_embeddings=object_embeddings.to(device),
        query_embeddings=(object_embeddings if query_embeddings is None else query_embeddings).to(device),
        textual_embeddings=textual_embeddings.to(device),
    )


def optimize_pack(pack: Pack, dtype: torch.dtype | None = None) -> Pack:
    """Optimize a pack's image networks for inference in `dtype` (None: float32), in place; return the pack."""
    import torch

    dtype = torch.float32 if dtype is None else dtype
    for encoder in {pack.visual_encoder, pack.object_recognizer}:
        optimize_for_inference(encoder, pack.device, dtype)
    return replace(pack, dtype=dtype)


def optimize_for_inference(encoder: FrameEncoder, device: str, dtype: torch.dtype) -> FrameEncoder:
    """Fold batch norms, lay weights out channels last and move the encoder to its device, in place.

    Args:
        encoder: in evaluation mode.
        device: as torch names it.
        dtype: of its weights from then on.

    Returns:
        The encoder itself.
    """
    import torch

    from tsq_cli.models.device import keep_freed_memory
    from tsq_cli.models.fold import fold_batch_norm

    keep_freed_memory()
    fold_batch_norm(encoder.model)
    return encoder.to(device, dtype).to(memory_format=torch.channels_last)


@contextmanager
def as_pack_error(config: PackConfig) -> Iterator[None]:
    """Report a setting that a network refuses as an error of the pack: no option of the user's is at fault.

    Raises:
        WeightsError: instead of a UsageError.
    """
    try:
        yield
    except UsageError as error:
        raise WeightsError(
            f"{config.folder / PACK_JSON}: {error.got}", wanted=error.wanted, fix="correct the pack, or use another"
        ) from error


def load_encoder(role: EncoderRole, folder: Path) -> FrameEncoder:
    """Load an image network with its weights, on the CPU, in evaluation mode and float32.

    Args:
        role: as described in pack.json.
        folder: of the pack.

    Raises:
        WeightsError: weights that are missing, damaged, unsafe, of the wrong names or shapes, or out of reach.
    """
    from tsq_cli.models import create_encoder

    if isinstance(role.weights, TimmWeights):
        require_weights(role)
        return create_encoder(role.model, pretrained=True)
    if isinstance(role.weights, TransformersWeights):
        raise WeightsError(
            f"{role.model} is an image-text model, whose classes are texts",
            wanted="an image network with a classifier of its own",
            fix="use another pack for this; --pack clip selects and classifies",
        )
    path = weights_path(role.weights, folder)
    encoder = create_encoder(role.model, num_classes=role.num_classes)
    fill(encoder.model, read_tensors(path), origin=str(path))
    return encoder


def textual_base(config: PackConfig, object_embeddings: Array) -> Array:
    """The base of TQM's frame features: the object embeddings, centered where the pack's settings say so."""
    if not config.settings.center_object_embeddings:
        return object_embeddings
    return normalize(object_embeddings - object_embeddings.mean(axis=0), 1)


def sampler_preprocessor(config: PackConfig, role: EncoderRole) -> Preprocessor:
    """The role's preprocessing, at the sampler's input size where the pack's settings give one."""
    input_size = config.settings.sampler_input_size
    return role.preprocess if input_size is None else replace(role.preprocess, input_size=input_size)


def _visual_layer(config: PackConfig, encoder: FrameEncoder) -> TSQLayer:
    module, settings = config.modules.visual, config.settings
    start = visual_start(config, encoder)
    layer = _layer(config, module, dim=encoder.feature_dim, scale=settings.visual_scale, **start)
    layer.gives_evidence = settings.words.least_evidence is not None
    return layer


def _textual_layer(config: PackConfig, embeddings: Tensor) -> TSQLayer:
    start = textual_start(config, embeddings)
    return _layer(config, config.modules.textual, dim=embeddings.shape[1], scale=config.settings.textual_scale, **start)


def visual_start(config: PackConfig, encoder: ImageNetwork) -> dict[str, Array]:
    """Return VQM's parameters from rows of the encoder's classifier; none where the pack has a file of them."""
    if not isinstance(config.modules.visual.weights, ClassifierWeights):
        return {}
    rows, bias = float32(encoder.classifier_weight), float32(encoder.classifier_bias)
    return {"queries": rows, "classifier_weight": rows, "classifier_bias": bias}


def textual_start(config: PackConfig, embeddings: Array) -> dict[str, Array]:
    """Return TQM's parameters from embeddings of the class names; none where the pack has a file of them."""
    if not isinstance(config.modules.textual.weights, EmbeddingWeights):
        return {}
    scale = config.settings.text_logit_scale
    if scale is None:
        raise ValueError("PackFile lets no pack through without the text_logit_scale that its weights need")
    return {"queries": embeddings, "classifier_weight": scale * embeddings}


def _layer(
    config: PackConfig, module: VisualModule | TextualModule, *, dim: int, scale: float | None, **start: Tensor
) -> TSQLayer:
    """Build a module's layer from its file, or from initial tensors."""
    from tsq_cli.models import TSQLayer

    layer = TSQLayer(
        dim,
        len(config.class_names),
        num_frames=config.settings.num_candidates,
        scale=scale,
        config=module.layer,
        **start,
    )
    if isinstance(module.weights, FileWeights):
        path = weights_path(module.weights, config.folder)
        fill(layer, read_tensors(path), origin=str(path))
    return layer
