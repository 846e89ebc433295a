"""AdamW with its moments in 8 bits: what it keeps, that a run goes on from it to the bit, and where it ends."""

from __future__ import annotations

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unigrad.cli import main
from unigrad.config import TrainConfig, load_config
from unigrad.data.tiny import MODEL_PATH
from unigrad.errors import ConfigError
from unigrad.plan.memory import memory
from unigrad.policy import find_architecture, load_policy
from unigrad.policy.architecture import dimensions
from unigrad.runs.checkpoints import Position
from unigrad.train.checkpoint import OPTIMIZER_FILE, load_state, write_state
from unigrad.train.optimizer import build_optimizer, guarded_update, moments_of, set_learning_rate

CONFIG = TrainConfig(optimizer="adamw_8bit", learning_rate=1e-3, weight_decay=0.1)
installed = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs unigrad[bitsandbytes]")


def trained(config: TrainConfig, steps: int = 12) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A network and its optimizer after some steps of a regression."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(96, 80), torch.nn.Tanh(), torch.nn.Linear(80, 64))
    optimizer = build_optimizer(model.parameters(), config)
    go_on(model, optimizer, config, range(steps))
    return model, optimizer


def go_on(model: torch.nn.Module, optimizer: torch.optim.Optimizer, config: TrainConfig, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        set_learning_rate(optimizer, config.learning_rate * (1 + step % 3))
        loss = (model(torch.randn(32, 96)) - torch.randn(32, 64)).square().mean()
        loss.backward()
        guarded_update(optimizer, loss.item(), config)


@installed
def test_it_keeps_two_bytes_a_number_and_ends_where_float32_ends() -> None:
    model, optimizer = trained(CONFIG)
    exact, _ = trained(CONFIG.model_copy(update={"optimizer": "adamw"}))
    start, _ = trained(CONFIG, 0)
    for parameter in model.parameters():
        kept = {name: (each.shape, each.dtype) for name, each in tensors(optimizer.state[parameter]).items()}
        assert kept == moments_of(optimizer, parameter)
    assert {each.dtype for each in tensors(optimizer.state[model[0].weight]).values()} == {torch.uint8, torch.float32}
    moved = distance(exact, start)
    assert moved > 0.1
    assert 0 < distance(model, exact) < 0.1 * moved


def tensors(state: dict[str, object]) -> dict[str, torch.Tensor]:
    return {name: each for name, each in state.items() if isinstance(each, torch.Tensor) and each.numel() > 1}


def distance(one: torch.nn.Module, other: torch.nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return sum((mine - theirs).detach().square().sum().item() for mine, theirs in pairs) ** 0.5


@installed
def test_saved_moments_go_on_to_the_same_bits_and_others_are_refused(tmp_path: Path) -> None:
    policy = load_policy(str(MODEL_PATH), device="cpu")
    model, optimizer = trained(CONFIG)
    write_state(tmp_path, optimizer, policy, Position(step=12))
    again = trained(CONFIG, 0)[0]
    again.load_state_dict(model.state_dict())
    fresh = build_optimizer(again.parameters(), CONFIG)
    assert load_state(tmp_path, fresh, policy) == Position(step=12)
    for each, its_optimizer in ((model, optimizer), (again, fresh)):
        go_on(each, its_optimizer, CONFIG, range(12, 20))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="is not this run's: exp_avg of parameter 0 is not a tensor"):
        load_state(tmp_path, trained(CONFIG.model_copy(update={"optimizer": "adamw"}), 0)[1], policy)
    state = torch.load(tmp_path / OPTIMIZER_FILE, weights_only=True)
    state["state"][0]["__bnb_optimizer_quant_state__"].pop("absmax1")
    torch.save(state, tmp_path / OPTIMIZER_FILE)
    with pytest.raises(ValueError, match="is not this run's: absmax1 of parameter 0 is not a tensor"):
        load_state(tmp_path, trained(CONFIG, 0)[1], policy)


@installed
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    keys = {
        "train.optimizer": "adamw_8bit", "train.questions_per_step": 2, "train.save_steps": 1, "train.eval_steps": 0,
        "train.tensorboard": "false", "rollout.num_generations": 2, "rollout.max_completion_length": 16,
        "train.learning_rate": 1e-3, "verify.workers": 1,
    }  # fmt: skip
    options = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    with contextlib.redirect_stdout(io.StringIO()):
        for run, steps in (("whole", "3"), ("parts", "1")):
            out = ["--output_dir", str(tmp_path / run), "--train.max_steps", steps]
            assert main(["train", "tiny-hpt", *options, *out]) == 0
        assert main(["train", "--resume", str(tmp_path / "parts"), "--train.max_steps", "3"]) == 0
    whole, parts = (load_file(tmp_path / run / "final" / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes: pip install 'unigrad\[bitsandbytes\]'"):
        build_optimizer([], CONFIG)


def test_the_plan_counts_two_bytes_a_weight() -> None:
    model = dimensions(find_architecture(str(MODEL_PATH))[0])
    config = load_config("tiny-hpt", {"train.optimizer": "adamw_8bit"})
    parts = memory(config, model, samples=True, reference=False, value_head=False, compute_size=4)
    sizes = {part.name: part.size for part in parts if part.name.startswith("AdamW")}
    assert sizes == {"AdamW's two moments, 8-bit": 2 * model.parameters + model.parameters // 32}
