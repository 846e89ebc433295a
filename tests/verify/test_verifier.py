r"""`verify` and `Verifier`: every kind of verdict, any string, any thread, and the real benchmarks."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unigrad.types import AnswerKind, Reason, Verdict
from unigrad.verify import Submission, Verifier, verify
from unigrad.verify.verifier import Check

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "eval"


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with Verifier() as verifier:
        yield verifier


@pytest.mark.parametrize(
    ("completion", "gold", "expected"),
    [
        (r"\boxed{18}", "18", Verdict(True, "18", Reason.RIGHT)),
        ("The answer is 18.", "18", Verdict(True, "18", Reason.RIGHT)),
        (r"\boxed{17}", "18", Verdict(False, "17", Reason.WRONG)),
        ("I do not know", "18", Verdict(False, None, Reason.UNPARSEABLE)),
        (r"\boxed{18}", " ", Verdict(False, "18", Reason.BAD_GOLD)),
        (r"\boxed{18}", "1" * 2_001, Verdict(False, "18", Reason.BAD_GOLD)),
        (r"\boxed{\frac{1}{\sqrt{3}}}", r"\frac{\sqrt{3}}{3}", Verdict(True, r"\frac{1}{\sqrt{3}}", Reason.RIGHT)),
        (r"\boxed{\sqrt{2}}", r"\frac{\sqrt{3}}{3}", Verdict(False, r"\sqrt{2}", Reason.WRONG)),
        (r"\boxed{3, 1, 2}", "1,2,3", Verdict(True, "3, 1, 2", Reason.RIGHT)),
        (r"\boxed{(2, 1)}", "(1,2)", Verdict(False, "(2, 1)", Reason.WRONG)),
        (r"\boxed{1\frac{4}{5}}", "9/5", Verdict(True, r"1\frac{4}{5}", Reason.RIGHT)),
        (r"\boxed{\}\{}", r"\sqrt{3}", Verdict(False, r"\}\{", Reason.UNPARSEABLE)),
        (r"\boxed{18}", r"\}\{", Verdict(False, "18", Reason.BAD_GOLD)),
    ],
)
def test_math(verifier: Verifier, completion: str, gold: str, expected: Verdict) -> None:
    assert verifier.verify_batch([Submission(completion, gold)]) == [expected]


def test_a_batch_keeps_its_order_and_checks_equal_answers_once(verifier: Verifier) -> None:
    tower, square = r"\boxed{9^{9^{9^9}}}", r"\boxed{(x+1)^2}"
    start = time.monotonic()
    verdicts = verifier.verify_batch(
        [Submission(tower, "7")] * 16 + [Submission(square, "x^2+2x+1"), Submission(r"\boxed{B}", "B", "choice")]
    )
    assert [verdict.reason for verdict in verdicts] == [Reason.TIMED_OUT] * 16 + [Reason.RIGHT] * 2
    assert time.monotonic() - start < 16  # sixteen checks of a second each would cost more


def test_from_many_threads() -> None:
    with ThreadPoolExecutor(8) as threads:
        reasons = list(threads.map(lambda n: verify(rf"\boxed{{(x+{n})^2}}", f"x^2+{2 * n}x+{n * n}").reason, range(8)))
    assert reasons == [Reason.RIGHT] * 8


def test_an_unknown_kind_and_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="'math' or 'choice'"):
        verify("1", "1", "essay")  # type: ignore[arg-type]
    for options in ({"timeout_seconds": 0.0}, {"timeout_seconds": float("nan")}, {"workers": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            Verifier(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no_box='none' must be one of last_number, wrong"):
        Verifier(no_box="none")  # type: ignore[arg-type]


NO_BOX = [
    ("It is 5.", "5", "math"),
    ("5", "5", "math"),
    (r"$\frac{1}{2}$", r"\frac{1}{2}", "math"),
    ("The answer is C.", "C", "choice"),
    ("(2)", "2", "choice"),
]
BOXED = [
    (r"\boxed{5}", "5", "math"),
    (r"\fbox{5} and so on for 6", "5", "math"),
    (r"So \boxed 5. Then 7", "5", "math"),
    (r"\boxed{C}", "C", "choice"),
]
NOTHING = Verdict(False, None, Reason.UNPARSEABLE)


@pytest.mark.parametrize(("completion", "gold", "kind"), NO_BOX)
def test_without_a_box_the_option_and_the_cut_decide(completion: str, gold: str, kind: AnswerKind) -> None:
    assert verify(completion, gold, kind).correct
    assert verify(completion, gold, kind, no_box="wrong") == NOTHING
    assert verify(completion, gold, kind, truncated=True) == NOTHING
    assert verify(completion, "", kind, truncated=True).reason is Reason.BAD_GOLD


@pytest.mark.parametrize(("completion", "gold", "kind"), BOXED)
def test_a_complete_box_counts_in_any_case(completion: str, gold: str, kind: AnswerKind) -> None:
    assert verify(completion, gold, kind, no_box="wrong", truncated=True).correct


TAGS = [(f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning", "Think")]
TAGS.append(("<|begin_of_thought|>", "<|end_of_thought|>"))


@pytest.mark.parametrize(("begin", "end"), TAGS)
@pytest.mark.parametrize(("answer", "gold", "kind"), [(r"\boxed{5}", "5", "math"), (r"\boxed{C}", "C", "choice")])
def test_what_stands_before_the_end_of_the_thought_is_no_answer(
    begin: str, end: str, answer: str, gold: str, kind: AnswerKind
) -> None:
    assert verify(f"{begin}{answer}{end}", gold, kind) == NOTHING
    assert verify(f"{answer}\n{end}\n\nI am not sure.", gold, kind) == NOTHING  # the prompt began the thought
    assert verify(f"{begin}is it {answer}?", gold, kind) == NOTHING
    assert verify(f"{answer} {begin}wait", gold, kind) == NOTHING
    assert verify(f"{begin}a{end}{begin}b {answer}", gold, kind) == NOTHING
    for right in (
        f"{begin}\\boxed{{9}}{end}{answer}",
        f"\\boxed{{9}}{end}{answer}",
        f"{begin}a{end}{begin}b{end} {answer}",
    ):
        assert verify(right, gold, kind).correct


JUNK = {
    "empty": "",
    "null": "None",
    "surrogate": r"\boxed{" + "\ud800" + "}",
    "nul": "\\boxed{\0}",
    "newline": "\\boxed{a\nb}",
    "arabic digits": r"\boxed{" + "\u0663\u0664" + "}",
    "superscript": r"\boxed{2²}",
    "emoji": r"\boxed{🎲}",
    "open": r"\boxed{",
    "braces": r"\boxed{" + "{" * 900 + "}" * 900 + "}",
    "parentheses": r"\boxed{" + "(" * 900 + "1" + ")" * 900 + "}",
    "roots": r"\boxed{" + r"\sqrt{" * 280 + "2" + "}" * 280 + "}",
    "signs": r"\boxed{" + "-" * 1_900 + "1}",
    "digits": r"\boxed{" + "9" * 1_900 + "}",
    "factorial": r"\boxed{99999999!}",
    "power": r"\boxed{10^{10^{10}}}",
    "zero division": r"\boxed{\frac{1}{0}}",
    "limit": r"\boxed{\lim_{x \to 0} \frac{\sin x}{x}}",
    "integral": r"\boxed{\int_0^\infty e^{-x^2} \sin(x^3) dx}",
    "python": r"\boxed{__import__('os')._exit(1)}",
    "units": r"\boxed{1" + r" \text{a}" * 200 + "!}",
    "unit of carets": r"\boxed{1\text{" + "^-" * 800 + "!}}",
    "unit symbols": r"\boxed{1 " + "m" * 1_800 + "!}",
    "blanks and points": r"\boxed{1" + " " * 900 + "." * 900 + "!}",
    "words": r"\boxed{1" + " words" * 300 + "!}",
    "signs both ways": r"\boxed{\pm" + r"1,\pm" * 350 + "}",
    "megabyte": "x" * 1_000_000,
    "megabyte of digits": "1" * 1_000_000,
    "megabyte of commas": ",123" * 250_000,
    "megabyte of boxes": r"\boxed{" * 150_000,
    "megabyte of blanks": "1" + " " * 1_000_000,
    "megabyte of lines": "A\n \n" * 250_000,
    "megabyte of brackets": "(A" * 500_000,
    "megabyte of fractions": r"\frac{1" * 150_000,
    "megabyte of answers": "answer " * 150_000,
}


@pytest.fixture(scope="module")
def impatient() -> Iterator[Verifier]:
    with Verifier(timeout_seconds=0.3) as verifier:
        verifier.verify_batch([(rf"\boxed{{x+{n}}}", f"{n}+x", "math") for n in range(1, 5)])  # the workers' start
        yield verifier


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_junk_gets_a_verdict(impatient: Verifier, junk: str) -> None:
    start = time.monotonic()
    verdicts = impatient.verify_batch(
        [
            Submission(junk, r"\sqrt{3}"),
            Submission(r"\boxed{\sqrt{5}}", junk),
            Submission(junk, "A", "choice"),
            Submission("A", junk, "choice"),
        ]
    )
    assert not any(verdict.correct for verdict in verdicts[:2])
    assert time.monotonic() - start < 15


COMMANDS = [r"\boxed{", r"\fbox{", r"\frac", r"\text{", r"\left(", r"\right)", "answer is ", "12,345", "(C)", "e5"]
PIECES = st.sampled_from([*COMMANDS, *"{}^_$%,.-/x=1A\\\n \ud800\0٣∞"])
STRINGS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(completion=STRINGS, gold=STRINGS, kind=st.sampled_from(["math", "choice"]))
def test_any_strings_get_a_verdict(impatient: Verifier, completion: str, gold: str, kind: AnswerKind) -> None:
    verdict = impatient.verify_batch([Submission(completion, gold, kind)])[0]
    assert isinstance(verdict.reason, Reason)
    assert verdict.correct == (verdict.reason is Reason.RIGHT)


@settings(max_examples=200, deadline=None)
@given(value=st.integers(-(10**12), 10**12), places=st.integers(0, 6))
def test_however_a_number_is_written(value: int, places: int) -> None:
    decimal = f"{value / 10**places:.{places}f}" if places else str(value)
    for spelling in (decimal, f"{value}/{10**places}", rf"\frac{{{value}}}{{{10**places}}}", f"{value}e-{places}"):
        assert verify(rf"\boxed{{{spelling}}}", decimal).correct, spelling
        assert not verify(rf"\boxed{{{spelling}}}", f"{decimal}1" if places else f"{decimal}.1").correct, spelling


MATH = ["aime24", "aime25", "amc", "amc23", "gsm8k", "math500", "minerva", "olympiadbench", "word_problems"]
CHOICE = ["arc_c", "gpqa_diamond"]


@pytest.mark.parametrize(("name", "kind"), [(name, "math") for name in MATH] + [(name, "choice") for name in CHOICE])
def test_every_gold_answer_of_the_benchmarks_is_right(verifier: Verifier, name: str, kind: AnswerKind) -> None:
    path = DATA / f"{name}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not on this machine")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        golds = [json.loads(line)["answer"] for line in file]
    boxes = [Submission(f"So the answer is \\boxed{{{gold}}}.", gold, kind) for gold in golds]
    wrong = [
        (box, verdict) for box, verdict in zip(boxes, verifier.verify_batch(boxes), strict=True) if not verdict.correct
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "completion",
    [
        "It is 42<|reserved_special_token_7|>",
        "<think>6*7</think>42 <unused99><pad>",
        "<s>The answer is $42$.</s>",
        "<answer>42</answer><|im_end|>",
        "\\boxed{42}<eos_2>",
    ],
)
def test_special_tokens_are_no_part_of_an_answer(completion: str) -> None:
    assert verify(completion, "42").correct


def test_a_check_that_runs_is_not_begun_again() -> None:
    pair = (r"\boxed{\sqrt{12} + \int_0^1 x\,dx}", r"2\sqrt{3} + \frac{1}{2}")
    with Verifier() as verifier:
        first, second = (verifier.start(Submission(*pair)) for _ in range(2))
        assert isinstance(first, Check)
        assert isinstance(second, Check)
        assert first.reason is second.reason
        verdict = verifier.finish(first)
        assert verdict == verifier.finish(second)
        # Once it is known, there is nothing to wait for.
        assert verifier.start(Submission(*pair)) == verdict
