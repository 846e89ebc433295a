"""A part of the estimator: a pure tensor function that names, by its parameters, the statistics it reads."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter
from typing import Any

from torch import Tensor

from unigrad.options import Option, named, of_parameter


@dataclass(frozen=True)
class Part:
    """One interchangeable part of Eq. 6.

    Its positional parameters are statistics, given by name (`unigrad.estimator.statistics` lists them); one with the
    default None is read where it is known. Its keyword-only parameters are its options, by their names in
    `unigrad.options`: an algorithm that holds the part accepts them.

    switch: the option that turns the part on; while it is 0 or None, the part is not there.
    whole_batch: the part compares tokens or rows across the batch, so it must see the whole batch before it is split.
    own: options that come with the part. A parameter with a default declares one too, without bounds and help.
    """

    symbol: str
    function: Callable[..., Tensor]
    switch: str | None = None
    whole_batch: bool = False
    own: tuple[Option, ...] = ()

    @property
    def name(self) -> str:
        return self.function.__name__

    @cached_property
    def statistics(self) -> dict[str, bool]:
        """The statistics it reads, and whether it cannot do without."""
        return {p.name: p.default is p.empty for p in self._parameters if p.kind is not Parameter.KEYWORD_ONLY}

    @cached_property
    def options(self) -> dict[str, Option]:
        """The options with their declarations. Raises ValueError on one that is declared nowhere."""
        return {p.name: self._declared(p) for p in self._parameters if p.kind is Parameter.KEYWORD_ONLY}

    @property
    def _parameters(self) -> Iterable[Parameter]:
        return inspect.signature(self.function).parameters.values()

    def _declared(self, parameter: Parameter) -> Option:
        name, default = parameter.name, parameter.default
        for option in self.own:
            if option.name == name:
                return option
        known = named(name)
        if default is Parameter.empty:
            if known is None:
                raise ValueError(f"{self.name} has an option {name!r} that is declared nowhere; give it a default")
            return known
        own = of_parameter(self.function, parameter)
        return known if known is not None and (known.type, known.default) == (own.type, own.default) else own

    def is_active(self, values: Mapping[str, Any]) -> bool:
        return self.switch is None or bool(values[self.switch])

    def __call__(self, statistics: Mapping[str, Tensor | None], values: Mapping[str, Any]) -> Tensor:
        return self.function(
            *(statistics[name] for name in self.statistics), **{name: values[name] for name in self.options}
        )


def part(
    symbol: str, *, switch: str | None = None, whole_batch: bool = False, options: Iterable[Option] = ()
) -> Callable[[Callable[..., Tensor]], Part]:
    """Declare a function a part, with the symbol that Table 1 prints for it and the options that come with it."""

    def declare(function: Callable[..., Tensor]) -> Part:
        return Part(symbol, function, switch, whole_batch, tuple(options))

    return declare
