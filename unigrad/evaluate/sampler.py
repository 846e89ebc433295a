"""Completions of a benchmark from a loaded model, a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from unigrad.data import (
    PromptTemplate,
    contexts_left_out,
    contexts_warning,
    fitted,
    prompt_template,
    prompted,
    render,
    turn_of,
)
from unigrad.data.tiny import model_source
from unigrad.errors import ConfigError
from unigrad.evaluate.completions import BLOCK, Chunk, cut
from unigrad.evaluate.protocol import AUTO, Protocol
from unigrad.evaluate.suites import Benchmark
from unigrad.policy import END, Policy, load_policy
from unigrad.rollout import Engine, Sampled, Sampling, roll_out
from unigrad.rollout.engines import engine_builder
from unigrad.types import Problem, Scorer

ROUNDS = 4
"""How often a chunk fills the cache: more wastes less at the end of each chunk, and a kill costs more."""
CPU_WORK, CPU_ROWS = 4e12, 8
"""On a CPU: parameters × tokens of a chunk, some minutes' work, but so many rows at least. More rows at once are hardly
faster there, and what a kill costs grows with the chunk."""


def load_model(model: str, protocol: Protocol) -> tuple[Policy, Engine]:
    """Raises ValueError or OSError on whatever is wrong with the model, its tokenizer, the device or the dtype."""
    policy = load_policy(
        model_source(model),
        device=protocol.device,
        dtype=protocol.dtype,
        rope_theta=protocol.rope_theta,
        max_position_embeddings=protocol.max_position_embeddings,
    )
    return policy, engine_builder(protocol.sampled_by)(policy, protocol.max_concurrent_tokens)


def facts(policy: Policy) -> dict[str, Any]:
    """What the last bits of a completion depend on besides the settings."""
    is_cuda = policy.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(policy.device) if is_cuda else str(policy.device),
        "dtype": policy.computes_in,
        "threads": torch.get_num_threads(),
        "positions": policy.max_positions,
    }


class BenchmarkSampler:
    """Samples one benchmark. `chunks` are all of its completions, `template` the one that makes its prompts, `notes`
    what is to be said of these, by the line."""

    def __init__(
        self,
        policy: Policy,
        engine: Engine,
        protocol: Protocol,
        benchmark: Benchmark,
        problems: Sequence[Problem],
        samples: int,
    ) -> None:
        """Raises ValueError where the template does not go with the tokenizer, or a prompt or its completion does not
        fit the model or the cache."""
        self._engine = engine
        self._seed = protocol.drawn_by
        self.benchmark = benchmark
        self.template, self.notes = fitted_template(protocol, benchmark.prompt_template, policy.tokenizer)
        if left_out := contexts_left_out(problems, self.template):
            self.notes.append(f"{benchmark.name}: {contexts_warning(left_out)}")
        self._problems = [prompted(each, self.template, policy.tokenizer) for each in problems]
        for each in self._problems:
            policy.check_embedded(each.prompt_ids, f"{benchmark.name}: the prompt of problem {each.problem.id}")
        end = turn_of(self.template, policy.tokenizer).end_id
        if end is not None:
            policy.check_embedded([end], f"{benchmark.name}: {END}")
        self._positions = policy.max_positions
        self._sampling = sampling_of(protocol, samples, protocol.longest_completion, end)
        prompts = [each.prompt_ids for each in self._problems]
        longest = _longest_row(prompts, policy.max_positions, protocol, benchmark.name)
        rows = ROUNDS * (protocol.max_concurrent_tokens // longest)
        if policy.device.type == "cpu":
            rows = min(rows, max(CPU_ROWS, int(CPU_WORK / (longest * policy.model.num_parameters()))))
        self.chunks = cut(len(problems), samples, rows)

    def check_room(self, wanted: int) -> None:
        """Raises ConfigError where a prompt leaves no room for a completion of so many tokens."""
        longest = max(len(each.prompt_ids) for each in self._problems)
        if self._positions is not None and longest + wanted > self._positions:
            raise ConfigError(
                f"--max-completion-length {wanted}: the model takes {self._positions} positions, and the longest "
                f"prompt of {self.benchmark.name} has {longest} tokens; at most {self._positions - longest}"
            )

    def sample(self, chunk: Chunk, scorer: Scorer, take: Callable[[Problem, int, Sampled], None]) -> None:
        """Give each of the chunk's completions to `take` as it ends."""
        problems = self._problems[chunk.start : chunk.stop]

        def sampled(each: Sampled) -> None:
            take(problems[each.problem].problem, chunk.first + each.index, each)

        # The engine counts samples from 0 in each call, so a later block goes by another key.
        block = f"#{chunk.first // BLOCK}" if chunk.first else ""
        keyed = [replace(each, problem=replace(each.problem, id=f"{each.problem.id}{block}")) for each in problems]
        roll_out(self._engine, scorer, keyed, replace(self._sampling, num_generations=chunk.count), self._seed, sampled)


def sampling_of(protocol: Protocol, samples: int, longest: int, end: int | None) -> Sampling:
    """`samples` completions of at most `longest` tokens, as the protocol draws them. end: the token of the turn's end,
    where that ends one too."""
    return Sampling(
        num_generations=samples,
        max_completion_length=longest,
        temperature=protocol.drawn_at,
        top_p=protocol.nucleus,
        stop=protocol.stop or (),
        stop_token_ids=() if end is None else (end,),
    )


def fitted_template(
    protocol: Protocol, usual: str | None, tokenizer: PreTrainedTokenizerBase
) -> tuple[PromptTemplate, list[str]]:
    """The template that makes the prompts, and what is to be said of it. usual: its name where the protocol leaves it
    open; None: by the tokenizer. Raises ValueError as `fitted` does."""
    return fitted(
        _template(protocol, usual, tokenizer),
        tokenizer,
        chat=protocol.apply_chat_template,
        chat_kwargs=protocol.chat_template_kwargs or {},
        system_prompt=protocol.system_prompt,
    )


def _template(protocol: Protocol, usual: str | None, tokenizer: PreTrainedTokenizerBase) -> PromptTemplate:
    name = protocol.prompt_template
    if name == AUTO:
        name = usual or ("chat_boxed" if tokenizer.chat_template else "boxed")
        # Qwen2.5-Math's chat template asks for the box by itself.
        if name == "chat_boxed" and "\\boxed" in render(chat := prompt_template("chat"), "1+1?", tokenizer):
            return chat
    return prompt_template(name)


def _longest_row(prompts: Sequence[tuple[int, ...]], positions: int | None, protocol: Protocol, name: str) -> int:
    """Tokens of the longest prompt with its room for a completion."""
    longest, wanted = max(map(len, prompts)), protocol.longest_completion
    if positions is not None:
        if longest >= positions:
            raise ConfigError(f"{name}: a prompt has {longest} tokens, and the model takes {positions} positions")
        wanted = min(wanted, positions - min(map(len, prompts)))
    row = min(longest + wanted, positions or longest + wanted)
    if row > protocol.max_concurrent_tokens:
        raise ConfigError(
            f"--max-concurrent-tokens {protocol.max_concurrent_tokens} holds no completion of {name}: "
            f"a prompt with its completion takes up to {row} tokens"
        )
    return row
