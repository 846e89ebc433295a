"""Which architectures train, and how exactly: every causal class of transformers that builds, small and random.

    python benchmarks/models.py [NAME ...] [--out docs/models.md]

Each in a process of its own with a time limit: log-probs and gradients against a plain forward of each row alone, with
full logits; greedy and sampled rollouts against `generate` and against the trainer; gradient checkpointing; the same in
bfloat16; two steps of SFT and RL; the trained model loaded again. What float32 tells apart is tried in float64 too.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from tiny_models import build
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import unigrad.train.run  # noqa: F401  (before the processes part, which then have it)
from unigrad.batch import Sequences, micro_batch_of
from unigrad.cli import main as unigrad_command
from unigrad.data.tiny import MODEL_PATH
from unigrad.errors import one_line
from unigrad.policy import Policy, load_policy
from unigrad.rollout import Engine, Prompt, Sampling, TorchEngine
from unigrad.rollout.engines import engine_builder

VALUE, GRADIENT = 1e-5, 1e-4
"""Of log-probs in nats, and of the gradient's distance over its norm: the rounding of float32 over some layers."""
NUMBERS = ("value", "gradient", "checkpointing", "sampled", "mismatch", "bfloat16")
DOUBLE = 1e-9
"""In float64 no more than this is left of what is rounding in float32."""
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
    pairs = zip(PROMPTS, greedy, strict=True)
    yield "greedy", all(completion.token_ids == greedy_of(policy, prompt) for prompt, (completion,) in pairs)
    yield "sampled", mismatch(policy, engine).max().item()


def greedy_of(policy: Policy, prompt: Prompt) -> tuple[int, ...]:
    """What the model's own `generate` says is likeliest, token by token. Without what its generation config adds to
    that (a forced end, beams, bans of repetition), and with its positions numbered as its forward does."""
    model, ids = policy.model, torch.tensor([prompt.token_ids])
    configured = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=configured.eos_token_id, pad_token_id=0)
    first = policy.first_position
    where = {"position_ids": torch.arange(first, first + ids.shape[1])[None]} if first else {}
    own = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=LENGTH, **where)
    model.generation_config = configured
    return tuple(own[0, ids.shape[1] :].tolist())


def mismatch(policy: Policy, engine: Engine) -> Tensor:
    """Between the log-probs of sampled tokens as the engine and as the trainer has them, in nats. f[tokens]"""
    sampled = engine.generate(PROMPTS, Sampling(num_generations=3, max_completion_length=LENGTH), 0)
    drawn = [(prompt.token_ids, each) for prompt, group in zip(PROMPTS, sampled, strict=True) for each in group]
    logp_M = torch.tensor([value for _, each in drawn for value in each.logprobs])
    with torch.no_grad():
        return (logp_M - of_policy(policy, [(prompt, each.token_ids) for prompt, each in drawn])).abs()


def check_bfloat16(folder: Path) -> Iterator[tuple[str, Any]]:
    try:
        policy = load_policy(str(folder), device="cpu", dtype="bfloat16")
        engine = engine_builder("auto")(policy, 256)
    except ValueError as error:
        yield "bfloat16_refused", f"bfloat16: {one_line(error)}".replace(str(folder), "it")
    else:
        yield "bfloat16", mismatch(policy, engine).mean().item()


@contextlib.contextmanager
def doubled() -> Iterator[None]:
    """What says float32, here and in the model's code, means float64."""
    names = {"float32": torch.float32, "float": torch.float}
    single = Tensor.float
    torch.set_default_dtype(torch.float64)
    torch.float32 = torch.float = torch.float64
    Tensor.float = Tensor.double
    try:
        yield
    finally:
        vars(torch).update(names)
        Tensor.float = single
        torch.set_default_dtype(torch.float32)


