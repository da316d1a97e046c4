"""Run the whole attack suite and write its figures: `python -m tests.attack --seed 0 --json docs/reliability.json`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL

import tsq_cli
from tests.attack import bombs, kills, mutations, outputs
from tests.attack.running import Report, default_signals


def main() -> None:
    """Run the parts, tell how they go on stderr, and exit 1 where anything was not as it must be."""
    options = _options()
    default_signals()
    parts = _parts(options)
    chosen = options.only or list(parts)
    report: dict[str, Any] = {}
    if options.json is not None and options.json.exists():
        report = json.loads(options.json.read_text(encoding="utf-8"))  # parts that are not run again stay
    figures = {name: figure for name, figure in report.get("parts", {}).items() if name in parts}
    for name in chosen:
        started = time.monotonic()
        result = parts[name]()
        figures[name] = {**result, "seconds": round(time.monotonic() - started, 1), "seed": options.seed}
        report = {
            "command": f"python -m tests.attack --seed {options.seed} --mutations {options.mutations} "
            f"--kills {options.kills} --json docs/reliability.json",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": _machine(),
            "versions": _versions(),
            "parts": {known: figures[known] for known in parts if known in figures},
        }
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        _tell(f"{name}: {figures[name]['seconds']:.0f} s, {len(result['wrong'])} wrong")
    wrongs = [f"{name}: {what}" for name in chosen for what in figures[name]["wrong"]]
    for what in wrongs:
        _tell(f"WRONG {what}")
    sys.exit(1 if wrongs else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random")
    parser.add_argument("--mutations", type=int, default=10_000, help="damaged files")
    parser.add_argument("--kills", type=int, default=50, help="kills, and as many signals")
    parser.add_argument("--workers", type=int, default=2, help="processes that read damaged files at once")
    parser.add_argument("--json", type=Path, help="write the figures; parts that it holds and --only leaves out stay")
    parser.add_argument("--only", action="append", choices=PARTS, help="run this part; may be given several times")
    parser.add_argument("--keep", type=Path, help="a folder for damaged files that ended in what must not be")
    return parser.parse_args()


PARTS = ("mutations", "bombs", "kills", "signals", "two_at_once", "full_disk", "poison", "outputs")


def _parts(options: argparse.Namespace) -> dict[str, Callable[[], Report]]:
    seed = options.seed
    functions: tuple[Callable[[], Report], ...] = (
        lambda: mutations.attack(
            seed=seed, count=options.mutations, workers=options.workers, keep=options.keep, tell=_tell
        ),
        lambda: bombs.attack(tell=_tell),
        lambda: kills.kill_at_random(seed=seed, kills=options.kills, tell=_tell),
        lambda: kills.signals(seed=seed, count=options.kills, tell=_tell),
        lambda: kills.two_at_once(tell=_tell),
        lambda: kills.full_disk(tell=_tell),
        lambda: kills.poison(tell=_tell),
        lambda: outputs.attack(tell=_tell),
    )
    return dict(zip(PARTS, functions, strict=True))


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _machine() -> dict[str, Any]:
    processor = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [line.partition(":")[2] for line in information.read_text().splitlines() if "model name" in line]
        processor = models[0].strip() if models else processor
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.system()}


def _versions() -> dict[str, str]:
    libraries = {name: ".".join(map(str, number)) for name, number in sorted(av.library_versions.items())}
    return {
        "tsq": tsq_cli.__version__,
        "python": platform.python_version(),
        "av": av.__version__,
        **libraries,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


if __name__ == "__main__":
    main()
