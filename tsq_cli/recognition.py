"""Predictions of the recognizer for the selected frames, and maps of where it sees the class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tsq_cli.arrays import Array, concat, descending, float32, inference, namespace, split
from tsq_cli.clip import timed
from tsq_cli.config import ClassifySettings, SelectSettings
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.errors import UsageError
from tsq_cli.scoring import categories
from tsq_cli.types import Category, SaliencyMaps

if TYPE_CHECKING:
    from tsq_cli.models.outputs import ImageClassifier, RecognizerOutput
    from tsq_cli.models.preprocess import Preprocessor
    from tsq_cli.packs.recognizers import LoadedRecognizer
    from tsq_cli.packs.settings import Settings


@dataclass(frozen=True, kw_only=True)
class SamplerScores:
    """What the sampler says of one clip and its selected frames, on the device.

    Attributes:
        weights: S^v of the K frames, in their order, [K].
        classes: z^v and z^t of the whole clip, [C] each.
    """

    weights: Array
    classes: tuple[Array, Array]


@dataclass(frozen=True, kw_only=True)
class ClipOutput:
    """What the recognizer says of one clip, on the device.

    Attributes:
        seen: the frames that it saw, as rising indices of the clip's K selected ones.
        frames: its logits [k, C] and activations [k, ...] of these.
        scores: of the clip [C]; their softmax (or sigmoid) are its probabilities.
        is_calibrated: whether the scores are: those of the pack's own consensus.
    """

    seen: Sequence[int]
    frames: RecognizerOutput
    scores: Array
    is_calibrated: bool = True


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Predictions and maps for one clip's selected frames.

    Attributes:
        predictions: of the video, most likely first, see tsq_cli.models.pooling.video_scores.
        frame_predictions: of each frame that the recognizer saw, by its index among the K selected ones.
        maps: where each of these frames shows the video's first class; None where they were not asked for.
    """

    predictions: tuple[Category, ...]
    frame_predictions: Mapping[int, tuple[Category, ...]]
    maps: SaliencyMaps | None


def recognize_clips(
    loaded: LoadedRecognizer,
    clips: Sequence[Array],
    settings: ClassifySettings,
    *,
    timings: dict[str, float] | None = None,
) -> list[Recognition]:
    """Recognize the selected frames of several clips without a sampler, all of them encoded as one batch.

    Args:
        loaded: the recognizer with its preprocessing and class names.
        clips: at least one; of each its selected frames, uint8 [K, H, W, 3]. K, H and W may differ between clips.
        settings: how many predictions, and which maps.
        timings: seconds of each stage are added here.

    Raises:
        UsageError: maps were asked for and the network has none to give (see tsq_cli.explain), or as consensus_of.
    """
    timings = {} if timings is None else timings
    consensus = consensus_of(loaded.consensus, settings, has_sampler=False)
    outputs = forward_clips(loaded, clips, consensus, [None] * len(clips), timings)
    return [
        postprocess_clip(loaded, output, frames.shape[1:3], settings, timings)
        for output, frames in zip(outputs, clips, strict=True)
    ]


def forward_clips(
    loaded: LoadedRecognizer,
    clips: Sequence[Array],
    consensus: Consensus,
    samplers: Sequence[SamplerScores | None],
    timings: dict[str, float],
) -> list[ClipOutput]:
    """Run the recognizer on all frames of each clip, as one batch; on a GPU the host waits for nothing.

    Args:
        loaded, clips: as for recognize_clips.
        consensus: of consensus_of.
        samplers: of each clip's frames, in their order; None where none ran.
        timings: seconds of each stage are added here.
    """
    # Calibrated for the pack's own consensus; of another one the probabilities are as they come.
    is_own = consensus == loaded.consensus
    temperature = loaded.words.recognizer_temperature if is_own else None
    return [
        ClipOutput(
            seen=range(len(output.logits)),
            frames=output,
            scores=_clip_scores(output.logits, consensus, sampler, temperature),
            is_calibrated=is_own,
        )
        for output, sampler in zip(forward_recognizer(loaded, clips, timings), samplers, strict=True)
    ]


