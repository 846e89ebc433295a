"""Sampling from a live transformers model: shared prompts, rows that leave when they end, continuous batching.

Shapes: B active rows, P prompts, L positions, V vocabulary.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unigrad.policy import transformers_api
from unigrad.rollout.decoding_batch import DecodingBatch
from unigrad.rollout.engine import Completion, OnCompletion, Prompt
from unigrad.rollout.masks import step_masks
from unigrad.rollout.packed_weights import cast_weights, packed_weights
from unigrad.rollout.row_cache import RowCache
from unigrad.rollout.rows import Row, StopRules, rows_of
from unigrad.rollout.sampler import draw
from unigrad.rollout.sampling import Sampling

# So many positions, padding included, at most in one forward over prompts (a longer prompt goes alone).
_PREFILL_POSITIONS = 4096

# To pack the weights takes about as long as four steps, and a step with packed ones about 0.8 of one without.
_WORTH_PACKING = 32

_Prefix = list[tuple[Tensor, Tensor]]


class TorchEngine:
    """An `Engine` on the model object that is being trained: no copy of the weights, so nothing to keep in step.

    The prompt is computed once for its group. A row leaves the batch as soon as it ends and a waiting one takes its
    place. A row ends at an end token (of the model's generation config, the tokenizer, or the `Sampling`), at the first
    token that completes a stop string in the decoded text (special tokens included), or when its length or the model's
    positions run out; all of its tokens are kept as they were sampled. While `generate` runs the model is in evaluation
    mode with torch's own attention, or the model's where that leaves something out; afterwards it is as it was.
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
            model: a decoder-only transformers model whose layers have full, sliding or chunked attention.
            tokenizer: names the end token, and decodes for stop strings.
            max_concurrent_tokens: positions that the key/value cache holds: rows in flight × (longest prompt plus its
                room for a completion).
            compute_dtype: run the model under autocast to this type; None and float32 leave it as it is.

        Raises:
            ValueError: the model's architecture is not supported.
        """
        self._model = model
        self._tokenizer = tokenizer
        self._max_concurrent_tokens = max_concurrent_tokens
        self._compute_dtype = None if compute_dtype == torch.float32 else compute_dtype
        self._cache_argument = checked_cache_argument(model)
        self._reaches = transformers_api.reaches(model)
        self._kernel = transformers_api.decoding_attention(model, self._compute_dtype)
        self._layers = len(transformers_api.keeping_layers(model))
        self._first_position = transformers_api.first_position(model)

    @property
    def is_exact(self) -> bool:
        """Whether its log-probs are those of a float32 forward, to rounding: see `Engine`."""
        return self._compute_dtype is None and self._model.dtype in (torch.float32, torch.float64)

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, seed: int, on_completion: OnCompletion | None = None
    ) -> list[list[Completion]]:
        """`sampling.num_generations` completions for each prompt: see `Engine.generate`.

        Raises:
            ValueError: a key that comes twice, a prompt that is empty or leaves no room in the model's positions, or a
                completion that `max_concurrent_tokens` cannot hold.
            FloatingPointError: the model's logits are not finite.
        """
        if not prompts:
            return []
        rows = rows_of(prompts, sampling, transformers_api.room(self._model) or sys.maxsize)
        length = max(row.length for row in rows)
        capacity = min(self._max_concurrent_tokens // length, len(rows))
        if capacity == 0:
            raise ValueError(
                f"max_concurrent_tokens={self._max_concurrent_tokens} holds no completion: the longest prompt with its "
                f"completion takes {length}"
            )
        stops = StopRules.of(self._model, self._tokenizer, sampling)
        with self._sampling_mode(), self._decoding_weights(capacity, sampling.max_completion_length):
            cache = RowCache(self._layers, capacity, length, self._kept_dtype)
            batch = DecodingBatch(capacity, max(row.room for row in rows), stops)
            ended = self._run(rows, sampling, seed, batch, cache, on_completion)
        indices = range(sampling.num_generations)
        return [[ended[prompt.key, index] for index in indices] for prompt in prompts]

    def _run(
        self,
        rows: list[Row],
        sampling: Sampling,
        seed: int,
        batch: DecodingBatch,
        cache: RowCache,
        on_completion: OnCompletion | None,
    ) -> dict[tuple[str, int], Completion]:
        """Decode every row to its end, by key and index."""
        ended: dict[tuple[str, int], Completion] = {}
        # The longest prompts first: rows of like length share a step's width, and the last ones to run are short.
        waiting = deque(sorted(rows, key=lambda row: -row.length))
        prefixes: dict[str, _Prefix] = {}
        while waiting or len(batch):
            entering = [waiting.popleft() for _ in range(min(batch.free, len(waiting)))]
            groups = [list(group) for _, group in groupby(entering, key=lambda row: row.prompt.key)]
            for part in _prefill_parts(groups):
                missing = [group[0].prompt for group in part if group[0].prompt.key not in prefixes]
                prefixes.update(self._prefill(missing))
                for group in part:
                    cache.fill(len(batch), len(batch) + len(group), prefixes[group[0].prompt.key])
                    batch.enter(group, seed)
                    if group[-1].index == sampling.num_generations - 1:
                        del prefixes[group[0].prompt.key]
            finished = self._step(batch, sampling, cache)
            for b, completion in finished.items():
                row = batch.rows[b]
                ended[row.prompt.key, row.index] = completion
                if on_completion is not None:
                    on_completion(row.prompt, row.index, completion)
            batch.drop(list(finished), cache)
        return ended

    def _prefill(self, prompts: Sequence[Prompt]) -> dict[str, _Prefix]:
        """Keys and values of each prompt but for its last token, which is the first that its rows decode."""
        prefixes: dict[str, _Prefix] = {prompt.key: [] for prompt in prompts}
        longest = max((len(prompt.token_ids) - 1 for prompt in prompts), default=0)
        if longest == 0:
            return prefixes
        # Padded on the right, where causal attention keeps it out of everything that is read.
        ids_PL = torch.tensor([[*prompt.token_ids[:-1], *[0] * longest][:longest] for prompt in prompts])
        cache = transformers_api.full_cache(self._layers)
        given: dict[str, object] = {self._cache_argument: cache}
        if self._first_position:
            given["position_ids"] = torch.arange(longest, device=self._model.device)[None] + self._first_position
        self._model(ids_PL.to(self._model.device), use_cache=True, logits_to_keep=1, **given)
        layers = transformers_api.keys_and_values(cache)
        for p, prompt in enumerate(prompts):
            length = len(prompt.token_ids) - 1
            prefixes[prompt.key] = [(keys[p, :, :length], values[p, :, :length]) for keys, values in layers]
        return prefixes

    def _step(self, batch: DecodingBatch, sampling: Sampling, cache: RowCache) -> dict[int, Completion]:
        """Feed every active row its last token and sample the next; the completions of rows that end, by place."""
        device = self._model.device
        width = int(batch.positions_B.max()) + 1
        positions_B = batch.positions_B.to(device)
        cache.begin_step(positions_B, width)
        additive = self._model.dtype if self._kernel == "eager" else None
        logits_B1V = self._model(
            batch.last_ids_B[:, None].to(device),
            attention_mask=step_masks(self._reaches, positions_B, width, additive),
            position_ids=positions_B[:, None] + self._first_position,
            use_cache=True,
            **{self._cache_argument: cache},
        ).logits
        cut_B = torch.empty(len(batch))
        active_B = batch.everyone_B
        tokens_B, logps_B, entropies_B = draw(logits_B1V[:, -1], sampling, batch.uniforms(active_B), cut_B)
        return batch.append(active_B, tokens_B, torch.stack((logps_B, entropies_B, cut_B), -1))

    @property
    def _kept_dtype(self) -> torch.dtype | None:
        """Of keys and values; None: as the model makes them."""
        return torch.float32 if self._kernel == transformers_api.FLOAT32_SDPA else self._compute_dtype

    def _decoding_weights(self, rows: int, steps: int) -> AbstractContextManager[None]:
        if self._compute_dtype is not None:
            return cast_weights(self._model, self._compute_dtype, rows)
        return packed_weights(self._model, rows) if steps >= _WORTH_PACKING else nullcontext()

    @contextmanager
    def _sampling_mode(self) -> Iterator[None]:
        model = self._model
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            with (
                # The masks of `_step` are made for it; other implementations read them otherwise, or not at all.
                transformers_api.attention(model, self._kernel),
                torch.inference_mode(),
                torch.autocast(model.device.type, self._compute_dtype, enabled=self._compute_dtype is not None),
            ):
                yield
        finally:
            # Inside a caller's autocast its cache outlives ours, and weights cast in inference mode cannot be trained.
            torch.clear_autocast_cache()
            for module, training in modes:
                module.training = training


def cannot_run(model: PreTrainedModel) -> str:
    """How every refusal of a model begins."""
    return f"the torch engine cannot run {type(model).__name__}"


def checked_cache_argument(model: PreTrainedModel) -> str:
    """What the model's `forward` calls its cache. Raises ValueError where its architecture alone says that it cannot be
    run; the model may be on the meta device."""
    cannot = cannot_run(model)
    stateful = transformers_api.is_stateful(model)
    if model.config.is_encoder_decoder or stateful or not transformers_api.takes_any_attention(model):
        raise ValueError(f"{cannot}: it takes decoder-only models with standard attention")
    try:
        transformers_api.reaches(model)
    except ValueError as error:
        raise ValueError(f"{cannot}: {error}") from error
    argument = transformers_api.cache_argument(model)
    if argument is None:
        raise ValueError(f"{cannot}: its forward takes no cache of earlier tokens' keys and values")
    return argument


def _prefill_parts(groups: list[list[Row]]) -> Iterator[list[list[Row]]]:
    """Groups of similar prompt length together, as many as one forward may take."""
    part: list[list[Row]] = []
    for group in sorted(groups, key=lambda group: len(group[0].prompt.token_ids)):
        if part and (len(part) + 1) * len(group[0].prompt.token_ids) > _PREFILL_POSITIONS:
            yield part
            part = []
        part.append(group)
    if part:
        yield part
