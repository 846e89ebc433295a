"""Tokens, keys and passwords in what a user typed. What a run was given is saved with it, and shown in its report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from unigrad.errors import ConfigError

_SHAPES = (
    (r"hf_[A-Za-z0-9]{20,}", "a token of the hub", "HF_TOKEN"),
    (r"sk-ant-[\w-]{16,}", "an API key", "ANTHROPIC_API_KEY"),
    (r"sk-(?:(?:proj|svcacct|admin|or-v1)-[\w-]{16,}|[A-Za-z0-9]{20,})", "an API key", "OPENAI_API_KEY"),
    (r"gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}", "a token of GitHub", "GITHUB_TOKEN"),
    (r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])", "an access key of AWS", "AWS_ACCESS_KEY_ID"),
    (r"AIza[\w-]{35}", "an API key of Google", "GOOGLE_API_KEY"),
    (r"wandb_v\d_\w{20,}", "an API key of Weights & Biases", "WANDB_API_KEY"),
)
_TOKENS = [(re.compile(rf"(?<![A-Za-z0-9]){shape}"), what, variable) for shape, what, variable in _SHAPES]
_KEY = re.compile(r"[?&](?:(?:access_?)?token|(?:api_?)?key|password|secret|sig|x-amz-signature)=", re.IGNORECASE)
"""In the query of a url."""


def check_no_credentials(text: str, where: str) -> None:
    """Raises ConfigError, which shows nothing of it, on a text that holds a token of a known shape or a url with a
    password or a key."""
    for shape, what, variable in _TOKENS:
        if shape.search(text):
            raise ConfigError(f"{where} holds {what}, which would be saved with the run; set it as {variable} instead")
    if any(map(_is_of_a_url, (part for word in text.split() for part in word.split("://")[1:]))):
        raise ConfigError(
            f"{where} holds a url with a password or a key, which would be saved with the run; leave it out, and let "
            "an environment variable of your own or ~/.netrc hold it"
        )


def _is_of_a_url(rest: str) -> bool:
    """Whether the rest of a url, what follows its scheme, holds a password or a key."""
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return bool(at and ":" in user) or _KEY.search(rest) is not None


def texts(tree: Any, place: str) -> Iterator[tuple[str, str]]:
    """Each text within a configuration, with its dotted place, which begins with `place`."""
    if isinstance(tree, str):
        yield place, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from texts(value, f"{place}.{key}" if place else str(key))
    elif isinstance(tree, list | tuple):
        for each in tree:
            yield from texts(each, place)
