"""Which methods are compared: names, and names of sets of them. Nothing here imports torch."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from unigrad.config import ConfigError

SETS = {
    "main": ("hpt", "sft", "grpo", "sft_then_grpo", "luffy", "srft"),
    "table5": ("hpt", "off_on", "mix_on"),
    "table6": ("hpt", "hpt_gate1", "hpt_gate2"),
    "controls": ("hpt", "random_gate", "constant_mix", "drop_failed"),
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
                close = difflib.get_close_matches(each, [*known, *SETS], n=1, cutoff=0.0)
                raise ConfigError(f"--methods: unknown method {each!r}; did you mean {close[0]!r}?")
            methods[each] = None
    return tuple(methods)
