"""Whole runs that train an adapter: what they write, what they hold in memory, and that resuming changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from unigrad.batch import Sequences, micro_batch_of
from unigrad.cli import main
from unigrad.config import load_config
from unigrad.data.tiny import MODEL_PATH
from unigrad.policy import Policy, load_policy
from unigrad.train.build import Build
from unigrad.verify.kept import KeptVerdicts

peft = pytest.importorskip("peft", reason="needs unigrad[peft]")

SMALL = {
    "model.lora.r": "3",
    "tiny.train_problems": "12",
    "verify.workers": "1",
    "rollout.max_completion_length": "16",
    "rollout.num_generations": "2",
    "method.name": "hpt",
    "algorithm.kl_coefficient": "0.1",
    "train.learning_rate": "0.01",
    "train.max_steps": "4",
    "train.questions_per_step": "4",
    "train.questions_per_update": "2",
    "train.save_steps": "2",
    "train.eval_steps": "0",
}
ROW = ((1, 5, 6, 9), (7, 8, 2))


def finish(*arguments: str, code: int = 0) -> str:
    """What is printed, errors and all."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        ended = main(["train", *arguments])
    assert ended == code, said.getvalue()
    return said.getvalue()


def command(run: Path, **changes: str) -> list[str]:
    keys = {**SMALL, "output_dir": str(run), **{name.replace("__", "."): value for name, value in changes.items()}}
    return ["tiny-hpt", *(text for key, value in keys.items() for text in (f"--{key}", value))]


def logprobs(policy: Policy) -> torch.Tensor:
    batch = micro_batch_of(Sequences.of_ids([ROW], [1.0]), [[0]], "padded")
    with torch.no_grad():
        found: torch.Tensor = policy(batch).logp_M
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("lora") / "run"
    assert "M parameters (of which 26,496, the adapter's, are trained)" in finish(*command(run))
    return run


def test_a_checkpoint_holds_the_adapter_alone(run: Path) -> None:
    found = load_file(run / "checkpoint-4" / "adapter_model.safetensors")
    assert all(".lora_A." in name or ".lora_B." in name for name in found)
    assert all(found[name].abs().max() > 0 for name in found)
    moments = torch.load(run / "checkpoint-4" / "optimizer.pt", weights_only=True)["state"]
    assert sorted(each["exp_avg"].numel() for each in moments.values()) == sorted(
        each.numel() for each in found.values()
    )
    assert not (run / "checkpoint-4" / "model.safetensors").exists()
    assert "adapter_model.safetensors" in json.loads((run / "checkpoint-4" / "checksums.json").read_text())
    assert sum(path.stat().st_size for path in (run / "checkpoint-4").iterdir()) < 500_000


def test_an_adapter_alone_is_no_model(run: Path) -> None:
    for folder in (run / "checkpoint-4", run / "final-adapter"):
        with pytest.raises(ValueError, match=r"\A[^\n]* holds an adapter [^\n]*, final/ is the merged model\Z"):
            load_policy(str(folder), device="cpu")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # in peft's own loading
def test_the_final_model_is_the_adapter_merged(run: Path) -> None:
    final = load_policy(str(run / "final"), device="cpu")
    base = load_policy(str(MODEL_PATH), device="cpu")
    before = logprobs(base)
    theirs = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(MODEL_PATH), run / "final-adapter")
    expected = logprobs(Policy(theirs.base_model.model, base.tokenizer))
    torch.testing.assert_close(logprobs(final), expected, rtol=0, atol=1e-5)
    assert (logprobs(final) - before).abs().max() > 0.01


def test_a_stopped_run_goes_on_to_the_same_bits(run: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "run"
    finish(*command(stopped, train__max_steps="2"))
    finish("--resume", str(stopped), "--train.max_steps", "4")
    for name in ("final/model.safetensors", "final-adapter/adapter_model.safetensors"):
        whole, parted = load_file(run / name), load_file(stopped / name)
        assert whole.keys() == parted.keys()
        assert all(torch.equal(whole[key], parted[key]) for key in whole)
    error = finish("--resume", str(stopped), "--model.lora.r", "4", code=2)
    assert "model.lora.r was 3 and is now 4; a resumed run keeps its config" in error


def test_it_does_not_go_on_upon_another_model(tmp_path: Path) -> None:
    base = tmp_path / "base"
    policy = load_policy(str(MODEL_PATH), device="cpu")
    policy.save_pretrained(base)
    finish(*command(tmp_path / "run", model__name_or_path=str(base), train__max_steps="2"))
    with torch.no_grad():
        policy.model.model.norm.weight.add_(0.1)
    policy.save_pretrained(base)
    error = finish("--resume", str(tmp_path / "run"), "--train.max_steps", "3", code=2)
    assert f"model.name_or_path = {base} no longer holds the weights that the run began with" in error
    assert error.count("\n") <= 1 or error.splitlines()[-1].startswith("unigrad: error")


@pytest.mark.parametrize("algorithm", ["grpo", "ppo"])
def test_the_reference_is_the_model_without_its_adapter(algorithm: str, tmp_path: Path) -> None:
    config = load_config("tiny-hpt", {**SMALL, "method.name": "grpo", "algorithm.name": algorithm})
    with ExitStack() as stack:
        step = Build(config, tmp_path / "run", None, KeptVerdicts(), Console(quiet=True), stack).loop().step
    policy = step.policy
    assert step.annotate is not None
    assert step.annotate.reference is policy
    given = {id(each) for group in step.optimizer.param_groups for each in group["params"]}
    head = policy.value_head
    assert (head is not None) == (algorithm == "ppo")
    added = set() if head is None else {id(each) for each in head.parameters()}
    assert given == added | {id(each) for name, each in policy.model.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    sequences = step.annotate(Sequences.of_ids([ROW], [1.0]))
    assert sequences.reference_logp_M is not None
    loaded = logprobs(load_policy(str(MODEL_PATH), device="cpu"))
    torch.testing.assert_close(sequences.reference_logp_M.float(), loaded, rtol=1e-6, atol=1e-6)
    assert (logprobs(policy) - loaded).abs().max() > 0.01


def test_a_damaged_adapter_is_not_gone_on_with(run: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "run"
    finish(*command(stopped, train__max_steps="2"))
    file = stopped / "checkpoint-2" / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    error = finish("--resume", str(stopped), "--train.max_steps", "3", code=2)
    assert f"{file} is damaged: its checksum is not the one of checksums.json" in error
