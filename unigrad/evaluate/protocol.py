"""How completions are drawn, and the record of it that a folder of an evaluation keeps. Nothing here imports torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from unigrad.config import Config
from unigrad.data.tiny import model_source
from unigrad.runs.folder import is_saved_model
from unigrad.types import NoBox

MAX_COMPLETION_LENGTH = 8192
AUTO = "auto"
MUST_BE_KNOWN = ("prompt_template", "stop", "no_box", "engine")
"""Where all of these are given, a run's config.yaml that cannot be read is none."""
LEFT_OPEN = (
    *MUST_BE_KNOWN, "apply_chat_template", "chat_template_kwargs", "system_prompt",
    "temperature", "top_p", "max_completion_length", "seed", "dtype",
)  # fmt: skip

_MODEL_FILES = frozenset((".safetensors", ".bin", ".gguf", ".json", ".jinja", ".model", ".txt"))
_BLOCKS, _BLOCK_BYTES = 64, 4096
_DEFAULTS = Config().flat()


def _of_key(key: str, **default: Any) -> Any:
    """A field that is this key of the configuration, whose default it has unless another is given."""
    return field(**{"default": _DEFAULTS[key], **default}, metadata={"key": key})


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What an evaluation takes of the configuration, each field a key of it that says what it means.

    AUTO, and None for the others of LEFT_OPEN, leave these open for `completed`.
    """

    temperature: float | None = _of_key("eval.temperature", default=None)
    top_p: float | None = _of_key("eval.top_p", default=None)
    max_completion_length: int | None = _of_key("eval.max_completion_length")
    samples: int | None = _of_key("eval.num_generations")
    prompt_template: str = _of_key("data.prompt_template", default=AUTO)
    apply_chat_template: bool | None = _of_key("data.apply_chat_template")
    chat_template_kwargs: Mapping[str, Any] | None = _of_key("data.chat_template_kwargs", default=None)
    system_prompt: str | None = _of_key("data.system_prompt")
    stop: tuple[str, ...] | None = _of_key("rollout.stop", default=None)
    no_box: NoBox | None = _of_key("verify.no_box", default=None)  # noqa: RUF009
    engine: str | None = _of_key("rollout.engine", default=None)
    limit: int | None = _of_key("data.max_eval_problems")
    seed: int | None = _of_key("eval.seed")
    device: str = _of_key("model.device")
    dtype: str = _of_key("model.dtype")
    max_concurrent_tokens: int = _of_key("rollout.max_concurrent_tokens")
    rope_theta: float | None = _of_key("model.rope_theta")
    max_position_embeddings: int | None = _of_key("model.max_position_embeddings")

    @classmethod
    def keys(cls) -> dict[str, str]:
        """The configuration's key of each field, by the field's name."""
        return {each.name: each.metadata["key"] for each in fields(cls)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Protocol:
        """From values by the configuration's keys; null is the default."""
        given = {name: values.get(key) for name, key in cls.keys().items()}
        return cls(**{name: value for name, value in given.items() if value is not None})

    def completed(self, values: Mapping[str, Any]) -> Protocol:
        """With these `values`, by the names of LEFT_OPEN, where it leaves them open."""
        is_open = {name for name in LEFT_OPEN if getattr(self, name) in (None, AUTO)}
        return replace(self, **{name: value for name, value in values.items() if name in is_open})

    @property
    def drawn_at(self) -> float:
        """The temperature."""
        return float(_DEFAULTS["eval.temperature"]) if self.temperature is None else self.temperature

    @property
    def nucleus(self) -> float:
        return self.top_p or float(_DEFAULTS["eval.top_p"])

    @property
    def drawn_by(self) -> int:
        """The seed."""
        return self.seed or 0

    @property
    def longest_completion(self) -> int:
        """In tokens."""
        return self.max_completion_length or MAX_COMPLETION_LENGTH

    @property
    def judged_by(self) -> NoBox:
        return self.no_box or "last_number"

    @property
    def sampled_by(self) -> str:
        return self.engine or str(_DEFAULTS["rollout.engine"])

    def record(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "temperature": self.drawn_at,
            "top_p": self.nucleus,
            "seed": self.drawn_by,
            "max_completion_length": self.longest_completion,
            "chat_template_kwargs": dict(self.chat_template_kwargs or {}),
            "stop": list(self.stop or ()),
            "no_box": self.judged_by,
            "engine": self.sampled_by,
        }


def model_label(model: str) -> str:
    """What a model is called in a table and in a folder's name: `tiny-hpt-final` for runs/tiny-hpt/final."""
    path = Path(model)
    if is_saved_model(path):
        run = path.resolve().parent
        # A comparison's runs are METHOD/seed-S.
        method = f"{run.parent.name}-" if run.name.startswith("seed-") else ""
        return f"{method}{run.name}-{path.name}"
    return path.name.removesuffix(".gguf") or path.resolve().name


def fingerprint(model: str) -> str | None:
    """A digest of a local model; None where there is none at this path.

    Of a large file it reads evenly spread parts alone: training changes numbers everywhere, and gigabytes would have to
    be read again for a second look at a finished evaluation.
    """
    path = Path(model_source(model)).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in _MODEL_FILES)
    elif path.is_file():
        files = [path]
    else:
        return None
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            for block in range(_BLOCKS):
                content.seek(max(0, size - _BLOCK_BYTES) * block // (_BLOCKS - 1))
                digest.update(content.read(_BLOCK_BYTES))
    return digest.hexdigest()[:16]


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The settings in which two records differ, with both values; where files lay does not count."""
    defaults = Protocol().record()  # of what an earlier version had no choice in
    for key, value in after["protocol"].items():
        old = before["protocol"].get(key, defaults[key])
        if old != value:
            yield key, old, value
    if before["suite"] != after["suite"]:
        yield "suite", before["suite"], after["suite"]
        return
    prints = before["model_fingerprint"], after["model_fingerprint"]
    if None in prints and before["model"] != after["model"]:
        yield "model", before["model"], after["model"]
    if None not in prints and prints[0] != prints[1]:
        yield "model", f"{before['model']} ({prints[0]})", f"{after['model']} ({prints[1]})"
    for name, new in after["benchmarks"].items():
        old = before["benchmarks"][name]
        for key in ("problems", "answers"):
            if old[key] != new[key]:
                yield f"{key} of {name}", f"{old['source']} ({old[key]})", f"{new['source']} ({new[key]})"
