"""TSQNet and its bounds in `tsq benchmark`, each from decoded frames on the host to the class of each video.

A runner holds one method's networks, with random weights, as they are published: float32, weights as torch lays them
out, batch norms in place. `optimize` gives it the general treatment, the same for all: batch norms folded away,
channels-last weights, half precision where asked for, and on a GPU one CUDA graph of all that lies between two waits of
the host. On a CPU networks see a few frames at a time in both forms, but for AdaFocus and Uni-AdaFocus, which have
forms as published. The methods of other authors are in tsq_cli/benchmark/peers.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from tsq_cli import selection
from tsq_cli.consensus import Pooling
from tsq_cli.errors import UsageError
from tsq_cli.explain import normalize_maps, saliency_maps
from tsq_cli.models import FrameEncoder, Recognizer, RecognizerOutput, create_encoder, fuse_on_device, pool
from tsq_cli.models.device import to_device
from tsq_cli.models.flops import Cost, count
from tsq_cli.models.graphs import Graphed
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import Pack, PackConfig, find_pack
from tsq_cli.packs.load import build_pack, optimize_for_inference, optimize_pack
from tsq_cli.recognition import prepare_frames, recognize_images
from tsq_cli.scoring import encode_images, prepare_clips, tsq_scores
from tsq_cli.types import Float32Array


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Settings that all methods of a benchmark share.

    Attributes:
        pack: name or folder of the pack whose networks TSQNet has.
        recognizer: timm name of the network behind TSQNet, uniform and all.
        num_frames: K.
        num_candidates: T.
        device: as torch names it.
        dtype: of the tuned methods; as published is float32.
        input_size: of TSQNet's sampler, in pixels; None is the pack's own.
        exit_after: frames after which FrameExit leaves, 1 to 10.
        pooling: of the recognizer's frames, behind TSQNet, uniform and all.
        sure_after: frames after which TSQNet with early exit leaves, 1 to K; None is SURE_AFTER, or K if that is less.
        recognizer_input_size: of the recognizer, in pixels; None is what timm says of the network.
    """

    pack: str
    recognizer: str
    num_frames: int
    num_candidates: int
    device: str
    dtype: torch.dtype
    input_size: int | None
    exit_after: int
    pooling: Pooling = "logits"
    sure_after: int | None = None
    recognizer_input_size: int | None = None


class Runner(ABC):
    """One method, timed from decoded frames on the host to class indices on the host.

    Attributes:
        name: short, for tables.
        title: name with the settings that matter.
        batches: whether it takes several videos at once.
    """

    name: str
    title: str
    batches = True

    def __init__(self, setting: BenchmarkConfig) -> None:
        self._setting = setting
        self._whole: Callable[[Tensor], Any] = self.forward  # a CUDA graph of it, once tuned on a GPU

    @property
    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """All networks that take part."""

    @abstractmethod
    def optimize(self) -> None:
        """Optimize all networks for inference, once."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Classify the frames used, uint8 [B, F, H, W, 3], to class indices [B]; both on the device."""

    def frames_used(self, frames: Tensor) -> Tensor:
        """Take the F frames that the method looks at from T candidates [B, T, H, W, 3]; by default all."""
        return frames

    @property
    def num_given(self) -> int:
        """Frames of a video that the method is given, decoded: T, but for a method that chooses among more."""
        return self._setting.num_candidates

    def classify(self, frames: Tensor) -> Tensor:
        """Classify num_given frames uint8 [B, T, H, W, 3] to class indices [B], from host to host."""
        classes: Tensor = self._whole(to_device(self.frames_used(frames), self._setting.device))
        return classes.cpu()


@dataclass
class Pass:
    """Tensors of one pass of B videos through TSQNet and its recognizer; each stage adds its own.

    Attributes:
        pixels: candidates uint8 [B, T, H, W, 3] on the device.
        visual_input, object_input: candidates as the two networks take them, [B * T, 3, S, S]; one for both where one
            network serves both.
        features: [B * T, Dv] of the visual encoder.
        object_logits: [B * T, O].
        positions, weights: int64 [B, K], the frames chosen, and S^v of each.
        images: [B * K, 3, S, S], these frames as the recognizer takes them.
        output: of the recognizer for them.
        classes: int64 [B], the class of each video.
        maps: per video [K, h, w].
    """

    pixels: Tensor
    visual_input: Tensor = field(init=False)
    object_input: Tensor = field(init=False)
    features: Tensor = field(init=False)
    object_logits: Tensor = field(init=False)
    positions: Tensor = field(init=False)
    weights: Tensor = field(init=False)
    images: Tensor = field(init=False)
    output: RecognizerOutput = field(init=False)
    classes: Tensor = field(init=False)
    maps: list[Float32Array] = field(init=False)


Stage = Callable[[Pass], None]


