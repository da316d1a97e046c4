"""Examination of this installation: versions, device, codecs, packs, hub and extras, with a remedy for each defect."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tsq_cli import provenance
from tsq_cli.config import DEFAULT_PACK
from tsq_cli.errors import TsqError, install_extra, one_line

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from tsq_cli.packs import PackConfig

Part = Literal["device", "codecs", "packs", "hub", "extras"]

_DISTRIBUTION = "tsq-cli"
_LIBRARIES = tuple(
    "onnxruntime torch torchvision timm transformers tokenizers huggingface_hub av numpy pillow typer".split()
)
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_REINSTALL = "pip install --force-reinstall"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of the examination.

    Attributes:
        part: heading under which it belongs.
        name: of what was examined.
        ok: whether it is there and works.
        is_needed: whether `tsq select VIDEO` with its defaults needs it.
        detail: what was found.
        fix: what brings it, if it is missing; empty if nothing does, or nothing is missing.
    """

    part: Part
    name: str
    ok: bool
    detail: str
    is_needed: bool = False
    fix: str = ""


def versions() -> dict[str, str | None]:
    """Return the versions of tsq and of what its results depend on, by name; None for what is not installed.

    Imports PyAV for the versions of FFmpeg's libraries, and no torch.
    """
    found = provenance.versions(_LIBRARIES) | {"platform": platform.platform()}
    try:
        from tsq_cli.video.codecs import library_versions

        found |= library_versions()
    except (ImportError, OSError):  # the examination itself says so, under codecs
        found["libavcodec"] = None
    return found


def examine() -> Iterator[Finding]:
    """Examine this installation; loads torch, and waits for a hub that does not answer for a few seconds."""
    yield from _devices()
    yield from _codecs()
    yield from _packs()
    yield from _hub()
    yield from _extras()


def _devices() -> Iterator[Finding]:
    cores = provenance.num_cores()
    processor = f"{provenance.cpu_model()}, {cores} core{'' if cores == 1 else 's'} for this process"
    try:
        import torch

        from tsq_cli.models.device import dtype_name, resolve_dtype
    except (ImportError, OSError) as error:  # OSError: a shared library that is missing
        yield Finding(
            part="device",
            name="torch",
            ok=False,
            detail=f"cannot be imported: {one_line(error)}",
            is_needed=True,
            fix=f"{_REINSTALL} torch torchvision",
        )
        return
    precision = dtype_name(resolve_dtype("auto", "cpu"))
    yield Finding(part="device", name="cpu", ok=True, detail=f"{processor}; --dtype auto: {precision}", is_needed=True)
    if torch.version.cuda is None:
        missing = f"torch {torch.__version__} was built without CUDA"
        yield Finding(part="device", name="cuda", ok=False, detail=missing, fix="install a CUDA build of torch")
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()  # type: ignore[no-untyped-call]
            names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError) as error:  # no driver, one that is too old, or no GPU
        yield Finding(
            part="device",
            name="cuda",
            ok=False,
            detail=f"not usable: {one_line(error)}",
            fix="none without an NVIDIA GPU; with one, check its driver with nvidia-smi",
        )
        return
    precision = dtype_name(resolve_dtype("auto", "cuda"))
    yield Finding(
        part="device", name="cuda", ok=True, detail=f"{', '.join(names)}, used by default; --dtype auto: {precision}"
    )


def _codecs() -> Iterator[Finding]:
    try:
        from tsq_cli.video.codecs import decoders

        found = decoders()
    except (ImportError, OSError) as error:
        yield Finding(
            part="codecs",
            name="av",
            ok=False,
            detail=f"cannot be imported: {one_line(error)}",
            is_needed=True,
            fix=f"{_REINSTALL} av",
        )
        return
    for codec, decoder in found.items():
        yield Finding(
            part="codecs",
            name=codec,
            ok=decoder is not None,
            detail="no decoder in this build of FFmpeg" if decoder is None else f"decoder {decoder}",
            is_needed=codec == "h264",
            fix=f"{_REINSTALL} --only-binary av av" if decoder is None else "",
        )


