"""All settings of a training run, checked when built, to and from one TOML file. Free of torch.

Values marked (S) are the paper's, from its supplementary; the others are ours (docs/method.md, section 1).
"""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tsq_cli.config import DEFAULT_PACK
from tsq_cli.consensus import Pooling
from tsq_cli.errors import InputNotFoundError, UsageError, install_extra
from tsq_cli.files import write_text
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.packs.limits import MAX_CANDIDATES, MAX_NAMES
from tsq_cli.training.losses import InteractionKind
from tsq_cli.training.ranges import above_zero, at_least, at_most, bad, check_validation, one_of
from tsq_cli.validation import SchemaError, from_dict

Optimizer = Literal["adamw", "sgd"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]

STAGES = ("encoder", "heads", "recognizer")


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Optimization of a network (tsq_cli.training.fit).

    Attributes:
        epochs: passes over the data, at least 1.
        batch_size: videos or images per step, over all processes together, at least 1.
        optimizer: AdamW, or SGD with Nesterov momentum 0.9.
        learning_rate: after the warm-up, above 0; decays to 0 along half a cosine.
        weight_decay: of all parameters but biases and weights of norms, 0 or more.
        warmup_epochs: length of the linear warm-up, 0 or more, may be a fraction.
        clip_norm: largest norm of the gradient over all parameters; 0 disables clipping.
        precision: of activations; "auto" is bfloat16 on a GPU that supports it, float16 on other GPUs, else float32.
        keep: the epoch whose weights go on: the one of the best mAP on validation videos, of equal ones of the best
            top-1 accuracy, the lowest loss, the first (ours); or the last (S). Without such videos it is the last.
        patience: number of epochs without a better mAP after which training stops early; 0 never does.
        seed: of all random draws.

    Raises:
        UsageError: a value out of range.
    """

    epochs: int = 10
    batch_size: int = 64
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup_epochs: float = 1.0
    clip_norm: float = 1.0
    precision: Precision = "auto"
    keep: Literal["best", "last"] = "best"
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(self, 1, "epochs", "batch_size")
        at_least(self, 0, "weight_decay", "warmup_epochs", "clip_norm", "patience", "seed")
        above_zero(self, "learning_rate")
        one_of(self, optimizer=Optimizer, precision=Precision, keep=Literal["best", "last"])


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """The TSQ layers and their training, stages (b) and (c).

    Attributes:
        alpha: weight of the loss by which the textual module teaches the visual one, 0 or more (S: 0.6).
        beta: weight of the loss by which the visual module teaches the textual one, 0 or more (S: 0.6).
        interaction: distance between the two modules' attention in both losses.
        visual_init: initial queries of VQM: visual prototypes (S) or random.
        textual_init: initial queries of TQM: embeddings of the class names (S) or random.
        prototype_ratio: m, share of a video's correctly classified frames that make its prototype, above 0, at most 1
            (S: 0.3).
        visual_scale, textual_scale: s of the softmax over frames; 1 / sqrt(width) if left out.
        top_n: categories behind each saliency curve, at least 1.
        lambda_v: share of the visual module in the chosen frames, 0 to 1 (S: 0.6).
        layer: shape and variant of VQM's layer, and of TQM's unless textual_layer is given.
        textual_layer: shape and variant of TQM's layer, if it differs.
        fit: optimization.

    Raises:
        UsageError: a value out of range.
    """

    alpha: float = 0.6
    beta: float = 0.6
    interaction: InteractionKind = "kl"
    visual_init: Literal["prototypes", "random"] = "prototypes"
    textual_init: Literal["text", "random"] = "text"
    prototype_ratio: float = 0.3
    visual_scale: float | None = None
    textual_scale: float | None = None
    top_n: int = 3
    lambda_v: float = 0.6
    layer: TSQLayerConfig = field(default_factory=TSQLayerConfig)
    textual_layer: TSQLayerConfig | None = None
    fit: FitSettings = field(default_factory=lambda: FitSettings(epochs=30, batch_size=16))

    def __post_init__(self) -> None:
        at_least(self, 0, "alpha", "beta", "lambda_v")
        at_least(self, 1, "top_n")
        at_most(self, MAX_NAMES, "top_n")
        above_zero(self, "prototype_ratio", "visual_scale", "textual_scale")
        at_most(self, 1, "prototype_ratio", "lambda_v")
        one_of(
            self,
            interaction=InteractionKind,
            visual_init=Literal["prototypes", "random"],
            textual_init=Literal["text", "random"],
        )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random augmentation of training images.

    Attributes:
        min_area: smallest share of the image that a random crop keeps, above 0, at most 1.
        flip: whether half of the images are mirrored.
        color_jitter: largest relative change of brightness, contrast and saturation, 0 or more.

    Raises:
        UsageError: a value out of range.
    """

    min_area: float = 0.35
    flip: bool = True
    color_jitter: float = 0.2

    def __post_init__(self) -> None:
        above_zero(self, "min_area")
        at_most(self, 1, "min_area")
        at_least(self, 0, "color_jitter")


