"""How often the verifier is right: precision and recall over labelled cases (docs/verifier.md).

`cases.jsonl` holds the forms of eight benchmarks' answers, `kinds.jsonl` those that verifiers are known to misjudge.
Run as a program, it prints the tables of docs/verifier.md, with math-verify's own verdicts beside ours, and each case
that was misjudged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from unigrad.types import AnswerKind, Reason, Verdict
from unigrad.verify import Submission, Verifier

CASES, KINDS = (Path(__file__).with_name(name) for name in ("cases.jsonl", "kinds.jsonl"))
BENCHMARKS = ["aime", "amc", "math500", "minerva", "olympiadbench", "arc_c", "gpqa", "gsm8k"]
EXPENSIVE = "expensive"
TARGET = 0.99


@dataclass(frozen=True)
class Case:
    kind: AnswerKind
    answer: str
    completion: str
    correct: bool
    form: str
    benchmark: str | None = None


@dataclass
class Score:
    """What a verifier makes of one benchmark's cases, or of one kind's."""

    cases: int = 0
    true_positives: int = 0
    positives: int = 0
    judged_right: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, case: Case, correct: bool, verdict: str) -> None:
        self.cases += 1
        self.positives += case.correct
        self.judged_right += correct
        self.true_positives += case.correct and correct
        if case.correct != correct:
            should = "right" if case.correct else "wrong"
            self.errors.append(
                f"{case.form}: {verdict} for {case.completion!r}, should be {should} for {case.answer!r}"
            )

    @property
    def precision(self) -> float:
        return self.true_positives / self.judged_right if self.judged_right else 1.0

    @property
    def recall(self) -> float:
        return self.true_positives / self.positives


def read_cases(path: Path) -> list[Case]:
    return [Case(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def judge(cases: Iterable[Case], timeout_seconds: float) -> list[tuple[Case, Verdict]]:
    cases = list(cases)
    with Verifier(timeout_seconds) as verifier:
        verdicts = verifier.verify_batch([Submission(case.completion, case.answer, case.kind) for case in cases])
    return list(zip(cases, verdicts, strict=True))


def judge_all(path: Path) -> list[tuple[Case, Verdict]]:
    """The expensive cases under the default limit; the rest under a wide one, because the machine may be busy."""
    cases = read_cases(path)
    return judge((case for case in cases if case.form != EXPENSIVE), 10.0) + judge(
        (case for case in cases if case.form == EXPENSIVE), 1.0
    )


def group_of(case: Case) -> str:
    return case.benchmark or case.form


def scores(judged: Iterable[tuple[Case, Verdict]]) -> dict[str, Score]:
    """By benchmark or kind, and `all`."""
    by_group: dict[str, Score] = {}
    for case, verdict in judged:
        for group in (group_of(case), "all"):
            score = by_group.setdefault(group, Score())
            score.add(case, verdict.correct, f"{verdict.reason} ({verdict.extracted!r})")
    by_group["all"] = by_group.pop("all")
    return by_group


def math_verify_scores(path: Path) -> dict[str, Score]:
    """math-verify's own extraction and comparison, as its README calls them, on the same cases."""
    import logging

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    logging.disable()
    letters = (StringExtractionConfig(strings=tuple("ABCDEFGHIJ")),)
    formulas = (LatexExtractionConfig(), ExprExtractionConfig())
    by_group: dict[str, Score] = {}
    for case in read_cases(path):
        configs = letters if case.kind == "choice" else formulas
        gold = parse(case.answer if case.kind == "choice" else f"${case.answer}$", configs)
        correct = bool(verify(gold, parse(case.completion, configs)))
        for group in (group_of(case), "all"):
            by_group.setdefault(group, Score()).add(case, correct, "math-verify")
    return by_group


def table(ours: dict[str, Score], math_verifys: dict[str, Score]) -> str:
    rows = [
        "| | cases | right among them | precision | recall | math-verify: precision | recall |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, score in ours.items():
        other = math_verifys[name]
        rows.append(
            f"| {name} | {score.cases} | {score.positives} | {score.precision:.1%} | {score.recall:.1%} "
            f"| {other.precision:.1%} | {other.recall:.1%} |"
        )
    return "\n".join(rows)


@pytest.fixture(scope="module")
def judged() -> list[tuple[Case, Verdict]]:
    return judge_all(CASES)


@pytest.mark.parametrize("name", [*BENCHMARKS, "all"])
def test_precision_and_recall(judged: list[tuple[Case, Verdict]], name: str) -> None:
    assert_good(scores(judged)[name], name)


def test_kinds_that_other_verifiers_misjudge() -> None:
    for name, score in scores(judge_all(KINDS)).items():
        assert_good(score, name)


def assert_good(score: Score, name: str) -> None:
    assert min(score.precision, score.recall) >= TARGET, "\n".join(
        [f"{name}: precision {score.precision:.1%}, recall {score.recall:.1%}", *score.errors]
    )


def test_what_hangs_a_computer_algebra_system_is_never_right(judged: list[tuple[Case, Verdict]]) -> None:
    reasons = [verdict.reason for case, verdict in judged if case.form == EXPENSIVE]
    assert Reason.TIMED_OUT in reasons
    assert set(reasons) <= {Reason.TIMED_OUT, Reason.WRONG, Reason.UNPARSEABLE}


def test_the_set_is_what_it_claims_to_be() -> None:
    cases = read_cases(CASES) + read_cases(KINDS)
    assert len({(case.kind, case.answer, case.completion) for case in cases}) == len(cases) >= 300
    assert {case.benchmark for case in cases} == {*BENCHMARKS, None}
    for name in BENCHMARKS:
        labels = [case.correct for case in cases if case.benchmark == name]
        assert min(labels.count(True), labels.count(False)) >= 35, name


if __name__ == "__main__":
    for path in (CASES, KINDS):
        measured = scores(judge_all(path))
        print(table(measured, math_verify_scores(path)), *measured["all"].errors, "", sep="\n")  # noqa: T201 - a program's output
