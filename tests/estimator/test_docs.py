"""The example of docs/add-an-algorithm.md is run as it stands there: a module outside of the package."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from unigrad import options
from unigrad.estimator import algorithm, algorithm_names, registry

DOCS = Path(__file__).resolve().parents[2] / "docs"
TEXT = (DOCS / "add-an-algorithm.md").read_text(encoding="utf-8")
DECLARATION, TEXTBOOK = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
SMALL = (
    "--tiny.train_problems", "8", "--data.eval", "null", "--rollout.num_generations", "4", "--train.max_steps", "1",
    "--rollout.max_completion_length", "16", "--train.questions_per_step", "4", "--train.tensorboard", "false",
)  # fmt: skip


def test_the_example_is_a_plugin_that_is_listed_and_trains(tmp_path: Path) -> None:
    (tmp_path / "topr.py").write_text(DECLARATION, encoding="utf-8")
    listing, training = COMMANDS.splitlines()
    done = []
    for command in (shlex.split(listing), [*shlex.split(training), *SMALL, "--output_dir", "run"]):
        command[0:1] = [sys.executable, "-m", "unigrad"]
        done.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300))
        assert done[-1].returncode == 0, done[-1].stderr
    assert "topr" in done[0].stdout
    assert "topr on rollouts" in done[1].stdout
    assert "taper: 0.5" in (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")


def test_the_examples_gradient_is_its_textbooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(options, "_options", dict(options._options))
    names: dict[str, Any] = {}
    exec(DECLARATION + TEXTBOOK, names)
    assert algorithm_names()[-1] == "topr"

    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(4, 3, generator=generator, dtype=torch.float64)
    logp = (old + torch.tensor([[0.3], [-0.3], [0.3], [-0.3]])).requires_grad_()
    rewards = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)
    mask = torch.arange(3) < torch.tensor([3, 2, 1, 3])[:, None]

    class Batch:
        pass

    b: Any = Batch()
    b.old, b.rewards, b.mask = old, rewards, mask
    names["topr"](logp, b).backward()
    alg = algorithm("topr")
    weights = alg.weights(logp, old, alg.advantages(rewards, torch.zeros(4)), mask)
    torch.testing.assert_close(logp.grad, -alg.normaliser(mask.sum(1))[:, None] * weights, rtol=0, atol=1e-14)
    # Good rows count in full; a bad one by its ratio, e^−0.9 of three tokens, and never above the taper.
    assert weights[:, 0].tolist() == pytest.approx([1, 1, -1, -torch.tensor(-0.9).exp().item()])
    assert alg.with_options(taper=0.5).weights(logp, old, -torch.ones(4), mask)[0, 0].item() == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="did you mean 'taper'"):
        algorithm("topr", tapr=0.5)


def test_the_theory_names_every_registered_algorithm_and_part() -> None:
    text = (DOCS / "estimator.md").read_text()
    for name in algorithm_names():
        assert f"`{name}`" in text
        alg = algorithm(name)
        for each in (alg.reference, alg.advantage, *alg.masks, alg.shaping, *alg.penalties):
            assert f"`{each.name}`" in text
