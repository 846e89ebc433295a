"""How completions are drawn, and the record of it that a folder of an evaluation keeps. Nothing here imports torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unigrad.config import ConfigError
from unigrad.data.tiny import MODEL_PATH
from unigrad.types import NoBox

MAX_COMPLETION_LENGTH = 8192
AUTO = "auto"

_MODEL_FILES = frozenset((".safetensors", ".bin", ".gguf", ".json", ".jinja", ".model", ".txt"))
_BLOCKS, _BLOCK_BYTES = 64, 4096
_POSITIVE = (
    "max_completion_length", "samples", "limit", "max_concurrent_tokens", "rope_theta", "max_position_embeddings",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """§4.1: temperature 0.6, top-p 0.95, up to 8,192 tokens.

    max_completion_length: None is 8,192, or what the model's positions leave. samples: None is each benchmark's own.
    stop: strings that end a completion; None leaves them open, as AUTO does the prompt template, for `as_trained`.
    no_box: what a completion without a box is judged by (`verify.no_box`); None leaves it open in the same way.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    max_completion_length: int | None = None
    samples: int | None = None
    prompt_template: str = AUTO
    stop: tuple[str, ...] | None = None
    no_box: NoBox | None = None
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    max_concurrent_tokens: int = 65536
    rope_theta: float | None = None
    max_position_embeddings: int | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError on a number out of its range."""
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"--temperature {self.temperature}: must be at least 0 (0: greedy)")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"--top-p {self.top_p}: must be above 0 and at most 1")
        if not all(self.stop or ()):
            raise ConfigError("--stop '': must not be empty")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"--{name.replace('_', '-')} {value}: must be above 0")

    @property
    def longest_completion(self) -> int:
        """In tokens."""
        return self.max_completion_length or MAX_COMPLETION_LENGTH

    @property
    def judged_by(self) -> NoBox:
        return self.no_box or "last_number"

    def record(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "max_completion_length": self.longest_completion,
            "stop": list(self.stop or ()),
            "no_box": self.judged_by,
        }


def is_saved_model(path: Path) -> bool:
    """Whether a folder is called as a run calls those of its models."""
    return path.name == "final" or path.name.startswith("checkpoint-")


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
    path = MODEL_PATH if model == "tiny" else Path(model).expanduser()
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
