"""What a section of the configuration is, and the bounds that many keys share."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, create_model, field_validator

from unigrad.errors import ConfigError, nearest
from unigrad.options import Option

LARGEST = 2**63 - 1
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
NonNegative = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
Given = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python counts true as 1, and pydantic with it.
        annotation = str(cls.model_fields[str(info.field_name)].annotation)
        if "bool" not in annotation and _holds_truth(value):
            raise ValueError("must not be true or false")
        return value

    def flat(self) -> dict[str, Any]:
        """Every key by its dotted name."""
        return dict(_keys(self, self.model_dump(mode="json"), ""))


S = TypeVar("S", bound=Section)


def with_options(section: type[S], name: str, options: Iterable[Option]) -> type[S]:
    """The section with a key for each option: null is its own default. Raises ConfigError on a key that is taken."""
    keys: dict[str, Any] = {}
    for option in options:
        if option.name in section.model_fields:
            raise ConfigError(f"an option cannot be named {option.name!r}: that is a key of its section already")
        fits = BeforeValidator(partial(_option_value, option))
        keys[option.name] = (Annotated[option.type | None, fits], Field(default=None, description=option.help))
    return create_model(name, __base__=section, __doc__=section.__doc__, **keys)


def _holds_truth(value: Any) -> bool:
    return any(map(_holds_truth, value)) if isinstance(value, list | tuple) else isinstance(value, bool)


def _option_value(option: Option, value: Any) -> Any:
    if isinstance(value, str) and option.type in (int, float):
        # YAML takes 1e-6 for text.
        with suppress(ValueError):
            value = option.type(value)
    if value is None or option.fits(value):
        return value
    if typing.get_origin(option.type) is Literal:
        choices = [str(each) for each in typing.get_args(option.type)]
        close = nearest(str(value), choices)
        raise ValueError(f"must be one of {', '.join(choices)}; did you mean {close!r}?")
    raise ValueError(f"must be {option.wanted}")


def _keys(section: Section, dumped: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in dumped.items():
        inner = getattr(section, name)
        if isinstance(inner, Section):
            yield from _keys(inner, value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by their dotted keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