class TSQNetRunner(Runner):
    """TSQNet and a recognizer, stage by stage: what `tsq classify` does, without records."""

    name = "TSQNet"

    def __init__(self, setting: BenchmarkConfig) -> None:
        super().__init__(setting)
        self._pack = self._load()
        self._recognizer, self._preprocessor = _recognizer(setting, len(self._pack.class_names))
        self._recognize_alone: Callable[[Tensor], RecognizerOutput] = self._run_recognizer
        self.title = f"{self.name} ({self._pack.config.name}, {self.input_size} px) + {self._recognizer_title}"

    @property
    def recognizer_size(self) -> int:
        """Side of the recognizer's input, in pixels."""
        return self._preprocessor.input_size

    @property
    def _recognizer_title(self) -> str:
        return f"{self._setting.recognizer} ({self.recognizer_size} px)"

    @property
    def device(self) -> str:
        """Device of the networks, as torch names it."""
        return self._setting.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the networks as they are now."""
        dtype: torch.dtype = self._pack.dtype
        return dtype

    def recognizer_cost(self, video: Tensor) -> Cost:
        """Count the recognizer's operations for K frames of one video, uint8 [1, T, H, W, 3]."""
        state = Pass(video.to(self.device))
        state.positions = torch.arange(self._setting.num_frames, device=self.device)[None]
        self._gather(state)
        return count(self._recognizer, state.images)

    @property
    def _shared(self) -> bool:
        """Whether one pass of one network serves both modules."""
        return self._pack.object_recognizer is self._pack.visual_encoder

    @property
    def input_size(self) -> int:
        """Side of the sampler's input, in pixels."""
        return self._pack.visual_preprocessor.input_size

    @property
    def networks(self) -> list[nn.Module]:
        """All networks that take part."""
        return [self._pack.visual_encoder, self._pack.object_recognizer, self._pack.tsqnet, self._recognizer]

    def optimize(self) -> None:
        """See Runner."""
        self._pack = optimize_pack(self._pack, self._setting.dtype)
        optimize_for_inference(self._recognizer.encoder, self._setting.device, self._setting.dtype)
        self._whole = Graphed(self.forward)
        self._recognize_alone = Graphed(self._run_recognizer)

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner."""
        state = Pass(pixels)
        for stage in self.stages.values():
            stage(state)
        return state.classes

    @property
    def profiled_stages(self) -> dict[str, Stage]:
        """Stages as they are timed one by one: the tuned recognizer, on a GPU, in a graph, as it runs in the whole.

        The others are launched kernel by kernel there, which takes longer than in the graph of the whole.
        """
        return {**self.stages, "recognizer": self._recognize_in_graph, "maps": self.explain}

    @property
    def stages(self) -> dict[str, Stage]:
        """Stages on the device, in order."""
        return {
            "preprocess candidates": self._preprocess,
            "visual encoder": self._encode,
            "object recognizer" + ", the same pass" * self._shared: self._encode_objects,
            "TSQ layers and fusion": self._choose,
            "gather and preprocess K frames": self._gather,
            "recognizer": self._recognize,
        }

    def _preprocess(self, state: Pass) -> None:
        frames = [state.pixels.flatten(0, 1)]  # [B, T, ...] -> [B * T, ...]
        state.visual_input = prepare_clips(self._pack, self._pack.visual_preprocessor, frames)
        if not self._shared:
            state.object_input = prepare_clips(self._pack, self._pack.object_preprocessor, frames)

    def _encode(self, state: Pass) -> None:
        state.features, state.object_logits = encode_images(self._pack.visual_encoder, state.visual_input)

    def _encode_objects(self, state: Pass) -> None:
        if not self._shared:
            state.object_logits = encode_images(self._pack.object_recognizer, state.object_input)[1]

    def _choose(self, state: Pass) -> None:
        settings = self._pack.config.settings
        clips = state.pixels.shape[:2]
        features, objects = (part.reshape(*clips, -1) for part in (state.features, state.object_logits))
        scores = tsq_scores(self._pack, features, objects, top_n=settings.top_n)
        state.positions, _ = fuse_on_device(
            scores.visual.scores, scores.textual.scores, self._setting.num_frames, lambda_v=settings.lambda_v
        )

        state.weights = scores.visual.scores.gather(1, state.positions)

    def _gather(self, state: Pass) -> None:
        chosen = chosen_frames(state).flatten(0, 1)  # [B, K, H, W, 3] -> [B * K, H, W, 3]
        state.images = prepare_frames(self._recognizer, self._preprocessor, chosen)

    def _run_recognizer(self, images: Tensor) -> RecognizerOutput:
        return recognize_images(self._recognizer, images)

    def _recognize_in_graph(self, state: Pass) -> None:
        self._recognize(state, self._recognize_alone)

    def _recognize(self, state: Pass, run: Callable[[Tensor], RecognizerOutput] | None = None) -> None:
        state.output = (run or self._run_recognizer)(state.images)
        state.classes = classes_of(state.output, len(state.pixels), self._setting.pooling, state.weights)

    def explain(self, state: Pass) -> None:
        """Make the maps of each video's class, as `tsq classify` does once the host knows the class."""
        state.maps = []
        videos = torch.tensor_split(state.output.activations, len(state.pixels))
        for activations, class_index in zip(videos, state.classes.tolist(), strict=True):
            output = RecognizerOutput(logits=activations.new_empty(0), activations=activations)  # maps need no logits
            state.maps.append(normalize_maps(saliency_maps(self._recognizer, output, class_index), "clip"))

    def _load(self) -> Pack:
        config = find_pack(self._setting.pack).at_input_size(self._setting.input_size)
        return random_pack(config, self._setting.device)


