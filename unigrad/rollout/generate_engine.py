"""Sampling by transformers' own `generate`, for every decoder that it runs: windows, states, hybrids of these.

`generate` makes the model's cache and its inputs, as each architecture wants them; the draw, the random numbers and the
stop rules are ours. Shapes: B rows of a batch, L tokens so far, V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
)

from unigrad.policy import transformers_api
from unigrad.rollout.engine import Completion, OnCompletion, Prompt
from unigrad.rollout.rows import Row, StopRules, rows_of
from unigrad.rollout.sampler import draw
from unigrad.rollout.sampling import Sampling

# Of a completion's room: by so much the prompts of a batch may differ in length, for the longer ones are fed token by
# token from where the shortest ends. At most a quarter more steps, and batches of many prompts.
_SPREAD = 4


class GenerateEngine:
    """An `Engine` on the model object that is being trained, through its `generate`.

    Nothing is ever padded, so that no pad reaches a state: a batch begins with as many tokens of each prompt as the
    shortest has, and the others' remaining tokens take the place of drawn ones. A row that has ended stays in its batch
    until all have. Rows end as in the torch engine. The model's generation config has no say but in its end tokens.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_concurrent_tokens: int,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """Bind the engine to a model.

        Args:
            model: a decoder-only transformers model that can `generate`.
            tokenizer: names the end token, and decodes for stop strings.
            max_concurrent_tokens: the most tokens of a batch: its rows × (longest prompt plus its room for a
                completion).
            compute_dtype: run the model under autocast to this type; None and float32 leave it as it is.

        Raises:
            ValueError: the model cannot generate, or not without an encoder.
        """
        check_generates(model)
        self._model = model
        self._tokenizer = tokenizer
        self._max_concurrent_tokens = max_concurrent_tokens
        self._compute_dtype = None if compute_dtype == torch.float32 else compute_dtype

    @property
    def is_exact(self) -> bool:
        """Whether its log-probs are those of a float32 forward, to rounding: see `Engine`.

        Of a model with a state they are not said to be: a step of its recurrence is other code than the scan over a
        whole row, and in some (Nemotron-H, whose scan alone clamps its time steps) another function.
        """
        stateful = transformers_api.is_stateful(self._model)
        return not stateful and self._compute_dtype is None and self._model.dtype in (torch.float32, torch.float64)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_generations` completions for each prompt: see `Engine.generate`.

        Raises:
            ValueError: a key that comes twice, a prompt that is empty or leaves no room in the model's positions, or a
                completion that `max_concurrent_tokens` cannot hold.
            FloatingPointError: the model's logits are not finite.
        """
        rows = rows_of(prompts, sampling, seed, transformers_api.max_positions(self._model.config) or sys.maxsize)
        longest = max((row.longest for row in rows), default=0)
        if longest > self._max_concurrent_tokens:
            raise ValueError(
                f"max_concurrent_tokens={self._max_concurrent_tokens} holds no completion: the longest prompt with its "
                f"completion takes {longest}"
            )
        rules = StopRules.of(self._model, self._tokenizer, sampling)
        ended: dict[tuple[str, int], Completion] = {}

        def take(row: Row) -> None:
            ended[row.prompt.key, row.index] = completion = row.completion(self._tokenizer)
            if on_completion is not None:
                on_completion(row.prompt, row.index, completion)

        with self._sampling_mode():
            for batch in batches(rows, self._max_concurrent_tokens):
                self._run(_Batch(batch, sampling, rules, take))
        indices = range(sampling.num_generations)
        return [[ended[prompt.key, index] for index in indices] for prompt in prompts]

    def _run(self, batch: _Batch) -> None:
        """Decode the batch's rows to their ends."""
        ids_BL = batch.begin().to(self._model.device)
        self._model.generate(
            ids_BL,
            # Given, because else tokens of a prompt that are the pad token too would be taken for pads.
            attention_mask=torch.ones_like(ids_BL),
            generation_config=_config(batch.longest),
            logits_processor=LogitsProcessorList([batch.next_tokens]),
            stopping_criteria=StoppingCriteriaList([batch.finished]),
        )

    @contextmanager
    def _sampling_mode(self) -> Iterator[None]:
        model = self._model
        modes = [(module, module.training) for module in model.modules()]
        # `generate` fills in from it whatever the config that it is given leaves open.
        configured = model.generation_config
        model.generation_config = GenerationConfig()
        model.eval()
        try:
            with (
                torch.no_grad(),
                torch.autocast(model.device.type, self._compute_dtype, enabled=self._compute_dtype is not None),
            ):
                yield
        finally:
            # Inside a caller's autocast its cache outlives ours, and weights cast without gradients cannot be trained.
            torch.clear_autocast_cache()
            model.generation_config = configured
            for module, training in modes:
                module.training = training


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows that are decoded together, row b being `rows[b]` throughout. take: told of each row as soon as it ends."""

    rows: list[Row]
    sampling: Sampling
    rules: StopRules
    take: Callable[[Row], None]

    @property
    def longest(self) -> int:
        """Tokens that a row may have, prompt and completion."""
        return max(row.longest for row in self.rows)

    def begin(self) -> Tensor:
        """As many tokens of each prompt as all have. i[B,L]"""
        shared = min(len(row.prompt.token_ids) for row in self.rows)
        return torch.tensor([row.prompt.token_ids[:shared] for row in self.rows])

    def next_tokens(self, ids_BL: Tensor, logits_BV: Tensor) -> Tensor:
        """Scores of which greedy decoding takes, for each row, what it goes on with: the next token of its prompt, or
        one that is drawn now, or, where it has ended, any."""
        length = ids_BL.shape[1]
        prompts = [row.prompt.token_ids for row in self.rows]
        tokens = [prompt[length] if length < len(prompt) else 0 for prompt in prompts]
        drawn = [b for b, row in enumerate(self.rows) if length >= len(prompts[b]) and not row.finished]
        if drawn:
            self._draw([self.rows[b] for b in drawn], logits_BV[drawn])
            for b in drawn:
                tokens[b] = self.rows[b].token_ids[-1]
        tokens_B1 = torch.tensor(tokens, device=logits_BV.device)[:, None]
        return torch.full_like(logits_BV, -torch.inf).scatter_(1, tokens_B1, 0.0)

    def finished(self, ids_BL: Tensor, _scores: object, **_options: object) -> Tensor:
        """b[B]: rows that have ended."""
        return torch.tensor([row.finished for row in self.rows], device=ids_BL.device)

    def _draw(self, rows: list[Row], logits_BV: Tensor) -> None:
        uniforms_B = torch.tensor([row.generator.random() for row in rows], dtype=torch.float64)
        cut_B = torch.empty(len(rows))
        drawn = (column.tolist() for column in (*draw(logits_BV, self.sampling, uniforms_B, cut_B), cut_B))
        for row, token, logprob, entropy, cut_mass in zip(rows, *drawn, strict=True):
            row.token_ids.append(token)
            row.logprobs.append(logprob)
            row.entropies.append(entropy)
            row.cut_masses.append(cut_mass)
            self.rules.apply(row)
            if row.finished:
                self.take(row)


def batches(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Rows of like prompt length together, as many as may be decoded at once."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.prompt.token_ids)):
        if batch:
            spread = len(row.prompt.token_ids) - len(batch[0].prompt.token_ids)
            if (len(batch) + 1) * row.longest > max_tokens or _SPREAD * spread > row.room:
                yield batch
                batch = []
        batch.append(row)
    if batch:
        yield batch


def check_generates(model: PreTrainedModel) -> None:
    """Raises ValueError where the model's class alone says that it cannot be sampled from; it may be on the meta
    device."""
    if model.config.is_encoder_decoder:
        raise ValueError(f"{cannot_generate(model)}: it takes decoder-only models")
    if not model.can_generate():
        raise ValueError(f"{cannot_generate(model)}: transformers has no `generate` for it")


def cannot_generate(model: PreTrainedModel) -> str:
    """How every refusal of a model begins."""
    return f"the generate engine cannot run {type(model).__name__}"


def _config(length: int) -> GenerationConfig:
    """Greedy decoding up to so many tokens, of which none has a meaning."""
    # A pad token, lest `generate` look for one; rows that have ended are given one, and nothing reads them.
    return GenerationConfig(max_length=length, do_sample=False, pad_token_id=0)
