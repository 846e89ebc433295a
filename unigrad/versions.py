"""What this package stands on: which versions are installed, and which were tested."""

from __future__ import annotations

import logging
import platform
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from unigrad import __version__

logger = logging.getLogger(__name__)


@cache
def windows() -> Mapping[str, SpecifierSet]:
    """The bounds of pyproject.toml, by package, extras left out: each is a version that was run."""
    source = Path(__file__).parents[1] / "pyproject.toml"
    project = tomllib.loads(source.read_text(encoding="utf-8")).get("project", {}) if source.is_file() else {}
    # Beside the source they are there without an installation, and today's, whenever it was installed.
    lines = project["dependencies"] if project.get("name") == "unigrad" else requires("unigrad") or ()
    requirements = map(Requirement, lines)
    return {each.name: each.specifier for each in requirements if each.marker is None}


@cache
def installed() -> Mapping[str, str]:
    """The installed version of each package of `windows`; one that is not there is left out."""
    found = {}
    for name in windows():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, str]:
    """What numbers may depend on beside the configuration: versions, and the platform."""
    return {
        "unigrad": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **installed(),
    }


def changed(before: Mapping[str, str]) -> list[str]:
    """What of an `environment` that was written down is otherwise now, a line each."""
    now = environment()
    return [
        f"{name} was {old} and is now {now.get(name, 'not installed')}"
        for name, old in before.items()
        if now.get(name) != old
    ]


def with_window(package: str) -> str:
    """The installed version beside the tested ones, as an error names them. `package`: as pyproject.toml spells it."""
    bounds = ", ".join(sorted(str(windows()[package]).split(","), reverse=True))
    return f"{package} {installed().get(package, 'is not installed')} (tested: {bounds})"


def untested() -> list[str]:
    """The installed packages that lie outside their window, each as `with_window` names it."""
    return [
        with_window(name)
        for name, number in installed().items()
        if not windows()[name].contains(number, prereleases=True)
    ]


@cache
def warn_of_untested() -> None:
    """Once a process, and before anything is imported from them: they may work as well."""
    for line in untested():
        logger.warning("unigrad: warning: not tested with %s", line)


def version_lines() -> list[str]:
    """As `unigrad --version` prints them."""
    lines = [f"unigrad {__version__}", f"python {platform.python_version()}"]
    return lines + [with_window(name) for name in windows()]
