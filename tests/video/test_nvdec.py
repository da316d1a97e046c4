"""Frames decoded by an NVIDIA GPU; without one, how FFmpeg is asked for it and what happens where it cannot."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.codec.hwaccel import HWAccel

from tests.marks import needs_cuda
from tests.video import pictures
from tests.video.clips import clip
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import NvdecError
from tsq_cli.pipeline import Selector
from tsq_cli.sharpest import sharpen
from tsq_cli.video import decode_frames, demux, open_video
from tsq_cli.video.decoder import StreamDecoder
from tsq_cli.video.stop import never


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_nvdec_is_refused_and_decoding_goes_on_without_it() -> None:
    source = open_video(clip("h264_no_b_frames").path)
    with pytest.raises(NvdecError, match=r"NVDEC.*use --decode exact"):
        decode_frames(source, [1, 14], mode="nvdec")
    assert decode_frames(source, [1, 14]).frame_indices.tolist() == [1, 14]


class FakeAccelerators:
    """Notes how hardware decoding is asked for and has none, as FFmpeg where torch was first on the GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refused: int) -> None:
        self.asked: list[tuple[object, object]] = []
        self._refused = refused
        original = av.open

        def opening(*args: Any, hwaccel: object = None, **options: Any) -> object:
            if hwaccel is not None and len(self.asked) <= self._refused:
                raise av.FFmpegError(errno.ENOTSUP, "Operation not supported")
            return original(*args, **options)

        def accelerator(kind: str, device: str, allow_software_fallback: bool, options: object) -> object:
            assert kind == "cuda"
            assert not allow_software_fallback  # or frames would come from the CPU without a word
            self.asked.append((device, options))
            return object()

        monkeypatch.setattr(demux.av, "open", opening)
        monkeypatch.setattr(demux, "HWAccel", accelerator)
        monkeypatch.setattr(demux, "_check_on_gpu", lambda *_: None)


@pytest.mark.parametrize(("device", "index"), [("cuda:1", "1"), ("cuda", "0"), ("auto", "0")])
def test_nvdec_decodes_on_the_networks_gpu_in_its_context(
    monkeypatch: pytest.MonkeyPatch, device: str, index: str
) -> None:
    fake = FakeAccelerators(monkeypatch, refused=0)
    settings = SelectSettings(num_candidates=5, selector="uniform", decode_mode="nvdec")
    clip_of = load_clip(clip("h264_all_keyframes").path, settings, device=device, threads=1)
    clip_of.look_closer(np.array([1, 2]), settings, threads=1)
    assert fake.asked == [(index, {"primary_ctx": "1"})]  # once: the decoder is kept


def test_nvdec_makes_a_context_of_its_own_where_torchs_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAccelerators(monkeypatch, refused=1)
    source = open_video(clip("h264_no_b_frames").path, gpu=3)
    assert decode_frames(source, [1, 14], mode="nvdec", threads=1).frame_indices.tolist() == [1, 14]
    assert fake.asked == [("3", {"primary_ctx": "1"}), ("3", {})]


def test_nvdec_is_refused_if_no_context_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeAccelerators(monkeypatch, refused=2)
    with pytest.raises(NvdecError, match=r"NVDEC.*use --decode exact"):
        decode_frames(open_video(clip("h264_no_b_frames").path), [1, 14], mode="nvdec", threads=1)
    assert len(fake.asked) == 2


class Failing:
    """A codec context that decodes so many packets and then none."""

    def __init__(self, context: Any, good: int, error: type[Exception] | None) -> None:
        self._context, self._left, self._error = context, good, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def decode(self, packet: object) -> Any:
        self._left -= 1
        if self._left >= 0:
            return self._context.decode(packet)
        if self._error is not None and packet is not None:
            raise self._error(errno.EINVAL, "no such profile")
        return []


