"""Small runs written by hand, as the trainer writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unigrad.config import load_config
from unigrad.evaluate.completions import Sample, append
from unigrad.evaluate.folder import completions_file, write_problems
from unigrad.types import Problem, Reason

Outcome = Sequence[int] | None
"""The rewards of a question's rollouts; None: nothing was sampled, it trains on its demonstration."""


def rollout_lines(question: str, level: int | None, rewards: Outcome, **changes: Any) -> list[dict[str, Any]]:
    """A question of one step: its rollouts and, where none is solved, its demonstration."""
    solved = sum(rewards or ())
    shared = {
        "id": question, "level": level, "problem": f"What is {question}?",
        "prompt": f"What is {question}?\n", "answer": "7", "truncated": False,
        "gate": {"alpha": float(solved > 0), "beta": float(not solved), "solved": solved, "fell_back": False},
    }  # fmt: skip
    lines: list[dict[str, Any]] = []
    for sample, reward in enumerate(rewards or ()):
        line = {
            **shared, "sample": sample, "kind": "rollout", "completion": f"It is {7 if reward else 8}.",
            "verdict": "right" if reward else "wrong", "extracted": "7" if reward else "8", "reward": float(reward),
            "tokens": 4, "trained": solved > 0, "pieces": ["It", " is", f" {7 if reward else 8}.", ""],
            "logprobs": [-0.01, -0.5, -2.0, -4.0],
        }  # fmt: skip
        lines.append({**line, **changes})
    if not solved:
        demonstration = {"completion": "Seven: 7.", "verdict": "right", "extracted": "7", "reward": 1.0, "tokens": 5}
        lines.append({**shared, "sample": None, "kind": "demonstration", "trained": True, **demonstration})
    return lines


def write_rollouts(run: Path, step: int, lines: Sequence[dict[str, Any]]) -> None:
    (run / "rollouts").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / "rollouts" / f"{step:06d}.jsonl").write_text(text, encoding="utf-8")


def write_evaluation(
    folder: Path, label: str, accuracy: float, right: dict[str, int], samples: int = 4, text: str = "It is {}."
) -> None:
    """A finished evaluation on MATH-500, of whose problems so many samples are right, with its completions."""
    interval = [accuracy - 0.1, accuracy + 0.1]
    levels = {name: 3 if name == "p1" else 5 for name in right}
    part: dict[str, Any] = {
        "title": "MATH-500", "accuracy": accuracy, "interval": interval, "samples": samples,
        "counts": {name: {"n": samples, "c": c, "level": levels[name]} for name, c in right.items()},
    }  # fmt: skip
    if samples > 1:
        part["pass_at_k"] = {str(k): {"value": accuracy, "interval": interval} for k in (1, 2, 4)}
    results = {
        "label": label,
        "suites": [{"name": "paper", "benchmarks": ["math500"]}],
        "averages": {"paper": {"accuracy": accuracy, "interval": interval}},
        "benchmarks": {"math500": part},
    }
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    write_problems(
        folder,
        "math500",
        [Problem(id=name, problem=f"What is {name}?", answer="7", level=levels[name]) for name in right],
    )
    path = completions_file(folder, "math500")
    path.parent.mkdir()
    # They end in another order than that of their problems.
    for index in range(samples):
        append(path, [_completion(name, index, index < c, text) for name, c in right.items()])


def _completion(name: str, index: int, correct: bool, text: str) -> Sample:
    answer = "7" if correct else "8"
    reason = Reason.RIGHT if correct else Reason.WRONG
    return Sample(name, index, text.format(answer), 4, False, reason, answer, correct)


def write_config(run: Path, **keys: object) -> None:
    run.mkdir(parents=True, exist_ok=True)
    overrides = {key.replace("__", "."): str(value) for key, value in keys.items()}
    config = load_config("tiny", {"output_dir": str(run), **overrides})
    (run / "config.yaml").write_text(config.dump(), encoding="utf-8")


def write_metrics(run: Path, lines: Sequence[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def metrics(step: int, reward: float = 0.5, accuracy: float | None = None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "step": step, "reward/mean": reward, "gate/offline_ratio": min(1 - reward, 1.0), "policy/entropy": 0.3,
        "response/length_mean": 20.0, "tokens/generated": 100, "tokens/trained": 50, "time/step": 1.0,
    }  # fmt: skip
    if step == 0:
        line = {"step": 0}
    if accuracy is not None:
        line |= {"eval/tiny/accuracy": accuracy, "eval/tiny/level_3": accuracy, "eval/tiny/level_5": accuracy / 2}
    return line


WriteRun = Callable[..., Path]
"""Writes a run; see the fixture `write_run`."""
