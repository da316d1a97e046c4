"""The sharded store: what was written is there, once, whatever killed the writer; nobody writes beside it."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.features.killing import Pace, killed_until_done
from tsq_cli.errors import OutputError, TsqError
from tsq_cli.features import shards
from tsq_cli.features.shards import Arrays, ShardStore

NUM_ENTRIES = 400


def entry(number: int) -> Arrays:
    chance = np.random.default_rng(number)
    return {
        "features": chance.normal(size=(4, 500)).astype(np.float16),
        "times": chance.normal(size=4),
        "bytes": chance.integers(0, 256, size=number + 1, dtype=np.uint8),
    }


def contents(store: ShardStore) -> dict[str, dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """Everything in a store, by value."""
    return {
        key: {name: (str(array.dtype), array.shape, array.tobytes()) for name, array in arrays.items()}
        for key, arrays in store.read(store)
    }


def names_in_headers(folder: Path) -> Counter[str]:
    """Count each tensor in the files of a folder, read by the format's own specification."""
    found: Counter[str] = Counter()
    for path in folder.glob("[!.]*.safetensors"):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        assert max(part["data_offsets"][1] for part in header.values()) == len(data) - 8 - length
        found.update(header.keys())
    return found


def fill(folder: Path, pace: Pace) -> None:
    """Go on where an earlier run stopped, as all users of the store do."""
    with ShardStore(folder).writer() as writer:
        done = set(ShardStore(folder))
        for number in range(NUM_ENTRIES):
            if str(number) not in done:
                writer.add(str(number), entry(number))
                pace()


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=environment)


def test_entries_come_back_as_they_were_and_to_a_new_process_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ENTRIES", 3)
    store = ShardStore(tmp_path / "store")
    with store.writer() as writer:
        for number in range(10):
            writer.add(str(number), entry(number))
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == 4  # three, three, three, one
    for again in (store, ShardStore(tmp_path / "store"), pickle.loads(pickle.dumps(store))):
        assert sorted(again, key=int) == [str(number) for number in range(10)]
        for key, arrays in again.read(["7", "2", "7"]):
            wanted = entry(int(key))
            assert arrays.keys() == wanted.keys()
            for name, array in arrays.items():
                assert array.dtype == wanted[name].dtype
                np.testing.assert_array_equal(array, wanted[name])
        assert [key for key, _ in again.read(["7", "2", "7"])] in (["7", "2"], ["2", "7"])
        assert [arrays.keys() for _, arrays in again.read(["5"], names=["times"])] == [{"times"}]
        np.testing.assert_array_equal(again.piece("9", "bytes", 2, 5), entry(9)["bytes"][2:5])


@pytest.mark.parametrize(("limit", "value"), [("SHARD_BYTES", 10_000), ("SHARD_SECONDS", 0.0)])
def test_a_shard_ends_by_size_and_by_age_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    monkeypatch.setattr(shards, limit, value)
    with ShardStore(tmp_path).writer() as writer:
        writer.add("0", entry(0))
        few = len(list(tmp_path.glob("*.safetensors")))
        for number in range(1, 6):  # of about 4 kB each
            writer.add(str(number), entry(number))
    assert few == (1 if limit == "SHARD_SECONDS" else 0)
    assert len(list(tmp_path.glob("*.safetensors"))) == (6 if limit == "SHARD_SECONDS" else 2)


def test_a_store_killed_at_random_moments_ends_like_one_that_was_not(tmp_path: Path) -> None:
    code = "import sys; from tests.features.test_shards import kill_and_compare; kill_and_compare(sys.argv[1])"
    process = run_python(code, tmp_path)
    assert json.loads(process.communicate()[0])["partial"] >= 3
    assert process.returncode == 0


