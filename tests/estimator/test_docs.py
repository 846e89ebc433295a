"""The example of docs/add-an-algorithm.md is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from unigrad import options
from unigrad.estimator import algorithm, algorithm_names, registry

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCKS = re.findall(r"```python\n(.*?)```", (DOCS / "add-an-algorithm.md").read_text(), flags=re.DOTALL)


def test_the_example_registers_an_algorithm_whose_gradient_is_its_textbooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(options, "_options", dict(options._options))
    names: dict[str, Any] = {}
    declaration, textbook = BLOCKS
    exec(declaration + textbook, names)
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
