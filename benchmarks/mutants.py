"""How many small faults the tests of the estimator and of the methods find.

    python benchmarks/mutants.py estimator [--count 300] [--seed 0] [--jobs 2] [--only FILE:LINE,...]

A mutant is the room's source with one thing changed: an operator, a comparison, a number, a condition, a statement left
out, two arguments swapped. It lives in one forked pytest and on no disk; it survives where every test passes. Prints
each survivor, and how many died. Strings, annotations and `@dataclass(...)` are left as they are.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).parents[1]
ESTIMATOR = [f"tests/estimator/test_{name}.py" for name in ("textbook", "algorithm", "weigh", "enumerable", "defaults")]
TESTS = {
    "estimator": [*ESTIMATOR, "tests/estimator/test_invariances.py", "tests/train/test_update.py"],
    "hybrid": ["tests/hybrid", "tests/recipes/test_official_numbers.py"],
}
"""The likeliest to find something first."""
LOADED = ("torch", "transformers", "hypothesis", "unigrad.options", "unigrad.errors")
CPU_SECONDS = 120
"""A mutant that never ends counts as found."""

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
Change = Callable[[ast.AST], ast.AST]
"""From a node of a copy of the tree, which it may change, to what stands in its place."""


@dataclass(frozen=True)
class Mutant:
    path: Path
    line: int
    what: str
    where: str
    tree: ast.Module


def changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """What can be changed in a node, each with its name."""

    def sets(**fields: object) -> Change:
        def change(copied: ast.AST) -> ast.AST:
            for name, value in fields.items():
                setattr(copied, name, value)
            return copied

        return change

    match node:
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in ARITHMETIC:
            other = ARITHMETIC[type(op)]
            yield f"{type(op).__name__} → {other.__name__}", sets(op=other())
        case ast.Compare(ops=[op]):
            other_comparison = COMPARISONS[type(op)]
            yield f"{type(op).__name__} → {other_comparison.__name__}", sets(ops=[other_comparison()])
        case ast.BoolOp(op=ast.And()):
            yield "and → or", sets(op=ast.Or())
        case ast.BoolOp():
            yield "or → and", sets(op=ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield f"{type(node.op).__name__} left out", lambda copied: copied.operand  # type: ignore[attr-defined]
        case ast.Constant(value=bool() as value):
            yield f"{value} → {not value}", sets(value=not value)
        case ast.Constant(value=int() | float() as number):
            changed = number * 1.1 if isinstance(number, float) and number else number + 1
            yield f"{number} → {changed:g}", sets(value=changed)
        case ast.If(test=test) | ast.IfExp(test=test):
            yield "condition turned round", sets(test=ast.UnaryOp(ast.Not(), test))
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield f"{name} → {CALLS[name]}", sets(func=ast.Name(CALLS[name], ast.Load()))
        case ast.comprehension(ifs=[_, *_]):
            yield "filter left out", sets(ifs=[])
    if isinstance(node, ast.Call) and len(node.args) > 1 and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
        yield "arguments swapped", sets(args=[node.args[1], node.args[0], *node.args[2:]])
    if isinstance(node, ast.Raise | ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield "statement left out", lambda copied: ast.copy_location(ast.Pass(), copied)


def untouched(node: ast.AST) -> bool:
    """Whether a node is no code that a test could judge: a type, or how a dataclass is made."""
    return "Literal[" in (text := ast.unparse(node)) or text.startswith(("Callable[", "dataclass("))


def sites(node: ast.AST, where: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Every node under this one that may be changed, with the function or line that it stands in."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or (isinstance(child, ast.expr) and untouched(child)):
                continue
            inside = where or f"line {getattr(child, 'lineno', 0)}"
            if isinstance(child, ast.FunctionDef):
                inside = child.name
            elif isinstance(child, ast.ClassDef | ast.For | ast.Assign | ast.AnnAssign) and not where:
                inside = ""
            yield inside, child
            yield from sites(child, inside)


def replaced(tree: ast.Module, node: ast.AST, change: Change) -> ast.Module:
    """A copy of the tree with one node changed."""
    number = next(number for number, each in enumerate(ast.walk(tree)) if each is node)
    copied = copy.deepcopy(tree)
    target = list(ast.walk(copied))[number]

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return change(node) if node is target else self.generic_visit(node)

    return ast.fix_missing_locations(Replace().visit(copied))  # type: ignore[no-any-return]


def mutants(room: str) -> list[Mutant]:
    found = []
    for path in sorted((ROOT / "unigrad" / room).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for where, node in sites(tree):
            line = getattr(node, "lineno", 0) or getattr(getattr(node, "iter", None), "lineno", 0)
            found += [Mutant(path, line, what, where, replaced(tree, node, how)) for what, how in changes(node)]
    return found


def sample(found: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of them, one of each function before a second of any."""
    draw = random.Random(seed)
    places: dict[tuple[Path, str], list[Mutant]] = defaultdict(list)
    for each in draw.sample(found, len(found)):
        places[each.path, each.where].append(each)
    ranked = [(rank, each) for place in places.values() for rank, each in enumerate(place)]
    return [each for _, each in sorted(ranked, key=lambda pair: pair[0])][:count]


