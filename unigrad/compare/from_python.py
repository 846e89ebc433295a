"""`unigrad.compare(…)`: methods side by side, from Python. Nothing here imports torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unigrad.config.texts import as_texts

DEFAULT_FAMILY, DEFAULT_SEEDS = "tiny", 3


def compare(
    recipe: str | Path = DEFAULT_FAMILY,
    methods: str | Sequence[str] | None = None,
    *,
    seeds: int = DEFAULT_SEEDS,
    first_seed: int = 0,
    out: str | Path | None = None,
    jobs: int | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train several methods on the same seeds, as `unigrad compare RECIPE` does. Returns what comparison.json holds.

    Each run is a process of its own, so that data, rewards and model are given by name, as keys of the configuration:
    `**{"data.train": "train.jsonl"}`. methods: names and sets of them; None: the default set.

    Raises ConfigError (a ValueError) on anything that is wrong with the input, RuntimeError where a run failed, and
    KeyboardInterrupt where the comparison was stopped; the same call goes on.
    """
    from unigrad.compare.comparison import compare as run
    from unigrad.compare.sets import DEFAULT_SET
    from unigrad.report.runs import COMPARISON_FILE
    from unigrad.versions import warn_of_untested

    warn_of_untested()
    named = DEFAULT_SET if methods is None else methods if isinstance(methods, str) else ",".join(methods)
    folder = default_folder(recipe) if out is None else Path(out)
    code = run(str(recipe), named, range(first_seed, first_seed + seeds), folder, jobs, as_texts(options))
    if code >= 128:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(f"not every run of {folder} came to its end; their logs say why, and the same call goes on")
    comparison: dict[str, Any] = json.loads((folder / COMPARISON_FILE).read_text(encoding="utf-8"))
    return comparison


def default_folder(recipe: str | Path) -> Path:
    return Path(f"runs/compare-{Path(recipe).stem}")
