"""The policy π_θ: a causal language model with its tokenizer, and what it thinks of given completions.

Shape suffixes: P trajectories of a micro-batch, L tokens of the longest input, M completion tokens of all of them, D
hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unigrad.batch import Costs, MicroBatch, Ragged
from unigrad.config import LoraConfig
from unigrad.policy import ragged_attention, transformers_api
from unigrad.policy.adapter import Adapter
from unigrad.policy.head import logit_transform
from unigrad.policy.logprobs import token_logprobs
from unigrad.policy.saving import save_pretrained
from unigrad.policy.sharding import Twin
from unigrad.policy.value_head import ValueHead

END = "the end of a completion"
"""For `Policy.check_embedded`: one that is not embedded is never sampled, so that nothing would ever end."""

# What a model is tried on where training mode must change nothing: enough tokens and seeds that noise cannot hide.
_PROBE_ROWS, _PROBE_TOKENS, _PROBE_SEEDS = 2, 8, 4


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Of each completion token of a micro-batch.

    logp_M: log π_θ(token | everything before it) at the trajectory's temperature. entropy_M: exact entropy over the
    vocabulary of the same distribution, in nats. values_M: V(s_t) of the state in which the token was chosen; None
    without a value head.
    """

    logp_M: Tensor
    entropy_M: Tensor
    values_M: Tensor | None


