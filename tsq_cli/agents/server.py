"""The MCP server. Import it only to serve: it needs the official SDK, the package mcp."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from tsq_cli import __version__
from tsq_cli.agents.videos import Videos
from tsq_cli.config import SelectSettings
from tsq_cli.errors import TsqError, one_line
from tsq_cli.printable import printable

INSTRUCTIONS = (
    "Looks at videos through a few frames. Start with contact_sheet for an overview of one video, or select_frames for "
    "the times alone; answer_query finds when something is to be seen. Paths come from list_videos."
)

Path = Annotated[str, Field(description="Path of the video, as list_videos gives it or relative to a served folder.")]
NumFrames = Annotated[int, Field(description="Frames to select.")]
Query = Annotated[str | None, Field(description='What to look for, in a few words, such as "a dog".')]
Start = Annotated[float | None, Field(description="Look only from this time on, in seconds.")]
End = Annotated[float | None, Field(description="Look only before this time, in seconds.")]


def build_server(videos: Videos) -> MCPServer:
    """Build the server of some videos; `run("stdio")` serves it.

    An error that a user can meet reaches the agent as the tool's error, in one sentence; stdout is left to the
    protocol.
    """
    server = MCPServer("tsq", instructions=INSTRUCTIONS, version=__version__, log_level="WARNING")
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    saves = ToolAnnotations(destructive_hint=False, open_world_hint=False)

    def list_videos() -> dict[str, Any]:
        """List the videos that this server may read."""
        with _tool_errors():
            return videos.list()

    def select_frames(
        path: Path, num_frames: NumFrames = 5, query: Query = None, start: Start = None, end: End = None
    ) -> dict[str, Any]:
        """Select the frames of a video that matter: their times in seconds, and why each was chosen.

        Gives the path of each saved frame if the server saves frames. With a query, frames are ranked by how well they
        match it.
        """
        with _tool_errors():
            return videos.select(path, _settings(num_frames, query, start, end))

    def answer_query(path: Path, query: Annotated[str, Query], num_frames: NumFrames = 3) -> dict[str, Any]:
        """Find the times of a video at which something is to be seen, best match first.

        is_shown says whether any frame shows it: a match of 0.5 or more. If not, the frames are only the nearest ones.
        One absent thing in ten is said to be shown: look at the frames before you rely on them.
        """
        with _tool_errors():
            return videos.select(path, _settings(num_frames, query, None, None, order="score"))

    def contact_sheet(
        path: Path,
        num_frames: NumFrames = 8,
        max_tokens: Annotated[int, Field(description="Largest cost of the picture: width x height / 750.")] = 1500,
        query: Query = None,
        start: Start = None,
        end: End = None,
    ) -> list[Any]:
        """Show selected frames of a video in one picture, each with its number and time, within a budget of tokens."""
        with _tool_errors():
            sheet = videos.contact_sheet(path, _settings(num_frames, query, start, end), max_tokens=max_tokens)
        return [sheet.text, Image(data=sheet.jpeg, format="jpeg")]

    server.add_tool(list_videos, annotations=reads)
    server.add_tool(select_frames, annotations=saves)
    server.add_tool(answer_query, annotations=saves)
    server.add_tool(contact_sheet, annotations=reads, structured_output=False)
    return server


def _settings(
    num_frames: int, query: str | None, start: float | None, end: float | None, **more: Any
) -> SelectSettings:
    return SelectSettings(num_frames=num_frames, query=query, start_seconds=start, end_seconds=end, **more)


@contextmanager
def _tool_errors() -> Iterator[None]:
    try:
        yield
    except TsqError as error:
        raise ToolError(printable(str(error))) from error
    except Exception as error:
        raise ToolError(printable(f"unexpected: {one_line(error)}")) from error