def kill_and_compare(root: str) -> None:
    """In a process of its own: fill one store in peace, another under fire, and compare them."""
    shards.SHARD_ENTRIES = 5
    calm, killed = Path(root) / "calm", Path(root) / "killed"
    fill(calm, lambda: None)
    before: dict[str, object] = {}

    def look() -> int:
        """Nothing that was indexed may be lost or change, and nothing may be there twice."""
        store = ShardStore(killed)
        now = contents(store)
        assert before.items() <= now.items()
        before.update(now)
        assert set(names_in_headers(killed).values()) <= {1}
        return len(now)

    seen = killed_until_done(partial(fill, killed), look, kills=10, most_steps=60, seed=1)
    assert contents(ShardStore(killed)) == contents(ShardStore(calm))
    assert names_in_headers(killed) == names_in_headers(calm)
    assert len(names_in_headers(calm)) == 3 * NUM_ENTRIES
    assert not list(killed.glob(".*.safetensors"))
    print(json.dumps({"partial": len({count for count in seen if 0 < count < NUM_ENTRIES}), "seen": seen}))


def test_what_a_writer_killed_while_writing_leaves_is_neither_read_nor_kept(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from tests.features.test_shards import entry
from tsq_cli.features.shards import ShardStore
with ShardStore(Path(sys.argv[1])).writer() as writer:
    writer.add("0", entry(0))
    writer.flush()
    os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
    writer.add("1", entry(1))
"""
    process = run_python(code, tmp_path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.safetensors"))) == 1
    store = ShardStore(tmp_path)
    assert list(store) == ["0"]
    with store.writer() as writer:
        assert not list(tmp_path.glob(".*.safetensors"))
        writer.add("1", entry(1))
    assert sorted(store) == ["0", "1"]


def test_a_second_writer_is_refused_until_the_first_is_gone_while_readers_read_on(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tests.features.test_shards import entry
from tsq_cli.features.shards import ShardStore
with ShardStore(Path(sys.argv[1])).writer() as writer:
    writer.add("0", entry(0))
    writer.flush()
    print("writing", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        store = ShardStore(tmp_path)
        assert list(store) == ["0"]
        with pytest.raises(TsqError, match=f"another process is writing to {tmp_path}"), store.writer():
            pytest.fail("two writers")
        process.kill()
    with store.writer() as writer:
        writer.add("1", entry(1))
    assert sorted(store) == ["0", "1"]


def test_a_writer_sees_what_was_added_since_its_store_was_opened(tmp_path: Path) -> None:
    early, other = ShardStore(tmp_path), ShardStore(tmp_path)
    with other.writer() as writer:
        writer.add("0", entry(0))
    assert "0" not in early
    with early.writer() as writer, pytest.raises(ValueError, match="need a new key"):
        writer.add("0", entry(0))


@pytest.mark.parametrize(("key", "arrays"), [("a/b", entry(0)), ("", entry(0)), ("a", {})])
def test_a_key_that_could_not_be_found_again_is_refused(tmp_path: Path, key: str, arrays: Arrays) -> None:
    with ShardStore(tmp_path).writer() as writer, pytest.raises(ValueError, match="need a new key"):
        writer.add(key, arrays)


def test_an_error_in_the_block_keeps_what_was_added(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ShardStore(tmp_path).writer() as writer:
            writer.add("0", entry(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(ShardStore(tmp_path)) == ["0"]


def test_an_interrupt_just_after_a_shard_got_its_name_makes_no_second_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace
    interrupts = iter([KeyboardInterrupt()])

    def then_interrupt(self: Path, target: Path) -> Path:
        renamed = replace(self, target)
        for error in interrupts:
            raise error
        return renamed

    monkeypatch.setattr(Path, "replace", then_interrupt)
    monkeypatch.setattr(shards, "SHARD_ENTRIES", 1)
    with pytest.raises(KeyboardInterrupt), ShardStore(tmp_path).writer() as writer:
        writer.add("0", entry(0))
    assert names_in_headers(tmp_path) == {"0/features": 1, "0/times": 1, "0/bytes": 1}


def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"), ShardStore(tmp_path).writer() as writer:
        writer.add("0", entry(0))
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    with store.writer() as writer:
        writer.add("0", entry(0))
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    for read in (lambda: ShardStore(tmp_path), lambda: list(store.read(["0"]))):
        with pytest.raises(TsqError, match=r"0\.safetensors cannot be read"):
            read()
    path.unlink()
    with pytest.raises(TsqError, match=r"0\.safetensors cannot be read"):
        store.piece("0", "times", 0, 1)


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(OutputError, match="cannot write"), ShardStore(tmp_path / "store").writer():
        pytest.fail("wrote into a file")
