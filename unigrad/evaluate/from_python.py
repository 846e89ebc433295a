"""`unigrad.evaluate(…)`: a model measured from Python. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unigrad.config import nearest_key, read_option
from unigrad.config.texts import as_texts
from unigrad.data.given import write_rows
from unigrad.errors import ConfigError
from unigrad.evaluate.protocol import Protocol, model_label
from unigrad.live import LiveConsole

Suite = str | Path | Sequence[str] | Iterable[Any]


def evaluate(
    model: Any,
    suite: Suite,
    *,
    out: str | Path | None = None,
    data: str | Path | None = None,
    against: str | Path | None = None,
    rescore: bool = False,
    passes: str | Path | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Measure a model on benchmarks, as `unigrad evaluate MODEL --suite …` does. Returns what results.json holds.

    model: a folder, a hub id, a .gguf file, or a `unigrad.Run`, whose trained model it is. suite: names of suites,
    benchmarks and problem files, with commas or as a list; or problems, as `unigrad.train` takes them, which are
    written beside `out` first. passes: a .jsonl file that takes the problems, each with its `pass_rate`. options: keys
    that `unigrad evaluate --help` lists, as in `**{"eval.num_generations": 8}`. The others are its options.

    Raises ConfigError (a ValueError) on anything that is wrong with the input; later OSError, FloatingPointError, or
    MemoryError where a GPU's runs out: what is complete is kept, and the same call goes on.
    """
    name = str(getattr(model, "final", model))
    allowed = set(Protocol.keys().values())
    for key in options:
        if key not in allowed:
            raise ConfigError(f"unknown key {key!r}; did you mean {nearest_key(key, allowed)!r}?")
    protocol = Protocol.of({key: read_option(key, key, text) for key, text in as_texts(options).items()})
    folder = None if out is None else Path(out)
    if not isinstance(suite, str | Path):
        parts = list(suite)
        if parts and all(isinstance(each, str) for each in parts):
            suite = ",".join(parts)
        else:
            folder = folder or Path("evaluations") / f"{model_label(name)}-problems"
            file = folder.with_name(f"{folder.name}.jsonl")
            write_rows(parts, file, "suite")
            suite = file

    from unigrad.evaluate.evaluation import measure
    from unigrad.evaluate.folder import RESULTS_FILE
    from unigrad.versions import warn_of_untested

    warn_of_untested()
    done = measure(
        name, str(suite), protocol, LiveConsole(stderr=True),
        out=folder, data=_path(data), rescore=rescore, against=_path(against), passes=_path(passes),
    )  # fmt: skip
    results: dict[str, Any] = json.loads((done / RESULTS_FILE).read_text(encoding="utf-8"))
    return results


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