def forward_until_sure(
    loaded: LoadedRecognizer,
    clips: Sequence[Array],
    orders: Sequence[Sequence[int]],
    exit_at: EarlyExit,
    consensus: Consensus,
    samplers: Sequence[SamplerScores | None],
    timings: dict[str, float],
) -> list[ClipOutput]:
    """Run the recognizer on each clip's frames one after the other, until it is sure of the clip (ours).

    The clips that are not sure yet go on together, each with its next frame; the host waits after each.

    Args:
        loaded, clips, consensus, samplers, timings: as for forward_clips.
        orders: the order in which each clip's frames are seen, as indices of them.
        exit_at: when it is sure; with as many temperatures as a clip has frames, or more.
    """
    from tsq_cli.models.early_exit import is_sure
    from tsq_cli.models.outputs import RecognizerOutput

    seen: list[list[RecognizerOutput]] = [[] for _ in clips]
    found: dict[int, ClipOutput] = {}
    for step, temperature in enumerate(exit_at.temperatures):
        if not (going := [number for number in range(len(clips)) if number not in found]):
            break
        outputs = forward_recognizer(loaded, [clips[n][orders[n][step], None] for n in going], timings)
        for number, output in zip(going, outputs, strict=True):
            seen[number].append(output)
            order, sampler = list(orders[number][: step + 1]), samplers[number]
            weights = None if sampler is None else replace(sampler, weights=sampler.weights[order])
            logits = concat([one.logits for one in seen[number]])
            with inference(logits):
                scores = _clip_scores(logits, consensus, weights, None) / temperature
                ends = step + 1 == len(clips[number])
                if ends or bool(is_sure(scores, exit_at.bar, multi_label=consensus.multi_label)):
                    places = sorted(range(step + 1), key=order.__getitem__)
                    frames = RecognizerOutput(
                        logits=logits[places],
                        activations=concat([one.activations for one in seen[number]])[places],
                    )
                    found[number] = ClipOutput(seen=sorted(order), frames=frames, scores=scores)
    return [found[number] for number in range(len(clips))]


def _clip_scores(
    logits: Array, consensus: Consensus, sampler: SamplerScores | None, temperature: float | None
) -> Array:
    from tsq_cli.models import video_scores

    with inference(logits):
        return video_scores(
            logits,
            consensus,
            weights=None if sampler is None else namespace(logits).astype(sampler.weights, logits.dtype),
            class_scores=None if sampler is None else sampler.classes,
            temperature=temperature,
        )


def forward_recognizer(
    loaded: LoadedRecognizer, clips: Sequence[Array], timings: dict[str, float]
) -> list[RecognizerOutput]:
    """Run the recognizer on each clip's frames, all as one batch; on a GPU the host waits for nothing.

    Args:
        loaded, clips: as for recognize_clips.
        timings: seconds of each stage are added here; on a GPU those that the host took to launch it.

    Returns:
        Logits [K, C] in float32 and activations [K, ...] of each clip's frames, on the recognizer's device.
    """
    from tsq_cli.models.outputs import RecognizerOutput

    with inference(clips[0]):
        with timed(timings, "preprocess"):
            images = concat([prepare_frames(loaded.recognizer, loaded.preprocessor, some) for some in clips])
        with timed(timings, "recognize"):
            output = recognize_images(loaded.recognizer, images)
    lengths = [len(frames) for frames in clips]
    parts = zip(split(float32(output.logits), lengths), split(output.activations, lengths), strict=True)
    return [RecognizerOutput(logits=logits, activations=activations) for logits, activations in parts]


def prepare_frames(recognizer: ImageClassifier, preprocessor: Preprocessor, frames: Array) -> Array:
    """Preprocess frames uint8 [N, H, W, 3] for a recognizer, on its device and in its precision: [N, 3, S, S]."""
    weight = recognizer.encoder.classifier_weight
    return preprocessor(frames, weight.device, weight.dtype)


def recognize_images(recognizer: ImageClassifier, images: Array) -> RecognizerOutput:
    """Recognize images [N, 3, S, S], as many at a time as the device likes best."""
    from tsq_cli.models.microbatches import cpu_microbatches
    from tsq_cli.models.outputs import RecognizerOutput

    outputs = [recognizer(some) for some in cpu_microbatches(images, multiplier=2)]
    return RecognizerOutput(
        logits=concat([output.logits for output in outputs]),
        activations=concat([output.activations for output in outputs]),
    )


def postprocess_clip(
    loaded: LoadedRecognizer,
    output: ClipOutput,
    size: Sequence[int],
    settings: ClassifySettings,
    timings: dict[str, float],
) -> Recognition:
    """Copy the predictions for one clip's frames to the host, and make the maps.

    Args:
        loaded, settings: as for recognize_clips.
        output: of the clip, its frames in the order that the result is to have.
        size: height and width of the frames, in pixels.
        timings: seconds of each stage are added here.

    Raises:
        UsageError: as recognize_clips.
    """
    from tsq_cli.models import video_scores

    count, frames = settings.num_predictions, output.frames
    alone = Consensus(multi_label=loaded.consensus.multi_label)
    with inference(output.scores):
        level = loaded.words.least_probability
        of_video = level if output.is_calibrated else 0.0  # as for a recognizer of which none was measured
        predictions = _likeliest(output.scores, frames.activations, loaded, count, of_video)
        maps = None
        if settings.maps:
            with timed(timings, "maps"):
                maps = _maps(loaded, frames, predictions[0], size, settings)
        of_frames = video_scores(frames.logits[:, None], alone, temperature=loaded.words.recognizer_temperature)
        each = {
            index: _likeliest(scores, activations[None], loaded, count, level)
            for index, scores, activations in zip(output.seen, of_frames, frames.activations, strict=True)
        }
    return Recognition(predictions=predictions, frame_predictions=each, maps=maps)


