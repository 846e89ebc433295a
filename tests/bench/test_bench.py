"""`unigrad bench` on the embedded model."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from unigrad.bench.__main__ import measure
from unigrad.bench.clock import clocked
from unigrad.bench.measured import Part
from unigrad.bench.operations import needed
from unigrad.bench.work import build
from unigrad.cli import main
from unigrad.config import load_config
from unigrad.policy.architecture import Dimensions
from unigrad.runs.metrics import Metric

SMALL = ["--prompts", "2", "--prompt-tokens", "12", "--completions", "4", "--new-tokens", "6", "--repeats", "2"]
KEYS = {
    "train.questions_per_step": "2",
    "data.max_prompt_length": "12",
    "rollout.num_generations": "4",
    "rollout.max_completion_length": "6",
    "model.name_or_path": "tiny",
}


def test_a_table_of_a_steps_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *SMALL, "--micro-batch-tokens", "40", "--algorithm.name", "dapo"]) == 0
    out = capsys.readouterr().out
    assert "2 prompts of 12 tokens × 4 completions × 6 forced tokens; grpo, micro-batches of 40 tokens" in out
    rows = {part: re.search(rf"^ {re.escape(part)} .*?([\d.]+)% ", out, re.M) for part in [*Part, "step"]}
    shares = {part: float(row[1]) for part, row in rows.items() if row}
    assert set(shares) == set(rows)
    assert sum(shares[part] for part in Part) == pytest.approx(100, abs=0.5)
    assert shares[Part.ROLLOUTS] > 0
    assert shares[Part.FORWARD_BACKWARD] > 0
    assert shares[Part.OPTIMIZER] > 0
    assert re.search(r"peak memory: \d+\.\d\d GiB", out)
    assert re.search(r"matrix rate: [\d,]+ GFLOP/s", out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("growth", "rows"),
    [("response=4,8", ("4", "8")), ("model=1,2", ("275,456", "537,856")), ("vocabulary=128,1000", ("128", "1,000"))],
)
def test_a_table_of_growth(growth: str, rows: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--growth", growth, *SMALL]) == 0
    table = capsys.readouterr().out.split("exponent")
    assert all(re.search(rf"^ {row} +\d", table[0], re.M) for row in rows)
    assert len(re.findall(r"-?\d+\.\d\d|–", table[1])) == 5


def test_old_logprobs_are_a_part_of_their_own() -> None:
    """Two updates of rollouts in bfloat16: the second's π_old is the trainer's, taken before any weight moves."""
    threads = torch.get_num_threads()
    try:
        measured = measure({**KEYS, "model.dtype": "bfloat16", "train.questions_per_update": "1"}, {}, 1)
    finally:
        torch.set_num_threads(threads)
    assert measured.seconds[Part.OLD_LOGPROBS][0] > 0
    assert measured.tokens == 2 * 4 * 6
    assert measured.dtype == "bfloat16"


def test_a_step_is_as_asked_and_its_parts_are_the_whole(tmp_path: Path) -> None:
    with ExitStack() as stack:
        step, objective = build({**KEYS, "train.tokens_per_micro_batch": "40"}, {"vocabulary": 300}, tmp_path, stack)
        assert step.policy.model.config.vocab_size == 300
        with clocked(step) as clock:
            taken = step.take(1, objective, 0.0)
    rollouts = [each for group in taken.groups for each in group.rollouts]
    assert {(len(each.prompt_ids), len(each.completion_ids)) for each in rollouts} == {(12, 6)}
    assert len(taken.trained) == len(rollouts) == 8
    assert taken.metrics[Metric.UPDATES] == 1
    parts = clock.parts(taken.metrics)
    assert sum(parts.values()) == pytest.approx(taken.metrics[Metric.TIME_STEP])
    assert parts[Part.REST] > 0
    assert parts[Part.FORWARD_BACKWARD] + parts[Part.OPTIMIZER] <= taken.metrics[Metric.TIME_TRAIN]


def test_prompts_longer_than_the_models_positions(tmp_path: Path) -> None:
    with ExitStack() as stack:
        step, _ = build({**KEYS, "data.max_prompt_length": "300"}, {"layers": 1}, tmp_path, stack)
        assert step.policy.max_positions == 306
        assert step.policy.model.config.num_hidden_layers == 1


def test_the_operations_that_a_step_needs() -> None:
    """By hand, for one question with a prompt of 2 tokens and one completion of 1, one weight a layer matrix."""
    model = Dimensions(
        parameters=0, matrices=10, layers=1, hidden=2, intermediate=1, heads=1, key_value_heads=1, head_size=2,
        vocabulary=5, tied=True,
    )  # fmt: skip
    keys = {**KEYS, "train.questions_per_step": "1", "data.max_prompt_length": "2", "rollout.num_generations": "2"}
    config = load_config("tiny", {**keys, "rollout.max_completion_length": "1"})
    # Four tokens through the layers, two through the head; attended: 1 + 2 by the prompt, 3 by each completion.
    forward = 2 * (10 * 4 + 5 * 2 * 2) + 4 * 2 * (3 + 2 * 3)
    assert needed(model, config) == {Part.ROLLOUTS: forward, Part.FORWARD_BACKWARD: 3 * forward}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--repeats", "0"], "--repeats 0: must be from 1 to 10000"),
        (
            ["--growth", "promt"],
            "--growth promt: did you mean 'prompt'? (completions, response, prompt, vocabulary, model)",
        ),
        (["--growth", "prompt=64"], "--growth prompt=64: must be prompt=N,N,…, two numbers or more, each at least 8"),
        (
            ["--growth", "vocabulary=8,9000"],
            "--growth vocabulary=8,9000: must be vocabulary=N,N,…, two numbers or more, ",
        ),
        (["--prompt-tokens", "3"], "--prompt-tokens 3: must be at least 8"),
        (["--completions", "x"], "argument --completions: invalid int value: 'x'"),
        (["--new-tokens", "0"], "--new-tokens 0: must be above 0"),
        (["--complétions", "3"], "unknown option --complétions; did you mean --completions?"),
        (["--data.train", "x"], "unknown option --data.train; did you mean"),
        (["tiny", "tiny"], "unexpected argument 'tiny'; one MODEL is measured"),
        (["no/such/model", *SMALL], "no/such/model"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
