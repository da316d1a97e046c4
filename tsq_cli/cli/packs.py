"""`tsq packs`: list, show, pull, export, verify."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from tsq_cli.cli import completion
from tsq_cli.cli.options import examples
from tsq_cli.cli.output import info, progress_bar
from tsq_cli.errors import EXIT_WEIGHTS
from tsq_cli.report.console import SafeConsole

app = typer.Typer(
    help="List, show, download, export and verify packs of weights.",
    epilog=examples("tsq packs list", "tsq packs show imagenet-lite", "tsq packs pull imagenet"),
    no_args_is_help=True,
)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR", help="A pack's name, or a folder with a pack.json.", autocompletion=completion.packs
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("list", epilog=examples("tsq packs list", "tsq packs list --json"))
def list_command(*, json: AsJson = False) -> None:
    """List the installed packs.

    Damaged packs are named on stderr, and the exit code is then 3. With --json, each entry has name, description,
    sha256, folder and error: null, or why the pack is damaged (its description and sha256 are then null).
    """
    from tsq_cli.packs import list_packs

    packs, damaged = list_packs()
    if json:
        rows: list[dict[str, str | None]] = [
            {
                "name": pack.name,
                "description": pack.description,
                "sha256": pack.sha256,
                "folder": str(pack.folder),
                "error": None,
            }
            for pack in packs
        ]
        rows += [
            {"name": folder.name, "description": None, "sha256": None, "folder": str(folder), "error": str(error)}
            for folder, error in damaged.items()
        ]
        print(json_module.dumps(rows, indent=2))
    else:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("pack", "classes", "description"):
            table.add_column(heading, justify="right" if heading == "classes" else "left")
        for pack in packs:
            table.add_row(pack.name, str(len(pack.class_names)), pack.description)
        SafeConsole().print(table)
    for error in damaged.values():
        info(str(error))
    if damaged:
        raise typer.Exit(EXIT_WEIGHTS)


@app.command("show", epilog=examples("tsq packs show imagenet-lite", "tsq packs show trained/pack"))
def show(name: Name) -> None:
    """Print a pack's description as JSON: roles, weights, preprocessing, settings, provenance."""
    from tsq_cli.packs import find_pack

    described = asdict(find_pack(name))
    for names, count in (("class_names", "num_classes"), ("object_names", "num_objects")):
        described[count] = len(described.pop(names))  # the names themselves are in the pack's text files
    print(json_module.dumps(described, indent=2, default=str))


@app.command("pull", epilog=examples("tsq packs pull imagenet", "tsq packs pull trained/pack"))
def pull(name: Name) -> None:
    """Download a pack's weights into the local cache, so that it works offline afterwards."""
    from tsq_cli.packs import pull_pack

    with progress_bar(f"pulling {name}"):
        fetched = pull_pack(name)
    for item in fetched:
        SafeConsole().print(str(item), soft_wrap=True)


@app.command("export", epilog=examples("tsq packs export trained/pack", "tsq packs export imagenet-lite"))
def export(name: Name) -> None:
    """Make the graphs by which ONNX Runtime runs a pack's networks on a CPU, without torch.

    Each is checked against torch and written beside pack.json; the weights stay where they are, once. Needs the extra
    `train`.
    """
    from tsq_cli.packs import find_pack
    from tsq_cli.packs.export import export_graphs

    config = find_pack(name)
    with progress_bar(f"exporting {config.name}"):
        made = export_graphs(config)
    for graph in made.graphs:
        sizes = " and ".join(map(str, graph.input_sizes))
        SafeConsole().print(f"{graph.file}  {graph.model} at {sizes} pixels", soft_wrap=True)
    if made.text_encoder is not None:
        SafeConsole().print(f"{made.text_encoder.file}  {made.text_encoder.model}", soft_wrap=True)


@app.command("verify", epilog=examples("tsq packs verify imagenet-lite", "tsq packs verify trained/pack"))
def verify(name: Name) -> None:
    """Check a pack's files, hashes and tensors (names, shapes, types), run one forward pass, and compare its graphs."""
    from tsq_cli.packs import verify_pack

    with progress_bar(f"verifying {name}"):
        checks = verify_pack(name)
    for check in checks:
        SafeConsole().print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}  {check.detail}", soft_wrap=True)
    if not all(check.ok for check in checks):
        raise typer.Exit(EXIT_WEIGHTS)
