"""What a run ends with: the line that says how good it is, a model card, and an end before its time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM

from unigrad.cli import main
from unigrad.config import load_config
from unigrad.errors import ConfigError
from unigrad.runs.metrics import RunMetrics
from unigrad.train.loop import STOPPING

KEYS = {
    "tiny.train_problems": 8, "tiny.eval_problems": 12, "rollout.max_completion_length": 16,
    "rollout.num_generations": 2, "train.max_steps": 3, "train.questions_per_step": 2, "train.eval_steps": 1,
    "train.save_steps": 0, "train.tensorboard": "false", "eval.temperature": 0.5, "eval.num_generations": 2,
}  # fmt: skip


def train(run: Path, *more: str, code: int = 0, **changes: object) -> None:
    keys = {**KEYS, "output_dir": run, **{key.replace("__", "."): value for key, value in changes.items()}}
    options = (text for key, value in keys.items() for text in (f"--{key}", str(value)))
    assert main(["train", "tiny-hpt", *options, *more]) == code


def test_the_last_line_and_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(tmp_path / "run")
    found = RunMetrics(tmp_path / "run")
    last = capsys.readouterr().out.strip().splitlines()[-1]
    sampled = "2 samples a problem, temperature 0.5, top_p 1, at most 16 tokens"
    before = f"{found.evaluations[0].accuracy:.1%} before training"
    assert last.endswith(f"held-out accuracy {found.accuracy:.1%} at step 3, {before} ({sampled})")
    card = (tmp_path / "run" / "final" / "README.md").read_text(encoding="utf-8")
    _, facts, body = card.split("---\n", 2)
    assert yaml.safe_load(facts) == {"library_name": "transformers", "tags": ["unigrad", "hpt"]}
    for said in (
        f"accuracy on tiny at step 3: {found.accuracy:.1%}",
        sampled,
        f"{found.tokens_generated:,} tokens generated",
        json.loads((tmp_path / "run" / "inputs.json").read_text())["data.train"],
        "- torch ",
    ):
        assert said in body
    # The recipe in it is the run's.
    (tmp_path / "again.yaml").write_text(body.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    assert load_config(str(tmp_path / "again.yaml")) == load_config(str(tmp_path / "run" / "config.yaml"))
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "final")


def test_patience(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # At such a learning rate nothing gets better.
    stalls = {"train__learning_rate": 1e-9, "train__patience": 2, "train__max_steps": 9, "eval__temperature": 0}
    train(tmp_path / "run", **stalls)
    said = capsys.readouterr().out
    assert "step 2: train.patience = 2 evaluations without a better one; ending" in said
    found = RunMetrics(tmp_path / "run")
    assert (found.steps, found.is_finished) == (2, True)
    # It has ended, unless it is given more.
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert RunMetrics(tmp_path / "run").steps == 2
    with pytest.raises(ConfigError, match=r"train\.patience: data\.eval is null, so nothing tells whether"):
        load_config("tiny", {"data.eval": "null", "train.patience": "2"})


def test_a_stop_is_answered_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stops.py").write_text(
        "import signal\n\n\ndef stop(completions):\n    signal.raise_signal(signal.SIGINT)\n"
        "    return [0.0] * len(completions)\n"
    )
    reward = f"{tmp_path / 'stops.py'}:stop"
    options = {"verify__reward_function": reward, "train__eval_steps": 0, "method__name": "grpo", "data__eval": "null"}
    train(tmp_path / "run", code=128 + signal.SIGINT, **options)
    printed = capfd.readouterr()
    assert printed.err.count(STOPPING) == 1
    assert "stopped and saved; go on with: unigrad train --resume" in printed.out
    assert RunMetrics(tmp_path / "run").steps == 1


def test_without_a_network_it_is_not_pushed(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from unigrad.train.push import push; "
        f"print(push(Path({str(tmp_path)!r}), 'me/mine'))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("WARNING: not pushed: ")
    assert line.endswith(f"; do it later with: hf upload me/mine {tmp_path}")
    with pytest.raises(ConfigError, match=r"train\.push_to_hub = 'a/b/c'"):
        load_config("tiny", {"train.push_to_hub": "a/b/c"})
