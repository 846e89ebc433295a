"""How often the verifier is right: precision and recall over `cases.jsonl`, labelled by hand (docs/verifier.md).

Run as a program, it prints the table of docs/verifier.md and each case that was misjudged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from unigrad.types import AnswerKind, Reason, Verdict
from unigrad.verify import Submission, Verifier

CASES = Path(__file__).with_name("cases.jsonl")
BENCHMARKS = ["aime", "amc", "math500", "minerva", "olympiadbench", "arc_c", "gpqa", "gsm8k"]
EXPENSIVE = "expensive"
TARGET = 0.99


@dataclass(frozen=True)
class Case:
    benchmark: str
    kind: AnswerKind
    answer: str
    completion: str
    correct: bool
    form: str


@dataclass
class Score:
    """What the verifier makes of one benchmark's cases."""

    cases: int = 0
    true_positives: int = 0
    positives: int = 0
    judged_right: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, case: Case, verdict: Verdict) -> None:
        self.cases += 1
        self.positives += case.correct
        self.judged_right += verdict.correct
        self.true_positives += case.correct and verdict.correct
        if case.correct != verdict.correct:
            self.errors.append(
                f"{case.form}: {verdict.reason} for {verdict.extracted!r}, should be "
                f"{'right' if case.correct else 'wrong'} for {case.answer!r}"
            )

    @property
    def precision(self) -> float:
        return self.true_positives / self.judged_right

    @property
    def recall(self) -> float:
        return self.true_positives / self.positives


def read_cases() -> list[Case]:
    return [Case(**json.loads(line)) for line in CASES.read_text(encoding="utf-8").splitlines()]


def judge(cases: Iterable[Case], timeout_seconds: float) -> list[tuple[Case, Verdict]]:
    cases = list(cases)
    with Verifier(timeout_seconds) as verifier:
        verdicts = verifier.verify_batch([Submission(case.completion, case.answer, case.kind) for case in cases])
    return list(zip(cases, verdicts, strict=True))


def judge_all() -> list[tuple[Case, Verdict]]:
    """The expensive cases under the default limit; the rest under a wide one, because the machine may be busy."""
    cases = read_cases()
    return judge((case for case in cases if case.form != EXPENSIVE), 10.0) + judge(
        (case for case in cases if case.form == EXPENSIVE), 1.0
    )


def scores(judged: Iterable[tuple[Case, Verdict]]) -> dict[str, Score]:
    """By benchmark, and `all`."""
    by_benchmark = {name: Score() for name in [*BENCHMARKS, "all"]}
    for case, verdict in judged:
        by_benchmark[case.benchmark].add(case, verdict)
        by_benchmark["all"].add(case, verdict)
    return by_benchmark


def table(by_benchmark: dict[str, Score]) -> str:
    rows = ["| benchmark | cases | right among them | precision | recall |", "|---|---:|---:|---:|---:|"]
    rows += [
        f"| {name} | {score.cases} | {score.positives} | {score.precision:.1%} | {score.recall:.1%} |"
        for name, score in by_benchmark.items()
    ]
    return "\n".join(rows)


@pytest.fixture(scope="module")
def judged() -> list[tuple[Case, Verdict]]:
    return judge_all()


@pytest.mark.parametrize("name", [*BENCHMARKS, "all"])
def test_precision_and_recall(judged: list[tuple[Case, Verdict]], name: str) -> None:
    score = scores(judged)[name]
    assert min(score.precision, score.recall) >= TARGET, "\n".join(
        [f"{name}: precision {score.precision:.1%}, recall {score.recall:.1%}", *score.errors]
    )


def test_what_hangs_a_computer_algebra_system_is_never_right(judged: list[tuple[Case, Verdict]]) -> None:
    reasons = [verdict.reason for case, verdict in judged if case.form == EXPENSIVE]
    assert Reason.TIMED_OUT in reasons
    assert set(reasons) <= {Reason.TIMED_OUT, Reason.WRONG, Reason.UNPARSEABLE}


def test_the_set_is_what_it_claims_to_be() -> None:
    cases = read_cases()
    assert len({(case.kind, case.answer, case.completion) for case in cases}) == len(cases) >= 300
    assert {case.benchmark for case in cases} == set(BENCHMARKS)
    for name in BENCHMARKS:
        labels = [case.correct for case in cases if case.benchmark == name]
        assert min(labels.count(True), labels.count(False)) >= 35, name


if __name__ == "__main__":
    measured = scores(judge_all())
    print(table(measured), *measured["all"].errors, sep="\n")  # noqa: T201 - a program's output
