"""The networks of a run: loading them by what runs them, and what a GPU wants besides."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tsq_cli.arrays import Array
from tsq_cli.config import EngineChoice

if TYPE_CHECKING:
    from torch.nn import Module

    from tsq_cli.packs import Pack, PackConfig
    from tsq_cli.packs.recognizers import LoadedRecognizer


def load_sampler(pack: str | PackConfig, *, device: str, dtype: str, engine: EngineChoice) -> Pack:
    """Load the networks that score frames; arguments and errors as Selector.load."""
    from tsq_cli.models.device import resolve_device, resolve_dtype, resolve_precision
    from tsq_cli.packs import find_pack, load_pack
    from tsq_cli.packs.graphs import resolve_engine, sampler_networks
    from tsq_cli.packs.onnx import load_onnx_pack

    found = find_pack(pack) if isinstance(pack, str) else pack
    place = resolve_device(device)
    precision = resolve_precision(dtype, place)
    graphs = resolve_engine(engine, found, sampler_networks(found), place, precision)
    if graphs is not None:
        return load_onnx_pack(found, graphs)
    return load_pack(found, device=place, dtype=resolve_dtype(precision, place))


def uploaded(pixels: Array, device: str) -> Callable[[], Array]:
    """Start copying pixels to a device, see tsq_cli.models.device.upload; on a CPU they are there."""
    if device == "cpu":
        return lambda: pixels
    from tsq_cli.models.device import upload

    return upload(pixels, device)


def enable_cuda_graphs(pack: Pack | None, recognizer: LoadedRecognizer | None = None) -> None:
    """Run the networks as CUDA graphs, one per batch shape, if they are on a GPU; image-text models run as they are."""
    networks: set[Module] = set()
    if pack is not None and pack.engine == "torch" and pack.image_text is None:
        networks |= {pack.visual_encoder, pack.object_recognizer, pack.tsqnet}
    if recognizer is not None and recognizer.engine == "torch" and not recognizer.is_image_text:
        networks |= {recognizer.recognizer}
    if not networks:
        return
    from tsq_cli.models.graphs import graph_calls

    for network in networks:
        graph_calls(network)