@dataclass(frozen=True, kw_only=True)
class FineTuneSettings:
    """Fine-tuning of an image network on frames of labeled videos.

    Attributes:
        frozen_stages: number of stages, counted from the pixels, that are not trained, 0 or more: faster, and less
            overfitting to few images (ours). The stem is one of tf_efficientnet_lite0's 8 stages.
        backbone_lr_scale: learning rate of the other layers as a share of the new classifier's, 0 to 1.
        label_smoothing: share of the target distributed over all classes, 0 to 1.
        augmentation: of the frames.
        fit: optimization.

    Raises:
        UsageError: a value out of range.
    """

    frozen_stages: int = 0
    backbone_lr_scale: float = 0.1
    label_smoothing: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    fit: FitSettings = field(default_factory=lambda: FitSettings(batch_size=16))

    def __post_init__(self) -> None:
        at_least(self, 0, "frozen_stages", "backbone_lr_scale", "label_smoothing")
        at_most(self, 1, "backbone_lr_scale", "label_smoothing")


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(FineTuneSettings):
    """Fine-tuning of the visual encoder on frames labeled with their video's classes, stage (a); S: 10 epochs.

    Attributes:
        frames_per_video: frames per video and epoch, drawn anew in each, at least 1.

    Raises:
        UsageError: a value out of range.
    """

    frames_per_video: int = 4
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "frames_per_video")


@dataclass(frozen=True, kw_only=True)
class RecognizerSettings(FineTuneSettings):
    """Training of the network that recognizes a video from its selected frames, stage (d).

    The method "probe" uses only label_smoothing and fit of FineTuneSettings.

    Attributes:
        model: a timm network with its published weights, or "visual_encoder", the pack's own.
        method: "probe" trains a linear layer on frozen features, "finetune" the whole network.
        num_frames: frames per video whose scores are pooled before the loss, at least 1.
        pooling: as tsq_cli.models.pooling.pool has it, here and in the pack; frames are drawn without a sampler, so
            that the weighted ones weigh all alike while they train.

    Raises:
        UsageError: a value out of range.
    """

    model: str = "visual_encoder"
    method: Literal["probe", "finetune"] = "probe"
    num_frames: int = 5
    pooling: Pooling = "logits"
    fit: FitSettings = field(default_factory=lambda: FitSettings(epochs=30, batch_size=16))

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "num_frames")
        one_of(self, method=Literal["probe", "finetune"], pooling=Pooling)


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """A whole run of `tsq train`.

    Attributes:
        train_list: labeled videos to train on (see tsq_cli.data).
        val_list: labeled videos to evaluate on, or as a text the share of the training list to hold out for that, above
            0 and below 1 ("0.2"); without it, nothing is evaluated.
        split_seed: of the draw of that share, 0 or more.
        root: folder that the lists' paths start from; the folder of the list if left out.
        delimiter: between path and labels; detected if left out.
        classes: file of class names, for lists that name classes by number.
        skip_empty_classes: leave out classes without a training video; otherwise they are refused.
        subset, val_subset: part of the training and of the validation list to use, for lists with several parts.
        pack: name or folder of the pack to start from.
        stages: any of encoder, heads and recognizer, separated by commas.
        num_candidates: T, candidate frames per video, at least 1 (S: 16).
        num_frames: K, frames that the finished pack selects by default, at least 1 (S: 5).
        encoder, heads, recognizer: settings of the stages.

    Raises:
        UsageError: a value out of range.
    """

    train_list: str
    val_list: str | None = None
    split_seed: int = 0
    root: str | None = None
    delimiter: str | None = None
    classes: str | None = None
    skip_empty_classes: bool = False
    subset: str | None = None
    val_subset: str | None = None
    pack: str = DEFAULT_PACK
    stages: str = "heads,recognizer"
    num_candidates: int = 16
    num_frames: int = 5
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    heads: HeadSettings = field(default_factory=HeadSettings)
    recognizer: RecognizerSettings = field(default_factory=RecognizerSettings)

    def __post_init__(self) -> None:
        at_least(self, 1, "num_candidates", "num_frames")
        at_least(self, 0, "split_seed")
        at_most(self, MAX_CANDIDATES, "num_candidates", "num_frames")
        if set(self.stages.split(",")) - set(STAGES):
            raise bad("stages", repr(self.stages), "some of " + ",".join(STAGES), self)
        check_validation(self, self.stages.split(","))

    @property
    def val_share(self) -> float | None:
        """The share of the training list to hold out; None without one."""
        try:
            return None if self.val_list is None else float(self.val_list)
        except ValueError:
            return None

    def to_dict(self) -> dict[str, Any]:
        """Convert to nested values by name, without None: TOML has no null."""
        values: dict[str, Any] = asdict(self)
        return _without_none(values)

    def write(self, path: Path) -> None:
        """Write every value as TOML.

        Raises:
            OutputError: the file cannot be written.
        """
        import tomli_w

        write_text(path, tomli_w.dumps(self.to_dict()))


