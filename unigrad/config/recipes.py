"""Bundled recipes and YAML files, with their bases, their methods and dotted overrides, as one configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from unigrad.config.keys import config_keys, nearest_key, parse, validate
from unigrad.config.schema import Config
from unigrad.config.yaml_text import read_yaml
from unigrad.errors import ConfigError, nearest
from unigrad.plugins import load_plugins

METHODS_KEY = "methods"
SECTIONS = frozenset(key.split(".")[0] for key, _ in config_keys() if "." in key)
OFFICIAL = "-official"


def recipe_names() -> list[str]:
    """The bundled recipes: every family, and every FAMILY-METHOD (before `-official`) of the methods that it tunes."""
    return sorted({*_bundled(), *_members()})


def recipe_families() -> dict[str, list[str]]:
    """Each bundled file, with the methods that make a recipe's name with it."""
    return {family: [method for of, method in _members().values() if of == family] for family in sorted(_bundled())}


def _bundled() -> dict[str, Traversable]:
    folder = resources.files("unigrad.recipes")
    return {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}


@cache
def _members() -> dict[str, tuple[str, str]]:
    """The family and the method of each composed name."""
    members = {}
    for family in _bundled():
        stem, suffix = family.removesuffix(OFFICIAL), OFFICIAL if family.endswith(OFFICIAL) else ""
        for method in _load_recipe(family).get(METHODS_KEY, {}):
            members[f"{stem}-{method}{suffix}"] = (family, method)
    return members


def load_config(recipe: str, overrides: Mapping[str, str] | None = None) -> Config:
    """The configuration of a bundled recipe or a YAML path, with dotted `overrides` (text, as from a command line).

    A recipe may name another as its `base` and hold only what differs; its section `methods` holds, by method.name,
    what changes under that method. Raises ConfigError, one line, on a missing or malformed recipe, an unknown key or a
    bad value.
    """
    tree = _load_recipe(recipe)
    _check_sections(tree, recipe)
    named = (overrides or {}).get("plugins", tree.get("plugins", ()))
    load_plugins(validate({"plugins": named}, recipe).plugins)
    methods = tree.pop(METHODS_KEY, {})
    chosen = (overrides or {}).get("method.name") or tree.get("method", {}).get("name")
    for name, changes in methods.items():
        validate(_merge(tree, changes), f"{recipe}: {METHODS_KEY}.{name}")
    tree = _merge(tree, methods.get(chosen, {}))
    known = dict(config_keys())
    for key, text in (overrides or {}).items():
        if key not in known:
            raise ConfigError(f"unknown key {key!r}; did you mean {nearest_key(key, known)!r}?")
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = parse(text, known[key])
    config = validate(tree, recipe)
    if "data.eval" in (overrides or {}) and config.data.eval is not None and not config.train.eval_steps:
        raise ConfigError(
            "data.eval is given, and train.eval_steps is 0, so it would never be read; "
            "--train.eval_steps 10 evaluates on it every 10 steps"
        )
    if recipe.endswith(OFFICIAL) and (config.rollout.top_p < 1 or config.rollout.top_k > 0):
        raise ConfigError(
            f"recipe {recipe}: rollout.top_p = {config.rollout.top_p:g} and top_k = {config.rollout.top_k} are not the "
            f"authors', who sample from the whole distribution; leave them out, or take {recipe.removesuffix(OFFICIAL)}"
        )
    return config


def recipe_methods(recipe: str) -> tuple[str, ...]:
    """The methods for which a recipe says what changes. Raises ConfigError as `load_config` does."""
    return tuple(_load_recipe(recipe)[METHODS_KEY])


def recipe_plugins(recipe: str) -> tuple[str, ...]:
    """The plugins that a recipe names, itself or by its base. Raises ConfigError as `load_config` does."""
    return validate({"plugins": _load_recipe(recipe).get("plugins", ())}, recipe).plugins


def _load_recipe(recipe: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    is_path = recipe.endswith((".yaml", ".yml")) or "/" in recipe
    own = str(Path(recipe).resolve()) if is_path else recipe
    if own in seen:
        raise ConfigError(f"recipe {recipe}: its base leads back to itself")
    try:
        if is_path:
            text = Path(recipe).read_text(encoding="utf-8")
        elif recipe in _bundled():
            text = _bundled()[recipe].read_text(encoding="utf-8")
        elif recipe in _members():
            family, method = _members()[recipe]
            member = {"method": {"name": method}, "output_dir": f"runs/{recipe}"}
            return _merge(_load_recipe(family, (*seen, own)), member)
        else:
            close = nearest(recipe, recipe_names(), cutoff=0.4)
            tail = (
                f"did you mean {close!r}?"
                if close
                else f"there are: {', '.join(sorted(_bundled()))}, or a path to a .yaml file"
            )
            raise ConfigError(f"unknown recipe {recipe!r}; {tail}")
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {recipe} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(
            f"cannot read recipe {recipe}: {error.strerror}; bundled: {', '.join(sorted(_bundled()))}"
        ) from None
    tree = _tree(text, f"recipe {recipe}")
    base = tree.pop("base", None)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise ConfigError(f"recipe {recipe}: base = {base!r}: must be the name of a recipe, or a path")
    if is_path and base.endswith((".yaml", ".yml")):
        base = os.path.normpath(Path(recipe).parent / base)
        base = base if "/" in base else f"./{base}"
    inherited = _load_recipe(base, (*seen, own))
    # What a recipe says itself stands above whatever it inherits, also above what its base says of a method.
    methods = {name: _without(changes, tree) for name, changes in inherited[METHODS_KEY].items()}
    return _merge({**inherited, METHODS_KEY: methods}, tree)


def _tree(text: str, where: str) -> dict[str, Any]:
    """A recipe's sections and, where it has any, its methods' changes, each a mapping."""
    tree = read_yaml(text, where)
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: its top must be a mapping of sections, not {type(tree).__name__}")
    methods = tree.get(METHODS_KEY)
    methods = {} if methods is None else methods
    if not isinstance(methods, dict) or not all(each is None or isinstance(each, dict) for each in methods.values()):
        raise ConfigError(f"{where}: {METHODS_KEY} must map the names of methods to sections of keys")
    return {**tree, METHODS_KEY: {name: changes or {} for name, changes in methods.items()}}


def _check_sections(tree: Mapping[str, Any], recipe: str) -> None:
    """Raises ConfigError where what must be a section, here or under a method, is none."""
    for part, where in ((tree, recipe), *((each, f"{recipe}: {METHODS_KEY}") for each in tree[METHODS_KEY].values())):
        validate({name: part[name] for name in SECTIONS & part.keys() if not isinstance(part[name], dict)}, where)


def _without(tree: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` less the keys that `said` holds too."""
    left = {}
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(said.get(key), dict):
            left[key] = _without(value, said[key])
        elif key not in said:
            left[key] = value
    return left


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
