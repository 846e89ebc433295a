"""From completions to numbers: accuracy, intervals, pass@k, verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from unigrad.evaluate.completions import Sample, read
from unigrad.evaluate.suites import Benchmark, Suite
from unigrad.stats import CONFIDENCE
from unigrad.stats.bootstrap import RESAMPLES, Floats, bootstrap_pass_at_k, interval, resampled_means
from unigrad.stats.pass_rates import pass_at_k, powers_of_two
from unigrad.types import Problem, Reason


@dataclass(slots=True)
class Tally:
    """What the completions of one benchmark come to. right: by problem, how many samples are."""

    right: Counter[str] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    completions: int = 0
    truncated: int = 0
    tokens: int = 0

    def add(self, sample: Sample) -> None:
        self.right[sample.id] += sample.correct
        self.reasons[sample.reason] += 1
        self.completions += 1
        self.truncated += sample.truncated
        self.tokens += sample.tokens


def tally(path: Path) -> Tally:
    found = Tally()
    for sample, _ in read(path):
        found.add(sample)
    return found


def benchmark_results(benchmark: Benchmark, problems: Sequence[Problem], samples: int, found: Tally) -> dict[str, Any]:
    """A benchmark's numbers, as results.json holds them; shares are of 1."""
    right = [found.right[problem.id] for problem in problems]
    levels = sorted({problem.level for problem in problems if problem.level is not None})
    result: dict[str, Any] = {
        "title": benchmark.title,
        "problems": len(problems),
        "samples": samples,
        **_accuracy(right, samples, benchmark.name),
        "by_level": {str(level): _level(level, problems, right, samples, benchmark.name) for level in levels},
        "truncated": found.truncated / found.completions,
        "tokens_mean": found.tokens / found.completions,
        "reasons": {str(reason): found.reasons[reason] for reason in Reason if found.reasons[reason]},
    }
    if samples > 1:
        result["pass_at_k"] = _pass_curve(right, samples, benchmark.name)
    result["counts"] = {
        problem.id: {"n": samples, "c": c, "level": problem.level} for problem, c in zip(problems, right, strict=True)
    }
    return result


def averages(suites: Iterable[Suite], benchmarks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each named suite's accuracies, with the interval from resampling each benchmark by itself."""
    found = {}
    for suite in suites:
        if suite.name is None:
            continue
        parts = [benchmarks[benchmark.name] for benchmark in suite.benchmarks]
        means = [
            _means([count["c"] / count["n"] for count in part["counts"].values()], benchmark.name)
            for benchmark, part in zip(suite.benchmarks, parts, strict=True)
        ]
        found[suite.name] = {
            "accuracy": fmean(part["accuracy"] for part in parts),
            "interval": interval(sum(means[1:], start=means[0]) / len(means)),
        }
    return found


def table_columns(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Key, title and numbers of each column of the paper's layout: the benchmarks of each suite, then its average."""
    for suite in results["suites"]:
        for name in suite["benchmarks"]:
            yield name, results["benchmarks"][name]["title"], results["benchmarks"][name]
        if suite["name"] is not None:
            yield f"average of {suite['name']}", "Avg", results["averages"][suite["name"]]


def method_of_intervals() -> dict[str, Any]:
    return {"method": "percentile bootstrap over problems", "resamples": RESAMPLES, "confidence": CONFIDENCE}


def _accuracy(right: Sequence[int], samples: int, name: str) -> dict[str, Any]:
    shares = [c / samples for c in right]
    return {"accuracy": fmean(shares), "interval": interval(_means(shares, name))}


def _level(level: int, problems: Sequence[Problem], right: Sequence[int], samples: int, name: str) -> dict[str, Any]:
    chosen = [c for problem, c in zip(problems, right, strict=True) if problem.level == level]
    return {"problems": len(chosen), **_accuracy(chosen, samples, f"{name} level {level}")}


def _pass_curve(right: Sequence[int], samples: int, name: str) -> dict[str, Any]:
    """pass@k at the powers of two: unbiased, with intervals from the same resamples for all, and as §5.1 draws it."""
    ks = powers_of_two(samples)
    rows = {c: [pass_at_k(samples, c, k) for k in ks] for c in set(right)}
    values_PK = [rows[c] for c in right]
    means_RK = resampled_means(values_PK, f"{name} pass@k")
    curve = {}
    for column, k in enumerate(ks):
        drawn_R = bootstrap_pass_at_k(samples, right, k, f"{name} pass@{k}")
        curve[str(k)] = {
            "value": fmean(row[column] for row in values_PK),
            "interval": interval(means_RK[:, column]),
            "bootstrap": {"value": float(drawn_R.mean()), "interval": interval(drawn_R)},
        }
    return curve


def _means(shares: Sequence[float], name: str) -> Floats:
    means: Floats = resampled_means([[share] for share in shares], name)[:, 0]
    return means