class Changed(SourceFileLoader):
    """Loads a mutant in place of its module."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.path))
        self.tree = mutant.tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.tree, self.path, "exec")


class Finder:
    def __init__(self, mutant: Mutant) -> None:
        parts = mutant.path.relative_to(ROOT).with_suffix("").parts
        self.name, self.mutant = ".".join(part for part in parts if part != "__init__"), mutant

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        inside = [str(self.mutant.path.parent)] if self.mutant.path.name == "__init__.py" else None
        return spec_from_file_location(
            name, self.mutant.path, loader=Changed(name, self.mutant), submodule_search_locations=inside
        )


def survives(mutant: Mutant, tests: list[str]) -> int:
    """The process id of a pytest that ends with 0 if the mutant survives."""
    process = os.fork()
    if process:
        return process
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        sys.meta_path.insert(0, Finder(mutant))
        code = pytest.main(["-q", "-x", "--assert=plain", "-p", "no:cacheprovider", *tests])
    finally:
        os._exit(int(sys.exc_info()[0] is not None or code != 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", choices=TESTS)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="mutants of these lines, FILE:LINE, with commas between")
    args = parser.parse_args()
    os.chdir(ROOT)
    for name in (*LOADED, *(["unigrad.estimator"] if args.room == "hybrid" else [])):
        import_module(name)
    assert not any(name.startswith(f"unigrad.{args.room}") for name in sys.modules)
    found = mutants(args.room)
    only = set(args.only.split(",")) if args.only else None
    chosen = [m for m in found if f"{m.path.name}:{m.line}" in only] if only else sample(found, args.count, args.seed)
    tests = TESTS[args.room]
    control = Mutant(found[0].path, 0, "", "", ast.parse(found[0].path.read_text(encoding="utf-8")))
    if os.waitpid(survives(control, tests), 0)[1]:
        raise SystemExit("the tests fail on what is not changed")
    waiting, running, survived = list(reversed(chosen)), dict[int, Mutant](), 0
    while waiting or running:
        while waiting and len(running) < args.jobs:
            mutant = waiting.pop()
            running[survives(mutant, tests)] = mutant
        process, status = os.wait()
        mutant = running.pop(process)
        if status == 0:
            survived += 1
            text = mutant.path.read_text(encoding="utf-8").splitlines()[max(mutant.line - 1, 0)].strip()
            print(f"survived: {mutant.path.name}:{mutant.line} {mutant.where}: {mutant.what}: {text}", flush=True)
    print(f"{args.room}: {len(chosen)} of {len(found)} mutants, {len(chosen) - survived} found, {survived} survived")


if __name__ == "__main__":
    main()