def require_extra() -> None:
    """Refuse to start without the libraries that write TOML and draw curves at the end.

    Raises:
        UsageError: the extra is not installed.
    """
    if missing := [name for name in ("tomli_w", "matplotlib") if importlib.util.find_spec(name) is None]:
        raise UsageError(
            f"{' and '.join(missing)} not installed",
            wanted="the libraries that training needs",
            fix=install_extra("train"),
        )


def read_settings(path: Path, overrides: Mapping[str, Any]) -> TrainSettings:
    """Read a run's TOML file; values that it leaves out have their defaults.

    Args:
        path: of the file.
        overrides: values that replace the file's, by dotted name ("heads.fit.epochs"); None replaces nothing.

    Raises:
        InputNotFoundError: no such file.
        UsageError: not TOML, an unknown name, or a value of the wrong type or out of range.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputNotFoundError(
            f"{path} cannot be read ({error.strerror})", wanted="a TOML file of settings", fix="check --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} is no TOML file: {error}", wanted="a file like train.toml of a finished run", fix="correct it"
        ) from error
    return settings_from(values, overrides, origin=str(path))


def settings_from(values: Mapping[str, Any], overrides: Mapping[str, Any], *, origin: str) -> TrainSettings:
    """Build settings from nested values, as read_settings.

    Args:
        values: as `TrainSettings.to_dict` gives them.
        overrides: by dotted name; None replaces nothing.
        origin: where the values come from, for the message.

    Raises:
        UsageError: an unknown name, or a value of the wrong type or out of range.
    """
    # An incomplete table keeps the other defaults of its own place: heads.fit has more epochs than encoder.fit.
    defaults = TrainSettings(train_list="").to_dict()
    del defaults["train_list"]
    merged = _merged(defaults, values)
    for name, value in overrides.items():
        *parents, last = name.split(".")
        place = merged
        for parent in parents:
            place = place[parent]
        if value is not None:
            place[last] = value
    try:
        return from_dict(TrainSettings, merged)
    except SchemaError as error:
        raise UsageError(
            f"{origin}: {error.where or 'the file'} is {error.got}",
            wanted=error.wanted,
            fix="see docs/training.md, or train.toml of a finished run, for all names and values",
        ) from error


def _merged(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested tables; `values` replace `defaults`."""
    both = {
        name: _merged(defaults[name], value)
        if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping)
        else value
        for name, value in values.items()
    }
    return {**defaults, **both}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if value is not None
    }
