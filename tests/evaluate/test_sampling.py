"""Problems to scored rollouts, with a real engine on a small random model."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.data import PreparedProblem
from unigrad.evaluate import VerifierScorer, sample_and_score
from unigrad.rollout import Sampling, TorchEngine
from unigrad.types import Problem
from unigrad.verify import Verifier


def test_a_problem_met_twice_in_a_step_gets_its_own_random_numbers() -> None:
    words = ["<eos>", *"0123456789", "?"]
    tokenizer_model = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="?"))
    tokenizer_model.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer_model, eos_token="<eos>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, eos_token_id=0, bos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    engine = TorchEngine(LlamaForCausalLM(config), tokenizer, max_concurrent_tokens=512)
    problem = PreparedProblem(
        problem=Problem(id="p", problem="1", answer="7"), prompt="1", prompt_ids=(2,), demonstration=None
    )
    with Verifier() as verifier:
        rollouts = sample_and_score(
            engine,
            tokenizer,
            VerifierScorer(verifier),
            [problem, problem],
            Sampling(num_generations=3, max_completion_length=8),
            seed=0,
        )
    first, second = rollouts.trajectories
    assert [each.completion_ids for each in first] != [each.completion_ids for each in second]
    for each in (*first, *second):
        # Exactly the sampled ids, the end token included; their text leaves it out.
        assert each.truncated == (each.completion_ids[-1] != 0)
        assert len(each.rollout_logprobs or ()) == len(each.completion_ids)
        assert "<eos>" not in each.text
        assert each.reward == float(each.verdict.correct)
    assert rollouts.tokens == sum(len(each.completion_ids) for each in (*first, *second))
    assert rollouts.entropy > 0
