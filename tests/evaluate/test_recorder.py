from __future__ import annotations

from pathlib import Path

from unigrad.evaluate.completions import read
from unigrad.evaluate.recorder import Recorder, Sampled
from unigrad.types import Problem, Reason
from unigrad.verify import Verifier


def test_a_completion_that_was_cut_off_needs_a_box(tmp_path: Path) -> None:
    path, problem = tmp_path / "sums.jsonl", Problem(id="a", problem="1+1?", answer="2")
    with Verifier() as verifier:
        recorder = Recorder(path, set(), verifier, lambda samples: None)
        for index, text in enumerate(("It is 2", "\\boxed{2} is")):
            for truncated in (False, True):
                recorder.add(Sampled(problem, 2 * index + truncated, text, 4, truncated))
        recorder.write()
    reasons = [sample.reason for sample, _ in read(path)]
    assert reasons == [Reason.RIGHT, Reason.UNPARSEABLE, Reason.RIGHT, Reason.RIGHT]
