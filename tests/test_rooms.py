"""The house has one order: a module imports only from those before it, and looking at the tool costs no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tsq_cli"
ORDER = (
    "", "errors", "queries", "consensus", "config", "types", "printable", "validation", "files", "stores", "uploads",
    "inputs", "journal",
    "record", "record_file",
    "video", "data", "rules", "selection", "arrays",
    "models", "provenance", "packs", "explain", "report", "export",
    "networks", "clip", "loading", "scoring", "matching", "recognition", "sharpest", "describe", "pictures",
    "pipeline", "classifier", "batch", "cluster",
    "result", "library", "doctor", "agents",
    "features", "evaluation", "training", "studies", "benchmark", "cli", "__main__",
)  # fmt: skip
"""Folders and modules of the package, lowest first; each imports from itself and from those to its left."""

HEAVY = {"torch", "torchvision", "timm", "transformers"}
WITHOUT_TORCH = ORDER[: ORDER.index("arrays")]


def place_of(module: str) -> str:
    """The folder or top-level module that a dotted name lies in; "" is the package itself."""
    parts = module.split(".")
    assert parts[0] == "tsq_cli"
    return parts[1] if len(parts) > 1 else ""


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
            submodules = {alias.name for alias in node.names if alias.name in ORDER and name == "tsq_cli"}
            found |= {f"tsq_cli.{sub}" for sub in submodules} or {name}
    return module, found


def broken_rules(path: Path, package_root: Path = PACKAGE) -> list[str]:
    module, imported = imports_of(path, package_root)
    own = place_of(module)
    broken = [
        f"{module} imports {name}, which comes after it in the order"
        for name in imported
        if name.split(".")[0] == "tsq_cli" and ORDER.index(place_of(name)) > ORDER.index(own)
    ]
    tops = {name.split(".")[0] for name in imported}
    if "av" in tops and own != "video":
        broken.append(f"{module} imports av, which lives in tsq_cli.video only")
    if own in WITHOUT_TORCH and tops & HEAVY:
        broken.append(f"{module} imports {sorted(tops & HEAVY)}, which begin with arrays")
    if tops & {"benchmarks", "tests", "examples"}:
        broken.append(f"{module} imports what is not in the wheel")
    if "click" in tops:
        broken.append(f"{module} imports click; typer carries its own")
    return broken


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_those_before_it(path: Path) -> None:
    # `tsq_cli/__init__.py` hands out the library's names lazily, by string.
    assert broken_rules(path) == []


def test_the_order_names_each_module_once() -> None:
    print("order of imports: " + " < ".join(ORDER[1:]))  # pytest -s shows it
    found = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert sorted(ORDER[1:]) == sorted(found - {"__init__"})


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
        f"{{'torch', 'timm', 'transformers', 'torchvision', 'av', 'PIL', 'fsspec', 'asyncio'}})))\n{code}"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.rstrip().endswith("HEAVY []"), result.stdout
