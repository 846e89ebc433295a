"""A package that can be called: `unigrad.train(…)` is a function's call, `unigrad.train.step` a module in it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def callable_as(package: str, function: Callable[..., Any]) -> None:
    """Let the package of this name be called as `function` is, and show its signature and documentation."""

    class CallablePackage(ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return function(*arguments, **options)

    module = sys.modules[package]
    module.__class__ = CallablePackage
    module.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]  # what `inspect` looks for first
    module.__doc__ = f"{function.__doc__}\n\nThe package: {module.__doc__}"
