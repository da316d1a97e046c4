"""Running the program as a user does, in this process: `main()` with its exit code, stdout and stderr."""

import functools
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import tsq_cli.packs
from tsq_cli.arrays import Engine
from tsq_cli.cli.app import main
from tsq_cli.packs import Pack, PackConfig, find_pack, load_pack

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo.mp4"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@functools.cache
def default_pack(device: str, dtype: torch.dtype | None, engine: Engine) -> Pack:
    return load_pack("imagenet-lite", device=device, dtype=dtype, engine=engine)


def load_default_pack_once(
    pack: str | Path | PackConfig, *, device: str = "cpu", dtype: torch.dtype | None = None, engine: Engine = "torch"
) -> Pack:
    """Load a pack as the program does, the default one a single time per worker."""
    config = pack if isinstance(pack, PackConfig) else find_pack(pack)
    is_default = config == find_pack("imagenet-lite")
    if not is_default:
        return load_pack(config, device=device, dtype=dtype, engine=engine)
    return default_pack(device, dtype, engine)


@pytest.fixture
def tsq(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    demo_decoded_once: None,
    text_encoder_loaded_once: None,
) -> Callable[..., Result]:
    monkeypatch.setattr(tsq_cli.packs, "load_pack", load_default_pack_once)

    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["tsq", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        code = stopped.value.code
        return Result(code if isinstance(code, int) else int(bool(code)), captured.out, captured.err)

    return run


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo clip, in a folder of its own."""
    return Path(shutil.copy(DEMO, tmp_path / "demo.mp4"))
