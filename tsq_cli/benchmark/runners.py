"""The contenders of `tsq benchmark`, each from decoded frames on the host to the class of each video there.

A runner holds one method's networks, with random weights, as they are published: float32, weights as torch lays them
out, batch norms in place. `tune` gives it the general treatment, the same for all: batch norms folded away,
channels-last weights, half precision where asked for, and on a GPU one CUDA graph of all that lies between two waits of
the host. On a CPU networks see a few frames at a time in both forms, but for AdaFocus, which has a form as published.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tsq_cli import selection
from tsq_cli.benchmark.methods import AdaFocus, FrameExit
from tsq_cli.benchmark.methods.frameexit import FRAME_ORDER
from tsq_cli.explain import saliency_maps, scale_maps
from tsq_cli.models import Recognizer, RecognizerOutput, create_encoder, fuse_on_device
from tsq_cli.models.device import cpu_microbatches, to_device
from tsq_cli.models.flops import Cost, count
from tsq_cli.models.graphs import Graphed
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import Pack, PackConfig, find_pack
from tsq_cli.packs.load import build_pack, optimize_for_inference, optimize_pack
from tsq_cli.scoring import encode_images, prepare_clips, tsq_scores

RIVAL_BACKBONE = "resnet50"  # of FrameExit, and what AdaFocus looks closely with


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all methods of a benchmark share.

    Attributes:
        pack: name or folder of the pack whose networks TSQNet has.
        recognizer: timm name of the network behind TSQNet, uniform and all.
        num_frames: K.
        num_candidates: T.
        device: as torch names it.
        dtype: of the tuned methods; as published is float32.
        input_size: of TSQNet's sampler, in pixels; None is the pack's own.
        exit_after: frames after which FrameExit leaves, 1 to 10.
    """

    pack: str
    recognizer: str
    num_frames: int
    num_candidates: int
    device: str
    dtype: torch.dtype
    input_size: int | None
    exit_after: int


