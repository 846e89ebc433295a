"""Benchmarks and suites, as data: where the problems come from, how many samples, what the paper calls them.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unigrad.data.rows import SUFFIXES
from unigrad.errors import ConfigError, nearest
from unigrad.evaluate.hub_rows import arc_problem, gpqa_problem, olympiad_problem
from unigrad.types import AnswerKind

TINY = "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A problem set and how it is measured.

    title: its column in the paper's tables. samples: k of avg@k; None: it has no k of its own. hub: the id of its data
    set, with `split`, `subset` and `columns`; None: it is made here, or a file. from_row: makes problem and answer of a
    hub row that does not hold them as they are. kind: of the answers; None: told by each problem. prompt_template: for
    a model that comes from no run. path: the file itself.
    """

    name: str
    title: str
    samples: int | None = None
    hub: str | None = None
    split: str = "test"
    subset: str | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    from_row: Callable[[Mapping[str, Any]], tuple[str, str]] | None = None
    kind: AnswerKind | None = None
    prompt_template: str | None = None
    path: Path | None = None


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(name="aime24", title="AIME 24", samples=32, hub="HuggingFaceH4/aime_2024", split="train"),
        Benchmark(name="aime25", title="AIME 25", samples=32, hub="math-ai/aime25"),
        Benchmark(name="amc", title="AMC", samples=32, hub="AI-MO/aimo-validation-amc", split="train"),
        Benchmark(
            name="math500", title="MATH-500", samples=1, hub="HuggingFaceH4/MATH-500", columns={"id": "unique_id"},
        ),
        Benchmark(name="minerva", title="Minerva", samples=1, hub="math-ai/minervamath"),
        Benchmark(
            name="olympiadbench", title="Olympiad", samples=1, hub="math-ai/olympiadbench",
            from_row=olympiad_problem, columns={"id": "id"},
        ),
        Benchmark(
            name="arc_c", title="ARC-c", samples=1, hub="allenai/ai2_arc", subset="ARC-Challenge",
            from_row=arc_problem, columns={"id": "id"}, kind="choice",
        ),
        Benchmark(
            name="gpqa_diamond", title="GPQA", samples=1, hub="Idavidrein/gpqa", subset="gpqa_diamond", split="train",
            from_row=gpqa_problem, columns={"id": "Record ID"}, kind="choice",
        ),
        Benchmark(name="gsm8k", title="GSM8K", samples=1, hub="openai/gsm8k", subset="main"),
        Benchmark(name=TINY, title="tiny", prompt_template="plain"),
    )
}  # fmt: skip
"""In the paper's order. The hub's GPQA is gated: it needs a login and the authors' consent."""

SUITES: dict[str, tuple[str, ...]] = {
    "paper": ("aime24", "aime25", "amc", "math500", "minerva", "olympiadbench"),
    "ood": ("arc_c", "gpqa_diamond"),
}
"""Tables 2 and 3: each suite has an average of its own."""


def register_suite(name: str, benchmarks: Sequence[Benchmark | str]) -> None:
    """Add a suite of these benchmarks, new ones or names of those that are there.

    Raises ValueError where the suite's or a new benchmark's name is taken, or a benchmark's is unknown.
    """
    new = [each for each in benchmarks if isinstance(each, Benchmark)]
    for each in (name, *(benchmark.name for benchmark in new)):
        if each in SUITES or each in BENCHMARKS:
            raise ValueError(f"a suite or benchmark named {each!r} is registered already")
    names = tuple(each.name if isinstance(each, Benchmark) else each for each in benchmarks)
    known = {**BENCHMARKS, **{each.name: each for each in new}}
    for each in names:
        if each not in known:
            raise ValueError(f"suite {name!r}: no benchmark {each!r}; did you mean {nearest(each, known)!r}?")
    BENCHMARKS.update(known)
    SUITES[name] = names


@dataclass(frozen=True, slots=True)
class Suite:
    """Benchmarks that stand together in the table; one with a name has an average."""

    name: str | None
    benchmarks: tuple[Benchmark, ...]


def requested(text: str) -> tuple[Suite, ...]:
    """The suites, benchmarks and problem files of a list such as `paper,gsm8k,my/problems.jsonl`, each once.

    Raises ConfigError on a name that is none of them.
    """
    suites: list[Suite] = []
    names: dict[str, Benchmark] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        benchmarks = _benchmarks(item)
        for benchmark in benchmarks:
            if names.get(benchmark.name, benchmark) != benchmark:
                raise ConfigError(f"--suite: two different benchmarks have the name {benchmark.name!r}")
        new = tuple(benchmark for benchmark in benchmarks if benchmark.name not in names)
        names.update((benchmark.name, benchmark) for benchmark in new)
        if new:
            suites.append(Suite(item if item in SUITES else None, new))
    if not suites:
        raise ConfigError(f"--suite {text!r} names nothing; there are: {', '.join((*SUITES, *BENCHMARKS))}")
    return tuple(suites)


def _benchmarks(item: str) -> tuple[Benchmark, ...]:
    if item in SUITES:
        return tuple(BENCHMARKS[name] for name in SUITES[item])
    if item in BENCHMARKS:
        return (BENCHMARKS[item],)
    path = Path(item).expanduser()
    if path.is_dir():
        raise ConfigError(f"--suite {item} is a folder; name a problem file, one that ends in {', '.join(SUFFIXES)}")
    if path.exists() or "/" in item or item.endswith(SUFFIXES):
        name = path.name.split(".")[0]
        return (Benchmark(name=name, title=name, path=path),)
    names = (*SUITES, *BENCHMARKS)
    raise ConfigError(
        f"unknown suite {item!r}; did you mean {nearest(item, names)!r}? There are: {', '.join(names)}, "
        "or the path of a problem file"
    )
