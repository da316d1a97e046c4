"""A process that runs networks on a CPU keeps its buffers from one video to the next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PAGES_A_VIDEO = """
import resource
import torch
from tsq_cli.models import create_encoder
from tsq_cli.packs.load import ready_to_run
from tsq_cli.scoring import encode_images

encoder = ready_to_run(create_encoder("resnet50"), "cpu", torch.float32)
images = torch.zeros(5, 3, 224, 224)
with torch.inference_mode():
    for turn in range(6):
        if turn == 3:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        encode_images(encoder, images)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 3)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc gives freed memory back, others differ")
def test_buffers_are_not_mapped_anew_for_every_video() -> None:
    told = subprocess.run([sys.executable, "-c", PAGES_A_VIDEO], capture_output=True, text=True, check=True)
    assert int(told.stdout) < 500  # 20 MiB and more where glibc does as it likes