class Runner(ABC):
    """One method.

    Attributes:
        name: for people, short.
        title: for people, with what was set.
        batches: whether it takes several videos at once.
    """

    name: str
    title: str
    batches = True

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._whole: Callable[[Tensor], Any] = self.forward  # a CUDA graph of it, once tuned on a GPU

    @property
    @abstractmethod
    def networks(self) -> list[nn.Module]:
        """All networks that take part."""

    @abstractmethod
    def tune(self) -> None:
        """Give the general treatment, once."""

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Class indices [B] of the frames taken, uint8 [B, F, H, W, 3], both on the device."""

    def taken(self, frames: Tensor) -> Tensor:
        """The frames [B, F, H, W, 3] that it looks at, of T candidates [B, T, H, W, 3]: all, if not said otherwise."""
        return frames

    def classify(self, frames: Tensor) -> Tensor:
        """Class indices [B] of T candidates uint8 [B, T, H, W, 3], from host to host."""
        classes: Tensor = self._whole(to_device(self.taken(frames), self._setting.device))
        return classes.cpu()


class TSQNetRunner(Runner):
    """TSQNet and a recognizer, stage by stage: what `tsq classify` does, without records."""

    name = "TSQNet"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._pack = self._load()
        self.title = f"TSQNet ({self._pack.config.name}, {self.input_size} px) + {setting.recognizer}"
        self._recognizer, self._preprocessor = _recognizer(setting, len(self._pack.class_names))

    @property
    def device(self) -> str:
        """Where it runs."""
        return self._setting.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks as they are now."""
        return self._pack.dtype

    def recognizer_cost(self, video: Tensor) -> Cost:
        """Of the recognizer on K frames of one video, uint8 [1, T, H, W, 3]."""
        held = {
            "pixels": video.to(self.device),
            "positions": torch.arange(self._setting.num_frames, device=self.device)[None],
        }
        self._gather(held)
        return count(self._recognizer, held["images"])

    @property
    def _shared(self) -> bool:
        """Whether one pass of one network serves both modules."""
        return self._pack.object_recognizer is self._pack.visual_encoder

    @property
    def input_size(self) -> int:
        """Of the sampler, in pixels."""
        return self._pack.visual_preprocessor.input_size

    @property
    def networks(self) -> list[nn.Module]:
        """See Runner."""
        return [self._pack.visual_encoder, self._pack.object_recognizer, self._pack.tsqnet, self._recognizer]

    def tune(self) -> None:
        """See Runner."""
        self._pack = optimize_pack(self._pack, self._setting.dtype)
        optimize_for_inference(self._recognizer.encoder, self._setting.device, self._setting.dtype)
        self._whole = Graphed(self.forward)

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner."""
        held: dict[str, Any] = {"pixels": pixels}
        for stage in self.stages.values():
            stage(held)
        classes: Tensor = held["classes"]
        return classes

    @property
    def stages(self) -> dict[str, Callable[[dict[str, Any]], None]]:
        """What happens on the device, in order; each stage adds to what is held."""
        return {
            "preprocess candidates": self._prepare,
            "visual encoder": self._see,
            "object recognizer" + ", the same pass" * self._shared: self._see_objects,
            "TSQ layers and fusion": self._choose,
            "gather and preprocess K frames": self._gather,
            "recognizer": self._recognize,
        }

    def _prepare(self, held: dict[str, Any]) -> None:
        frames = [held["pixels"].flatten(0, 1)]  # [B, T, ...] -> [B * T, ...]
        held["seen"] = prepare_clips(self._pack, self._pack.visual_preprocessor, frames)
        if not self._shared:
            held["objects seen"] = prepare_clips(self._pack, self._pack.object_preprocessor, frames)

    def _see(self, held: dict[str, Any]) -> None:
        held["features"], held["objects"] = encode_images(self._pack.visual_encoder, held["seen"])

    def _see_objects(self, held: dict[str, Any]) -> None:
        if not self._shared:
            held["objects"] = encode_images(self._pack.object_recognizer, held["objects seen"])[1]

    def _choose(self, held: dict[str, Any]) -> None:
        settings = self._pack.config.settings
        clips = held["pixels"].shape[:2]
        features, objects = (held[name].reshape(*clips, -1) for name in ("features", "objects"))
        scores = tsq_scores(self._pack, features, objects, top_n=settings.top_n)
        held["positions"] = fuse_on_device(
            scores.visual.scores, scores.textual.scores, self._setting.num_frames, lambda_v=settings.lambda_v
        )

    def _gather(self, held: dict[str, Any]) -> None:
        pixels = held["pixels"]
        clips = torch.arange(len(pixels), device=pixels.device)[:, None]
        chosen = pixels[clips, held["positions"]].flatten(0, 1)  # [B, K, H, W, 3] -> [B * K, H, W, 3]
        held["images"] = _prepared(self._preprocessor, chosen, self._recognizer)

    def _recognize(self, held: dict[str, Any]) -> None:
        held["outputs"] = _seen(self._recognizer, held["images"])
        held["classes"] = _mean_class(held["outputs"], len(held["pixels"]))

    def explain(self, held: dict[str, Any]) -> None:
        """Maps of each video's class, which `tsq classify` makes once the host knows the class; after all stages."""
        activations = torch.cat([output.activations for output in held["outputs"]])
        videos = torch.tensor_split(activations, len(held["pixels"]))
        for seen, class_index in zip(videos, held["classes"].tolist(), strict=True):
            output = RecognizerOutput(logits=seen.new_empty(0), activations=seen)  # logits take no part in maps
            held.setdefault("maps", []).append(scale_maps(saliency_maps(self._recognizer, output, class_index), "clip"))

    def _load(self) -> Pack:
        config = find_pack(self._setting.pack).at_input_size(self._setting.input_size)
        return random_pack(config, self._setting.device)


