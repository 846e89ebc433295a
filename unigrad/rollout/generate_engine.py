"""Sampling by transformers' own `generate`, for every decoder that it runs: windows, states, hybrids of these.

`generate` makes the model's cache and its inputs, as each architecture wants them; the draw, the random numbers and the
stop rules are ours. Shapes: B rows of a batch, L tokens so far, V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

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
from unigrad.rollout.decoding_batch import DecodingBatch
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
        self._first_position = transformers_api.first_position(model)

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
        rows = rows_of(prompts, sampling, transformers_api.room(self._model) or sys.maxsize)
        longest = max((row.length for row in rows), default=0)
        if longest > self._max_concurrent_tokens:
            raise ValueError(
                f"max_concurrent_tokens={self._max_concurrent_tokens} holds no completion: the longest prompt with its "
                f"completion takes {longest}"
            )
        rules = StopRules.of(self._model, self._tokenizer, sampling)
        ended: dict[tuple[str, int], Completion] = {}

        def take(row: Row, completion: Completion) -> None:
            ended[row.prompt.key, row.index] = completion
            if on_completion is not None:
                on_completion(row.prompt, row.index, completion)

        with self._sampling_mode():
            for batch in batches(rows, self._max_concurrent_tokens):
                decoding = DecodingBatch(len(batch), max(row.room for row in batch), rules)
                decoding.enter(batch, seed)
                self._run(_Batch(decoding, sampling, take))
        indices = range(sampling.num_generations)
        return [[ended[prompt.key, index] for index in indices] for prompt in prompts]

    def _run(self, batch: _Batch) -> None:
        """Decode the batch's rows to their ends."""
        ids_BL = batch.begin().to(self._model.device)
        stop = self._first_position + ids_BL.shape[1]
        where = {"position_ids": torch.arange(self._first_position, stop, device=ids_BL.device).expand_as(ids_BL)}
        self._model.generate(
            ids_BL,
            # Given, because else tokens of a prompt that are the pad token too would be taken for pads.
            attention_mask=torch.ones_like(ids_BL),
            generation_config=_config(batch.longest),
            logits_processor=LogitsProcessorList([batch.next_tokens]),
            stopping_criteria=StoppingCriteriaList([batch.finished]),
            # `generate` itself counts from 0, and goes on from these.
            **(where if self._first_position else {}),
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
    """Rows that are decoded together to the end of all. take: told of each row as soon as it ends. ended: their
    places."""

    decoding: DecodingBatch
    sampling: Sampling
    take: Callable[[Row, Completion], None]
    ended: set[int] = field(default_factory=set)

    @property
    def rows(self) -> list[Row]:
        return self.decoding.rows

    @property
    def longest(self) -> int:
        """Tokens that a row may have, prompt and completion."""
        return max(row.length for row in self.rows)

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
        drawn = [b for b, prompt in enumerate(prompts) if length >= len(prompt) and b not in self.ended]
        tokens_B = torch.tensor(tokens)
        if drawn:
            rows_D = torch.tensor(drawn)
            tokens_B[rows_D] = self._draw(rows_D, logits_BV[drawn])
        return torch.full_like(logits_BV, -torch.inf).scatter_(1, tokens_B[:, None].to(logits_BV.device), 0.0)

    def finished(self, ids_BL: Tensor, _scores: object, **_options: object) -> Tensor:
        """b[B]: rows that have ended."""
        return torch.tensor([b in self.ended for b in range(len(self.rows))], device=ids_BL.device)

    def _draw(self, rows_D: Tensor, logits_DV: Tensor) -> Tensor:
        """The next token of these rows. i[D]."""
        cut_D = torch.empty(len(rows_D))
        tokens_D, logps_D, entropies_D = draw(logits_DV, self.sampling, self.decoding.uniforms(rows_D), cut_D)
        finished = self.decoding.append(rows_D, tokens_D, torch.stack((logps_D, entropies_D, cut_D), -1))
        for b, completion in finished.items():
            self.ended.add(b)
            self.take(self.rows[b], completion)
        return tokens_D


def batches(rows: Sequence[Row], max_tokens: int) -> Iterator[list[Row]]:
    """Rows of like prompt length together, as many as may be decoded at once."""
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.prompt.token_ids)):
        if batch:
            spread = len(row.prompt.token_ids) - len(batch[0].prompt.token_ids)
            if (len(batch) + 1) * row.length > max_tokens or _SPREAD * spread > row.room:
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