class FramesRunner(Runner):
    """A recognizer on K evenly spaced frames, or on all T."""

    def __init__(self, setting: BenchmarkConfig, num_frames: int) -> None:
        super().__init__(setting)
        self._positions = [choice.position for choice in selection.uniform(setting.num_candidates, num_frames)]
        num_classes = len(find_pack(setting.pack).class_names)
        self._recognizer, self._preprocessor = _recognizer(setting, num_classes)
        self.name = f"{'all' if num_frames == setting.num_candidates else 'uniform'} {num_frames}"
        self.title = f"{self.name} frames + {setting.recognizer} ({self.recognizer_size} px)"

    @property
    def recognizer_size(self) -> int:
        """Side of the recognizer's input, in pixels."""
        return self._preprocessor.input_size

    @property
    def networks(self) -> list[nn.Module]:
        """All networks that take part."""
        return [self._recognizer]

    def optimize(self) -> None:
        """See Runner."""
        optimize_for_inference(self._recognizer.encoder, self._setting.device, self._setting.dtype)
        self._whole = Graphed(self.forward)

    def frames_used(self, frames: Tensor) -> Tensor:
        """See Runner."""
        return frames[:, self._positions]

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner; frames uint8 [B, K, H, W, 3]."""
        images = prepare_frames(self._recognizer, self._preprocessor, pixels.flatten(0, 1))
        return classes_of(recognize_images(self._recognizer, images), len(pixels), self._setting.pooling)


def chosen_frames(state: Pass) -> Tensor:
    """Frames at the positions of a pass, uint8 [B, K, H, W, 3], gathered on the device."""
    videos = torch.arange(len(state.pixels), device=state.pixels.device)[:, None]
    return state.pixels[videos, state.positions]


def random_pack(config: PackConfig, device: str) -> Pack:
    """Build the networks that a pack describes with random weights, as they are published: enough to time them."""
    num_objects = len(config.object_names)
    visual_encoder = object_recognizer = create_encoder(config.roles.visual_encoder.model, num_classes=num_objects)
    if config.roles.objects is not config.roles.visual_encoder:
        object_recognizer = create_encoder(config.roles.objects.model, num_classes=num_objects)
    # As wide as those of the sentence encoder that the shipped packs were made with.
    embeddings = torch.randn(num_objects, 384, generator=torch.Generator().manual_seed(0))
    return build_pack(
        config, visual_encoder, object_recognizer, nn.functional.normalize(embeddings, dim=1), device=device
    )


def recognizer_network(name: str, num_classes: int, input_size: int | None) -> tuple[FrameEncoder, Preprocessor]:
    """Build a recognizer with random weights, and its preprocessing.

    Args:
        name: of timm.
        num_classes: C.
        input_size: side of its input in pixels; None is what timm says of the network.

    Raises:
        UsageError: timm has no such network, or it takes inputs of one size only and another is asked for.
    """
    encoder = create_encoder(name, num_classes=num_classes)
    preprocessor = Preprocessor.from_timm(encoder.pretrained_cfg)
    if input_size is None or input_size == preprocessor.input_size:
        return encoder, preprocessor
    if encoder.model.pretrained_cfg.get("fixed_input_size", False):
        raise UsageError(
            f"--recognizer-input-size is {input_size}, and {name} takes {preprocessor.input_size} pixels only",
            wanted=f"{preprocessor.input_size}, or a network that takes other sizes",
            fix="leave it at the default, or choose a convolutional network, for example resnet50",
        )
    return encoder, replace(preprocessor, input_size=input_size)


def _recognizer(setting: BenchmarkConfig, num_classes: int) -> tuple[Recognizer, Preprocessor]:
    encoder, preprocessor = recognizer_network(setting.recognizer, num_classes, setting.recognizer_input_size)
    return Recognizer(encoder.to(setting.device)), preprocessor


def classes_of(output: RecognizerOutput, num_videos: int, pooling: Pooling, weights: Tensor | None = None) -> Tensor:
    """Class indices [B] by the pooled scores of each video's frames."""
    logits = output.logits.float().reshape(num_videos, -1, output.logits.shape[1])
    classes: Tensor = pool(logits, pooling, weights=weights).argmax(dim=1)
    return classes