class FramesRunner(Runner):
    """A recognizer on K evenly spaced frames, or on all T."""

    def __init__(self, setting: Setting, num_frames: int) -> None:
        super().__init__(setting)
        self.name = f"{'all' if num_frames == setting.num_candidates else 'uniform'} {num_frames}"
        self.title = f"{self.name} frames + {setting.recognizer}"
        self._positions = [choice.position for choice in selection.uniform(setting.num_candidates, num_frames)]
        num_classes = len(find_pack(setting.pack).class_names)
        self._recognizer, self._preprocessor = _recognizer(setting, num_classes)

    @property
    def networks(self) -> list[nn.Module]:
        """See Runner."""
        return [self._recognizer]

    def tune(self) -> None:
        """See Runner."""
        optimize_for_inference(self._recognizer.encoder, self._setting.device, self._setting.dtype)
        self._whole = Graphed(self.forward)

    def taken(self, frames: Tensor) -> Tensor:
        """See Runner."""
        return frames[:, self._positions]

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner; frames uint8 [B, K, H, W, 3]."""
        images = _prepared(self._preprocessor, pixels.flatten(0, 1), self._recognizer)
        return _mean_class(_seen(self._recognizer, images), len(pixels))


class FrameExitRunner(Runner):
    """FrameExit, one video at a time, each frame prepared when it is visited."""

    name = "FrameExit"
    batches = False

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.title = f"FrameExit, {setting.exit_after} frames ({RIVAL_BACKBONE})"
        self._network = FrameExit(len(find_pack(setting.pack).class_names), backbone=RIVAL_BACKBONE)
        self._network.to(setting.device)
        self._preprocessor = rival_preprocessor()
        self._dtype = torch.float32
        self._steps: list[Callable[[Tensor, Tensor], Any]] = [self._step(i) for i in range(len(FRAME_ORDER))]

    @property
    def networks(self) -> list[nn.Module]:
        """See Runner."""
        return [self._network]

    def tune(self) -> None:
        """See Runner."""
        self._network.fold_batch_norms()
        self._dtype = self._setting.dtype
        self._network.to(self._dtype).to(memory_format=torch.channels_last)
        self._steps = [Graphed(step) for step in self._steps]

    def taken(self, frames: Tensor) -> Tensor:
        """See Runner."""
        return frames[:, : len(FRAME_ORDER)]

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner; B is 1."""
        state = pixels.new_zeros(1, self._network.embed.linear.out_features, dtype=self._dtype)
        for position, time in enumerate(FRAME_ORDER):
            state, leaves = self._steps[position](pixels[:, time], state)  # each position has a graph of its own
            leaves.cpu()  # the wait is the method's; what it says is not heeded, as random weights would leave anywhere
            if position + 1 == self._setting.exit_after:
                break
        return self._network.classify(position, state).argmax(dim=1)

    def classify(self, frames: Tensor) -> Tensor:
        """See Runner."""
        videos = torch.split(self.taken(frames), 1)
        return torch.cat([self.forward(to_device(video, self._setting.device)).cpu() for video in videos])

    def _step(self, position: int) -> Callable[[Tensor, Tensor], Any]:
        def step(pixels: Tensor, state: Tensor) -> Any:
            return self._network.step(position, self._preprocessor(pixels, pixels.device, self._dtype), state)

        return step


class AdaFocusRunner(Runner):
    """AdaFocus on T frames."""

    name = "AdaFocus"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.title = f"AdaFocus, {setting.num_candidates} frames ({RIVAL_BACKBONE})"
        self._network = AdaFocus(len(find_pack(setting.pack).class_names), focus=RIVAL_BACKBONE).to(setting.device)
        self._preprocessor = rival_preprocessor()
        self._dtype = torch.float32
        self._classify: Callable[[Tensor], Tensor] = self._network.forward_as_published

    @property
    def networks(self) -> list[nn.Module]:
        """See Runner."""
        return [self._network]

    def tune(self) -> None:
        """See Runner."""
        self._network.fold_batch_norms()
        self._dtype = self._setting.dtype
        self._network.to(self._dtype).to(memory_format=torch.channels_last)
        self._classify = self._network
        self._whole = Graphed(self.forward)

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner."""
        images = self._preprocessor(pixels.flatten(0, 1), pixels.device, self._dtype)
        return self._classify(images.reshape(*pixels.shape[:2], *images.shape[1:])).argmax(dim=1)


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


def rival_preprocessor() -> Preprocessor:
    """Of both peers: 224 pixels, as ImageNet networks are fed."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Preprocessor(input_size=224, mean=mean, std=std, interpolation="bicubic", crop_pct=0.875)


def _recognizer(setting: Setting, num_classes: int) -> tuple[Recognizer, Preprocessor]:
    encoder = create_encoder(setting.recognizer, num_classes=num_classes)
    return Recognizer(encoder.to(setting.device)), Preprocessor.from_timm(encoder.pretrained_cfg)


def _prepared(preprocessor: Preprocessor, pixels: Tensor, recognizer: Recognizer) -> Tensor:
    weight = recognizer.encoder.classifier_weight
    return preprocessor(pixels, weight.device, weight.dtype)


def _seen(recognizer: Recognizer, images: Tensor) -> list[RecognizerOutput]:
    """What a recognizer says of images [N, 3, S, S], as many at a time as are good for the device."""
    return [recognizer(some) for some in cpu_microbatches(images, multiplier=2)]


def _mean_class(outputs: Sequence[RecognizerOutput], num_videos: int) -> Tensor:
    """Class indices [B] from the mean of the logits of each video's frames."""
    logits = torch.cat([output.logits for output in outputs])
    return logits.float().reshape(num_videos, -1, logits.shape[1]).mean(dim=1).argmax(dim=1)
