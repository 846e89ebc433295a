"""What drawing needs beside the package itself."""

from __future__ import annotations

import importlib.util

from unigrad.errors import ConfigError


def check_installed(command: str) -> None:
    """Raises ConfigError, in the command's name, where the extra `report` is not installed."""
    if missing := [name for name in ("matplotlib", "scipy") if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"{command} needs {' and '.join(missing)}: pip install 'unigrad[report]'")