def consensus_of(own: Consensus, settings: ClassifySettings, *, has_sampler: bool) -> Consensus:
    """Decide how the frames' scores become the video's: what the run asks for, else what the pack says.

    Args:
        own: of the pack.
        settings: of the recognition.
        has_sampler: whether the sampler runs. Without it (uniform, random, middle) all frames weigh the same and there
            is no evidence.

    Raises:
        UsageError: the run asks for what only a sampler can give, and none runs.
    """
    chosen = own.changed(settings.pooling, settings.evidence)
    if has_sampler:
        return chosen
    asked = Consensus().changed(settings.pooling, settings.evidence)
    if asked != asked.without_sampler:
        what = "evidence" if asked.has_evidence else f"the pooling {asked.pooling}"
        raise UsageError(
            f"{what} was asked for with a selector that runs no network",
            wanted="a selector with the scores that this takes",
            fix="use --selector tsq, or leave it out",
        )
    return chosen.without_sampler


def early_exit_of(
    own: EarlyExit | None,
    settings: ClassifySettings,
    choosing: SelectSettings,
    pack: Settings | None,
    *,
    is_own_consensus: bool,
) -> EarlyExit | None:
    """Decide when the recognizer has seen enough; None: it sees all frames.

    Args:
        own: of the pack.
        settings: of the recognition.
        choosing: how the frames are chosen.
        pack: settings of the pack whose sampler chooses them, for which this was tuned; None if none does.
        is_own_consensus: whether the frames' scores become the video's as the pack says, for which this was tuned.

    Raises:
        UsageError: one is asked for that was not tuned, or for frames chosen otherwise, other scores or fewer frames.
    """
    if not settings.early_exit:
        return None
    fix = "leave --early-exit out"
    if own is None:
        raise UsageError(
            "an early exit was asked for, and the pack has none for this recognizer",
            wanted="settings.early_exit in its pack.json, which holds for its embedded recognizer alone",
            fix="use --recognizer embedded (auto if the pack embeds none); where that has none either, tune it with "
            "`tsq evaluate LIST --pack PACK --recognizer embedded --tune-early-exit FILE` on videos that are not "
            "reported",
        )
    if choosing.chosen_by != "tsq":
        raise UsageError(
            f"an early exit was asked for with frames chosen by {choosing.chosen_by}",
            wanted="those of the rule tsq, for which its bar was tuned",
            fix=f"use --selector tsq and no query, or {fix}",
        )
    for name, asked, tuned in () if pack is None else _choices(choosing, pack):
        if asked not in (tuned, None):
            raise UsageError(
                f"an early exit was asked for with {name} {asked}",
                wanted=f"{tuned}, for which its bar was tuned",
                fix=f"use that, or {fix}",
            )
    if not is_own_consensus:
        raise UsageError(
            "an early exit was asked for with another pooling or evidence than the pack's",
            wanted="the scores that its bar was tuned for",
            fix=f"leave --pooling and --evidence out, or {fix}",
        )
    if choosing.most_frames > len(own.temperatures):
        raise UsageError(
            f"an early exit was asked for with {choosing.most_frames} frames",
            wanted=f"at most {len(own.temperatures)}, for which the pack's was tuned",
            fix=f"ask for fewer frames (-k), or {fix}",
        )
    return own


def _choices(choosing: SelectSettings, pack: Settings) -> Iterator[tuple[str, object, object]]:
    """Name what the bar depends on: what is asked for (None: nothing), and what `tsq evaluate` tunes with."""
    yield "num_candidates (-n)", choosing.num_candidates, pack.num_candidates
    yield "lambda_v", choosing.lambda_v, pack.lambda_v
    yield "top_n", choosing.top_n, pack.top_n
    yield "sharpest (--sharpest)", choosing.sharpest, False


def _likeliest(
    scores: Array, activations: Array, loaded: LoadedRecognizer, count: int, level: float
) -> tuple[Category, ...]:
    """Pick the most likely classes by their scores [C], from frames' activations; of equal ones the lower index."""
    from tsq_cli.models import probabilities

    indices = descending(scores, 0)[:count]  # many a sigmoid rounds to one
    likeliest = probabilities(scores, multi_label=loaded.consensus.multi_label)[indices]
    sure = likeliest >= level
    if loaded.is_image_text:  # its classes are only told apart from each other: a frame may show none of them
        sure = loaded.recognizer.encoder.model.shown(activations).any(dim=1)[indices]
    return categories(indices, likeliest, loaded.class_names, sure=sure)


def _maps(
    loaded: LoadedRecognizer,
    output: RecognizerOutput,
    category: Category,
    size: Sequence[int],
    settings: ClassifySettings,
) -> SaliencyMaps:
    from tsq_cli.explain import normalize_maps, saliency_maps, seen_box

    height, width = size
    return SaliencyMaps(
        values=normalize_maps(saliency_maps(loaded.recognizer, output, category.index), settings.map_scale),
        category=category,
        box=seen_box(width, height, loaded.preprocessor),
        scale=settings.map_scale,
    )
