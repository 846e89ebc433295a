"""A part of the estimator: a pure tensor function that names, by its parameters, the statistics it reads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One interchangeable part of Eq. 6.

    Its positional parameters are statistics, given by name (`Algorithm.weights` and `Algorithm.advantages` list
    them); one with the default None is read where it is known. Its keyword-only parameters are its options: an
    algorithm that holds the part accepts them under the same names.

    switch: the option that turns the part on; while it is 0 or None, the part is not there.
    whole_batch: the part compares tokens or rows across the batch, so it must see the whole batch before it is split.
    """

    symbol: str
    function: Callable[..., Tensor]
    switch: str | None = None
    whole_batch: bool = False

    @property
    def name(self) -> str:
        return self.function.__name__

    @cached_property
    def statistics(self) -> dict[str, bool]:
        """The statistics it reads, and whether it cannot do without."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default is p.empty for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY}

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options with their defaults."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @cached_property
    def option_types(self) -> dict[str, Any]:
        """The options with their annotations; one without any takes any value."""
        hints = get_type_hints(self.function)
        return {name: hints.get(name, object) for name in self.options}

    def is_active(self, options: Mapping[str, Any]) -> bool:
        return self.switch is None or bool(options[self.switch])

    def __call__(self, statistics: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> Tensor:
        return self.function(
            *(statistics[name] for name in self.statistics), **{name: options[name] for name in self.options}
        )


def part(
    symbol: str, *, switch: str | None = None, whole_batch: bool = False
) -> Callable[[Callable[..., Tensor]], Part]:
    """Declare a function a part, with the symbol that Table 1 prints for it; see `Part`."""

    def declare(function: Callable[..., Tensor]) -> Part:
        return Part(symbol, function, switch, whole_batch)

    return declare


def fits(value: object, kind: Any) -> bool:
    """Whether an option's value is of its declared type; a number must also be at least 0."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(kind, UnionType):
        return any(fits(value, each) for each in get_args(kind))
    if kind in (int, float):
        # NaN is not >= 0 either.
        return isinstance(value, (int, kind)) and not isinstance(value, bool) and value >= 0
    return isinstance(value, kind)


def describe(kind: Any) -> str:
    """An option's type in the words of an error message."""
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if isinstance(kind, UnionType):
        return " or ".join(map(describe, get_args(kind)))
    return {int: "an integer of at least 0", float: "a number of at least 0", bool: "True or False"}.get(kind, "None")
