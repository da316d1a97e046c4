"""Tensors of weight files: read without running code, and filled into networks strictly.

torch is loaded inside the functions only.
"""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tsq_cli.errors import WeightsError, one_line
from tsq_cli.packs.quantized import dequantize
from tsq_cli.printable import printable, shown

if TYPE_CHECKING:
    from torch import Tensor, nn

# Exceptions of torch.load and zipfile for a damaged file, beside the UnpicklingError of one that holds code.
_DAMAGE = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error,
    zipfile.BadZipFile,
)  # fmt: skip
_ZIP = b"PK\x03\x04"
_REFETCH = "remove it and get it again, see `tsq packs pull`"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name from .safetensors, or from .pth/.pt/.bin that need no code to be read (weights_only=True).

    Returns:
        Tensors on the CPU, in float32, float16 or bfloat16, but for a batch norm's int64 counter. Weights that a
        .safetensors file holds in 8 bits come back in float32 (tsq_cli.packs.quantized).

    Raises:
        WeightsError: a damaged file, one that holds more than tensors or other types of them, or one of another kind.
    """
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt", ".bin"):
        tensors = _read_pickle(path)
    else:
        raise WeightsError(
            f"{path} has the suffix {shown(path.suffix)}", wanted=".safetensors or .pth", fix="convert it"
        )
    _check_tensors(tensors, path)
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read ({one_line(error)})", wanted="safetensors", fix=_REFETCH) from error
    return dequantize(tensors, metadata, origin=str(path))


def _read_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    _refuse_inflating(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch finds odd is read or refused; only the command line prints
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds code beside its tensors, and was not run",
            wanted="plain tensors",
            fix="save them as safetensors",
        ) from error
    except _DAMAGE as error:
        raise WeightsError(
            f"{path} cannot be read ({one_line(error)})", wanted="a file of torch.save", fix=_REFETCH
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in loaded.items()
    ):
        raise WeightsError(f"{path} holds more than tensors", wanted="a state dict", fix="save model.state_dict()")
    return loaded


def _refuse_inflating(path: Path) -> None:
    """Refuse an archive whose parts, compressed or laid over each other, are larger than itself; torch.save's are not.

    A factor of a thousand is easily reached, and torch.load would allocate it without asking.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(_ZIP)) != _ZIP:
                return  # torch.load takes it for its older format, which is no archive
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
    except _DAMAGE as error:
        raise WeightsError(f"{path} cannot be read ({error})", wanted="a file of torch.save", fix=_REFETCH) from error
    if size > path.stat().st_size:
        raise WeightsError(
            f"{path} inflates to {size:,} bytes", wanted="tensors that are stored as they are", fix=_REFETCH
        )


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors that are no weights: of other types, sparse, without data, or larger than what the file holds."""
    import torch

    floats = (torch.float32, torch.float16, torch.bfloat16)
    for name, tensor in tensors.items():
        is_counter = tensor.dtype == torch.int64 and name.rpartition(".")[2] == "num_batches_tracked"
        if tensor.dtype not in floats and not is_counter:
            got = str(tensor.dtype).removeprefix("torch.")
        elif tensor.layout != torch.strided or tensor.device.type != "cpu":
            got = f"{tensor.layout} on {tensor.device}".removeprefix("torch.")
        elif tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            got = f"{list(tensor.shape)} over {tensor.untyped_storage().nbytes()} bytes"
        else:
            continue
        raise WeightsError(
            f"{path} holds {shown(name)} in {got}",
            wanted="plain tensors of float32, float16 or bfloat16",
            fix="save the weights in one of these",
        )


def fill(network: nn.Module, tensors: Mapping[str, Tensor], *, origin: str) -> None:
    """Fill a network strictly: every name once, no other, all shapes equal.

    Args:
        network: changed in place.
        tensors: by the network's own names.
        origin: name of the source for errors.

    Raises:
        WeightsError: a name that is missing or unknown, or another shape; the message counts and names them.
    """
    wanted = {name: list(value.shape) for name, value in network.state_dict().items()}
    flaws = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": [
            f"{name} {list(value.shape)} for {wanted[name]}"
            for name, value in tensors.items()
            if name in wanted and list(value.shape) != wanted[name]
        ],
    }
    if any(flaws.values()):
        found = "; ".join(f"{len(names)} {flaw} ({_first_few(names)})" for flaw, names in flaws.items() if names)
        raise WeightsError(
            f"{origin} does not fit {type(network).__name__}: {found}",
            wanted=f"exactly the {len(wanted)} tensors of the network that pack.json describes",
            fix="make the pack again, or fetch it again",
        )
    network.load_state_dict(tensors)


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(printable(name, 80) for name in names[:3]) + (", ..." if len(names) > 3 else "")
