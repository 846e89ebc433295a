"""The policy π_θ: a causal language model with its tokenizer, and what it thinks of given completions.

Shape suffixes: B rows, T tokens of the longest completion, L tokens of the longest input, N completion tokens of all
rows, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unigrad.policy import transformers_api
from unigrad.policy.logprobs import token_logprobs
from unigrad.policy.value_head import ValueHead

Row = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Of each completion token, left-aligned; zero outside `mask_BT`.

    logp_BT: log π_θ(token | everything before it) at the row's temperature.
    entropy_BT: exact entropy over the vocabulary of the same distribution, in nats.
    mask_BT: bool, True on the tokens of each row's completion.
    values_BT: V(s_t) of the state in which the token was chosen; None without a value head.
    """

    logp_BT: Tensor
    entropy_BT: Tensor
    mask_BT: Tensor
    values_BT: Tensor | None

    def take(self, rows: Sequence[int]) -> TokenStatistics:
        """These rows, in this order; one may be taken several times, and its gradients add up."""
        values = None if self.values_BT is None else self.values_BT[rows]
        return TokenStatistics(self.logp_BT[rows], self.entropy_BT[rows], self.mask_BT[rows], values)


class Policy:
    """A model and its tokenizer. The weights are the optimizer's; `compute_dtype` is what the forward pass computes in.

    The model is in eval mode, so that the same weights are the same function in rollouts and in training.

    Raises:
        ValueError: gradient checkpointing of a model that has dropout, or that transformers cannot checkpoint.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        compute_dtype: torch.dtype = torch.float32,
        gradient_checkpointing: bool = False,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.value_head: ValueHead | None = None
        self.compute_dtype = compute_dtype
        self.gradient_checkpointing = gradient_checkpointing
        if gradient_checkpointing:
            _enable_checkpointing(model)
        # An embedding's padding_idx withholds the gradient of that token everywhere, and it is often the end token. Our
        # pads need no such help: they come last, and nothing that is trained attends to them.
        self.model.get_input_embeddings().padding_idx = None

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    @property
    def max_positions(self) -> int | None:
        """How many tokens the model was made for, prompt and completion together; None if its config does not say."""
        return transformers_api.max_positions(self.model.config)

    def add_value_head(self) -> None:
        """Give the policy a fresh value head on its hidden states (PPO's critic shares the trunk)."""
        head = self.model.get_output_embeddings().weight
        self.value_head = ValueHead(head.shape[1]).to(head.device, head.dtype)

    def parameters(self) -> list[torch.nn.Parameter]:
        """What an optimizer trains: the model's parameters and the value head's."""
        modules = [self.model] if self.value_head is None else [self.model, self.value_head]
        return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]

    def autocast(self) -> AbstractContextManager[None]:
        """The precision in which every forward pass of this policy runs."""
        return torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.compute_dtype == torch.bfloat16,
        )

    def token_logprobs(self, rows: Sequence[Row], temperatures: Sequence[float]) -> TokenStatistics:
        """Log-probs and entropies of the completions of (prompt_ids, completion_ids) rows, from one forward pass.

        Differentiable with respect to the weights; under `torch.no_grad()` nothing is kept for a backward pass.

        Args:
            rows: token ids; neither part may be empty.
            temperatures: the positive temperature of each row's distribution.

        Raises:
            ValueError: no rows, an empty part, a row longer than `max_positions`, or temperatures that do not fit.
        """
        _check(rows, temperatures, self.max_positions)
        prompt_B = torch.tensor([len(prompt) for prompt, _ in rows])
        completion_B = torch.tensor([len(completion) for _, completion in rows])
        # The last token predicts nothing that is asked for.
        inputs = [torch.tensor([*prompt, *completion[:-1]]) for prompt, completion in rows]
        # Padded on the right with an arbitrary id and without an attention mask: attention is causal, so no position
        # that counts sees a pad, and positions count from the first real token.
        input_BL = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True)
        position_L = torch.arange(input_BL.shape[1])
        predicts_BL = (position_L >= prompt_B[:, None] - 1) & (position_L < (prompt_B + completion_B)[:, None] - 1)
        predicting_N = predicts_BL.flatten().nonzero()[:, 0]
        targets_N = torch.cat([torch.tensor([*completion]) for _, completion in rows])
        temperature_N = None
        if any(temperature != 1.0 for temperature in temperatures):
            temperature_N = torch.tensor(temperatures, dtype=self.model.dtype)
            temperature_N = temperature_N.repeat_interleave(completion_B).to(self.device)
        mask_BT = (torch.arange(int(completion_B.max())) < completion_B[:, None]).to(self.device)

        head = self.model.get_output_embeddings()
        with self.autocast():
            hidden_BLD = self._hidden(input_BL.to(self.device))
            hidden_ND = hidden_BLD.flatten(0, 1)[predicting_N.to(self.device)]
            logp_N, entropy_N = token_logprobs(
                hidden_ND,
                head.weight,
                targets_N.to(self.device),
                bias_V=head.bias,
                temperature_N=temperature_N,
            )
        values_N = None if self.value_head is None else self.value_head(hidden_ND)

        def rows_of(values_N: Tensor) -> Tensor:
            # Both orders, of N and of the True cells of the mask, are row by row.
            return values_N.new_zeros(mask_BT.shape).masked_scatter(mask_BT, values_N)

        return TokenStatistics(
            rows_of(logp_N), rows_of(entropy_N), mask_BT, None if values_N is None else rows_of(values_N)
        )

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

    def save_pretrained(self, path: str | Path) -> None:
        """Model, generation config and tokenizer, as `AutoModelForCausalLM` and `AutoTokenizer` load them."""
        self.model.save_pretrained(path)
        self.tokenizer.save_pretrained(path)

    def _hidden(self, input_BL: Tensor) -> Tensor:
        # transformers checkpoints layers in training mode only, and then also takes their cache away, which would break
        # rollouts: so the mode lasts for this call. It changes nothing else, since there is no dropout.
        self.model.train(self.gradient_checkpointing and torch.is_grad_enabled())
        try:
            hidden_BLD: Tensor = self.model.base_model(input_ids=input_BL, use_cache=False).last_hidden_state
        finally:
            self.model.eval()
        return hidden_BLD


def _enable_checkpointing(model: PreTrainedModel) -> None:
    dropout = {key: p for key, p in model.config.to_dict().items() if "drop" in key and isinstance(p, float) and p > 0}
    if dropout:
        named = ", ".join(f"{key}={p}" for key, p in dropout.items())
        raise ValueError(
            f"gradient checkpointing would turn on this model's dropout ({named}): set it to 0 in config.json"
        )
    transformers_api.enable_activation_checkpointing(model)


def _check(rows: Sequence[Row], temperatures: Sequence[float], max_positions: int | None) -> None:
    if not rows:
        raise ValueError("there must be at least one row of (prompt_ids, completion_ids)")
    if len(temperatures) != len(rows):
        raise ValueError(f"there must be one temperature for each of the {len(rows)} rows, not {len(temperatures)}")
    for index, ((prompt, completion), temperature) in enumerate(zip(rows, temperatures, strict=True)):
        if not prompt or not completion:
            raise ValueError(f"row {index}: the {'completion' if prompt else 'prompt'} must have at least one token")
        if max_positions is not None and len(prompt) + len(completion) > max_positions:
            length = f"{len(prompt)} + {len(completion)} tokens"
            raise ValueError(f"row {index}: {length} do not fit the model's context of {max_positions}")
        if not temperature > 0:
            raise ValueError(f"row {index}: the temperature must be above 0, not {temperature} (1 for greedy rollouts)")
