"""Which architectures train, and how exactly: every causal class of transformers that builds, small and random.

    python benchmarks/models.py [NAME ...] [--out docs/models.md]

Each in a process of its own with a time limit: log-probs and gradients against a plain forward of each row alone, with
full logits; greedy and sampled rollouts against `generate` and against the trainer; gradient checkpointing; two steps
of SFT and RL; the trained model loaded again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tiny_models import build
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import unigrad.train.run  # noqa: F401  (before the processes part, which then have it)
from unigrad.batch import Sequences, micro_batch_of
from unigrad.cli import main as unigrad_command
from unigrad.data.tiny import MODEL_PATH
from unigrad.errors import one_line
from unigrad.policy import Policy, load_policy
from unigrad.rollout import Prompt, Sampling, TorchEngine
from unigrad.rollout.engines import engine_builder

VALUE, GRADIENT = 1e-5, 1e-4
"""Of log-probs in nats, and of the gradient's distance over its norm: the rounding of float32 over some layers."""
# Longer than every window here, of unequal length, so that rows are padded.
ROWS = [((5, 6, 7), tuple(range(8, 40))), ((9, 10, 11, 12, 13), (14, 15, 16)), ((17,), tuple(range(18, 30)))]
PROMPTS = [Prompt("a", (5, 6, 7)), Prompt("b", (9, 10, 11, 12, 13))]
LENGTH = 24

Results = dict[str, Any]


