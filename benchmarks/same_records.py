"""Compare the records of two states of the code: ``python -m benchmarks.same_records COMMIT VIDEOS...``.

The commit's files are unpacked beside the working tree, both run the same commands on the same videos, and every field
of every record is compared exactly, but for versions, times taken and names that were only spelled anew (RENAMED).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsq_cli.benchmark.measure import exit_code
from tsq_cli.errors import UsageError, VideoError
from tsq_cli.report.console import SafeConsole

ROOT = Path(__file__).parents[1]
COMMANDS: Mapping[str, Sequence[str]] = {
    "select": ("select",),
    "select, the paper's rule": ("select", "--selector", "tsq", "-n", "16", "-k", "3", "--order", "score"),
    "select, as many as differ": ("select", "-k", "auto", "--sharpest"),
    "select, a query": ("select", "--query", "a dog"),
    "classify": ("classify", "--recognizer", "embedded"),
}
VERSIONS = frozenset({"tsq_version", "schema_version", "settings_hash", "sha256", "timings_seconds"})
"""Keys whose values may differ: versions, what identifies code and pack.json, and how long a stage took."""
RENAMED: Mapping[str, str] = {}
"""Keys as the commit spells them to keys as the working tree does."""


def records(tree: Path, command: Sequence[str], videos: Sequence[Path]) -> dict[str, Any]:
    """The record of each video by its path, from the code in a folder, offline and on the CPU.

    Raises:
        VideoError: the command wrote no records.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "records.jsonl"
        call = [sys.executable, "-m", "tsq_cli", *command, *map(str, videos), "--device", "cpu", "--jsonl", str(lines)]
        environment = {**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"}
        run = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True)
        if not lines.exists():
            raise VideoError(
                f"tsq {' '.join(command)} of {tree} wrote no records (exit code {run.returncode}): {run.stderr[-500:]}",
                wanted="one record per video",
                fix="run it by hand",
            )
        found = [json.loads(line) for line in lines.read_text().splitlines()]
    return {record["video"]["path"]: record for record in found}


def differences(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Each field that differs between two JSON values, as "path: before -> after"; VERSIONS are left out."""
    if isinstance(before, dict) and isinstance(after, dict):
        spelled = {RENAMED.get(key, key): value for key, value in before.items()}
        for key in sorted((spelled.keys() | after.keys()) - VERSIONS):
            yield from differences(spelled.get(key, "absent"), after.get(key, "absent"), f"{at}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{at}[{number}]")
    elif before != after or type(before) is not type(after):
        yield f"{at or 'record'}: {json.dumps(before)[:80]} -> {json.dumps(after)[:80]}"


def unpack(commit: str, folder: Path) -> None:
    """Write the files of a commit of this repository to a folder.

    Raises:
        UsageError: no such commit.
    """
    packed = subprocess.run(["git", "archive", commit, "tsq_cli", "weights"], cwd=ROOT, capture_output=True)
    if packed.returncode:
        raise UsageError(f"{commit}: {packed.stderr.decode().strip()}", wanted="a commit", fix="see git log --oneline")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")


def compare(commit: str, videos: Sequence[Path]) -> int:
    """Print how many records of each command are equal and where others differ; returns how many differ.

    Raises:
        UsageError: no such commit or video.
        VideoError: a command wrote no records.
    """
    if lost := [str(path) for path in videos if not path.is_file()]:
        raise UsageError(f"no such file: {', '.join(lost)}", wanted="video files", fix="check the paths")
    paths = [path.resolve() for path in videos]
    console, num_different = SafeConsole(), 0
    with tempfile.TemporaryDirectory() as folder:
        unpack(commit, Path(folder))
        for name, command in COMMANDS.items():
            before, after = (records(tree, command, paths) for tree in (Path(folder), ROOT))
            found = {path: list(differences(before.get(path), after.get(path))) for path in map(str, paths)}
            different = {path: fields for path, fields in found.items() if fields}
            num_different += len(different)
            console.print(f"{name}: {len(found) - len(different)} of {len(found)} records are equal")
            for path, fields in different.items():
                for line in (f"  {path}", *(f"    {field}" for field in fields[:5])):
                    console.print(line)
    return num_different


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison from the command line; exit code 1 where a record differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_records", description=__doc__)
    parser.add_argument("commit", help="the code before, for instance HEAD~1")
    parser.add_argument("videos", nargs="+", type=Path, help="video files")
    options = parser.parse_args(arguments)
    different = 0

    def run() -> None:
        nonlocal different
        different = compare(options.commit, options.videos)

    return exit_code(run) or int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
