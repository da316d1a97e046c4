"""The README's Python is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_librarys_examples_run_and_say_what_they_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    selected, classified, by_hand = (out for out in capsys.readouterr().out.split("Egyptian cat"))
    assert len(selected.splitlines()) == 5
    assert classified.startswith(" (5, 7, 7)")
    assert "Category(" in classified
    assert "score=0.5" in by_hand
