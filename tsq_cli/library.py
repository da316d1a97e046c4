"""The Python library: a model, loaded once, that selects frames of whatever a video comes as."""

from __future__ import annotations

import difflib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from types import UnionType
from typing import Any, BinaryIO, Literal, TypeAlias, TypedDict, Union, Unpack, get_args, get_origin, get_type_hints

import numpy.typing as npt

from tsq_cli.batch import Worker, error_record
from tsq_cli.classifier import Classifier
from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import (
    DEFAULT_PACK,
    PAPER,
    Auto,
    ClassifySettings,
    DecodeMode,
    Duplicates,
    EngineChoice,
    Limits,
    MapScale,
    Order,
    SelectorName,
    SelectSettings,
    settings_hash,
    usual_candidates,
)
from tsq_cli.consensus import Pooling
from tsq_cli.errors import TsqError, UsageError, WeightsError
from tsq_cli.loading import decode_ahead
from tsq_cli.networks import enable_cuda_graphs
from tsq_cli.packs import find_pack
from tsq_cli.packs.recognizers import LoadedRecognizer, load_recognizer
from tsq_cli.packs.registry import pack_of_classes
from tsq_cli.pipeline import Selector
from tsq_cli.result import Result
from tsq_cli.stores import local_path
from tsq_cli.video import FrameSource, Media, frame_source
from tsq_cli.video.frames import Frames
from tsq_cli.video.media import media_of, read_media

Video: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Frames"
"""A video: a path or URL, the bytes of a file, a binary file object, or frames in order of time."""

_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    Sequence[str]: "several texts",
}


class SelectOptions(TypedDict, total=False):
    """The keyword options of select, beside num_frames: see SelectSettings."""

    num_candidates: int | Auto
    selector: SelectorName
    duplicates: Duplicates
    sharpest: bool
    order: Order
    start_seconds: float | None
    end_seconds: float | None
    query: str | Sequence[str] | None
    query_model: str
    decode_mode: DecodeMode
    short_side: int
    seed: int
    lambda_v: float | None
    top_n: int | None


