"""`TSQ_FAIL_WITHOUT_CUDA=1 pytest -m gpu` runs every test that needs a GPU, and none of them is skipped."""

from __future__ import annotations

import pytest
import torch

from tests.marks import MUST_HAVE_CUDA, needs_cuda, skip_without_cuda


@pytest.mark.parametrize(
    ("is_marked", "has_cuda", "must_have", "is_skipped"),
    [
        (True, False, "0", True),
        (True, False, "1", False),
        (True, True, "0", False),
        (False, False, "0", False),
    ],
)
def test_a_gpu_test_is_skipped_only_where_it_may_be(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    is_marked: bool,
    has_cuda: bool,
    must_have: str,
    is_skipped: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setenv(MUST_HAVE_CUDA, must_have)
    if is_marked:
        request.node.add_marker(needs_cuda)
    try:
        skip_without_cuda(request.node)
    except pytest.skip.Exception:
        assert is_skipped
    else:
        assert not is_skipped


def test_the_mark_is_named_as_the_docs_have_it(request: pytest.FixtureRequest) -> None:
    assert needs_cuda.name == "gpu"
    assert any(line.startswith("gpu:") for line in request.config.getini("markers"))
