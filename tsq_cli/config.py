"""The settings of a run, validated on construction."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from tsq_cli import __version__
from tsq_cli.consensus import Consensus, Pooling, evidence_weights
from tsq_cli.errors import UsageError
from tsq_cli.queries import Query, parse_query

RECORD_SCHEMA_VERSION = 4
DEFAULT_PACK = "imagenet-lite"
CLIP_PACK = "clip"
"""The shipped pack around an image-text model; clip:ID is the same with another model of the hub."""

MapScale = Literal["clip", "frame"]
MapFormat = Literal["overlay", "heat", "npy"]
ImageFormat = Literal["jpg", "png", "webp"]
ExportKind = Literal["openai", "anthropic", "qwen", "vllm", "hf", "webvtt", "edl", "otio", "ffmetadata"]
SelectorName = Literal[
    "auto", "tsq", "cover", "vqm", "tqm",
    "topk", "mmr", "bolt", "aks", "dpp", "kcenter", "facility", "uniform", "random", "middle",
]  # fmt: skip
DecodeMode = Literal["exact", "keyframes", "nvdec"]
Order = Literal["time", "score"]
Duplicates = Literal["skip", "keep"]
Auto = Literal["auto"]
Device = str  # "auto", "cpu", "cuda" or "cuda:<index>"
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
EngineChoice = Literal["auto", "onnx", "torch"]

BASELINES: tuple[SelectorName, ...] = ("uniform", "random", "middle")
PASSING_OVER: tuple[SelectorName, ...] = ("auto", "cover")
"""The rules that skip duplicates, blank and blurred frames."""

PAPER_FRAMES, PAPER_CANDIDATES = 5, 16
MOST_DIFFERENT = 16
"""Largest number of frames that num_frames "auto" gives (ours)."""

# Bounds of the numbers of SelectSettings. The upper bounds only keep slips from becoming endless work (ours).
_BOUNDS = {
    "num_frames": (1, 1_000_000),
    "num_candidates": (1, 1_000_000),
    "short_side": (16, 16384),
    "seed": (0, 2**64 - 1),
}


@dataclass(frozen=True, kw_only=True)
class SelectSettings:
    """Settings of the selection. All of them can change the result, so all of them are hashed.

    S: the paper's supplementary (docs/method.md, section 1).

    Attributes:
        num_frames: K, frames to select, from 1 to 1,000,000 (S: 5); "auto" for as many as differ, at most
            MOST_DIFFERENT (ours; `auto` and `cover` only).
        num_candidates: T, candidates sampled over the video, from K to 1,000,000 (S: 16). It may be below K only if K
            has its default; all candidates are then selected. "auto" adapts T to the length and the pictures (ours,
            see tsq_cli.video.auto).
        selector: the rule that selects, see tsq_cli.selection.RULES.
        duplicates: whether `auto` and `cover` skip frames that show the same as a chosen one, while others are left.
        sharpest: whether to replace each selected frame by a sharper one of the same shot within half a second.
        order: frames listed by time, or by score (best first).
        start_seconds, end_seconds: candidates come from [start, end), each at least 0, relative to the first frame
            shown.
        query: free texts, one or several (a text alone becomes a tuple of one); frames are then chosen by how well they
            match them (ours; tsq_cli.queries says how a text is read).
        query_model: network that matches frames with texts: "names" (the pack's objects), "clip" or "clip:ID" (an
            image-text model of the hub), or "auto" for clip where it is in reach, else names (ours).
        decode_mode: exact frames, the nearest keyframes, or exact frames decoded by an NVIDIA GPU.
        short_side: pixels of the shorter side of the decoded candidates, from 16 to 16,384.
        seed: random seed of the rule `random`, from 0 to 2**64 - 1.
        lambda_v: share of the visual module in [0, 1]; None for the pack's.
        top_n: categories behind each saliency curve; None for the pack's.

    Raises:
        UsageError: a value out of range, or fewer candidates than frames.
    """

    num_frames: int | Auto = PAPER_FRAMES
    num_candidates: int | Auto = "auto"
    selector: SelectorName = "auto"
    duplicates: Duplicates = "skip"
    sharpest: bool = False
    order: Order = "time"
    start_seconds: float | None = None
    end_seconds: float | None = None
    query: str | Sequence[str] | None = None
    query_model: str = "auto"
    decode_mode: DecodeMode = "exact"
    short_side: int = 256
    seed: int = 0
    lambda_v: float | None = None
    top_n: int | None = None

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value == "auto" and name in ("num_frames", "num_candidates"):
                continue
            if not (isinstance(value, int) and least <= value <= most):
                raise UsageError(
                    f"{name} is {value!r}", wanted=f"{least} to {most}", fix=f"the default is {_default(name)}"
                )
        if self.num_frames == "auto" and self.selector not in PASSING_OVER:
            raise UsageError(
                f"num_frames is auto and the selector is {self.selector}",
                wanted=f"a rule that compares frames: {' or '.join(PASSING_OVER)}",
                fix="give a number of frames, or another selector",
            )
        if (
            self.num_frames != "auto"
            and self.num_candidates != "auto"
            and self.num_frames > max(self.num_candidates, _default("num_frames"))
        ):
            raise too_few_candidates(self.num_frames, self.num_candidates)
        for name, choices in (
            ("selector", SelectorName),
            ("duplicates", Duplicates),
            ("order", Order),
            ("decode_mode", DecodeMode),
        ):
            if getattr(self, name) not in get_args(choices):
                raise UsageError(
                    f"{name} is {getattr(self, name)!r}",
                    wanted="one of " + ", ".join(get_args(choices)),
                    fix=f"the default is {_default(name)}",
                )
        if self.lambda_v is not None and not 0.0 <= self.lambda_v <= 1.0:
            raise UsageError(f"lambda_v is {self.lambda_v}", wanted="a share from 0 to 1", fix="the paper's is 0.6")
        if self.top_n is not None and self.top_n < 1:
            raise UsageError(f"top_n is {self.top_n}", wanted="1 or more categories", fix="leave it to the pack")
        self._check_range()
        if self.query is not None:
            texts = (self.query,) if isinstance(self.query, str | bytes) else tuple(self.query)
            object.__setattr__(self, "query", texts)  # frozen: the one field that has two forms is brought to one
            self._check_queries(texts)
        if not re.fullmatch(r"auto|names|clip(:.+)?", self.query_model):
            raise UsageError(
                f"query_model is {self.query_model!r}", wanted="auto, names, clip or clip:ID", fix="the default is auto"
            )

    def _check_range(self) -> None:
        for name in ("start", "end"):
            seconds = getattr(self, f"{name}_seconds")
            if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"the {name} is {seconds:g} s", wanted="0 s or later", fix="give seconds or 1:30")
        start = self.start_seconds or 0.0
        if self.end_seconds is not None and self.end_seconds <= start:
            raise UsageError(
                f"the range ends at {self.end_seconds:g} s and starts at {start:g} s",
                wanted="an end after the start",
                fix="swap or drop --start and --end",
            )

    def _check_queries(self, queries: Sequence[str]) -> None:
        if not queries:
            raise UsageError("there is no query in the list", wanted="one or more texts", fix="give None for none")
        for query in queries:
            if not isinstance(query, str):
                raise UsageError(f"a query is of type {type(query).__name__}", wanted="texts", fix="give words")
            parse_query(query)
        if self.selector not in ("auto", "tsq"):
            raise UsageError(
                f"--query was given with --selector {self.selector}",
                wanted="one of the two",
                fix="drop the other",
            )

    @property
    def needs_model(self) -> bool:
        """Whether a neural network scores the frames; baselines need no network and no weights."""
        return self.selector not in BASELINES

    @property
    def queries(self) -> tuple[Query, ...]:
        """The queries taken apart; none without a query."""
        return tuple(parse_query(text) for text in self.query or ())

    @property
    def query_parts(self) -> tuple[str, ...]:
        """The texts to match frames with, of all queries in order."""
        return tuple(part for query in self.queries for part in query.parts)

    @property
    def chosen_by(self) -> str:
        """The rule that was asked for, or "a query"."""
        return self.selector if self.query is None else "a query"

    @property
    def reads_only_curves(self) -> bool:
        """Whether the two curves alone decide, as in the paper's fusion, so that a GPU can select by itself."""
        return self.selector in ("tsq", "vqm", "tqm") and self.query is None and not self.sharpest

    @property
    def most_frames(self) -> int:
        """K, or the largest number that "auto" gives."""
        return MOST_DIFFERENT if self.num_frames == "auto" else self.num_frames

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits above which a video is given up. They do not change a result, so they are not hashed (ours).

    Attributes:
        timeout_seconds: time for opening a video, and again for each decoding pass, above 0.
        max_pixels: width times height of a frame, at least 1; the default is one frame of 16,384 x 16,384.
        max_candidate_bytes: memory that all T candidates of a video may take, decoded and as network input.
        allow_url: whether a video may lie on a web server (http, https).

    Raises:
        UsageError: a value out of range.
    """

    timeout_seconds: float = 600.0
    max_pixels: int = 16384 * 16384
    max_candidate_bytes: int = 4 * 2**30
    allow_url: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.timeout_seconds) and self.timeout_seconds > 0):
            raise UsageError(
                f"the timeout is {self.timeout_seconds:g} s", wanted="seconds above 0", fix="the default is 600"
            )
        for name in ("max_pixels", "max_candidate_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", wanted="1 or more", fix="leave it at the default")


@dataclass(frozen=True, kw_only=True)
class ClassifySettings:
    """Settings of the recognition. All of them can change the result, so all of them are hashed.

    Attributes:
        num_predictions: classes listed per video and per frame, at least 1.
        maps: whether to compute saliency maps: where in each frame the recognizer sees the video's first class.
        map_scale: "clip" for one scale over the clip's frames, so that maps compare; "frame" for a scale per frame.
        pooling: of the frames' logits, see Consensus; None for the pack's.
        evidence: weights of the sampler's own class scores in the video's, one (of VQM's) or two (of TQM's too), see
            Consensus; a number alone becomes a tuple of one; None for the pack's.
        early_exit: whether the recognizer sees the frames one after the other, best first, and stops once it is sure,
            as the pack's EarlyExit says.

    Raises:
        UsageError: a value out of range.
    """

    num_predictions: int = 5
    maps: bool = True
    map_scale: MapScale = "clip"
    pooling: Pooling | None = None
    evidence: float | Sequence[float] | None = None
    early_exit: bool = False

    def __post_init__(self) -> None:
        if self.evidence is not None:  # frozen: the one field that has two forms is brought to one
            object.__setattr__(self, "evidence", evidence_weights(self.evidence))
        Consensus().changed(self.pooling, self.evidence)  # refuses what it does not know
        if self.num_predictions < 1:
            raise UsageError(
                f"{self.num_predictions} predictions were asked for", wanted="1 or more", fix="the default is 5"
            )
        if self.map_scale not in get_args(MapScale):
            raise UsageError(
                f"the scale of the maps is {self.map_scale!r}", wanted="clip or frame", fix="the default is clip"
            )


def usual_candidates(num_frames: int | Auto, selector: SelectorName, *, adapts: bool) -> int | Auto:
    """Return T for a run that gives only K: "auto" for the rules that skip duplicates, else the paper's 16, or K.

    Args:
        num_frames: K.
        selector: the rule.
        adapts: whether the command adapts T by itself (`select`, not `classify`).
    """
    if adapts and selector in PASSING_OVER:
        return "auto"
    return PAPER_CANDIDATES if num_frames == "auto" else max(PAPER_CANDIDATES, num_frames)


def too_few_candidates(num_frames: int, num_candidates: int) -> UsageError:
    """Build the error for K frames among fewer than K candidates."""
    return UsageError(
        f"num_frames is {num_frames} and num_candidates is {num_candidates}",
        wanted="at least as many candidates as frames",
        fix="lower num_frames (-k), or raise num_candidates (-n)",
    )


def check_device(device: Device) -> None:
    """Refuse a text that names no device. Whether the device exists, only torch can tell (tsq_cli.models.device).

    Raises:
        UsageError: neither auto, cpu, cuda nor cuda:<index>.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", device):
        raise UsageError(f"device is {device!r}", wanted="auto, cpu, cuda or cuda:<index>", fix="try --device auto")


