"""Frames decoded by an NVIDIA GPU; without one, how FFmpeg is asked for it and what happens where it cannot."""

from __future__ import annotations

import errno
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.codec.hwaccel import HWAccel

from tests.marks import needs_cuda
from tests.video.clips import clip
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import NvdecError
from tsq_cli.video import decode_frames, demux, open_video


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
