from __future__ import annotations

from pathlib import Path

from unigrad.evaluate.completions import read
from unigrad.evaluate.recorder import Recorder
from unigrad.rollout import Completion, Sampled
from unigrad.types import Attempt, Problem, Reason
from unigrad.verify import Verifier, VerifierScorer


def test_a_completion_that_was_cut_off_needs_a_box(tmp_path: Path) -> None:
    path, problem = tmp_path / "sums.jsonl", Problem(id="a", problem="1+1?", answer="2")
    with Verifier() as verifier:
        scorer = VerifierScorer(verifier)
        recorder = Recorder(path, set(), scorer, lambda samples: None)
        for index, text in enumerate(("It is 2", "\\boxed{2} is")):
            for truncated in (False, True):
                started = scorer.start(Attempt(problem, "1+1?", text, truncated))
                completion = Completion((1, 2, 3, 4), (-1.0,) * 4, (1.0,) * 4, truncated, not truncated, text)
                recorder.add(problem, 2 * index + truncated, Sampled(0, index, completion, started))
        recorder.write()
    reasons = [sample.reason for sample, _ in read(path)]
    assert reasons == [Reason.RIGHT, Reason.UNPARSEABLE, Reason.RIGHT, Reason.RIGHT]