def _packs() -> Iterator[Finding]:
    """Check the files of each pack, and the networks that select frames; which of those the hub has is checked later.

    The networks are not run: `tsq packs verify` does that.
    """
    from tsq_cli.packs import list_packs

    try:
        packs, damaged = list_packs()
    except TsqError as error:  # a search folder that is not there
        yield Finding(
            part="packs", name="TSQ_PACKS", ok=False, detail=f"{error.got}; wanted {error.wanted}", fix=error.fix
        )
        return
    for pack in packs:
        try:
            detail = _verified(pack)
        except TsqError as found:
            yield _failed_pack(pack.name, found)
        else:
            yield Finding(part="packs", name=pack.name, ok=True, detail=detail, is_needed=pack.name == DEFAULT_PACK)
    for folder, flaw in damaged.items():
        yield _failed_pack(folder.name, flaw)
    if not any(name == DEFAULT_PACK for name in [*(pack.name for pack in packs), *(path.name for path in damaged)]):
        yield Finding(
            part="packs",
            name=DEFAULT_PACK,
            ok=False,
            detail="not installed",
            is_needed=True,
            fix="install tsq again; its wheel carries this pack",
        )


def _failed_pack(name: str, error: TsqError) -> Finding:
    return Finding(part="packs", name=name, ok=False, detail=error.got, is_needed=name == DEFAULT_PACK, fix=error.fix)


def _verified(pack: PackConfig) -> str:
    """Compare the sha256 of all files that a pack needs to select frames; describe them.

    Raises:
        WeightsError: a file or a package that is missing or damaged.
    """
    from tsq_cli.packs.members import verify_member
    from tsq_cli.packs.weights import needs_download

    size = sum(
        verify_member(pack.folder / part.file, part.sha256, inside=pack.folder).stat().st_size for part in pack.files
    )
    absent = sorted(role.model for role in {pack.roles.visual_encoder, pack.roles.objects} if needs_download(role))
    waiting = f"; its networks come from the hub: {', '.join(absent)}" if absent else ""
    return f"every sha256 right, {size / 1e6:.1f} MB of its own{waiting}"


def _hub() -> Iterator[Finding]:
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE, is_offline_mode

    from tsq_cli.packs.weights import hub_refusal

    if is_offline_mode():
        variables = [name for name in _OFFLINE_VARIABLES if os.environ.get(name)]
        told = f"{' and '.join(variables) or 'offline mode'} set: the hub is not asked"
        yield Finding(part="hub", name="endpoint", ok=False, detail=told, fix=f"unset {' '.join(variables)}")
    else:
        refusal = hub_refusal(ENDPOINT)
        yield Finding(
            part="hub",
            name="endpoint",
            ok=refusal is None,
            detail=f"{ENDPOINT} {refusal or 'answers'}",
            fix="" if refusal is None else "check the network, or set HF_ENDPOINT to a hub that answers",
        )
    yield from _hub_models(HF_HUB_CACHE)


def _hub_models(cache: str) -> Iterator[Finding]:
    """Look for each model in the hub's cache that a pack may use and does not carry."""
    from tsq_cli.packs import list_packs
    from tsq_cli.packs.weights import needs_download

    try:
        packs, _ = list_packs()
        users: dict[str, list[str]] = {}
        absent = set()
        for pack in packs:
            roles = pack.roles
            for role in (roles.visual_encoder, roles.objects, roles.recognizer, roles.text_encoder):
                if role.weights.source in ("timm", "transformers"):
                    users.setdefault(role.model, []).append(pack.name)
                    absent |= {role.model} if needs_download(role) else set()
    except (TsqError, ImportError, OSError):  # reported above
        return
    for model, names in users.items():
        used = f"used by {', '.join(dict.fromkeys(names))}"
        yield Finding(
            part="hub",
            name=model,
            ok=model not in absent,
            detail=f"not in {cache}; {used}" if model in absent else f"in the local cache; {used}",
            fix=f"tsq packs pull {DEFAULT_PACK if DEFAULT_PACK in names else names[0]}" if model in absent else "",
        )


def _extras() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            part="extras",
            name=_DISTRIBUTION,
            ok=False,
            detail="it runs from its folder and is not installed, so its extras are not known",
            fix="pip install . in its folder",
        )
        return
    required = [Requirement(line) for line in lines]
    extras: dict[str, list[Requirement]] = {}
    for name in importlib.metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or []:
        extras[name] = [each for each in required if each.marker and each.marker.evaluate({"extra": name})]
    for name, parts in extras.items():
        if name == "test":  # for developers
            continue
        missing = [str(part).partition(";")[0].strip() for part in parts if not _is_installed(part)]
        yield Finding(
            part="extras",
            name=name,
            ok=not missing,
            detail=f"missing: {', '.join(missing)}" if missing else ", ".join(part.name for part in parts),
            fix=install_extra(name) if missing else "",
        )


def _is_installed(required: Requirement) -> bool:
    try:
        return required.specifier.contains(importlib.metadata.version(required.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False