def check_rounding(folder: Path) -> Iterator[tuple[str, Any]]:
    """Whether what float32 tells apart is rounding, and whether the model's own `generate` is as far off."""
    policy = load_policy(str(folder), device="cpu")
    prompt, completion = PROMPTS[0].token_ids, list(range(8, 8 + LENGTH))
    with torch.no_grad():
        yield (
            "own",
            (of_cache(policy, prompt, completion) - of_logits(policy, [(prompt, tuple(completion))]))
            .abs()
            .max()
            .item(),
        )
    policy.double().model.set_experts_implementation("eager")
    with doubled(), torch.no_grad():
        yield "value_in_float64", (of_policy(policy, ROWS) - of_logits(policy, ROWS)).abs().max().item()
        own = of_cache(policy, prompt, completion) - of_logits(policy, [(prompt, tuple(completion))])
        yield "own_in_float64", own.abs().max().item()


def of_cache(policy: Policy, prompt: tuple[int, ...], completion: list[int]) -> Tensor:
    """The log-probs of a completion as the model's own `generate` has them, token by token on its cache. f[tokens]"""
    forced = iter(completion)

    def force(ids_BL: Tensor, logits_BV: Tensor) -> Tensor:
        return torch.full_like(logits_BV, -torch.inf).index_fill_(1, torch.tensor([next(forced)]), 0.0)

    ids = torch.tensor([prompt])
    output = policy.model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=len(completion), pad_token_id=0,
        logits_processor=[force], output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    logp_LV = torch.cat(output.logits).log_softmax(-1)
    return logp_LV.gather(1, torch.tensor(completion)[:, None])[:, 0]


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


def kept(facts: Iterable[tuple[str, Any]], found: Results) -> Iterator[tuple[str, Any]]:
    for name, value in facts:
        found[name] = value
        yield name, value


def checks(name: str, folder: Path) -> Iterator[tuple[str, Any]]:
    """Facts by name; after one that is an error there are no more."""
    stage = "build"
    found: Results = {}
    try:
        model = build(name)
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(MODEL_PATH).save_pretrained(folder)
        yield "class", type(model).__name__
        del model
        stage = "load"
        yield from kept(check_training(folder), found)
        stage = "rollouts"
        yield from kept(check_rollouts(folder), found)
        yield from check_bfloat16(folder)
        if found["value"] > VALUE or found["sampled"] > 10 * VALUE:
            yield from check_rounding(folder)
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
        "log-prob": not (found["value"] <= VALUE or found["value_in_float64"] <= DOUBLE),
        "gradient": not found["gradient"] <= GRADIENT,
        "checkpointing": not found.get("checkpointing", 0) <= GRADIENT,
        "greedy rollout": not found["greedy"],
        "sampled log-prob": not (found["sampled"] <= 10 * VALUE or found["own_in_float64"] <= DOUBLE),
        "two steps": found["steps"] != 2,
        "final/": not found["reload"] <= VALUE or found["missing"] > 0,
    }
    notes = [name for name, is_far in far.items() if is_far] or [found.get("checkpointing_refused")]
    notes.append(found.get("bfloat16_refused"))
    if "own" in found:
        notes.append(
            f"its own generate is {found['own']:.0e} from its own forward, in float64 {found['own_in_float64']:.0e}; "
            f"our log-probs {found['value_in_float64']:.0e} in float64"
        )
    return ("inexact" if any(far.values()) else "exact"), "; ".join(note for note in notes if note)


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
        "that within two steps of SFT and RL; bfloat16: mean distance of the rollouts' log-probs from the trainer's "
        "where both compute in it. Greedy rollouts equal `generate`'s (its own choice of tokens, without what a "
        "generation config forces), and `final/` loads with the same log-probs, wherever a model is called exact. "
        f"Where float32 leaves more than {VALUE:.0e} (rollouts: {10 * VALUE:.0e}), it is measured in float64 too, also "
        "where the model's code says float32, and the model's own `generate` against its own forward; a model is exact "
        f"then where {DOUBLE:.0e} is left, so that all the rest was the rounding of its own kernels.",
        "",
        "The engine is what `rollout.engine: auto` takes: `torch` where every layer has full, sliding or chunked "
        "attention, else `generate`, transformers' own with our draw. It pads nothing, so no pad reaches a state.",
        "",
        "| model type | verdict | engine | log-prob | gradient | checkpointing | sampled | mismatch | bfloat16 | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for found in sorted(results, key=lambda each: each["name"]):
        word, reason = verdict(found)
        if word == "not built":
            continue
        numbers = [found.get(key) for key in NUMBERS]
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