class Model:
    """A pack, loaded once, that selects frames of videos and says what they show.

    Example:
        >>> model = tsq_cli.load()  # doctest: +SKIP
        >>> [frame.time_seconds for frame in model.select("examples/demo.mp4").frames]  # doctest: +SKIP
    """

    def __init__(
        self, selector: Selector, recognizer: str = "auto", engine: EngineChoice = "auto", *, allow_url: bool = False
    ) -> None:
        self.selector = selector
        self._limits = Limits(allow_url=allow_url)
        self._requested, self._engine = recognizer, engine
        self._recognizer: LoadedRecognizer | None = None

    def select(
        self,
        video: Video,
        num_frames: int | Auto = 5,
        *,
        fps: float | None = None,
        times: npt.ArrayLike | None = None,
        settings: SelectSettings | None = None,
        **options: Unpack[SelectOptions],
    ) -> Result:
        """Select frames of one video.

        Args:
            video: a path; a URL (s3, gs, az, file, https); bytes; a binary file object, read from its position to its
                end and not closed; or frames: an array or tensor uint8 [T, H, W, 3] in RGB, or a list of PIL images.
            num_frames: K, frames to select; "auto" for as many as differ.
            fps, times: of frames: how many per second, or [T] rising seconds. Without either, frame i is at i seconds.
            settings: all options in one value, in the place of num_frames and options.
            **options: of SelectSettings, by name.

        Raises:
            UsageError: an option or a kind of video that cannot be used.
            InputNotFoundError, VideoError: the video is missing or cannot be used (see tsq_cli.errors).
            WeightsError: the query's text encoder is out of reach.
        """
        chosen = _settings(SelectSettings(), num_frames, settings, options)
        source = opened(video, fps=fps, times=times)
        with closing(load_clip(source, chosen, limits=self._limits, device=self.selector.device)) as clip:
            return _processed(clip, chosen, self.selector)

    def classify(
        self,
        video: Video,
        num_frames: int | Auto = 5,
        *,
        fps: float | None = None,
        times: npt.ArrayLike | None = None,
        num_predictions: int = 5,
        maps: bool | None = None,
        map_scale: MapScale = "clip",
        pooling: Pooling | None = None,
        evidence: float | Sequence[float] | None = None,
        early_exit: bool = False,
        settings: SelectSettings | None = None,
        **options: Unpack[SelectOptions],
    ) -> Result:
        """Select frames of one video, by the paper's rule unless told otherwise, and recognize what they show.

        The first call loads the recognizer.

        Args:
            video, num_frames, fps, times, settings, **options: as for select.
            num_predictions, maps, map_scale, pooling, evidence, early_exit: of ClassifySettings; maps None makes them
                unless the pack is an image-text model, which has none.

        Raises:
            UsageError: as select; and a recognizer of other classes than the pack's, or one without maps to give.
            InputNotFoundError, VideoError: as select.
            WeightsError: the recognizer's weights, or the text encoder's, are out of reach.
        """
        chosen = _settings(PAPER, num_frames, settings, options)
        if maps is None:
            maps = not self.selector.loaded_pack().config.is_image_text
        says = ClassifySettings(
            num_predictions=num_predictions,
            maps=maps,
            map_scale=map_scale,
            pooling=pooling,
            evidence=evidence,
            early_exit=early_exit,
        )
        source = opened(video, fps=fps, times=times)
        classifier = Classifier(self.selector, self.recognizer(), says)
        classifier.early_exit(chosen)  # what cannot be had is refused before anything is decoded
        with closing(load_clip(source, chosen, limits=self._limits, device=self.selector.device)) as clip:
            return _processed(clip, chosen, classifier)

    def select_many(
        self,
        videos: Iterable[Video],
        num_frames: int | Auto = 5,
        *,
        workers: int = 2,
        settings: SelectSettings | None = None,
        **options: Unpack[SelectOptions],
    ) -> Iterator[Result]:
        """Select frames of many videos, decoded ahead in threads; one that fails does not stop the others.

        Args:
            videos: taken one by one, at most `workers` ahead.
            num_frames, settings, **options: as for select.
            workers: videos decoded at once, at least 1.

        Returns:
            An iterator over one result per video, in order; a failed one has an `error` and no frames. Closing it, or
            leaving the loop, stops all decoding.

        Raises:
            UsageError: an option that cannot be used; raised by the call.
            WeightsError: the query's network is out of reach; raised by the call.
        """
        chosen = _settings(SelectSettings(), num_frames, settings, options)
        if not isinstance(workers, int) or workers < 1:
            raise UsageError(f"workers is {workers!r}", wanted="1 or more", fix="the default is 2")
        self.selector.prepare_queries(chosen)
        return self._many(videos, chosen, workers)

    def _many(self, videos: Iterable[Video], settings: SelectSettings, workers: int) -> Iterator[Result]:
        waiting: deque[tuple[str, Exception | None]] = deque()  # the name of each video begun, and why it is none

        def jobs() -> Iterator[tuple[Media | FrameSource, SelectSettings]]:
            for number, video in enumerate(videos):
                try:
                    source = opened(video)
                except TsqError as error:
                    waiting.append((f"video {number}", error))
                else:
                    waiting.append((source.info.path if isinstance(source, FrameSource) else str(source), None))
                    yield source, settings

        def failures() -> Iterator[Result]:
            while waiting and (error := waiting[0][1]) is not None:
                yield self._failed(waiting.popleft()[0], error, settings)

        ahead = decode_ahead(jobs(), workers, device=self.selector.device, limits=self._limits)
        with closing(ahead) as clips:
            for clip in clips:
                yield from failures()
                yield self._result(waiting.popleft()[0], clip, settings)
            yield from failures()

    def _result(self, name: str, clip: Clip | Exception, settings: SelectSettings) -> Result:
        """Process a decoded clip alone; whatever it does, the others go on."""
        if isinstance(clip, Exception):
            return self._failed(name, clip, settings)
        with closing(clip):
            try:
                return _processed(clip, settings, self.selector)
            except WeightsError:  # nothing that this video could do about it
                raise
            except Exception as error:  # noqa: BLE001 - the boundary of one video
                return self._failed(name, error, settings)

    def _failed(self, name: str, error: Exception, settings: SelectSettings) -> Result:
        identity = settings_hash(
            settings,
            pack_sha256=self.selector.pack_sha256(settings),
            outputs={},
            dtype=self.selector.dtype_name(settings),
        )
        return Result(error_record(name, error, settings, identity), None, settings, error)

    def recognizer(self) -> LoadedRecognizer:
        """Load the recognizer on first use, and return it.

        Raises:
            UsageError, WeightsError: as classify.
        """
        if self._recognizer is None:
            self._recognizer = load_recognizer(self.selector.loaded_pack(), self._requested, engine=self._engine)
            enable_cuda_graphs(None, self._recognizer)
        return self._recognizer

    def __repr__(self) -> str:
        pack = self.selector.loaded_pack()
        return f"<Model {pack.config.name} on {pack.device}>"


