"""Which methods are compared: names, and names of sets of them. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Collection

from unigrad.errors import ConfigError, nearest
from unigrad.hybrid.methods import METHODS

SETS: dict[str, tuple[str, ...]] = {
    name: tuple(method.name for method in METHODS.values() if name in method.sets)
    for name in dict.fromkeys(name for method in METHODS.values() for name in method.sets)
}
"""The paper's comparisons by the number of their table, and the controls that a gate must beat."""
DEFAULT_SET = "main"


def named_methods(text: str, known: Collection[str]) -> tuple[str, ...]:
    """The methods of a list such as `hpt,table5`: sets spelled out, each method once, in the order given.

    Raises ConfigError on a name that is neither among the `known` methods nor a set.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"--methods {text!r} names no method; there are: {', '.join(known)}")
    methods: dict[str, None] = {}
    for name in names:
        for each in SETS.get(name, (name,)):
            if each not in known:
                close = nearest(each, (*known, *SETS))
                raise ConfigError(f"--methods: unknown method {each!r}; did you mean {close!r}?")
            methods[each] = None
    return tuple(methods)