def failing_gpu(monkeypatch: pytest.MonkeyPatch, good: int, error: type[Exception] | None) -> None:
    FakeAccelerators(monkeypatch, refused=0)
    original = StreamDecoder.__init__

    def made(self: StreamDecoder, opened: demux.OpenStream, *args: Any) -> None:
        original(self, opened, *args)
        if opened.gpu is not None:
            self._context = Failing(self._context, good, error)  # type: ignore[assignment]

    monkeypatch.setattr(StreamDecoder, "__init__", made)


def left(codec: str) -> str:
    return f"NVDEC gave no frame of this {codec} video, or of a part of it; the CPU decoded that instead."


@pytest.mark.parametrize("error", [av.InvalidDataError, av.ArgumentError, None])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_nvdec_cannot_decode_is_decoded_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception] | None, threads: int
) -> None:
    made = clip("h264_10_bit")
    failing_gpu(monkeypatch, 0, error)
    wanted = [1, 14, 50]
    with open_video(made.path) as source:
        batch = decode_frames(source, wanted, mode="nvdec", threads=threads)
    assert [pictures.read(pixels) for pixels in batch.pixels] == [made.numbers[i] for i in wanted]
    assert batch.notes == (left("h264"),)
    assert batch.decode_errors == 0


def test_a_damaged_packet_leaves_the_video_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_gpu(monkeypatch, 3, av.InvalidDataError)
    with open_video(clip("h264_no_b_frames").path) as source:
        batch = decode_frames(source, [1, 14], mode="nvdec", threads=1)
    assert batch.frame_indices.tolist() == [1]  # the third packet is the first one of the other run
    assert batch.notes == ("1 of 2 frames could not be decoded and are replaced by the nearest ones that could.",)
    assert batch.decode_errors > 0


def test_frames_at_the_end_of_a_run_are_proof_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    failing_gpu(monkeypatch, 99, None)
    with open_video(clip("hevc").path) as source, source.decoder(nvdec=True) as decoder:
        assert len(list(decoder.frames(0, 1, should_stop=never))) == 1  # it comes out once there are no more packets


def test_a_codec_that_nvdec_does_not_know_is_decoded_on_the_cpu() -> None:
    settings = SelectSettings(num_candidates=5, selector="uniform", decode_mode="nvdec")
    record = Selector.without_model().select(clip("gif").path, settings)  # asks PyAV itself, with or without a GPU
    assert record.status == "ok"
    assert left("gif") in record.notes


def test_such_a_codec_beside_one_that_nvdec_knows_is_decoded_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    check = demux._check_on_gpu
    FakeAccelerators(monkeypatch, refused=0)
    monkeypatch.setattr(demux, "_check_on_gpu", check)
    with open_video(clip("h264_no_b_frames").path) as source:
        assert decode_frames(source, [1, 14], mode="nvdec").notes == (left("h264"),)


def test_neighbors_that_nvdec_cannot_decode_are_in_the_notes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SelectSettings(num_candidates=5, selector="uniform")
    of = load_clip(clip("h264_no_b_frames").path, settings)
    failing_gpu(monkeypatch, 0, None)
    assert left("h264") in sharpen(of, [1, 3], replace(settings, decode_mode="nvdec")).notes


def test_the_settings_that_pyav_is_given_are_its_own() -> None:
    accelerator = HWAccel("cuda", device="1", allow_software_fallback=False, options={"primary_ctx": "1"})
    assert accelerator.options == {"primary_ctx": "1"}


@needs_cuda
@pytest.mark.parametrize("cache", [2**26, 0], ids=["cached", "seeking"])
@pytest.mark.parametrize("name", ["h264_no_b_frames", "h264_all_keyframes"])
def test_nvdec_gives_the_same_frames(name: str, cache: int) -> None:
    source = open_video(clip(name).path, packet_cache_bytes=cache)
    exact, nvdec = (decode_frames(source, [1, 14, 50], mode=mode) for mode in ("exact", "nvdec"))
    assert nvdec.frame_indices.tolist() == exact.frame_indices.tolist()
    assert np.abs(nvdec.pixels.astype(int) - exact.pixels).max() <= 2  # NV12 and planar chroma round differently
