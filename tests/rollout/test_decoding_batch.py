"""Rows as tensors: records, stop rules and random numbers stay with their row however it moves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.batch import Sequences, micro_batch_of
from unigrad.policy import Policy
from unigrad.rollout import Completion, Prompt, Sampling, TorchEngine
from unigrad.rollout.decoding_batch import DecodingBatch
from unigrad.rollout.row_cache import RowCache
from unigrad.rollout.rows import Row, StopRules
from unigrad.rollout.sampler import inverse_cdf, trajectory_generator

LETTERS = "abcdefghij"
END = len(LETTERS)
PROMPTS = [Prompt("middle", (1, 2, 3, 4)), Prompt("long", (7, 1, 0, 3, 3, 9, 8, 2, 5)), Prompt("one", (6,))]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {letter: index for index, letter in enumerate(LETTERS)} | {"<end>": END}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


@pytest.fixture
def policy(tokenizer: Any) -> Policy:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=END + 1, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3, eos_token_id=END,
    )  # fmt: skip
    return Policy(LlamaForCausalLM(config), tokenizer)


def numbers(ids_B: Tensor, step: int) -> Tensor:
    """A log-prob, an entropy and a cut mass that only this token at this step has."""
    return torch.stack([-ids_B / 10 - step, ids_B + step / 100, ids_B / 1000], -1).float()


def test_records_follow_their_rows(tokenizer: Any) -> None:
    """Against lists that are kept row by row."""
    stops = StopRules(torch.tensor([END, 4]), ("ca", "b"), tokenizer)
    batch, cache = DecodingBatch(5, 9, stops), RowCache(0, 5, 20)
    rows = [Row(prompt, index, 9 - index) for prompt in PROMPTS for index in range(8)]
    streams = {row: trajectory_generator(3, row.prompt.key, row.index) for row in rows}
    written: dict[Row, list[int]] = {row: [] for row in rows}
    at: dict[Row, list[int]] = {row: [] for row in rows}
    done: dict[Row, Completion] = {}
    waiting, random, step = list(rows), np.random.default_rng(0), 0
    while waiting or len(batch):
        while waiting and batch.free:
            batch.enter([waiting.pop(0)], seed=3)
        active = list(batch.rows)
        assert batch.last_ids_B.tolist() == [(written[row] or row.prompt.token_ids)[-1] for row in active]
        assert batch.positions_B.tolist() == [len(row.prompt.token_ids) + len(written[row]) - 1 for row in active]
        assert batch.uniforms(batch.everyone_B).tolist() == [streams[row].random() for row in active]
        ids_B = torch.from_numpy(random.integers(0, END + 1, len(active)))
        for row, token in zip(active, ids_B.tolist(), strict=True):
            written[row].append(token)
            at[row].append(step)
        finished = batch.append(batch.everyone_B, ids_B, numbers(ids_B, step))
        step += 1
        done |= {active[b]: completion for b, completion in finished.items()}
        batch.drop(list(finished), cache)
        assert set(batch.rows) == {row for row in active if row not in done}
    reasons = Counter[str]()
    for row in rows:
        ids, text = written[row], "".join([*LETTERS, "<end>"][token] for token in written[row])
        ended, stopped = ids[-1] in (END, 4), "ca" in text or "b" in text
        reasons["end" if ended else "string" if stopped else "room"] += 1
        expected = [numbers(torch.tensor(token), when).tolist() for token, when in zip(ids, at[row], strict=True)]
        got = done[row]
        assert got.token_ids == tuple(ids)
        assert list(zip(got.logprobs, got.entropies, got.cut_masses, strict=True)) == [tuple(each) for each in expected]
        assert (got.ended, got.truncated) == (ended, not ended and not stopped)
        assert len(ids) == row.room or ended or stopped
        assert not {END, 4} & set(ids[:-1])
        assert got.text == "".join([*LETTERS, "<end>"][token] for token in (ids[:-1] if ended else ids))
    assert len(reasons) == 3, reasons


@pytest.mark.parametrize("rows_at_once", [2, 5, 100])
def test_tokens_and_log_probs_are_those_of_the_padded_forward(
    policy: Policy, tokenizer: Any, rows_at_once: int
) -> None:
    """Each token is what its trajectory's own random numbers pick from the policy; ragged prompts and early ends."""
    engine = TorchEngine(policy.model, tokenizer, max_concurrent_tokens=rows_at_once * 24)
    sampling = Sampling(num_generations=6, max_completion_length=15, temperature=0.9)
    groups = engine.generate(PROMPTS, sampling, 11)
    pairs = [
        (prompt, index, each) for prompt, group in zip(PROMPTS, groups, strict=True) for index, each in enumerate(group)
    ]
    sequences = Sequences.of_ids([(prompt.token_ids, each.token_ids) for prompt, _, each in pairs], [0.9] * len(pairs))
    batch = micro_batch_of(sequences, [range(len(pairs))], "padded")
    with torch.no_grad():
        statistics = policy(batch)
    order = [pairs[index] for index in batch.indices_P.tolist()]
    got_M = torch.tensor([value for *_, each in order for value in each.logprobs])
    torch.testing.assert_close(got_M, statistics.logp_M, rtol=0, atol=1e-5)
    got_M = torch.tensor([value for *_, each in order for value in each.entropies])
    torch.testing.assert_close(got_M, statistics.entropy_M, rtol=0, atol=1e-5)
    for prompt, index, each in pairs:
        ids = torch.tensor([[*prompt.token_ids, *each.token_ids]])
        with torch.no_grad():
            probs_TV = (policy.model(ids).logits[0, len(prompt.token_ids) - 1 : -1] / 0.9).softmax(-1)
        generator = trajectory_generator(11, prompt.key, index)
        uniforms_T = torch.tensor([generator.random() for _ in each.token_ids], dtype=torch.float64)
        assert inverse_cdf(probs_TV, uniforms_T).tolist() == list(each.token_ids)
    assert len({len(each.token_ids) for *_, each in pairs}) > 3


def test_the_longest_prompts_are_decoded_first(policy: Policy, tokenizer: Any) -> None:
    engine = TorchEngine(policy.model, tokenizer, max_concurrent_tokens=14)
    told: list[tuple[str, int]] = []
    sampling = Sampling(num_generations=2, max_completion_length=5)
    engine.generate(PROMPTS, sampling, 0, lambda prompt, index, _: told.append((prompt.key, index)))
    assert told == [(key, index) for key in ("long", "middle", "one") for index in range(2)]
