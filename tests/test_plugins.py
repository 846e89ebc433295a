"""A plugin, in a process of its own: what a module registers is used, checked, printed and saved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PLUGIN = """
import torch
from unigrad.data.templates import PromptTemplate, register_template
from unigrad.estimator import Algorithm, advantages, register
from unigrad.estimator.part import part
from unigrad.evaluate.suites import Benchmark, register_suite
from unigrad.hybrid import Method, Stage, Term
from unigrad.hybrid.gates import register_gate
from unigrad.hybrid.methods import register_method
from unigrad.rollout import TorchEngine
from unigrad.rollout.engines import register_engine
from pathlib import Path


@part("π_θ^h")
def halved(logp, *, halving: float = 0.5):
    return halving * logp


register(Algorithm(name="halved", source="here", reference=halved, advantage=advantages.one, aggregation="token_mean"))


@register_gate
def steep(*, steepness: float = 2.0):
    return lambda *, solved, n: ((solved / n) ** steepness, 1 - (solved / n) ** steepness)


register_method(
    Method(
        "steep_halved",
        "RL and the halved algorithm",
        (
            Stage(
                gate="steep",
                terms=(Term("grpo", "rollouts"), Term("halved", "demonstrations")),
            ),
        ),
    )
)
register_template(PromptTemplate("asked", "{problem}?\\n", False, "the problem and a question mark"))


def loud(policy, max_concurrent_tokens):
    print("loud engine of", max_concurrent_tokens)
    return TorchEngine(policy.model, policy.tokenizer, max_concurrent_tokens=max_concurrent_tokens)


register_engine("loud", loud)
register_suite("mine", [Benchmark(name="sums", title="Sums", path=Path("sums.jsonl")), "tiny"])
"""

SMALL = (
    "--tiny.train_problems", "8", "--tiny.eval_problems", "4", "--rollout.num_generations", "4",
    "--rollout.max_completion_length", "16", "--train.questions_per_step", "4", "--train.tensorboard", "false",
    "--train.eval_steps", "0", "--train.save_steps", "1", "--data.max_demonstration_length", "80",
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(PLUGIN, encoding="utf-8")
    sums = [{"problem": f"{i} add 1", "answer": str(i + 1)} for i in range(3)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums), encoding="utf-8")
    return tmp_path


def unigrad(here: Path, *arguments: str, code: int = 0) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "unigrad", *arguments], cwd=here, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_a_plugins_parts_train_and_its_options_are_checked_printed_and_saved(here: Path) -> None:
    chosen = ("--plugins", "mine", "--method.name", "steep_halved")
    output, _ = unigrad(
        here, "train", "tiny", *chosen, *SMALL, "--output_dir", "run", "--train.max_steps", "1", "--algorithm.name",
        "null", "--algorithm.halving", "0.25", "--method.steepness", "3", "--data.prompt_template", "asked",
        "--rollout.engine", "loud",
    )  # fmt: skip
    assert "grpo on rollouts + halved on demonstrations" in output
    assert "loud engine of 65536" in output
    saved = yaml.safe_load((here / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert saved["plugins"] == ["mine"]
    assert (saved["algorithm"]["halving"], saved["method"]["steepness"]) == (0.25, 3.0)
    lines = [json.loads(line) for line in (here / "run/rollouts/000001.jsonl").read_text("utf-8").splitlines()]
    assert all(line["prompt"].endswith("?\n") for line in lines)
    share = {line["gate"]["solved"]: line["gate"]["alpha"] for line in lines}
    assert all(alpha == pytest.approx((solved / 4) ** 3) for solved, alpha in share.items())

    # The run's folder says what it needs: nothing has to be named again.
    unigrad(here, "train", "--resume", "run", "--train.max_steps", "2")
    assert len((here / "run/metrics.jsonl").read_text("utf-8").splitlines()) == 2
    output, _ = unigrad(here, "evaluate", "run/final", "--suite", "mine", "--samples", "1",
                        "--limit", "2", "--max-completion-length", "8")  # fmt: skip
    assert "Sums" in output
    assert "loud engine of 65536" in output


def test_the_lists_and_the_help_hold_what_a_plugin_registers(here: Path) -> None:
    rows = json.loads(unigrad(here, "algorithms", "--plugins", "mine", "--json")[0])
    assert rows[-1]["name"] == "halved"
    assert rows[-1]["options"]["halving"] == 0.5
    assert "steep_halved" in unigrad(here, "algorithms", "--plugins", "mine", "--methods")[0]
    text = unigrad(here, "train", "--plugins", "mine", "--help")[0]
    assert "--algorithm.halving" in text
    assert "--method.steepness" in text
    assert "asked" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--algorithm.halving", "x"), "algorithm.halving = 'x'"),
        (("--method.steepness", "x"), "method.steepness = 'x'"),
        (("--algorithm.halvin", "1"), "unknown key --algorithm.halvin; did you mean --algorithm.halving?"),
        (("--rollout.engine", "lod"), "unknown engine 'lod'; did you mean 'loud'?"),
        (("--method.gate", "switch", "--method.steepness", "1"), "method.steepness: an option of the gate steep"),
    ],
)
def test_bad_values_of_a_plugins_options_are_one_line(here: Path, options: tuple[str, ...], message: str) -> None:
    _, error = unigrad(
        here, "train", "tiny", "--plugins", "mine", "--method.name", "steep_halved", "--algorithm.name", "null",
        *SMALL, *options, "--dry-run", code=2,
    )  # fmt: skip
    assert error.count("\n") == 1
    assert message in error


def test_a_plugin_that_is_not_there_and_one_that_breaks(here: Path) -> None:
    _, error = unigrad(here, "train", "--plugins", "nowhere", "--dry-run", code=2)
    assert error.count("\n") == 1
    assert "plugins: 'nowhere': No module named 'nowhere'" in error
    (here / "broken.py").write_text("import torch\n\ntorch.no_such_thing()\n", encoding="utf-8")
    _, error = unigrad(here, "train", "--plugins", "broken", "--dry-run", code=1)
    assert 'broken.py", line 3' in error
    assert "AttributeError" in error
    assert "unigrad/plugins.py" not in error
    # Without the plugin its options are unknown.
    _, error = unigrad(here, "train", "--algorithm.halving", "1", "--dry-run", code=2)
    assert "unknown key --algorithm.halving" in error


def test_a_base_names_plugins_and_another_programs_config_none(here: Path) -> None:
    (here / "base.yaml").write_text("base: tiny\nplugins: [mine]\n", encoding="utf-8")
    (here / "recipe.yaml").write_text("base: base.yaml\nmethod: {name: steep_halved}\n", encoding="utf-8")
    options = ("--algorithm.name", "null", "--algorithm.halving", "0.25", *SMALL, "--dry-run")
    assert "halved on demonstrations" in unigrad(here, "train", "recipe.yaml", *options)[0]
    (here / "model").mkdir()
    (here / "config.yaml").write_text("plugins: [nowhere]\nsite: mine\n", encoding="utf-8")
    error = unigrad(here, "evaluate", "model", "--suite", "tiny", code=2)[1]
    assert "nowhere" not in error