def load(
    pack: str = DEFAULT_PACK,
    *,
    device: str = "auto",
    dtype: str = "auto",
    engine: EngineChoice = "auto",
    recognizer: str = "auto",
    classes: str | Sequence[str] | None = None,
    allow_url: bool = False,
) -> Model:
    """Load a pack by name or folder onto a device.

    Args:
        pack: name of an installed pack, or a folder that holds a pack.json.
        device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:<index>".
        dtype: "auto" (float32 on a CPU, float16 on CUDA), "float32", "bfloat16" or "float16".
        engine: what runs the networks: "onnx" (ONNX Runtime), "torch", or "auto": onnx in float32 on a CPU for each
            network that has a graph in its pack, else torch.
        recognizer: of classify: "auto" (the pack's, where its weights are at hand or the hub answers, else what the
            pack carries), "embedded" (what needs no hub), or a timm model.
        classes: names of classes in words, or a file with one per line, for the image-text model of the pack clip,
            which is the default with them; it has no saliency maps to give.
        allow_url: whether videos may lie on web servers (https, http): of those whom you trust, since any address can
            be reached that this machine reaches. Stores (s3, gs, az) need no such leave.

    Raises:
        UsageError: unknown pack, classes for a pack that has its own, or a device, dtype or engine that is not there.
        WeightsError: weights that are missing, damaged or out of reach.
    """
    chosen = find_pack(pack) if classes is None else pack_of_classes(pack, classes)
    selector = Selector.load(chosen, device=device, dtype=dtype, engine=engine)
    return Model(selector, recognizer, engine, allow_url=allow_url)


def opened(video: Video, *, fps: float | None = None, times: npt.ArrayLike | None = None) -> Media | FrameSource:
    """Tell what a video comes as, and read it into memory where it is a file object.

    Raises:
        UsageError: nothing that could be a video, or times for a file, which has its own.
        NotAVideoError: a file object that cannot be read.
        TooLargeError: frames of more pixels than are allowed.
    """
    given: Any = video
    are_bytes = isinstance(given, bytes | bytearray | memoryview)  # a memoryview has a shape, too
    if isinstance(given, list | tuple) or (hasattr(given, "shape") and not are_bytes):
        return frame_source(given, fps=fps, times=times)
    if fps is not None or times is not None:
        raise UsageError(
            f"{'times' if fps is None else 'fps'} was given with a video file",
            wanted="times with frames in memory only: a file has its own",
            fix="drop it",
        )
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        return local_path(path) if isinstance(path, str) else path
    if are_bytes:
        return media_of(given)
    if callable(getattr(given, "read", None)):
        return read_media(given)
    raise UsageError(
        f"the video is of type {type(given).__name__}",
        wanted="a path, bytes, a binary file object, an array or tensor of frames, or a list of PIL images",
        fix="give the path of a video file",
    )


def _settings(
    usual: SelectSettings, num_frames: int | Auto, settings: SelectSettings | None, options: SelectOptions
) -> SelectSettings:
    """Build the settings of a call from its keywords.

    Raises:
        UsageError: an unknown keyword, a value of another type or out of range, or settings beside keywords.
    """
    given: dict[str, Any] = {"num_frames": num_frames, **options}
    if settings is not None:
        if not isinstance(settings, SelectSettings):
            raise UsageError(
                f"settings are of type {type(settings).__name__}", wanted="SelectSettings", fix="give options by name"
            )
        if len(given) > 1 or num_frames != usual.num_frames:
            raise UsageError(
                f"settings were given beside {', '.join(options) or 'num_frames'}",
                wanted="one of the two",
                fix="use dataclasses.replace(settings, ...) to change some",
            )
        return settings
    hints = get_type_hints(SelectSettings)
    for name, value in given.items():
        if name not in hints:
            longer = [option for option in hints if option.startswith(name)]
            near = longer or difflib.get_close_matches(name, hints, n=1, cutoff=0.5)
            raise UsageError(
                f"{name} is no option",
                wanted="one of " + ", ".join(hints),
                fix=f"did you mean {near[0]}?" if near else "see SelectSettings",
            )
        if not _is_of(value, hints[name]):
            raise UsageError(
                f"{name} is {value!r}",
                wanted=" or ".join(_wanted(hints[name])),
                fix=f"the default is {getattr(usual, name)!r}",
            )
    given.setdefault("selector", usual.selector)
    if "num_candidates" not in given and (num_frames == "auto" or isinstance(num_frames, int)):
        adapts = usual.num_candidates == "auto"
        given["num_candidates"] = usual_candidates(num_frames, given["selector"], adapts=adapts)
    return SelectSettings(**given)


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_of(value: object, hint: Any) -> bool:
    """Test a value's type. Which texts and numbers are allowed, SelectSettings says."""
    for part in _parts(hint):
        kind = str if get_origin(part) is Literal else get_origin(part) or part
        if isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool)):
            return True
    return False


def _wanted(hint: Any) -> Iterator[str]:
    for part in _parts(hint):
        if get_origin(part) is Literal:
            yield from (repr(choice) for choice in get_args(part))
        elif part is not type(None):
            yield _KINDS.get(part, str(part))


def _processed(clip: Clip, settings: SelectSettings, worker: Worker) -> Result:
    (record,) = worker.process_clips([clip], settings)
    return Result(record, clip, settings)
