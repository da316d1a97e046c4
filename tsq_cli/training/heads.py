"""Training of the two TSQ layers on cached features, stage (c) (S in part; docs/method.md, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from tsq_cli.files import atomic_path
from tsq_cli.models import TSQLayer, TSQNet, TSQNetOutput, TSQOutput
from tsq_cli.training import distributed
from tsq_cli.training.fit import TrainingTask, fit
from tsq_cli.training.losses import classification_loss, interaction_loss
from tsq_cli.training.settings import HeadSettings
from tsq_cli.types import Progress, no_progress

INITIAL = "initial.safetensors"
_CHUNK_CLIPS = 256


@dataclass(frozen=True)
class ClipBatch:
    """B clips of T frames.

    Attributes:
        visual: X^v [B, T, Dv], of the visual encoder.
        textual: X^t [B, T, Dt], see tsq_cli.models.object_text_features.
        targets: float [B, C], 1 for each of a clip's classes, else 0.
    """

    visual: Tensor
    textual: Tensor
    targets: Tensor

    def to(self, device: torch.device | str) -> ClipBatch:
        """Copy the batch to a device, in float32."""
        return ClipBatch(*(part.to(device, torch.float32) for part in (self.visual, self.textual, self.targets)))


class ClipSource(Protocol):
    """A source of training clips: a cache, or clips composed anew in each epoch.

    Attributes:
        num_classes: C.
        batches_per_epoch: number of batches that `epoch` yields, the same in every epoch and process.
    """

    @property
    def num_classes(self) -> int: ...  # noqa: D102

    @property
    def batches_per_epoch(self) -> int: ...  # noqa: D102

    def epoch(self, number: int) -> Iterator[ClipBatch]:
        """Yield this process' batches of an epoch (from 0), always the same."""
        ...


class CachedClips:
    """Clips with all features in memory, shuffled in each epoch.

    Args:
        visual: [N, T, Dv], of any floating point type.
        textual: [N, T, Dt].
        targets: bool or float [N, C].
        batch_size: clips per step, over all processes together, at least 1.
        seed: of the order.
    """

    def __init__(self, visual: Tensor, textual: Tensor, targets: Tensor, *, batch_size: int, seed: int = 0) -> None:
        self._clips = ClipBatch(visual, textual, targets)
        self._batch_size, self._seed = batch_size, seed
        self.num_classes = targets.shape[1]
        self.batches_per_epoch = distributed.batches_per_epoch(len(visual), batch_size)

    def epoch(self, number: int) -> Iterator[ClipBatch]:
        """Yield this process' batches of an epoch, in an order drawn from (seed, number)."""
        clips = self._clips
        for chosen in distributed.shuffled_batches(len(clips.visual), self._batch_size, seed=self._seed, epoch=number):
            yield ClipBatch(clips.visual[chosen], clips.textual[chosen], clips.targets[chosen])