def of_policy(policy: Policy, rows: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> Tensor:
    """The log-probs of the rows' completions, ragged rows in one micro-batch, in the rows' order. f[M]"""
    batch = micro_batch_of(Sequences.of_ids(rows, [1.0] * len(rows)), [range(len(rows))], "padded")
    parts = policy(batch).logp_M.split([len(rows[index][1]) for index in batch.indices_P.tolist()])
    return torch.cat([parts[place] for place in batch.indices_P.argsort().tolist()])


def of_logits(policy: Policy, rows: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> Tensor:
    """The same from the model's own logits, each row alone. f[M]"""
    parts = []
    for prompt, completion in rows:
        ids_1L = torch.tensor([[*prompt, *completion]])
        logp_LV = policy.model(input_ids=ids_1L, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        parts.append(logp_LV.gather(1, ids_1L[0, len(prompt) :, None])[:, 0])
    return torch.cat(parts)


def with_gradient(policy: Policy, logprobs: Callable[..., Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    policy.zero_grad()
    logp_M = logprobs(policy, ROWS)
    logp_M.mul(torch.linspace(-1, 2, len(logp_M))).sum().backward()
    return logp_M.detach(), {n: p.grad.clone() for n, p in policy.model.named_parameters() if p.grad is not None}


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Of two gradients, over the norm of the second."""
    zero = torch.zeros(())
    squares = [(one.get(n, zero) - other.get(n, zero)).square().sum() for n in one.keys() | other.keys()]
    norm = sum(each.square().sum() for each in other.values())
    return float((sum(squares) / norm) ** 0.5)


def check_training(folder: Path) -> Iterator[tuple[str, Any]]:
    policy = load_policy(str(folder), device="cpu")
    expected, gradient = with_gradient(policy, of_logits)
    found, ours = with_gradient(policy, of_policy)
    yield "value", (found - expected).abs().max().item()
    yield "gradient", distance(ours, gradient)
    try:
        checkpointed = load_policy(str(folder), device="cpu", gradient_checkpointing=True)
    except ValueError as error:
        yield "checkpointing_refused", str(error)
    else:
        yield "checkpointing", distance(with_gradient(checkpointed, of_policy)[1], gradient)


def check_rollouts(folder: Path) -> Iterator[tuple[str, Any]]:
    policy = load_policy(str(folder), device="cpu")
    engine = engine_builder("auto")(policy, 256)
    yield "engine", "torch" if isinstance(engine, TorchEngine) else "generate"
    greedy = engine.generate(PROMPTS, Sampling(num_generations=1, max_completion_length=LENGTH, temperature=0.0), 0)
    equal = True
    for prompt, (completion,) in zip(PROMPTS, greedy, strict=True):
        ids = torch.tensor([prompt.token_ids])
        options = {"do_sample": False, "max_new_tokens": LENGTH, "pad_token_id": 0}
        own = policy.model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, ids.shape[1] :].tolist()
        equal = equal and completion.token_ids == tuple(own)
    yield "greedy", equal
    sampled = engine.generate(PROMPTS, Sampling(num_generations=3, max_completion_length=LENGTH), 0)
    drawn = [(prompt.token_ids, each) for prompt, group in zip(PROMPTS, sampled, strict=True) for each in group]
    logp_M = torch.tensor([value for _, each in drawn for value in each.logprobs])
    with torch.no_grad():
        trainers_M = of_policy(policy, [(prompt, each.token_ids) for prompt, each in drawn])
    yield "sampled", (logp_M - trainers_M).abs().max().item()


def check_run(folder: Path) -> Iterator[tuple[str, Any]]:
    run = folder.parent / "run"
    keys = {
        "output_dir": run, "model.name_or_path": folder, "model.device": "cpu", "method.gate": "both",
        "algorithm.name": "reinforce", "train.max_steps": 2, "train.questions_per_step": 2, "train.eval_steps": 0,
        "rollout.num_generations": 2, "rollout.max_completion_length": LENGTH, "data.max_demonstration_length": 100,
        "data.eval": "null", "train.save_steps": 0, "train.tensorboard": "false", "verify.workers": 1,
    }  # fmt: skip
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = unigrad_command(["train", "tiny-hpt", *(str(each) for key in keys for each in (f"--{key}", keys[key]))])
    if code:
        raise RuntimeError(said.getvalue())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    yield "steps", len([line for line in lines if line["step"]])
    yield (
        "mismatch",
        max(line["policy/rollout_mismatch_max"] for line in lines if "policy/rollout_mismatch_max" in line),
    )
    model, info = AutoModelForCausalLM.from_pretrained(run / "final", dtype=torch.float32, output_loading_info=True)
    again = load_policy(str(run / "final"), device="cpu")
    with torch.no_grad():
        expected = of_logits(Policy(model.eval(), again.tokenizer), ROWS)
        yield "reload", (of_policy(again, ROWS) - expected).abs().max().item()
    yield "missing", len(info["missing_keys"])


def checks(name: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """Facts by name; after one that is an error there are no more."""
    stage = "build"
    try:
        model = build(name)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(MODEL_PATH).save_pretrained(folder)
        yield "class", type(model).__name__
        del model
        stage = "load"
        yield from check_training(folder)
        stage = "rollouts"
        yield from check_rollouts(folder)
        stage = "run"
        yield from check_run(folder)
    # Whatever goes wrong is the finding.
    except Exception as error:  # noqa: BLE001
        yield "failed", stage
        yield (
            "error",
            f"{type(error).__name__}: {one_line(error)}".replace(f"{folder}: ", "").replace(str(folder), "it"),
        )


def in_a_process(name: str, seconds: int) -> Results:
    """The facts that a child process found within the time."""
    reader, writer = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        with tempfile.TemporaryDirectory() as scratch, Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
            for fact in checks(name, Path(scratch) / "model"):
                os.write(writer, (json.dumps(fact) + "\n").encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as lines:
        found: Results = dict(json.loads(line) for line in lines)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        found |= {"failed": "time", "error": f"not done after {seconds} s"}
    return {"name": name, **found, "seconds": round(time.monotonic() - start)}


def verdict(found: Results) -> tuple[str, str]:
    """One of exact, inexact, refused, failed, not built; and why it is not the first."""
    if "failed" in found:
        error = found["error"]
        if "class" not in found:
            return "not built", error
        refused = error.startswith(("ValueError:", "ConfigError:")) and found["failed"] in ("load", "rollouts")
        return ("refused" if refused else "failed"), f"{found['failed']}: {error.partition(': ')[2] or error}"
    far = {
        "log-prob": not found["value"] <= VALUE,
        "gradient": not found["gradient"] <= GRADIENT,
        "checkpointing": not found.get("checkpointing", 0) <= GRADIENT,
        "greedy rollout": not found["greedy"],
        "sampled log-prob": not found["sampled"] <= 10 * VALUE,
        "two steps": found["steps"] != 2,
        "final/": not found["reload"] <= VALUE or found["missing"] > 0,
    }
    wrong = ", ".join(name for name, is_far in far.items() if is_far)
    return ("inexact", wrong) if wrong else ("exact", found.get("checkpointing_refused", ""))


def page(results: list[Results]) -> str:
    """docs/models.md."""
    counts = Counter(verdict(each)[0] for each in results)
    built = len(results) - counts["not built"]
    lines = [
        "# Models",
        "",
        f"Of {len(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)} causal model types of transformers {transformers.__version__}, "
        f"{len(results)} were tried, and {built} build small; of "
        f"these {counts['exact']} train exactly, {counts['inexact']} inexactly, {counts['refused']} are refused with "
        f"the reason, and {counts['failed']} fail. Written by `python benchmarks/models.py --out docs/models.md`.",
        "",
        "Each is a random model of a few layers in float32. log-prob: largest distance in nats from a plain forward of "
        "each row alone, with full logits; gradient: distance over norm; checkpointing: the same gradient with "
        "recomputed activations; sampled: largest distance of the rollouts' log-probs from the trainer's; mismatch: "
        "that within two steps of SFT and RL. Greedy rollouts equal `generate`'s, and `final/` loads with the same "
        "log-probs, wherever a model is called exact.",
        "",
        "The engine is what `rollout.engine: auto` takes: `torch` where every layer has full, sliding or chunked "
        "attention, else `generate`, transformers' own with our draw. It pads nothing, so no pad reaches a state.",
        "",
        "| model type | verdict | engine | log-prob | gradient | checkpointing | sampled | mismatch | reason |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in sorted(results, key=lambda each: each["name"]):
        word, reason = verdict(found)
        if word == "not built":
            continue
        numbers = [found.get(key) for key in ("value", "gradient", "checkpointing", "sampled", "mismatch")]
        cells = ["" if number is None else f"{number:.0e}" for number in numbers]
        why = reason.replace("|", "\\|")[:300]
        lines.append(f"| {found['name']} | {word} | {found.get('engine', '')} | {' | '.join(cells)} | {why} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="model types as transformers names them; default: all")
    parser.add_argument("--seconds", type=int, default=180, help="limit of one")
    parser.add_argument(
        "--results", type=Path, help="facts, a JSON line a model; those that it holds are not made again"
    )
    parser.add_argument("--out", type=Path, help="write the page there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = arguments.results
    results = [json.loads(line) for line in kept.read_text().splitlines()] if kept and kept.exists() else []
    done = {each["name"] for each in results}
    for name in arguments.names or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if name in done:
            continue
        found = in_a_process(name, arguments.seconds)
        results.append(found)
        print(name, *verdict(found), f"{found['seconds']} s", flush=True)
        if kept:
            with kept.open("a") as file:
                file.write(json.dumps(found) + "\n")
    text = page(results)
    arguments.out.write_text(text, encoding="utf-8") if arguments.out else print(text)


if __name__ == "__main__":
    main()