def gpu_index(device: Device) -> int:
    """Return the index of the GPU that a device names, 0 where it names none."""
    return int(device.partition(":")[2] or 0)


def settings_hash(
    settings: SelectSettings,
    *,
    pack_sha256: str | None,
    outputs: Mapping[str, Any],
    recognition: Mapping[str, Any] | None = None,
    dtype: str | None = None,
) -> str:
    """Hash everything that decides a result, and the files to be written, into 16 hex digits.

    Two runs with the same hash on the same video give the same record and files, so the second can be skipped. Device,
    batch size, number of workers and limits are left out: they decide whether there is a result, not which.

    Args:
        settings: of the selection.
        pack_sha256: of the networks; None if none ran.
        outputs: files to write, ready for JSON.
        recognition: the recognizer and its settings, ready for JSON; None if nothing was recognized.
        dtype: precision of the networks ("float32"); None if none ran.
    """
    identity = {
        "schema_version": RECORD_SCHEMA_VERSION,
        "tsq_version": __version__,
        "dtype": dtype,
        "settings": settings.to_dict(),
        "pack_sha256": pack_sha256,
        "outputs": dict(outputs),
    }
    if recognition is not None:
        identity["recognition"] = dict(recognition)
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _default(name: str) -> Any:
    return SelectSettings.__dataclass_fields__[name].default


PAPER = SelectSettings(selector="tsq", num_candidates=PAPER_CANDIDATES)
"""The paper's settings, 5 of 16 frames: the defaults of `classify`, `evaluate`, `benchmark` and `ablate`."""
