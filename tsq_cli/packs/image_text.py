"""Packs around an image-text model, and the choice of the network that matches frames with queries.

The rules (ours), by what is requested for queries:

- "names": the names of the pack's objects (models.query_lift).
- "clip", "clip:ID": the image-text model of the pack `clip`, or another one of the hub.
- "auto": the pack's own image-text model, if it has one; else that of the pack `clip`, if its weights lie in the local
  cache or behind a hub that answers; else names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tsq_cli.config import CLIP_PACK
from tsq_cli.errors import UsageError
from tsq_cli.packs.registry import find_pack
from tsq_cli.packs.schema import EncoderRole, PackConfig, TextRole, TransformersWeights
from tsq_cli.packs.weights import locate_weights, require_weights

if TYPE_CHECKING:
    import torch

    from tsq_cli.models.image_text import ImageTextModel
    from tsq_cli.packs.load import Pack

NAMES = "names"


@dataclass(frozen=True, kw_only=True)
class QueryModelChoice:
    """The network that will match frames with queries, chosen before any weights are loaded.

    Attributes:
        model: NAMES, or the id of an image-text model.
        reason: reason for this network, without a final stop.
    """

    model: str
    reason: str

    @property
    def requested(self) -> str:
        """A SelectSettings.query_model that means this network."""
        return NAMES if self.model == NAMES else f"{CLIP_PACK}:{self.model}"


def choose_query_model(config: PackConfig, requested: str = "auto") -> QueryModelChoice:
    """Decide which network matches frames with queries, by the rules above. Loads no weights.

    Args:
        config: of the pack.
        requested: "auto", "names", "clip" or "clip:ID".

    Raises:
        UsageError: names are requested of a pack without an object recognizer of its own.
        WeightsError: weights that are out of reach; with "auto" only if the text encoder behind the names is, too.
    """
    from tsq_cli.packs.texts import require_text_encoder

    if config.is_image_text and requested == "auto":
        require_weights(config.roles.visual_encoder)
        return QueryModelChoice(model=config.roles.visual_encoder.model, reason=f"the pack {config.name}'s own model")
    reason = "the names of the objects in the frames were asked for"
    if requested != NAMES:
        _, _, named = requested.partition(":")
        model = named or find_pack(CLIP_PACK).roles.visual_encoder.model
        role = TextRole(model=checked_model(model), weights=TransformersWeights(source="transformers"))
        if requested != "auto":
            return QueryModelChoice(model=model, reason=f"{model}, {require_weights(role, fix=_FIX)}")
        found = locate_weights(role)
        if found.ok:
            return QueryModelChoice(model=model, reason=f"{model}, {found.place}")
        reason = f"{model} is not in the local cache and {found.place}: the names of the objects in the frames are used"
    if config.is_image_text:
        raise UsageError(
            f"the pack {config.name} has no object names of its own",
            wanted="--query-model auto or clip",
            fix="drop --query-model, or use another pack",
        )
    require_text_encoder(config.roles.text_encoder)
    return QueryModelChoice(model=NAMES, reason=reason)


_FIX = "where there is a network, set HF_ENDPOINT to a hub that answers, or use --query-model names"


def checked_model(model: str) -> str:
    """Refuse the id of a model that no hub can have, such as a path.

    Raises:
        UsageError: such an id.
    """
    try:
        return TextRole(model=model, weights=TransformersWeights(source="transformers")).model
    except ValueError as error:
        raise UsageError(f"{model!r} is no model of a hub", wanted=str(error), fix="give owner/name") from error


def load_image_text_model(model: str, *, device: str = "cpu", dtype: torch.dtype | None = None) -> ImageTextModel:
    """Load an image-text model onto a device; dtype None is float32.

    Raises:
        WeightsError: a model that is out of reach, damaged or of another kind.
    """
    from tsq_cli.models.image_text import ImageTextModel

    return ImageTextModel.from_pretrained(model).to(device, dtype)


def load_image_text_pack(config: PackConfig, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Pack:
    """Load a pack whose frames and class names are embedded by one image-text model.

    The classes' texts are the queries of both modules and the rows of the classifier, in one space with the frames.

    Args:
        config: of such a pack.
        device, dtype: as for load_pack.

    Raises:
        WeightsError: as load_image_text_model.
    """
    import torch

    from tsq_cli.models import FrameEncoder
    from tsq_cli.models.image_text import ImageTower
    from tsq_cli.packs.load import build_pack

    require_weights(config.roles.visual_encoder)
    dtype = torch.float32 if dtype is None else dtype
    model = load_image_text_model(config.roles.visual_encoder.model, device=device)
    names = model.embed_names(config.object_names)
    encoder = FrameEncoder(ImageTower(model, names), pretrained_cfg={}).eval()
    role: EncoderRole = replace(config.roles.visual_encoder, preprocess=model.preprocessor)
    described = replace(config, roles=replace(config.roles, visual_encoder=role, recognizer=role))
    pack = build_pack(described, encoder, encoder, names.cpu(), device=device)
    pack.visual_encoder.to(dtype)
    return replace(pack, dtype=dtype, image_text=model)
