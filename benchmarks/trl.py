"""A training step of unigrad beside one of TRL's GRPOTrainer: the same work, in turn, in one process.

    python3 -m venv VENV && VENV/bin/pip install 'trl==1.16.*' -e .
    VENV/bin/python benchmarks/trl.py MODEL [--micro-batch-rows 4] [--keys train.learning_rate=1e-6 ...]

Both sample 4 prompts × 8 completions × 64 forced tokens in float32, reward every other one, and take one step of Dr.
GRPO with AdamW. First the gradient of one step is compared: TRL's completions go through the whole of our step. Then
the two alternate; medians, the least and the most are printed. Peak memory is that of each side alone, in a process of
its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

# Our package first: OpenMP reads how its threads wait when torch is loaded.
from unigrad.bench.work import build
from unigrad.data.tiny import model_source
from unigrad.machine import limit_threads
from unigrad.rollout import Completion, Prompt, Sampling
from unigrad.runs.metrics import Metric
from unigrad.train.questions import ProblemSet, Questions
from unigrad.train.step import Step
from unigrad.verify import RewardFunctionScorer

# This file's folder last: else it would itself be `trl`.
sys.path.append(sys.path.pop(0))

import torch  # isort: skip
from datasets import Dataset  # isort: skip
from rollout import QUESTIONS, SUFFIX  # isort: skip
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback  # isort: skip
from transformers.utils import logging  # isort: skip

SIDES = ("unigrad", "trl")
PARTS = ("rollouts", "training", "step")
GIB = 2**30
SAME = 1e-4
"""Largest distance of the two gradients, as a share of their norm, that passes for float32's rounding (about 4e-6)."""


def every_other(prompts: Sequence[Any], completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(number % 2) for number in range(len(completions))]


@dataclass
class Times:
    """Seconds of each part, a number a step."""

    rollouts: list[float] = field(default_factory=list)
    training: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)

    def add(self, rollouts: float, step: float) -> None:
        self.rollouts.append(rollouts)
        self.training.append(step - rollouts)
        self.step.append(step)


def now() -> float:
    """In seconds, once a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Replay:
    """An engine that hands over completions that another sampled, by their prompts."""

    is_exact = True

    def __init__(self, sampled: dict[tuple[int, ...], list[tuple[int, ...]]]) -> None:
        self.sampled = sampled

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: Any = None
    ) -> list[list[Completion]]:
        groups = []
        for prompt in prompts:
            group = []
            for index, ids in enumerate(self.sampled[prompt.token_ids]):
                none = (0.0,) * len(ids)
                group.append(Completion(ids, none, none, truncated=True, ended=False, text=""))
                on_completion(prompt, index, group[-1])
            groups.append(group)
        return groups


class Ours:
    """Our step on the given prompts."""

    def __init__(self, options: argparse.Namespace, texts: Sequence[str], stack: ExitStack) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model_source(options.model))
        ids = [tuple(each) for each in tokenizer(text=list(texts))["input_ids"]]
        longest = max(map(len, ids))
        rows = options.micro_batch_rows or len(texts) * options.completions
        keys = {
            "model.name_or_path": options.model,
            "model.dtype": "float32",
            "train.questions_per_step": str(len(texts)),
            "data.max_prompt_length": str(longest),
            "rollout.num_generations": str(options.completions),
            "rollout.max_completion_length": str(options.new_tokens),
            "train.tokens_per_micro_batch": str(rows * (longest + options.new_tokens)),
            "algorithm.name": "dr_grpo",
            "train.learning_rate": "1e-6",
            **dict(each.split("=", 1) for each in options.keys),
        }
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="unigrad-bench-"))
        step, self.objective = build(keys, {}, Path(folder), stack)
        asked = [
            replace(each, prompt=text, prompt_ids=tokens)
            for each, text, tokens in zip(step.questions.at(1, demonstrated=False), texts, ids, strict=True)
        ]
        questions = Questions([ProblemSet(asked, 1.0)], len(asked), 0)
        self.step: Step = replace(step, questions=questions, scorer=RewardFunctionScorer(every_other))
        self.times, self.taken = Times(), 0

    def take(self) -> None:
        self.taken += 1
        start = now()
        metrics = self.step.take(self.taken, self.objective, 0.0).metrics
        self.times.add(metrics[Metric.TIME_ROLLOUT] + metrics[Metric.TIME_VERIFY], now() - start)

    def distance(self, sampled: dict[tuple[int, ...], list[tuple[int, ...]]], theirs: torch.nn.Module) -> float:
        """Of our gradient on these completions from the one that lies in `theirs`, as a share of the latter's norm."""
        found: list[float] = []
        # It takes no step: what follows starts from the same weights, with fresh moments.
        optimizer = torch.optim.SGD(self.step.policy.parameters(), lr=0.0)

        def compare(*_: Any) -> None:
            others = dict(theirs.named_parameters())
            apart = whole = 0.0
            for name, parameter in self.step.policy.model.named_parameters():
                assert parameter.grad is not None
                assert others[name].grad is not None
                apart += float((parameter.grad - others[name].grad).double().square().sum())
                whole += float(others[name].grad.double().square().sum())
            found.append((apart / whole) ** 0.5)

        optimizer.register_step_pre_hook(compare)
        train = self.step.config.train.model_copy(update={"max_grad_norm": 0.0, "learning_rate": 1e-30})
        config = self.step.config.model_copy(update={"train": train})
        step = replace(self.step, config=config, engine=Replay(sampled), optimizer=optimizer, own_old_policy=True)
        # What TRL sampled comes without an engine's log-probs, so that there is no mismatch to correct.
        terms = tuple(
            term.with_options(engine_cap=None) if "engine_cap" in term.options else term
            for term in self.objective.terms
        )
        step.take(1, replace(self.objective, terms=terms), 0.0)
        return found[0]


