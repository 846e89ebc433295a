"""The keys of the configuration by their dotted names: listed, read from text, checked, compared."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from unigrad.config.credentials import check_no_credentials, texts
from unigrad.config.other_names import meant
from unigrad.config.schema import Config, current_config
from unigrad.config.section import LARGEST
from unigrad.config.yaml_text import read_yaml
from unigrad.errors import ConfigError, nearest, shortened

RESUMABLE_CHANGES = (
    "output_dir",
    "model.save_dtype",
    "train.save_steps",
    "train.save_total_limit",
    "train.keep_best",
    "train.patience",
    "train.eval_steps",
    "train.tensorboard",
    "train.wandb",
    "train.push_to_hub",
    "train.save_token_logprobs",
    "ranks.sharded",
    "ranks.cpu_offload",
    "ranks.timeout_seconds",
    "rollout.vllm.server",
    "rollout.vllm.weights_folder",
)
"""Keys that change nothing in the weights: a resumed run may set them anew, and a report takes no notice of them."""


def config_keys(model: type[BaseModel] | None = None, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key with its field, in declaration order; those of plugins' options too."""
    for name, info in (model or current_config()).model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from config_keys(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, info


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The one of the `known` that was meant: by another trainer's name for it, one whose last part is the same, else
    the nearest."""
    known = [*known]
    if (elsewhere := meant(key)) in known:
        return elsewhere
    leaf = key.rsplit(".", 1)[-1]
    return next((name for name in known if name.rsplit(".", 1)[-1] == leaf), None) or nearest(key, known)


def parse(text: str, field: FieldInfo) -> Any:
    """A command line's text as a value: itself where a string is wanted, else YAML; `null` is None where allowed."""
    union = typing.get_origin(field.annotation) in (types.UnionType, typing.Union)
    members = typing.get_args(field.annotation) if union else (field.annotation,)
    if type(None) in members and text.lower() in ("null", "none"):
        return None
    is_tree = text.startswith(("[", "{")) and any("tuple" in str(member) for member in members)
    if str in members and not is_tree:
        return text
    try:
        return read_yaml(text, text)
    except ConfigError:
        return text


def type_name(field: FieldInfo) -> str:
    """A field's type as `--help` shows it."""

    def name(annotation: Any) -> str:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return name(arguments[0])
        if origin is Literal:
            return "|".join(str(choice) for choice in arguments)
        if origin in (types.UnionType, typing.Union):
            return "|".join(name(member) for member in arguments)
        if origin is dict:
            return "{NAME: VALUE, …}"
        if origin is tuple:
            return f"[{name(arguments[0])}, …]"
        return "null" if annotation is type(None) else str(annotation.__name__)

    return name(field.annotation)


def validate(tree: Mapping[str, Any], where: str) -> Config:
    """Raises ConfigError on an unknown key, a bad value or a credential; `where` it stands begins the line."""
    for place, text in texts(tree, ""):
        check_no_credentials(text, f"{where}: {place}")
    try:
        return current_config().model_validate(tree)
    except ValidationError as errors:
        first = errors.errors()[0]
        # Of a value that may have several types, pydantic lists what is wrong with it as each: the deepest was meant.
        same = [each for each in errors.errors() if each["loc"][:2] == first["loc"][:2]]
        error = max(same, key=lambda each: len(each["loc"]))
        key = ".".join(
            str(part) for part in error["loc"] if isinstance(part, str) and part.isidentifier() and part != "str"
        )
        if error["type"] == "extra_forbidden":
            raise ConfigError(
                f"{where}: unknown key {key!r}; did you mean {nearest_key(key, dict(config_keys()))!r}?"
            ) from None
        if not key:
            raise ConfigError(f"{where}: {error['msg'].removeprefix('Value error, ')}") from None
        raise ConfigError(f"{where}: {key} = {shortened(repr(error['input']), 200)}: {_complaint(error)}") from None


def known_part(tree: Mapping[str, Any], model: type[BaseModel] | None = None) -> dict[str, Any]:
    """`tree` without the keys that there are not, at any depth."""
    model = model or current_config()
    kept = {}
    for name, value in tree.items():
        if name in model.model_fields:
            annotation: Any = model.model_fields[name].annotation
            is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel) and isinstance(value, dict)
            kept[name] = known_part(value, annotation) if is_section else value
    return kept


def read_option(option: str, key: str, text: str) -> Any:
    """The value of a key from the text that `option`, one of its spellings, has on a command line.

    Raises ConfigError, naming the option, on a value that the key's section does not take.
    """
    field = dict(config_keys())[key]
    value = parse(text, field)
    kind, *others = type_name(field).split("|")
    number = {"int": int, "float": float}.get(kind)
    if number is not None and not (value is None and "null" in others):
        try:
            value = number(text)
        except ValueError:
            raise ConfigError(f"argument {option}: invalid {kind} value: {text!r}") from None
    return check_option(option, key, value)


def check_option(option: str, key: str, value: Any) -> Any:
    """The value as the key's section takes it. Raises ConfigError, naming the option, where it does not."""
    section, _, name = key.partition(".")
    model = typing.cast(type[BaseModel], Config.model_fields[section].annotation)
    try:
        return getattr(model.model_validate({name: value}), name)
    except ValidationError as errors:
        error = errors.errors()[0]
        complaint = _bounds(model, name) if error["type"] in _OUT_OF_BOUNDS else _complaint(error)
        raise ConfigError(f"{option} {shortened(repr(error['input']), 200)}: {complaint}") from None


_OUT_OF_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")


def _bounds(model: type[BaseModel], name: str) -> str:
    """What the number of this field must be."""
    schema = model.model_json_schema()["properties"][name]
    schema = dict(schema.get("anyOf", [schema])[0])
    if schema["type"] == "integer" and schema.get("minimum") == 1:
        schema = {**{bound: limit for bound, limit in schema.items() if bound != "minimum"}, "exclusiveMinimum": 0}
    if schema.get("maximum") == LARGEST:  # no limit that anyone meets
        del schema["maximum"]
    words = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    return "must be " + " and ".join(f"{word} {schema[bound]}" for bound, word in words.items() if bound in schema)


def _complaint(error: Mapping[str, Any]) -> str:
    """What pydantic has against a value."""
    if error["type"] == "literal_error":
        expected = [choice.strip().strip("'") for choice in error["ctx"]["expected"].replace(" or ", ",").split(",")]
        return f"must be one of {', '.join(expected)}; did you mean {nearest(str(error['input']), expected)!r}?"
    if error["type"] == "dict_type":
        return "must be a mapping, {NAME: VALUE, …}"
    if error["type"] in ("string_too_short", "too_short"):
        return "must not be empty"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def changed_keys(before: Config, after: Config, ignoring: Sequence[str]) -> list[str]:
    """The dotted keys in which two configurations differ, but for those in `ignoring`."""
    old, new = before.flat(), after.flat()
    return [key for key in old if key not in ignoring and old[key] != new[key]]
