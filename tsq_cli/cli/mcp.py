"""`tsq mcp`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from tsq_cli.cli import options
from tsq_cli.cli.options import OUTPUT
from tsq_cli.config import DEFAULT_PACK, check_device
from tsq_cli.errors import UsageError, install_extra
from tsq_cli.files import check_outputs

EXAMPLES = options.examples("tsq mcp videos/", "tsq mcp videos/ talks/ -o frames/ --device cpu")


def mcp(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders whose videos are served.")],
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Save the selected frames at full size, and tell the agent where.",
            parser=options.not_empty_path,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    pack: options.PackOption = DEFAULT_PACK,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
) -> None:
    """Serve videos to an agent by the Model Context Protocol on stdin and stdout (needs the extra tsq-cli[mcp]).

    Tools: list_videos, select_frames, answer_query, and contact_sheet, a picture within a budget of tokens. Nothing
    outside the folders is read. The model is loaded at the first call that needs it. docs/agents.md has the
    configuration of a client.
    """
    if importlib.util.find_spec("mcp") is None:
        raise UsageError(
            "the package mcp is not installed", wanted="the official SDK of the protocol", fix=install_extra("mcp")
        )
    check_device(device)
    check_outputs({}, folders={"-o": output})
    from tsq_cli.agents.server import build_server
    from tsq_cli.agents.videos import Videos
    from tsq_cli.packs import find_pack

    find_pack(pack)
    videos = Videos(folders, pack=pack, device=device, dtype=dtype, frames_dir=output)
    build_server(videos).run("stdio")