def their_config(options: argparse.Namespace, rows: int, folder: str) -> Any:
    """The same work: no more and no less than ours by default, and no checkpointing, which would cost time."""
    from trl import GRPOConfig

    batch = options.micro_batch_rows or rows
    return GRPOConfig(
        output_dir=folder,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=rows // batch,
        num_generations=options.completions,
        max_completion_length=options.new_tokens,
        generation_kwargs={"min_new_tokens": options.new_tokens},
        loss_type="dr_grpo",
        scale_rewards="none",
        beta=0.0,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        max_steps=options.repeats + 1,
        shuffle_dataset=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def theirs(
    options: argparse.Namespace, texts: Sequence[str], after: Callable[[Times], None], check: Callable[..., None]
) -> Times:
    """TRL's own training run; `after` is called between its steps, outside of its times, `check` with its first
    gradient. Its times, without those of its first step, which warms up."""
    from trl import GRPOTrainer

    times, sampled = Times(), {}
    rows = len(texts) * options.completions

    class Timed(GRPOTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            start = now()
            out = super()._generate_and_score_completions(inputs)
            self.rollout_seconds = now() - start
            if not sampled:
                kept = [
                    tuple(tuple(out[f"{of}_ids"][row][out[f"{of}_mask"][row].bool()].tolist()) for row in range(rows))
                    for of in ("prompt", "completion")
                ]
                for prompt, completion in zip(*kept, strict=True):
                    sampled.setdefault(prompt, []).append(completion)
            return out

    class Between(TrainerCallback):
        def on_step_begin(self, args: Any, *_: Any, **__: Any) -> None:
            self.start = now()

        def on_pre_optimizer_step(self, args: Any, state: Any, *_: Any, model: Any, **__: Any) -> None:
            if state.global_step == 0:
                check(sampled, model)

        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == 1:
                args.max_grad_norm = 1.0  # as ours; not in the first step, whose gradient is compared as it is
            else:
                times.add(trainer.rollout_seconds, now() - self.start)
            after(times)

    with tempfile.TemporaryDirectory(prefix="trl-bench-") as folder:
        source = model_source(options.model)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        # As ours: it would withhold the pad token's gradient, which of SmolLM2 is that of the end of each turn.
        model.get_input_embeddings().padding_idx = None
        trainer = Timed(
            model=model,
            processing_class=AutoTokenizer.from_pretrained(source),
            reward_funcs=every_other,
            args=their_config(options, rows, folder),
            train_dataset=Dataset.from_dict({"prompt": list(texts)}),
            callbacks=[Between()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return times


def prompts(model: str) -> list[str]:
    """As their text, in the model's chat template where it has one."""
    tokenizer = AutoTokenizer.from_pretrained(model_source(model))
    if not tokenizer.chat_template:
        return [question[:96] for question in QUESTIONS]
    turns = ([{"role": "user", "content": question + SUFFIX}] for question in QUESTIONS)
    return [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in turns]


def alone(options: argparse.Namespace) -> dict[str, int]:
    """One side's peak memory in bytes, for a process that does nothing else."""
    texts = prompts(options.model)
    with ExitStack() as stack:
        if options.only == "trl":
            theirs(options, texts, lambda _: None, lambda *_: None)
        else:
            ours = Ours(options, texts, stack)
            for _ in range(options.repeats + 1):
                ours.take()
    return {"peak": peak_bytes()}


def side_by_side(options: argparse.Namespace) -> dict[str, Times]:
    texts = prompts(options.model)
    with ExitStack() as stack:
        ours = Ours(options, texts, stack)

        def check(sampled: dict[tuple[int, ...], list[tuple[int, ...]]], model: torch.nn.Module) -> None:
            apart = ours.distance(sampled, model)
            print(f"gradient of one step: {apart:.1e} of its norm apart", flush=True)
            if apart > SAME:
                raise SystemExit("the two sides do not do the same work")

        def after(times: Times) -> None:
            ours.take()
            if times.step:
                ratio = times.step[-1] / ours.times.step[-1]
                print(
                    f"  unigrad {ours.times.step[-1]:.2f} s, trl {times.step[-1]:.2f} s, ratio {ratio:.2f}", flush=True
                )

        their_times = theirs(options, texts, after, check)
    mine = Times(*(getattr(ours.times, part)[1:] for part in PARTS))
    return {"unigrad": mine, "trl": their_times}


def show(found: dict[str, Times], peaks: dict[str, int]) -> None:
    print("\n| | unigrad | trl | ratio, step by step |\n|---|---|---|---|")
    for part in PARTS:
        seconds = {side: getattr(found[side], part) for side in SIDES}
        ratios = [trl / own for own, trl in zip(*seconds.values(), strict=True)]
        cells = [f"{median(each):.2f} s ({min(each):.2f}–{max(each):.2f})" for each in seconds.values()]
        print(f"| {part} | {' | '.join(cells)} | **{median(ratios):.2f}×** ({min(ratios):.2f}–{max(ratios):.2f}) |")
    if peaks:
        cells = [f"{peaks[side] / GIB:.2f} GiB" for side in SIDES]
        print(f"| peak memory | {' | '.join(cells)} | **{peaks['unigrad'] / peaks['trl']:.2f}** of it |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder or hub id of a causal language model, or `tiny`")
    parser.add_argument("--completions", type=int, default=8, help="of each prompt (default: 8)")
    parser.add_argument("--new-tokens", type=int, default=64, help="of each completion (default: 64)")
    parser.add_argument("--repeats", type=int, default=5, help="steps of each side that count (default: 5)")
    parser.add_argument("--micro-batch-rows", type=int, help="rows of one forward, on both sides (default: all)")
    parser.add_argument("--keys", nargs="*", default=[], metavar="KEY=VALUE", help="of our configuration")
    parser.add_argument("--no-memory", action="store_true", help="leave out the two processes that measure memory")
    parser.add_argument("--only", choices=SIDES, help="this side alone; prints its peak memory as JSON")
    options = parser.parse_args()
    if len(QUESTIONS) * options.completions % (options.micro_batch_rows or 1):
        parser.error(f"--micro-batch-rows must divide {len(QUESTIONS) * options.completions}")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)  # of what TRL calls in transformers
    limit_threads()
    if options.only:
        print(json.dumps(alone(options)))
        return
    from importlib.metadata import version

    print(f"trl {version('trl')}, torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.platform()}")
    # First, while this process holds nothing.
    peaks = {}
    for side in () if options.no_memory else SIDES:
        command = [sys.executable, __file__, *sys.argv[1:], "--only", side, "--repeats", "1"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ)
        peaks[side] = json.loads(done.stdout.splitlines()[-1])["peak"]
    show(side_by_side(options), peaks)


if __name__ == "__main__":
    main()
