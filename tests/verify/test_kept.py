"""Verdicts kept for a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unigrad.types import Reason, Verdict
from unigrad.verify import Submission, Verifier
from unigrad.verify.kept import KeptVerdicts

ROOT, TWO = r"\boxed{\sqrt{4}}", "2"


def read(path: Path) -> KeptVerdicts:
    kept = KeptVerdicts()
    kept.read(path)
    return kept


def test_what_was_kept_before_there_was_a_file_and_what_comes_after_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text("of another run\n", encoding="utf-8")
    kept = KeptVerdicts()
    kept.add(("a", "b"), Reason.WRONG)
    kept.write_to(path)
    kept.add(("\ud800\n", "∞"), Reason.TIMED_OUT)
    again = read(path)
    assert again.get(("a", "b")) is Reason.WRONG
    assert again.get(("\ud800\n", "∞")) is Reason.TIMED_OUT
    assert again.get(("b", "a")) is None


def test_a_line_cut_off_by_a_kill_takes_nothing_with_it(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    first = KeptVerdicts()
    first.write_to(path)
    for name in "abc":
        first.add((name, "x"), Reason.RIGHT)
    path.write_bytes(path.read_bytes()[:-9])
    resumed = read(path)
    resumed.write_to(path)
    resumed.add(("d", "x"), Reason.RIGHT)
    again = read(path)
    assert [again.get((name, "x")) for name in "abcd"] == [Reason.RIGHT, Reason.RIGHT, None, Reason.RIGHT]


@pytest.mark.parametrize("line", ["[]", "{}", '{"extracted": "1", "gold": "1", "reason": "perhaps"}', '{"reason": 1}'])
def test_what_is_no_verdict_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_text(json.dumps({"extracted": "1", "gold": "1", "reason": "right"}) + f"\n{line}\n", encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"verdicts\.jsonl, line 2(: expected a verdict| is damaged).*; without the file"
    ):
        read(path)


def test_a_verifier_goes_by_what_is_kept_and_keeps_what_it_finds(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    kept = KeptVerdicts()
    kept.write_to(path)
    with Verifier(workers=1, kept=kept) as verifier:
        assert verifier.verify_batch([Submission(ROOT, TWO)])[0].correct
    path.write_text(path.read_text(encoding="utf-8").replace('"right"', '"timed out"'), encoding="utf-8")
    with Verifier(workers=1, kept=read(path)) as verifier:
        verdicts = verifier.verify_batch([Submission(ROOT, TWO), Submission(r"\boxed{2}", TWO)])
        assert verifier._workers[0]._process is None  # nothing was left to check
    assert verdicts == [Verdict(False, r"\sqrt{4}", Reason.TIMED_OUT), Verdict(True, "2", Reason.RIGHT)]
