"""A part of the estimator: a pure tensor function that names, by its parameters, the statistics it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import Parameter, signature
from typing import Any

from torch import Tensor

from unigrad.options import Option, named, of_parameter


@dataclass(frozen=True)
class When:
    """What a part is while `option` has this value: the options that it then does not read, and its symbol where that
    is another."""

    option: str
    value: Any
    unread: tuple[str, ...]
    symbol: str | None = None


@dataclass(frozen=True)
class Part:
    """One interchangeable part of Eq. 6.

    Its positional parameters are statistics, by the names of `unigrad.estimator.statistics`; one with the default None
    is read where it is known. Its keyword-only parameters are its options, by their names in `unigrad.options`.

    switch: the option that turns the part on; while it is 0 or None, the part is not there.
    whole_batch: the part compares tokens or rows across the batch, so it must see the whole batch before it is split.
    own: options that come with the part. A parameter with a default declares one too, without bounds and help.
    when: what other values of its options make of it.
    """

    symbol: str
    function: Callable[..., Tensor]
    switch: str | None = None
    whole_batch: bool = False
    own: tuple[Option, ...] = ()
    when: tuple[When, ...] = ()

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
        own = {option.name: option for option in self.own}
        only = [p for p in self._parameters if p.kind is Parameter.KEYWORD_ONLY]
        return {p.name: own.get(p.name) or self._declared(p) for p in only}

    @property
    def _parameters(self) -> Iterable[Parameter]:
        return signature(self.function).parameters.values()

    def _declared(self, parameter: Parameter) -> Option:
        known = named(parameter.name)
        if parameter.default is not Parameter.empty:
            own = of_parameter(self.function, parameter)
            return known if known is not None and (known.type, known.default) == (own.type, own.default) else own
        if known is None:
            raise ValueError(
                f"{self.name} has an option {parameter.name!r} that is declared nowhere; give it a default"
            )
        return known

    def is_active(self, values: Mapping[str, Any]) -> bool:
        return self.switch is None or bool(values[self.switch])

    def _as_set(self, values: Mapping[str, Any]) -> Iterable[When]:
        return (each for each in self.when if values[each.option] == each.value)

    def shown(self, values: Mapping[str, Any]) -> str:
        """Its symbol under these options."""
        return next((each.symbol for each in self._as_set(values) if each.symbol is not None), self.symbol)

    def kept_unread(self, option: str, values: Mapping[str, Any]) -> str | None:
        """The option whose value keeps this one of the part's options from being read; None where it is read."""
        if option != self.switch and not self.is_active(values):
            return self.switch
        return next((each.option for each in self._as_set(values) if option in each.unread), None)

    def __call__(self, statistics: Mapping[str, Tensor | None], values: Mapping[str, Any]) -> Tensor:
        read = (statistics[name] for name in self.statistics)
        return self.function(*read, **{name: values[name] for name in self.options})


def part(
    symbol: str,
    *,
    switch: str | None = None,
    whole_batch: bool = False,
    options: Iterable[Option] = (),
    when: Iterable[When] = (),
) -> Callable[[Callable[..., Tensor]], Part]:
    """Declare a function a part, with the symbol that Table 1 prints for it and the options that come with it."""
    return lambda function: Part(symbol, function, switch, whole_batch, tuple(options), tuple(when))
