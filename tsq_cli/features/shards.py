"""An append-only store of named arrays in safetensors files, safe against a kill at any moment.

The headers of the shards are the index, so that no second file can disagree with them. A shard gets its name once it is
complete and never changes afterwards: a killed run loses at most the entries of its unfinished shard, and any process
may read while one writes. Free of torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tsq_cli.errors import TsqError
from tsq_cli.files import atomic_path, cannot_write, remove_leftovers

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
"""The arrays of one entry, by name."""

SHARD_ENTRIES = 64
SHARD_BYTES = 64 * 2**20
SHARD_SECONDS = 30.0
"""A shard is written once it has this many entries or bytes, or its first entry is this old, whichever is first."""

_SHARDS = "[!.]*.safetensors"


class ShardStore:
    """The entries of a folder, each a few named arrays under a key. Can be pickled, for the workers of a data loader.

    Args:
        folder: created by the first writer; a folder that does not exist is an empty store.

    Raises:
        TsqError: a damaged shard, by name.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shards: dict[str, Path] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the index again, so that entries of other processes appear.

        Raises:
            TsqError: a damaged shard, by name.
        """
        self._shards = {}
        for path in sorted(self.folder.glob(_SHARDS)):
            with _opened(path) as shard:
                keys = (name.partition("/")[0] for name in shard.keys())  # noqa: SIM118 - no mapping
                self._shards.update(dict.fromkeys(keys, path))

    def __contains__(self, key: str) -> bool:
        return key in self._shards

    def __len__(self) -> int:
        return len(self._shards)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shards)

    def read(self, keys: Iterable[str], *, names: Collection[str] | None = None) -> Iterator[tuple[str, Arrays]]:
        """Yield entries, each once, shard by shard and thus not in the order of `keys`.

        Args:
            keys: of existing entries.
            names: of the arrays to read; None is all of them.

        Raises:
            KeyError: no such entry.
            TsqError: a shard that cannot be read.
        """
        by_shard: dict[Path, set[str]] = {}
        for key in keys:
            by_shard.setdefault(self._shards[key], set()).add(key)
        for path, wanted in by_shard.items():
            entries: dict[str, Arrays] = {}
            with _opened(path) as shard:
                for full_name in shard.keys():  # noqa: SIM118 - no mapping
                    key, _, name = full_name.partition("/")
                    if key in wanted and (names is None or name in names):
                        entries.setdefault(key, {})[name] = shard.get_tensor(full_name)
            yield from entries.items()

    def piece(self, key: str, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Read rows [start, stop) of one array, without the others.

        Raises:
            KeyError: no such entry.
            TsqError: the shard cannot be read.
        """
        with _opened(self._shards[key]) as shard:
            rows: npt.NDArray[Any] = shard.get_slice(f"{key}/{name}")[start:stop]
            return rows

    @contextmanager
    def writer(self) -> Iterator[ShardWriter]:
        """Lock the store for adding entries; pending entries are written at the end of the block, error or not.

        The index is read again first, so that no entry of another process is added twice, and unfinished files of
        killed writers are removed.

        Raises:
            TsqError: another process is writing here, or a shard is damaged.
            OutputError: the folder cannot be written.
        """
        # The system releases the lock when its process ends, however it ends.
        lock = FileLock(self.folder / "lock", timeout=0)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise TsqError(
                f"another process is writing to {self.folder}",
                wanted="one writer at a time",
                fix="wait for it to finish, or use another cache folder",
            ) from error
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        try:
            remove_leftovers(self.folder)
            self.refresh()
            with ShardWriter(self) as writer:
                yield writer
        finally:
            lock.release()

    def _add_shard(self, entries: Mapping[str, Arrays]) -> None:
        # Named after its first entry: a writer that is interrupted right after this and retries makes no second copy.
        path = self.folder / f"{next(iter(entries))}.safetensors"
        content = save({f"{key}/{name}": array for key, arrays in entries.items() for name, array in arrays.items()})
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # after a power cut, a name must not be there without its content
        self._shards.update(dict.fromkeys(entries, path))


class ShardWriter:
    """Collects entries into shards; made by ShardStore.writer."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        self._pending: dict[str, Arrays] = {}
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add an entry; it is safe once its shard is written, see SHARD_ENTRIES.

        Args:
            key: new, of letters and digits.
            arrays: at least one, by name.

        Raises:
            OutputError: the shard that this entry completes cannot be written.
            ValueError: a key that exists or has other characters, or no arrays.
        """
        if not key.isalnum() or not arrays or key in self._store or key in self._pending:
            raise ValueError(f"need a new key of letters and digits with arrays, got {key!r} with {sorted(arrays)}")
        if not self._pending:
            self._since = time.monotonic()
        self._pending[key] = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        size = sum(array.nbytes for entry in self._pending.values() for array in entry.values())
        age = time.monotonic() - self._since
        if len(self._pending) >= SHARD_ENTRIES or size >= SHARD_BYTES or age >= SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write pending entries as one shard.

        Raises:
            OutputError: it cannot be written; the entries stay pending.
        """
        if self._pending:
            self._store._add_shard(self._pending)
            self._pending = {}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="np") as shard:
            yield shard
    except (OSError, SafetensorError) as error:
        raise TsqError(
            f"{path} cannot be read ({error})",
            wanted="a complete shard of the cache",
            fix="remove this file: its entries are computed again",
        ) from error
