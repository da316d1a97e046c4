"""Recognition: clips in one batch are recognized as they are alone, and frames are pooled as computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tsq_cli.config import ClassifySettings
from tsq_cli.consensus import Consensus
from tsq_cli.models import probabilities, video_scores
from tsq_cli.packs import LoadedRecognizer, load_recognizer
from tsq_cli.recognition import forward_recognizer, recognize_clips


@pytest.fixture(scope="module")
def recognizer() -> LoadedRecognizer:
    return load_recognizer("imagenet-lite", "embedded")


def clips_of(*shapes: tuple[int, int, int]) -> list[torch.Tensor]:
    rng = np.random.default_rng(1)
    return [
        torch.from_numpy(np.kron(rng.integers(0, 256, (k, 4, 4, 3)), np.ones((1, h // 4, w // 4, 1))).astype(np.uint8))
        for k, h, w in shapes
    ]


def test_clips_of_any_number_and_size_of_frames_are_recognized_as_they_are_alone(recognizer: LoadedRecognizer) -> None:
    clips, settings = clips_of((2, 240, 320), (3, 320, 240)), ClassifySettings(num_predictions=3)
    together = recognize_clips(recognizer, clips, settings)
    for clip, recognition in zip(clips, together, strict=True):
        (alone,) = recognize_clips(recognizer, [clip], settings)
        assert [c.label for c in recognition.predictions] == [c.label for c in alone.predictions]
        assert [c.score for c in recognition.predictions] == pytest.approx(
            [c.score for c in alone.predictions], abs=1e-4
        )
        assert len(recognition.frame_predictions) == len(clip)
        assert recognition.maps is not None
        assert alone.maps is not None
        np.testing.assert_allclose(recognition.maps.values, alone.maps.values, atol=1e-3)


def test_outputs_are_those_of_the_network_on_the_prepared_frames(recognizer: LoadedRecognizer) -> None:
    (clip,) = clips_of((3, 240, 320))
    timings: dict[str, float] = {}
    (output,) = forward_recognizer(recognizer, [clip], timings)
    place = next(recognizer.recognizer.parameters())
    with torch.inference_mode():
        expected = recognizer.recognizer(recognizer.preprocessor(clip, place.device, place.dtype))
    torch.testing.assert_close(output.logits, expected.logits.float(), atol=1e-3, rtol=1e-3)
    assert output.activations.shape == expected.activations.shape
    assert set(timings) == {"preprocess", "recognize"}


def test_maps_are_made_only_where_they_are_asked_for(recognizer: LoadedRecognizer) -> None:
    (recognition,) = recognize_clips(recognizer, clips_of((1, 240, 240)), ClassifySettings(maps=False))
    assert recognition.maps is None


def class_probabilities(
    logits: torch.Tensor, *, temperature: float | None = None, multi_label: bool = False
) -> torch.Tensor:
    scores = video_scores(logits, Consensus(multi_label=multi_label), temperature=temperature)
    return probabilities(scores, multi_label=multi_label)


def test_frames_that_differ_do_not_weaken_each_other() -> None:
    """Two frames, sure of one class each: 6 against 0 and 0, which is 4 above the mean of the classes.

    Their mean is 3, 3, 0: only 1 above its mean, 2. Brought back it is 4 times that, 12, 12, 0; at a temperature of 4
    again 3, 3, 0.
    """
    logits = torch.tensor([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0]])
    e = math.exp(3.0)
    expected = torch.tensor([e, e, 1.0]) / (2 * e + 1)
    torch.testing.assert_close(class_probabilities(logits, temperature=4.0), expected)
    torch.testing.assert_close(class_probabilities(logits), expected)  # as it comes
    alone = class_probabilities(logits[:1], temperature=3.0)  # one frame loses nothing: 2, 0, 0
    torch.testing.assert_close(alone, torch.tensor([math.exp(2.0), 1.0, 1.0]) / (math.exp(2.0) + 2))
    several = class_probabilities(logits, temperature=3.0, multi_label=True)
    torch.testing.assert_close(several, torch.tensor([1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-1)), 0.5]))


@pytest.mark.parametrize("temperature", [None, 0.9])
@pytest.mark.parametrize("multi_label", [False, True])
def test_frames_that_say_nothing_give_even_probabilities(temperature: float | None, multi_label: bool) -> None:
    given = class_probabilities(torch.full((3, 4), -7.0), temperature=temperature, multi_label=multi_label)
    assert torch.isfinite(given).all()
    assert (given == given[0]).all()
