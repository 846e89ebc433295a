"""Values of a Python program as the texts that a command line would give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unigrad.errors import ConfigError


def as_texts(options: Mapping[str, Any]) -> dict[str, str]:
    """Each option's value as its key's text. Raises ConfigError on one that a configuration cannot hold."""
    return {key: as_text(value, key) for key, value in options.items()}


def as_text(value: Any, key: str) -> str:
    if isinstance(value, str | Path):
        return str(value)
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError as error:
        raise ConfigError(f"{key}: {error}") from None