class Policy(nn.Module):
    """A model and its tokenizer: a module from a micro-batch to its `TokenStatistics`.

    The weights are the optimizer's; `compute_dtype` is what the forward pass computes in, `costs` what decides how its
    micro-batches are laid out, `logit_transform` what the model does to its logits after the output embedding.
    `sharded_on`: the device that a sharded policy computes on.
    The model is in eval mode, so that the same weights are the same function in rollouts and in training.

    Raises:
        ValueError: gradient checkpointing of a model that has dropout, that computes something else in training mode
            for any other reason, or that transformers cannot checkpoint.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        compute_dtype: torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.value_head: ValueHead | None = None
        self.adapter: Adapter | None = None
        self.compute_dtype = compute_dtype
        self.gradient_checkpointing = gradient_checkpointing
        self.costs = Costs()
        self.sharded_on: torch.device | None = None
        self.twin: Twin | None = None
        self.logit_transform = logit_transform(model.config)
        self.first_position = transformers_api.first_position(model)
        transformers_api.keep_attention_caps(model)
        ragged_attention.let_take_ragged_rows(model)
        if gradient_checkpointing:
            _enable_checkpointing(model)
            self._check_checkpointing()
        # An embedding's padding_idx withholds the gradient of that token everywhere, and it is often the end token. Our
        # pads need no such help: they come last, and nothing that is trained attends to them.
        self.model.get_input_embeddings().padding_idx = None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.sharded_on or self.model.device
        return device

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds only a part of the weights; see `sharding`."""
        return self.sharded_on is not None

    @contextmanager
    def whole(self) -> Iterator[Policy]:
        """Inside, a policy of the same weights, all of them in one piece: for a sharded one, which every rank must
        enter, another object with copies, for any other itself."""
        if self.twin is None:
            yield self
        else:
            with self.twin.filled() as plain:
                yield plain

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of every statistic."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    @property
    def computes_in(self) -> str:
        """`compute_dtype` by its name in a configuration: float32, bfloat16."""
        return str(self.compute_dtype).removeprefix("torch.")

    @property
    def trained_bytes(self) -> int:
        """Of the weights that are trained, without the value head's."""
        return sum(p.numel() * p.element_size() for p in self.model.parameters() if p.requires_grad)

    @property
    def max_positions(self) -> int | None:
        """How many tokens a row may hold, prompt and completion together; None if the model's config does not say."""
        return transformers_api.room(self.model)

    def add_value_head(self) -> None:
        """Give the policy a fresh value head on its hidden states (PPO's critic shares the trunk)."""
        head = self.model.get_output_embeddings().weight
        self.value_head = ValueHead(head.shape[1]).to(head.device, head.dtype)

    def add_adapter(self, lora: LoraConfig, seed: int) -> Adapter:
        """Put a fresh adapter on the model, of no effect yet, and freeze all else. Raises ConfigError where it cannot
        be put on."""
        self.adapter = Adapter(self.model, lora, seed)
        return self.adapter

    def without_adapter(self) -> AbstractContextManager[None]:
        """Inside, the model is the one that the adapter was put on; to be used without gradients. A model that has no
        adapter is as it is."""
        return nullcontext() if self.adapter is None else self.adapter.switched_off()

    def autocast(self) -> AbstractContextManager[None]:
        """The precision in which every forward pass of this policy runs."""
        return torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.compute_dtype == torch.bfloat16,
        )

    def forward(self, batch: MicroBatch) -> TokenStatistics:
        """Log-probs and entropies of the micro-batch's completion tokens, from one pass over it.

        Differentiable with respect to the weights; under `torch.no_grad()` nothing is kept for a backward pass. Raises
        ValueError where a trajectory is longer than `max_positions`.
        """
        if self.max_positions is not None and max(map(sum, batch.lengths)) > self.max_positions:
            row, (prompt, completion) = max(enumerate(batch.lengths), key=lambda item: sum(item[1]))
            raise ValueError(
                f"row {row}: {prompt} + {completion} tokens do not fit the model's context of {self.max_positions}"
            )
        head = self.model.get_output_embeddings()
        with self.autocast():
            hidden_MD = self._hidden(batch).flatten(0, 1)[batch.predicting_M]
            logp_M, entropy_M = token_logprobs(
                hidden_MD,
                head.weight,
                batch.target_ids_M,
                bias_V=head.bias,
                transform=self.logit_transform,
                temperature_N=batch.temperature_M,
            )
        return TokenStatistics(logp_M, entropy_M, None if self.value_head is None else self.value_head(hidden_MD))

    def add_end(self, token: int) -> None:
        """This token ends the model's completions too, by its generation config, which is saved with it."""
        config = self.model.generation_config
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        if token not in ends:
            config.eos_token_id = [*(end for end in ends if end is not None), token]

    def check_embedded(self, token_ids: Sequence[int], what: str) -> None:
        """Raises ValueError where `token_ids`, of `what`, hold one that has no row in the model's embedding."""
        rows = self.model.get_input_embeddings().weight.shape[0]
        if (highest := max(token_ids, default=0)) >= rows:
            raise ValueError(
                f"{what} holds the token {self.tokenizer.convert_ids_to_tokens(highest)!r} (id {highest}), but the "
                f"model embeds only {rows}: call model.resize_token_embeddings({len(self.tokenizer)}) and save it, or "
                "take the token out of the tokenizer"
            )

    def save_pretrained(self, path: str | Path, dtype: torch.dtype | None = None) -> None:
        """Model, generation config and tokenizer, as `AutoModelForCausalLM` and `AutoTokenizer` load them; an adapter
        is merged into the weights.

        dtype: the precision of the weights in the files; None: that in which they are trained. Raises
        FloatingPointError where it cannot hold one of them.
        """
        state = None if self.adapter is None else self.adapter.merged_state()
        save_pretrained(self.model, self.tokenizer, Path(path), dtype, state)

    def save_base(self, path: Path, dtype: torch.dtype) -> None:
        """As `save_pretrained`, without the adapter, which there must be."""
        assert self.adapter is not None
        save_pretrained(self.model, self.tokenizer, path, dtype, self.adapter.base_state())

    def save_trained(self, path: Path) -> None:
        """What training has changed, as it is: the whole model, or the adapter alone."""
        if self.adapter is None:
            self.save_pretrained(path)
        else:
            self.adapter.save(path)

    def _hidden(self, batch: MicroBatch) -> Tensor:
        # Layers are checkpointed in training mode only, and then transformers also takes their cache away, which would
        # break rollouts: so the mode lasts for this call.
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return self._base(batch)
        with transformers_api.checkpointing(self.model):
            return self._base(batch)

    def _base(self, batch: MicroBatch) -> Tensor:
        if batch.prefix is not None:
            return self._behind_prompts(batch)
        return self._trunk(batch.input_ids_PL, batch.position_ids_PL, batch.ragged)

    def _trunk(self, input_PL: Tensor, position_ids_PL: Tensor | None = None, ragged: Ragged | None = None) -> Tensor:
        if position_ids_PL is None and self.first_position:
            # Else the model would leave out whatever token of a row is its pad token too.
            stop = self.first_position + input_PL.shape[1]
            position_ids_PL = torch.arange(self.first_position, stop, device=input_PL.device).expand_as(input_PL)
        given = {} if position_ids_PL is None else {"position_ids": position_ids_PL}
        if ragged is not None and ragged_attention.takes_ragged_rows(self.model):
            given |= ragged_attention.arguments(ragged)
        return transformers_api.before_logits(self.model, input_ids=input_PL, use_cache=False, **given)

    def _behind_prompts(self, batch: MicroBatch) -> Tensor:
        """Of rows that go on from shared prompts, whose keys and values stay in the graph."""
        prefix, ragged = batch.prefix, batch.ragged
        assert prefix is not None
        assert ragged is not None
        cache = ragged_attention.PromptCache(len(transformers_api.keeping_layers(self.model)), prefix)
        given = {"use_cache": True, str(transformers_api.cache_argument(self.model)): cache}

        def hidden(input_ids_PL: Tensor, position_ids_PL: Tensor | None, **more: Any) -> Tensor:
            return transformers_api.before_logits(
                self.model, input_ids=input_ids_PL, position_ids=position_ids_PL, **given, **more
            )

        with transformers_api.attention(self.model, ragged_attention.KERNEL):
            hidden(prefix.input_ids_1K, prefix.position_ids_1K, **ragged_attention.arguments(prefix.ragged))
            cache.begin_rows(ragged)
            seen = ragged_attention.seen_behind(prefix, ragged)
            return hidden(batch.input_ids_PL, batch.position_ids_PL, **ragged_attention.arguments(ragged, seen))

    @torch.no_grad()
    def _check_checkpointing(self) -> None:
        """Refuses a model that is another function, or a random one, where its layers are checkpointed."""
        rows = self.model.get_input_embeddings().weight.shape[0]
        input_PL = torch.arange(_PROBE_ROWS * _PROBE_TOKENS, device=self.device).view(_PROBE_ROWS, -1) % rows
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), self.autocast():
            quiet_PLD = self._trunk(input_PL)
            for seed in range(_PROBE_SEEDS):
                torch.manual_seed(seed)
                with transformers_api.checkpointing(self.model):
                    # Equal to the bit: the same operations on the same numbers.
                    if not torch.equal(self._trunk(input_PL), quiet_PLD):
                        raise ValueError(
                            f"gradient checkpointing needs training mode, where {type(self.model).__name__} computes "
                            "something else (noise, or a rule of its own): set model.gradient_checkpointing to false"
                        )


def _enable_checkpointing(model: PreTrainedModel) -> None:
    found = _dropouts(model)
    configured = model.config.to_dict().items()
    dropout = {key: p for key, p in configured if "drop" in key and isinstance(p, float) and p in found}
    if dropout:
        named = ", ".join(f"{key}={p}" for key, p in dropout.items())
        raise ValueError(
            f"gradient checkpointing would turn on this model's dropout ({named}): set it to 0 in config.json"
        )
    transformers_api.enable_activation_checkpointing(model)


def _dropouts(model: PreTrainedModel) -> set[float]:
    """The rates above 0 of every dropout that stands in the model itself; its config may hold others, of a head for
    classification that it does not have."""
    rates = set()
    for module in model.modules():
        named = {**vars(module), "dropout": module.p} if isinstance(module, nn.Dropout) else vars(module)
        rates |= {rate for name, rate in named.items() if "drop" in name and isinstance(rate, float) and rate > 0}
    return rates
