"""The house keeps its lines: small files, small functions, no circle, no arrow up."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
FILES = sorted((ROOT / "unigrad").rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules of the package that are imported with this one: not those within a function, or for types alone."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in within)
        waiting += ast.iter_child_nodes(node)


def circle(graph: Mapping[str, Set[str]]) -> list[str]:
    """The names along one, its first again at its end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_is_long() -> None:
    lines = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {path: count for path, count in lines.items() if count > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_long() -> None:
    long = {
        f"{module(path)}.{node.name}": length
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_OF_A_FUNCTION
    }
    assert long == {}


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module(path): set(imported(tree)) - {module(path)} for path, tree in TREES.items()}
    assert circle(graph) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import unigrad.types, json", {"unigrad.types"}),
        ("from unigrad.runs import folder\nfrom unigrad import __version__", {"unigrad.runs.folder", "unigrad"}),
        ("if TYPE_CHECKING:\n    import unigrad.types\nelse:\n    import unigrad.files", {"unigrad.files"}),
        ("class A:\n    import unigrad.files\n\ndef late():\n    import unigrad.types", {"unigrad.files"}),
    ],
)  # fmt: skip
def test_what_counts_as_an_import(text: str, found: set[str]) -> None:
    assert set(imported(ast.parse(text))) == found


def test_a_circle_is_found() -> None:
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": {"c"}, "d": {"a"}}) == []


def test_no_arrow_points_up() -> None:
    """The contracts of pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
