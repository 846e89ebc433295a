"""The methods that a recipe names, against those that there are."""

from __future__ import annotations

from unigrad.config import recipe_methods
from unigrad.errors import ConfigError, nearest
from unigrad.hybrid.methods import METHODS


def check_methods(recipe: str) -> None:
    """Raises ConfigError where a recipe says what changes under a method that there is not."""
    for name in recipe_methods(recipe):
        if name not in METHODS:
            raise ConfigError(f"{recipe}: methods.{name}: unknown method; did you mean {nearest(name, METHODS)!r}?")
