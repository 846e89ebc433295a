"""Modules of the user's own. A plugin registers algorithms, methods, gates, templates, engines and suites as it is
imported; the registries stand where the built-in ones do."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TypeVar

from unigrad.errors import ConfigError, UserCodeError, did_you_mean, nearest

T = TypeVar("T")

_packages: set[str] = set()
"""What the user's modules are of: the first part of their names."""


def load_plugins(names: Sequence[str]) -> None:
    """Import each module, once. Raises ConfigError where there is none, and UserCodeError for what one raises."""
    for name in names:
        try:
            import_module(name, f"plugins: {name!r}")
        except ValueError as error:
            raise ConfigError(str(error)) from error


def add(registry: dict[str, T], name: str, item: T, what: str) -> T:
    """Register `item`, which is `what` ("a gate"). Raises ValueError where its name is taken."""
    if name in registry:
        raise ValueError(f"{what} named {name!r} is registered already")
    registry[name] = item
    return item


def find(registry: Mapping[str, T], name: str, what: str) -> T:
    """What is registered under this name. Raises ValueError, naming the nearest, where nothing is."""
    if name not in registry:
        raise ValueError(f"unknown {what} {name!r}; did you mean {nearest(name, registry)!r}?")
    return registry[name]


def import_module(name: str, what: str) -> ModuleType:
    """The module of this dotted name; those of the current folder count.

    Raises ValueError, on behalf of `what`, where there is none, and UserCodeError for whatever it raises.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{what}: {name!r} is not a module's name, such as package.module")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    _packages.add(name.partition(".")[0])
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(f"{what}: {error}, neither installed nor in {here}") from error
        raise UserCodeError from error
    except (Exception, SystemExit) as error:
        raise UserCodeError from error


def import_file(path: str, what: str) -> ModuleType:
    """The module in a Python file; modules beside the file count. It has one name, whatever way leads to the file.

    Raises ValueError, on behalf of `what`, where there is no such file, and UserCodeError for whatever it raises.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        known = sorted(each.name for each in file.parent.glob("*.py")) if file.parent.is_dir() else []
        there = did_you_mean(file.name, known) if known else ""
        raise ValueError(f"{what}: no file {file.name} in {file.parent}{there}")
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"{re.sub('[^a-z0-9]', '_', file.stem, flags=re.I)}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # of a file that ends in .py
    assert spec.loader is not None
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    _packages.add(name)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UserCodeError from error
    return module


def theirs(error: BaseException) -> TracebackType | None:
    """The error's traceback from the first line of a module of the user's on; None where it passed none."""
    users = _packages - {__name__.partition(".")[0]}
    trace = error.__traceback__
    while trace and str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] not in users:
        trace = trace.tb_next
    return trace
