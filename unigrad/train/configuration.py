"""What a run is to be: of a recipe, or of the run that goes on. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unigrad.config import Config, load_config
from unigrad.errors import ConfigError
from unigrad.files import check_folder
from unigrad.hybrid.recipe_methods import check_methods
from unigrad.runs.folder import CONFIG_FILE

DEFAULT_RECIPE = "tiny-hpt"


def configuration(recipe: str | None, resume: str | None, options: Mapping[str, str]) -> Config:
    """Of the recipe, or of the run at `resume`, with `options` by key, as texts, on top.

    Raises ConfigError on whatever is wrong with it, as far as that shows without model and data.
    """
    if resume == "":
        raise ConfigError("--resume '': give the folder of the run to go on with")
    if resume and recipe:
        raise ConfigError(f"--resume {resume} takes its configuration from the run; leave out the recipe {recipe!r}")
    config = _resumed(resume, options) if resume else load_config(recipe or DEFAULT_RECIPE, options)
    check_folder(
        Path(resume or config.output_dir), f"--resume {resume}" if resume else f"output_dir {config.output_dir}"
    )
    if not resume:
        check_methods(recipe or DEFAULT_RECIPE)
    return config


def _resumed(folder: str, options: Mapping[str, str]) -> Config:
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"--resume {folder}: no run there (it has no config.yaml)")
    return load_config(str(path), options)
