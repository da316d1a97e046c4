"""The house: a file imports only from its own room or a lower one, and looking at the tool costs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tsq_cli"
ROOMS = {
    "": 0, "errors": 0, "types": 0, "config": 0, "record": 0, "files": 0, "printable": 0,
    "video": 1, "data": 1, "selection": 1, "cover": 1, "layout": 1, "ordering": 1, "other_rules": 1, "quality": 1,
    "sharpest": 1, "metrics": 1, "inputs": 1, "record_file": 1, "journal": 1, "clip": 1,
    "models": 2, "losses": 2,
    "packs": 3, "preprocess": 3, "explain": 3, "report": 3,
    "pipeline": 4, "describe": 4, "classifier": 4, "scoring": 4, "recognition": 4, "loading": 4, "pictures": 4,
    "batch": 4,
    "training": 4, "evaluation": 4, "benchmark": 4, "baselines": 4,
    "cli": 5, "__main__": 5,
}  # fmt: skip
HEAVY_FROM_ROOM_2 = {"torch", "torchvision", "timm", "transformers"}


def room_of(module: str) -> int:
    parts = module.split(".")
    assert parts[0] == "tsq_cli"
    return ROOMS[parts[1] if len(parts) > 1 else ""]


def imports_of(path: Path, package_root: Path = PACKAGE) -> tuple[str, set[str]]:
    """The module's name, and every module it imports, at any depth of its code; type-only imports are left out."""
    relative = path.relative_to(package_root.parent).with_suffix("")
    module = ".".join(part for part in relative.parts if part != "__init__")
    tree = ast.parse(path.read_text())
    type_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in type_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import on line {node.lineno}"
            name = node.module or ""
            # `from tsq_cli import selection` names a module, `from tsq_cli import __version__` a value
            submodules = {alias.name for alias in node.names if alias.name in ROOMS and name == "tsq_cli"}
            found |= {f"tsq_cli.{sub}" for sub in submodules} or {name}
    return module, found


def broken_rules(path: Path, package_root: Path = PACKAGE) -> list[str]:
    module, imported = imports_of(path, package_root)
    own = room_of(module)
    broken = [
        f"{module} (room {own}) imports {name} (room {room_of(name)})"
        for name in imported
        if name.split(".")[0] == "tsq_cli" and room_of(name) > own
    ]
    tops = {name.split(".")[0] for name in imported}
    if "av" in tops and not module.startswith("tsq_cli.video"):
        broken.append(f"{module} imports av, which lives in tsq_cli.video only")
    if own < 2 and tops & HEAVY_FROM_ROOM_2:
        broken.append(f"{module} (room {own}) imports {sorted(tops & HEAVY_FROM_ROOM_2)}")
    if "click" in tops:
        broken.append(f"{module} imports click; typer carries its own")
    return broken


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_its_room_or_a_lower_one(path: Path) -> None:
    # `tsq_cli/__init__.py` hands out the library's names lazily, by string.
    assert broken_rules(path) == []


def test_the_rule_catches_a_climbing_import(tmp_path: Path) -> None:
    package = tmp_path / "tsq_cli"
    package.mkdir()
    (package / "selection.py").write_text(
        "def f():\n    import torch\n    from tsq_cli.cli import app\n    import av\n"
    )
    found = broken_rules(package / "selection.py", package)
    assert len(found) == 3, found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    # From the first statement on: a command's signature is its list of options.
    lengths = {f.name: (f.end_lineno or f.lineno) - f.body[0].lineno + 1 for f in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


@pytest.mark.parametrize(
    "code", ["import tsq_cli", "import sys; sys.argv = ['tsq', '--help']; from tsq_cli.__main__ import main; main()"]
)
def test_a_look_loads_no_torch(code: str) -> None:
    probe = (
        f"import sys, atexit\natexit.register(lambda: print('HEAVY', sorted(set(sys.modules) & "
        f"{{'torch', 'timm', 'transformers', 'torchvision', 'av', 'PIL'}})))\n{code}"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.rstrip().endswith("HEAVY []"), result.stdout
