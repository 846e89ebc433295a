"""A recipe that says what changes under a method names one that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from unigrad.errors import ConfigError
from unigrad.hybrid.recipe_methods import check_methods


def test_an_unknown_method_is_named_with_its_nearest(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("base: tiny\nmethods: {grpo: {train: {max_steps: 3}}}\n", encoding="utf-8")
    check_methods(str(recipe))
    recipe.write_text("base: tiny\nmethods: {grpo: {}, lufy: {train: {max_steps: 3}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine.yaml: methods\.lufy: unknown method; did you mean 'luffy'\?"):
        check_methods(str(recipe))
