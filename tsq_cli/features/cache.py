"""Features and frames of videos, decoded once and kept on disk, so that training opens no video twice.

The key of an entry is the video's fingerprint (absolute path, size, modification time), how its frames were sampled and
decoded, and the network with its precision: in bfloat16 other frames may be chosen than in float32. The device is no
part of the key: in one precision it changes features by rounding only.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tsq_cli.config import SelectSettings
from tsq_cli.errors import WeightsError
from tsq_cli.features.extraction import FeatureSpec, digest, extract, repeat_indices
from tsq_cli.features.shards import Arrays, ShardStore
from tsq_cli.models import FrameEncoder
from tsq_cli.models.device import dtype_name
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.models.preprocess import RESIZE, Preprocessor
from tsq_cli.packs import LoadedRecognizer, Pack
from tsq_cli.packs.schema import EncoderRole, TimmWeights, TransformersWeights
from tsq_cli.types import FrameBatch, Int64Array, Progress, no_progress

if TYPE_CHECKING:
    from tsq_cli.data import LabeledVideo

SAMPLER_SHORT_SIDE = SelectSettings.short_side
"""Pixels of the shorter side of the frames that the sampler's networks are fed from, in selection as in training."""

JPEG_QUALITY = 95


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameNetwork:
    """A network whose features are cached.

    Attributes:
        name: of its features in the result ("visual", "objects", "recognizer").
        encoder: in evaluation mode, on its device, in its dtype.
        preprocessor: from decoded frames to its input.
        identity: stands for weights and preprocessing, but not for the precision; see network_identity.
        short_side: pixels of the shorter side of the decoded frames it is fed from (smaller videos keep their size).

    Raises:
        ValueError: an encoder in training mode.
    """

    name: str
    encoder: FrameEncoder
    preprocessor: Preprocessor
    identity: str
    short_side: int = SAMPLER_SHORT_SIDE

    def __post_init__(self) -> None:
        if self.encoder.training:
            raise ValueError(f"the network {self.name} must be in evaluation mode")

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights, which is that of its input."""
        return next(self.encoder.parameters()).dtype


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFeatures:
    """Features of the N videos that could be decoded, T frames each.

    The frames of a video with only n < T frames are repeated evenly, and their times with them: place i of T shows
    frame floor((i + 1/2) n / T) (ours).

    Attributes:
        kept: [N] indices into the videos asked for, ascending.
        failed: the other videos, each with the reason.
        features: by network, float16 [N, T, D] on the CPU.
        logits: by network that has a classifier, float16 [N, T, O] on the CPU.
        times: float64 [N, T], seconds from the first frame shown.
    """

    kept: tuple[int, ...]
    failed: tuple[tuple[LabeledVideo, str], ...]
    features: dict[str, Tensor]
    logits: dict[str, Tensor]
    times: Tensor


def network_identity(model: str, weights: str, preprocessor: Preprocessor) -> str:
    """Build the identity of a network, a part of the cache's keys.

    Args:
        model: timm's name of the architecture.
        weights: a text unique to its weights: the SHA-256 of their file, or where they come from.
        preprocessor: from frames to its input; how it resizes counts too.
    """
    return f"{model}/{digest([weights, asdict(preprocessor), RESIZE])}"


def weights_digest(encoder: FrameEncoder) -> str:
    """Compute the SHA-256 of a network's weights, for networks whose weights are in no file of a pack."""
    content = hashlib.sha256()
    for name, entry in sorted(encoder.state_dict().items()):
        content.update(f"{name} {entry.dtype} {list(entry.shape)}".encode())
        content.update(entry.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()


def pack_networks(pack: Pack) -> list[FrameNetwork]:
    """List the networks of a pack's modules: "visual", and "objects" unless the visual encoder scores objects too."""
    roles = pack.config.roles
    visual = _of_role("visual", roles.visual_encoder, pack.visual_encoder, pack.visual_preprocessor)
    if pack.object_recognizer is pack.visual_encoder:
        return [visual]
    return [visual, _of_role("objects", roles.objects, pack.object_recognizer, pack.object_preprocessor)]


def recognizer_network(loaded: LoadedRecognizer) -> FrameNetwork:
    """Wrap a recognizer as the network "recognizer", fed from frames of the size that classification uses."""
    choice, encoder, feeding = loaded.choice, loaded.recognizer.encoder, loaded.preprocessor
    short_side = max(SAMPLER_SHORT_SIDE, feeding.resize_side)
    if choice.role is not None:
        return _of_role("recognizer", choice.role, encoder, feeding, short_side)
    identity = network_identity(choice.name, weights_digest(encoder), feeding)
    return FrameNetwork(
        name="recognizer", encoder=encoder, preprocessor=feeding, identity=identity, short_side=short_side
    )


class FeatureCache:
    """A folder of cached features and frames; the module's docstring describes its keys.

    One process at a time may add to it, any number may read: if nothing is missing, `extract` and `frames` only read.
    Of processes that train together, the first fills the cache before the others use it (distributed.rank_zero_first).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def extract(
        self,
        videos: Sequence[LabeledVideo],
        networks: Sequence[FrameNetwork],
        *,
        num_frames: int = 16,
        workers: int = 1,
        progress: Progress = no_progress,
    ) -> VideoFeatures:
        """Read the features of videos, after decoding and encoding the videos that lack some.

        Each video is encoded by itself, so its features depend neither on the others nor on an interruption.

        Args:
            videos: at least one.
            networks: at least one, of different names.
            num_frames: T, sampled as in selection: at the centers of equal segments.
            workers: videos decoded at once, ahead of the networks.
            progress: called after each video.

        Raises:
            UsageError: T or workers below 1.
            ValueError: no network, or two of one name.
            TsqError: no video could be decoded, another process is writing to the cache, or the cache is damaged.
            WeightsError: a network's outputs exceed float16 or are not finite.
            OutputError: the cache cannot be written.
        """
        if not networks or len({network.name for network in networks}) < len(networks):
            raise ValueError(f"need networks of different names, got {[network.name for network in networks]}")
        store = ShardStore(self.folder / "features")
        specs = {
            network.name: FeatureSpec(
                f"{network.identity}/{dtype_name(network.dtype)}", network.short_side, partial(_encode, network)
            )
            for network in networks
        }
        extraction = extract(store, videos, specs, num_frames=num_frames, workers=workers, progress=progress)
        features: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        times = torch.empty(len(extraction.kept), num_frames, dtype=torch.float64)
        for network in networks:
            encoder = network.encoder
            rows = {
                "features": torch.empty(len(extraction.kept), num_frames, encoder.feature_dim, dtype=torch.float16),
                "logits": torch.empty(len(extraction.kept), num_frames, encoder.num_classes, dtype=torch.float16),
                "times": times,
            }
            _gather(store, extraction.keys[network.name], rows)
            features[network.name] = rows["features"]
            if encoder.num_classes:
                logits[network.name] = rows["logits"]
        return VideoFeatures(
            kept=extraction.kept, failed=extraction.failed, features=features, logits=logits, times=times
        )

    def frames(
        self,
        videos: Sequence[LabeledVideo],
        *,
        num_frames: int = 16,
        short_side: int = SAMPLER_SHORT_SIDE,
        workers: int = 1,
        progress: Progress = no_progress,
    ) -> FrameStore:
        """Open the frames of videos, stored as JPEG of quality 95, after decoding the videos that lack them.

        Args:
            videos: at least one.
            num_frames: T, sampled as in selection.
            short_side: pixels of the shorter side, at least 16; smaller videos keep their size.
            workers: videos decoded at once.
            progress: called after each video.

        Raises:
            UsageError: T or workers below 1, or a short side below 16.
            TsqError: no video could be decoded, another process is writing to the cache, or the cache is damaged.
            OutputError: the cache cannot be written.
        """
        store = ShardStore(self.folder / "frames")
        specs = {"frames": FeatureSpec(f"jpeg {JPEG_QUALITY}", short_side, _jpegs)}
        extraction = extract(store, videos, specs, num_frames=num_frames, workers=workers, progress=progress)
        return FrameStore(store, extraction.keys["frames"], num_frames, kept=extraction.kept, failed=extraction.failed)


@contextmanager
def feature_cache(folder: Path | None) -> Iterator[FeatureCache]:
    """Open the cache in a folder; None is a temporary folder, removed at the end of the block."""
    if folder is not None:
        yield FeatureCache(folder)
        return
    with tempfile.TemporaryDirectory(prefix="tsq-features-") as temporary:
        yield FeatureCache(Path(temporary))


class FrameStore:
    """T frames of each of N videos, read from disk on access. Can be pickled, for the workers of a data loader.

    Attributes:
        num_frames: T; the frames of a shorter video are repeated evenly, as in VideoFeatures.
        kept: [N] indices into the videos asked for, ascending.
        failed: the other videos, each with the reason.
    """

    def __init__(
        self,
        store: ShardStore,
        keys: Sequence[str],
        num_frames: int,
        *,
        kept: tuple[int, ...],
        failed: tuple[tuple[LabeledVideo, str], ...],
    ) -> None:
        self.num_frames = num_frames
        self.kept = kept
        self.failed = failed
        self._store = store
        self._keys = tuple(keys)
        # End of each JPEG file in a video's array, so that a frame is read as one slice.
        self._ends: dict[str, Int64Array] = {key: arrays["ends"] for key, arrays in store.read(keys, names=("ends",))}

    def __len__(self) -> int:
        """N."""
        return len(self._keys)

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        """Read frame `position` in [0, T) of video `video` in [0, N): RGB, uint8 [H, W, 3]; sizes differ by video.

        Raises:
            IndexError: a video or position out of range.
            TsqError: the cache cannot be read.
        """
        video, position = place
        if not (0 <= video < len(self) and 0 <= position < self.num_frames):
            raise IndexError(f"frame [{video}, {position}] of {len(self)} videos of {self.num_frames} frames")
        key = self._keys[video]
        ends = self._ends[key]
        frame = int(repeat_indices(len(ends), self.num_frames)[position])
        start = int(ends[frame - 1]) if frame else 0
        with Image.open(io.BytesIO(self._store.piece(key, "jpeg", start, int(ends[frame])).tobytes())) as picture:
            return torch.from_numpy(np.array(picture))


def _gather(store: ShardStore, keys: Sequence[str], rows: Mapping[str, Tensor]) -> None:
    """Fill each tensor [N, T, ...] with the arrays [n, ...] of its name, by key [N], frames repeated to T."""
    places: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        places.setdefault(key, []).append(row)
    for key, arrays in store.read(places):
        for name, array in arrays.items():
            tensor = torch.from_numpy(array[repeat_indices(len(array), rows[name].shape[1])])
            rows[name][places[key]] = tensor


@torch.inference_mode()
def _encode(network: FrameNetwork, batch: FrameBatch) -> Arrays:
    """Compute float16 features [n, D], logits [n, O] if the network has a classifier, and times of n frames."""
    device = next(network.encoder.parameters()).device
    images = network.preprocessor(torch.from_numpy(batch.pixels), device, network.dtype)
    outputs = [network.encoder(some) for some in cpu_microbatches(images)]
    arrays: Arrays = {"times": batch.pts_seconds}
    arrays["features"] = _half([output.features for output in outputs], network.name)
    if network.encoder.num_classes:
        arrays["logits"] = _half([output.logits for output in outputs], network.name)
    return arrays


def _half(parts: Sequence[Tensor], network: str) -> npt.NDArray[np.float16]:
    """Join parts as float16.

    Raises:
        WeightsError: values that float16 does not hold.
    """
    values = torch.cat(list(parts))
    peak, limit = float(values.abs().max()), torch.finfo(torch.float16).max
    if not peak <= limit:  # also true for NaN
        raise WeightsError(
            f"the network {network} gives values up to {peak:g}",
            wanted=f"finite values up to {limit:g}, since the cache is float16",
            fix="check its weights, or run it in float32",
        )
    half: npt.NDArray[np.float16] = values.half().cpu().numpy()
    return half


def _jpegs(batch: FrameBatch) -> Arrays:
    """Encode frames as JPEG files, one after the other, and say where each ends."""
    files = []
    for pixels in batch.pixels:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "jpeg", quality=JPEG_QUALITY)
        files.append(stream.getvalue())
    return {
        "times": batch.pts_seconds,
        "jpeg": np.frombuffer(b"".join(files), dtype=np.uint8),
        "ends": np.cumsum([len(file) for file in files], dtype=np.int64),
    }


def _of_role(
    name: str,
    role: EncoderRole,
    encoder: FrameEncoder,
    preprocessor: Preprocessor,
    short_side: int = SAMPLER_SHORT_SIDE,
) -> FrameNetwork:
    source = role.weights
    if isinstance(source, TransformersWeights):  # of an image-text model, whose logits are of a pack's own classes
        weights = weights_digest(encoder)
    else:
        weights = source.source if isinstance(source, TimmWeights) else source.sha256
    return FrameNetwork(
        name=name,
        encoder=encoder,
        preprocessor=preprocessor,
        identity=network_identity(role.model, weights, preprocessor),
        short_side=short_side,
    )
