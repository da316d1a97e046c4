"""Tools for agents: frames of videos in a few folders, served by the Model Context Protocol (extra tsq-cli[mcp])."""
