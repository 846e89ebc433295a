"""A part of the estimator: a pure tensor function that names, by its parameters, the statistics it reads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One interchangeable part of Eq. 6.

    Its positional parameters are statistics, given by name (`logp`, `rollout_logp`, `ratio`, `advantages`, `mask` for
    masks and references; `rewards`, `groups`, `on_policy` for advantages). Its keyword-only parameters are its options:
    an algorithm that holds the part accepts them under the same names.
    """

    symbol: str
    function: Callable[..., Tensor]

    @property
    def name(self) -> str:
        return self.function.__name__

    @cached_property
    def statistics(self) -> tuple[str, ...]:
        parameters = inspect.signature(self.function).parameters.values()
        return tuple(p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def __call__(self, statistics: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> Tensor:
        return self.function(
            *(statistics[name] for name in self.statistics), **{name: options[name] for name in self.options}
        )


def part(symbol: str) -> Callable[[Callable[..., Tensor]], Part]:
    """Declare a function a part, with the symbol that Table 1 prints for it."""

    def declare(function: Callable[..., Tensor]) -> Part:
        return Part(symbol, function)

    return declare
