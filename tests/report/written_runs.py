"""Small runs written by hand, as the trainer writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unigrad.config import load_config

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