def train_heads(
    source: ClipSource,
    settings: HeadSettings,
    *,
    queries_visual: Tensor,
    queries_textual: Tensor,
    num_classes: int,
    num_frames: int = 16,
    multi_label: bool = False,
    folder: Path | None = None,
    validate: Callable[[TSQNet], dict[str, float]] | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> TSQNet:
    """Train both modules together:

    L = L_cls(z^v) + L_cls(z^t) + alpha L(text teaches visual) + beta L(visual teaches text).

    Args:
        source: of the training clips.
        settings: weights of the losses, initialization, shape of the layers, and optimization.
        queries_visual: [C, Dv] visual prototypes; random initialization uses their shape alone.
        queries_textual: [C, Dt] embeddings of the class names; likewise.
        num_classes: C.
        num_frames: T, length of the positional embedding.
        multi_label: sigmoid and binary cross-entropy instead of softmax and cross-entropy.
        folder: for checkpoint, logs and initial.safetensors (`visual` and `textual`, the queries before training); None
            writes and resumes nothing.
        validate: computes metrics after each epoch, of the network in evaluation mode.
        device: to train on.
        progress: called with epoch and loss after every step.

    Returns:
        The network in evaluation mode, on `device`.

    Raises:
        UsageError: incompatible settings, or a folder that holds a run with other settings.
        TsqError: a loss that is not finite.
        ValueError: the source has another number of classes.
    """
    if source.num_classes != num_classes:
        raise ValueError(f"the source has {source.num_classes} classes, num_classes is {num_classes}")
    tsqnet = initial_tsqnet(
        settings, queries_visual=queries_visual, queries_textual=queries_textual, num_frames=num_frames
    ).to(device)
    if folder is not None and distributed.is_main_process():
        with atomic_path(folder / INITIAL) as temporary:
            queries = {"visual": tsqnet.vqm.queries, "textual": tsqnet.tqm.queries}
            save_file({name: values.detach().cpu().contiguous() for name, values in queries.items()}, temporary)
    task = HeadTask(tsqnet, source, settings, multi_label=multi_label, validate=validate)
    identity = {"heads": asdict(settings), "num_classes": num_classes, "multi_label": multi_label}
    fit(task, settings.fit, folder, identity=identity, what="heads", progress=progress)
    return tsqnet


@torch.inference_mode()
def predict(tsqnet: TSQNet, visual: Tensor, textual: Tensor) -> TSQNetOutput:
    """Run both modules over N clips in chunks.

    Args:
        tsqnet: in evaluation mode, on its device.
        visual: X^v [N, T, Dv], of any floating point type.
        textual: X^t [N, T, Dt], likewise.

    Returns:
        Outputs of both modules, float32 on the CPU.
    """
    device = tsqnet.vqm.queries.device
    outputs = [
        tsqnet(x_v.to(device, torch.float32), x_t.to(device, torch.float32))
        for x_v, x_t in zip(*(torch.split(of, _CHUNK_CLIPS) for of in (visual, textual)), strict=True)
    ]
    return TSQNetOutput(
        visual=_joined([output.visual for output in outputs]), textual=_joined([output.textual for output in outputs])
    )


def _joined(outputs: Sequence[TSQOutput]) -> TSQOutput:
    return TSQOutput(
        logits=torch.cat([output.logits for output in outputs]).cpu(),
        attention=torch.cat([output.attention for output in outputs]).cpu(),
    )


def initial_tsqnet(
    settings: HeadSettings, *, queries_visual: Tensor, queries_textual: Tensor, num_frames: int = 16
) -> TSQNet:
    """Build both modules before training; random weights depend on the seed of settings.fit alone.

    Args:
        settings: initialization and shape of the layers.
        queries_visual, queries_textual, num_frames: as for train_heads.

    Raises:
        UsageError: a variant that the layer refuses.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.fit.seed)
        return TSQNet(
            _layer(settings, queries_visual, num_frames, textual=False),
            _layer(settings, queries_textual, num_frames, textual=True),
        )


def _layer(settings: HeadSettings, queries: Tensor, num_frames: int, *, textual: bool) -> TSQLayer:
    shape = settings.textual_layer if textual and settings.textual_layer is not None else settings.layer
    random = (settings.textual_init if textual else settings.visual_init) == "random"
    return TSQLayer(
        queries.shape[1],
        len(queries),
        num_frames=num_frames,
        scale=settings.textual_scale if textual else settings.visual_scale,
        config=shape,
        queries=None if random else queries.float(),
    )


class HeadTask(TrainingTask):
    """Both modules on clips. Components of the loss are named by who is taught (docs/method.md, section 4).

    Args:
        tsqnet: on its device.
        source, settings, multi_label, validate: as for train_heads.
    """

    def __init__(
        self,
        tsqnet: TSQNet,
        source: ClipSource,
        settings: HeadSettings,
        *,
        multi_label: bool = False,
        validate: Callable[[TSQNet], dict[str, float]] | None = None,
    ) -> None:
        self.model = self._tsqnet = tsqnet
        self._source, self._settings, self._multi_label, self._validate = source, settings, multi_label, validate
        self._device = tsqnet.vqm.queries.device
        self.batches_per_epoch = source.batches_per_epoch

    def batches(self, epoch: int) -> Iterator[ClipBatch]:
        """Yield the source's clips, on the network's device."""
        return (batch.to(self._device) for batch in self._source.epoch(epoch))

    def losses(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Compute the total loss and its components, these unweighted."""
        output = self._tsqnet(batch.visual, batch.textual)
        visual, textual, targets = output.visual, output.textual, batch.targets
        kind = self._settings.interaction
        parts = {
            "visual": classification_loss(visual.logits, targets, multi_label=self._multi_label),
            "textual": classification_loss(textual.logits, targets, multi_label=self._multi_label),
            "text_teaches_visual": interaction_loss(visual.attention, textual.attention, targets, kind=kind),
            "visual_teaches_text": interaction_loss(textual.attention, visual.attention, targets, kind=kind),
        }
        total = (
            parts["visual"]
            + parts["textual"]
            + self._settings.alpha * parts["text_teaches_visual"]
            + self._settings.beta * parts["visual_teaches_text"]
        )
        return {"loss": total, **parts}

    def lr_scale(self, name: str) -> float:
        """Return 10 for the gain and the shift of a counting layer, two numbers on which every class score turns."""
        return 10.0 if name.endswith(("count_gain", "count_shift")) else 1.0

    def validate(self) -> dict[str, float]:
        """Compute the caller's metrics."""
        return {} if self._validate is None else self._validate(self._tsqnet)
