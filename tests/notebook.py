"""Run a notebook's cells without Jupyter: code in order, in one namespace, the last expression shown as Jupyter does.

From the root of the repository, this writes the outputs into the notebook:

    python -m tests.notebook examples/query.ipynb
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any


def run_notebook(path: Path) -> dict[str, Any]:
    """Run a notebook.

    Returns:
        Its JSON with the outputs of this run, without what it prints.
    """
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    namespace: dict[str, Any] = {}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(code, start=1):
        cell["execution_count"] = number
        cell["outputs"] = _outputs(_run("".join(cell["source"]), namespace), number)
    return notebook


def _run(source: str, namespace: dict[str, Any]) -> object:
    """Run a cell; return the value of the expression that it ends with, else None."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), namespace)
    if not isinstance(last, ast.Expr):
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)


def _outputs(value: Any, number: int) -> list[dict[str, Any]]:
    if value is None:
        return []
    data = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = str(value._repr_html_())
    return [{"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}}]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.write_text(json.dumps(run_notebook(place), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
